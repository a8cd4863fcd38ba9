#include "model/model_runner.h"

#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>
#include <exception>
#include <new>
#include <numeric>
#include <optional>
#include <utility>

#include "kernels/compute.h"
#include "kernels/device.h"
#include "kernels/kv_layout.h"
#include "kernels/operators.h"
#include "kernels/output_pool.h"
#include "kv_cache/kv_pool.h"
#include "model/dtype.h"
#include "model/failure.h"
#include "model/kv_format.h"
#include "model/loaded_model.h"
#include "model/operator_timer.h"
#include "model/step_graphs.h"
#include "model/step_inputs.h"
#include "model/straight_program.h"
#include "model/trial_run.h"

namespace sluice::model {

struct ModelRunner::State {
  State(LoadedModel loaded, kernels::Device& place, int32_t block_tokens, kernels::KvFormat format,
        kernels::ThreadPool& threads)
      : model(std::move(loaded)),
        device(place),
        block_size(block_tokens),
        kv_format(format),
        pool(threads),
        inputs(place),
        graphs(place),
        outputs(place) {}

  LoadedModel model;
  kernels::Device& device;
  int32_t block_size;
  kernels::KvFormat kv_format;
  kernels::ThreadPool& pool;
  std::unique_ptr<kv_cache::KvPool> kv;
  int32_t spare_block = -1;  // of the pool, behind those that were asked for; where steps record
  StepInputs inputs;
  StepGraphs graphs;
  std::unique_ptr<StraightProgram> straight;  // null: the interpreter runs the program
  kernels::OutputPool outputs;
  observability::StepProfiler* profiler = nullptr;
  std::string failure_detail;

  at::Tensor run() {
    const OperatorTimer timer(profiler, device);
    if (straight != nullptr) return straight->run();
    // The graph runs as it was written: profiling and specializing could change bits between steps.
    const torch::jit::GraphOptimizerEnabledGuard as_written(false);
    const ProgramInputs& given = inputs.tensors();
    torch::jit::Stack stack = {model.program._ivalue(), given.tokens, given.positions, given.cache,
                               given.plan};
    model.forward->run(stack);
    return stack.at(0).toTensor();
  }

  // Whether memory was refused, the device's or the host's, when this was thrown.
  bool lacked_memory(const std::exception& exception) {
    return device.take_refusal() || dynamic_cast<const std::bad_alloc*>(&exception) != nullptr;
  }

  // Operators are timed one by one.
  bool uses_graphs() const { return device.can_record() && profiler == nullptr; }

  at::Tensor run_step(const StepBatch& batch, const Feed& feed) {
    const StepShape own = shape_of(batch);
    const StepShape shape = uses_graphs() ? graphs.shape_for(own) : own;
    inputs.fill(batch, shape, spare_block);
    if (feed) feed(inputs.tensors().tokens);
    at::Tensor logits =
        uses_graphs() ? graphs.run(shape, [this] { return checked(run()); }) : checked(run());
    return logits;
  }

  // Throws what says why it is not what a program is to return.
  at::Tensor checked(at::Tensor logits) const {
    TORCH_CHECK(logits.scalar_type() == at::kFloat && logits.dim() == 2 && logits.is_contiguous() &&
                    logits.size(0) == inputs.tensors().plan.get(kernels::kLogitRows).size(0) &&
                    logits.size(1) == model.config.vocabulary_size,
                "the logits are not float32 of one row per wanted token and ",
                model.config.vocabulary_size, " columns");
    return logits;
  }

  kernels::KvShape kv_shape(int64_t num_blocks) const {
    return {num_blocks, model.config.num_kv_heads, block_size, model.config.head_size, kv_format};
  }
};

namespace {

int64_t length_of(const std::vector<int32_t>& values) {
  return static_cast<int64_t>(values.size());
}

// Tells the pool how far into it the step reaches: the allocator hands out low blocks first, and a
// sequence's newest block stands last in its table.
void announce_blocks(const StepBatch& batch, int32_t block_size, kv_cache::KvPool& kv) {
  int32_t highest = 0;
  for (size_t b = 0; b < batch.context_lengths.size(); ++b) {
    const auto last = static_cast<size_t>((batch.context_lengths[b] - 1) / block_size);
    highest =
        std::max(highest, batch.block_tables[b * static_cast<size_t>(batch.max_blocks) + last]);
  }
  kv.uses(highest);
}

// Runs every operator, so that a program whose weights do not fit each other is refused at load,
// not at the first request; and compares with the package's golden logits, if it has some.
Result<void> try_model(ModelRunner& runner, const std::optional<GoldenLogits>& golden,
                       int32_t block_size) {
  Result<void> tried;
  if (golden) {
    tried = check_golden(runner, *golden, block_size);
  } else if (const auto logits = run_trial(runner, {0}, {}, block_size); !logits) {
    tried = std::unexpected(logits.error());
  }
  if (!tried && tried.error().code == ErrorCode::kInternal) {
    return invalid_argument("the program failed in a trial step: " + runner.failure_detail());
  }
  return tried;
}

}  // namespace

ModelRunner::ModelRunner(std::unique_ptr<State> state) : state_(std::move(state)) {}
ModelRunner::~ModelRunner() = default;

Result<std::unique_ptr<ModelRunner>> ModelRunner::load(const std::filesystem::path& folder,
                                                       const LoadOptions& options,
                                                       kernels::ThreadPool& pool) {
  if (options.block_size < 1) {
    return invalid_argument("block size is " + std::to_string(options.block_size) +
                            ", must be at least 1");
  }
  const kernels::ComputeScope scope(pool);
  const c10::InferenceMode inference;
  auto model = load_model(folder, options, pool);
  if (!model) return std::unexpected(model.error());
  const auto format = find_kv_format(options.kv_cache_dtype, model->dtype);
  if (!format) return std::unexpected(format.error());
  auto device = device_of(options);
  if (!device) return std::unexpected(device.error());
  if (auto checked = check_kv_format(*format, **device, model->dtype); !checked) {
    return std::unexpected(checked.error());
  }
  std::unique_ptr<ModelRunner> runner(new ModelRunner(
      std::make_unique<State>(*std::move(model), **device, options.block_size, *format, pool)));
  auto tried = try_model(*runner, runner->state_->model.golden, options.block_size);
  if (!tried) return std::unexpected(std::move(tried.error()));
  runner->forget_pool();
  return runner;
}

Result<void> ModelRunner::try_step(int32_t num_tokens, int32_t num_logits) {
  const int32_t num_blocks = (num_tokens + state_->block_size - 1) / state_->block_size;
  if (auto allocated = allocate_kv(num_blocks); !allocated) return allocated;
  StepBatch batch;
  batch.tokens.assign(static_cast<size_t>(num_tokens), 0);
  batch.positions.resize(static_cast<size_t>(num_tokens));
  std::iota(batch.positions.begin(), batch.positions.end(), 0);
  batch.sequence_starts = {0, num_tokens};
  batch.context_lengths = {num_tokens};
  batch.block_tables.resize(static_cast<size_t>(num_blocks));
  std::iota(batch.block_tables.begin(), batch.block_tables.end(), 0);
  batch.max_blocks = num_blocks;
  for (int32_t row = num_tokens - num_logits; row < num_tokens; ++row) {
    batch.logit_rows.push_back(row);
  }
  const auto logits = forward(batch);
  forget_pool();
  if (!logits) return std::unexpected(logits.error());
  return {};
}

void ModelRunner::forget_pool() {
  state_->graphs.clear();
  state_->straight.reset();
  state_->inputs.clear();
  state_->kv.reset();
}

const ModelConfig& ModelRunner::config() const {
  return state_->model.config;
}

int64_t ModelRunner::weight_bytes() const {
  return state_->model.weight_bytes;
}

void ModelRunner::set_profiler(observability::StepProfiler* profiler) {
  state_->profiler = profiler;
}

const std::string& ModelRunner::failure_detail() const {
  return state_->failure_detail;
}

std::string ModelRunner::why_not_recorded() const {
  return state_->graphs.why_not_recorded();
}

kernels::KvFormat ModelRunner::kv_format() const {
  return state_->kv_format;
}

bool ModelRunner::keeps_activations() const {
  return state_->model.keeps_activations;
}

int64_t ModelRunner::kv_bytes_per_block() const {
  const ModelConfig& config = state_->model.config;
  return kv_bytes(state_->kv_format, state_->model.dtype, config.num_kv_heads, config.head_size) *
         state_->block_size * config.num_layers;
}

Result<void> ModelRunner::allocate_kv(int32_t num_blocks) {
  if (num_blocks < 1) {
    return invalid_argument("the KV cache has " + std::to_string(num_blocks) +
                            " blocks, must be at least 1");
  }
  const bool has_spare = state_->device.can_record();
  state_->spare_block = has_spare ? num_blocks : -1;
  const auto shape = kernels::kv_cache_shape(state_->kv_shape(num_blocks + (has_spare ? 1 : 0)));
  const c10::InferenceMode inference;
  state_->device.take_refusal();
  try {
    auto kv = kv_cache::KvPool::create(state_->device, shape, state_->model.config.num_layers,
                                       kv_scalar_type(state_->kv_format, state_->model.dtype));
    if (!kv) return std::unexpected(kv.error());
    state_->kv = *std::move(kv);
    state_->inputs.create(state_->kv->layers());
  } catch (const std::exception& exception) {
    return state_->lacked_memory(exception)
               ? fail(ErrorCode::kResourceExhausted, "no memory for a step: " + one_line(exception))
               : fail(ErrorCode::kInternal, "no KV cache can be made: " + one_line(exception));
  }
  state_->straight = StraightProgram::record(state_->model.program, state_->inputs.tensors());
  return {};
}

Result<at::Tensor> ModelRunner::forward(const StepBatch& batch) {
  auto logits = start(batch);
  if (!logits) return logits;
  try {
    // A recorded step may have more rows.
    return state_->device.download(*logits).narrow(0, 0, length_of(batch.logit_rows));
  } catch (const std::exception& exception) {
    return failed(exception);
  }
}

std::unexpected<Error> ModelRunner::failed(const std::exception& exception) {
  state_->failure_detail = one_line(exception);
  try {
    // What is still under way reads what the next step will overwrite. A lost device fails here
    // too.
    state_->device.synchronize();
  } catch (const std::exception&) {
    return fail(ErrorCode::kUnavailable, state_->device.name() + " does not answer any more");
  }
  if (state_->lacked_memory(exception)) {
    state_->graphs.clear();  // memory that can be given back
    return fail(ErrorCode::kResourceExhausted, "there was no memory for this step");
  }
  return fail(ErrorCode::kInternal, "the model's program failed in this step");
}

Result<at::Tensor> ModelRunner::start(const StepBatch& batch, const Feed& feed) {
  const kernels::ComputeScope scope(state_->pool);
  const kernels::OutputScope outputs(state_->outputs);
  const c10::InferenceMode inference;
  state_->device.take_refusal();
  try {
    announce_blocks(batch, state_->block_size, *state_->kv);
    return state_->run_step(batch, feed);
  } catch (const std::exception& exception) {
    return failed(exception);
  }
}

}  // namespace sluice::model
