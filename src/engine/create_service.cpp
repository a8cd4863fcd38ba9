#include <algorithm>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <utility>

#include "base/machine_memory.h"
#include "engine/devices.h"
#include "engine/engine_service.h"
#include "engine/model_executor.h"
#include "engine/null_executor.h"
#include "engine/tokenizer_loader.h"
#include "kernels/compute.h"
#include "model/kv_format.h"
#include "model/model_runner.h"
#include "sluice/runtime.h"

namespace sluice::engine {
namespace {

// Of the memory that is free once all models are loaded, the KV pools get this share together. The
// rest is for activations, for the system and for what else starts later.
constexpr double kKvShareOfFreeMemory = 0.4;

constexpr int32_t kNullVocabulary = 32000;
constexpr int32_t kNullContext = 1 << 16;

// A model that is loaded and has no KV pool yet.
struct LoadedSource {
  ServedModel served;
  std::unique_ptr<model::ModelRunner> runner;  // null for the null model
};

class ServiceBuilder final {
 public:
  explicit ServiceBuilder(RuntimeOptions options) : options_(std::move(options)) {}

  Result<std::unique_ptr<Service>> run() {
    if (auto checked = check_options(); !checked) return std::unexpected(checked.error());
    auto device = choose_device(options_.device, [this](const auto& line) { notice(line); });
    if (!device) return std::unexpected(device.error());
    device_ = *device;
    const int32_t num_threads =
        options_.num_threads > 0 ? options_.num_threads : base::usable_cores();
    pool_ = std::make_shared<kernels::ThreadPool>(num_threads);
    for (const ModelSource& source : options_.models) {
      auto loaded = load(source);
      if (!loaded) return named(name_of(source), loaded.error());
      loaded_.push_back(std::move(*loaded));
    }
    const int64_t kv_bytes = bytes_for_kv();
    ServiceParts parts;
    if (options_.profile) parts.profiler = std::make_unique<observability::StepProfiler>();
    profiler_ = parts.profiler.get();
    for (LoadedSource& source : loaded_) {
      const std::string name = source.served.info.name;
      auto lane = make_lane(source, kv_bytes);
      if (!lane) return named(name, lane.error());
      parts.lanes.push_back(std::move(*lane));
      parts.models.push_back(std::move(source.served));
    }
    parts.limits = options_.limits;
    parts.metrics = options_.metrics;
    parts.max_num_seqs = options_.max_num_seqs;
    parts.live_within = options_.live_within;
    parts.on_device_lost = options_.on_device_lost;
    parts.info.version = SLUICE_VERSION;
    parts.info.device = device_->name();
    parts.info.num_threads = num_threads;
    static const base::SteadyClock clock;
    auto service = std::make_unique<EngineService>(std::move(parts), clock);
    if (auto started = service->start([this] { return warm_up(); }); !started) {
      return std::unexpected(started.error());
    }
    return service;
  }

 private:
  static std::unexpected<Error> named(const std::string& name, const Error& error) {
    // Messages about the folder itself begin with its name already.
    const bool is_named = error.message.starts_with(name + ": ");
    return fail(error.code, (is_named ? "model " : "model " + name + ": ") + error.message);
  }

  static std::string name_of(const ModelSource& source) {
    if (!source.name.empty()) return source.name;
    const std::filesystem::path path = source.path.lexically_normal();
    return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
  }

  void notice(const std::string& line) const {
    if (options_.notice) options_.notice(line);
  }

  Result<void> check_options() {
    const auto at_least = [](const char* name, int64_t value, int64_t limit) -> Result<void> {
      if (value >= limit) return {};
      return invalid_argument(std::string(name) + " is " + std::to_string(value) +
                              ", must be at least " + std::to_string(limit));
    };
    const ServiceLimits& limits = options_.limits;
    for (const auto& result :
         {at_least("number of models", std::ssize(options_.models), 1),
          at_least("num_threads", options_.num_threads, 0),
          at_least("block_size", options_.block_size, 1),
          at_least("max_num_seqs", options_.max_num_seqs, 1),
          at_least("max_num_batched_tokens", options_.max_num_batched_tokens,
                   options_.max_num_seqs),
          at_least("max_model_len", options_.max_model_len, 0),
          at_least("kv_cache_bytes", options_.kv_cache_bytes, 0),
          at_least("max_prompt_bytes", limits.max_prompt_bytes, 1),
          at_least("max_chat_messages", limits.max_chat_messages, 1),
          at_least("max_queued_requests", limits.max_queued_requests, 1),
          at_least("max_queued_tokens", limits.max_queued_tokens, 1),
          at_least("max_undelivered_tokens", limits.max_undelivered_tokens, 1),
          at_least("max_stop_strings", limits.max_stop_strings, 0),
          at_least("max_stop_bytes", limits.max_stop_bytes, 0),
          at_least("max_stop_token_ids", limits.max_stop_token_ids, 0),
          at_least("max_logit_bias", limits.max_logit_bias, 0),
          at_least("max_logprobs", limits.max_logprobs, 0),
          at_least("max_request_age", limits.max_request_age.count(), 1),
          at_least("stall_time", limits.stall_time.count(), 1),
          at_least("max_n", limits.max_n, 1),
          at_least("live_within", options_.live_within / std::chrono::seconds(1), 1)}) {
      if (!result) return result;
    }
    // In other blocks the kernels take another way through their sums, and so give bits that are
    // not the profile's.
    if (options_.block_size % 16 != 0) {
      return invalid_argument("block_size is " + std::to_string(options_.block_size) +
                              ", must be a multiple of 16");
    }
    std::set<std::string> names;
    for (const ModelSource& source : options_.models) {
      if (!names.insert(name_of(source)).second) {
        return invalid_argument("two models are named " + name_of(source) +
                                ": give one another name with NAME=PATH");
      }
    }
    if (!(options_.gpu_memory_utilization > 0 && options_.gpu_memory_utilization <= 1)) {
      return invalid_argument("gpu_memory_utilization is " +
                              std::to_string(options_.gpu_memory_utilization) +
                              ", must be above 0 and at most 1");
    }
    return {};
  }

  // Where that is the device's choice and not the user's.
  void tell_kept_activations(const model::ModelRunner& runner, const std::string& name) const {
    if (!runner.keeps_activations() || !options_.activation_dtype.empty()) return;
    notice("model " + name + ": activations stay " + runner.config().dtype +
           " beside its fp8 weights: fp8 ones would be no faster on this GPU (--activation-dtype)");
  }

  Result<LoadedSource> load(const ModelSource& source) {
    LoadedSource loaded;
    ModelInfo& info = loaded.served.info;
    info.name = name_of(source);
    if (source.path == "null") {
      info.family = "null";
      info.digest = "null";
      info.dtype = "none";
      info.profile = "null/1";
      info.vocabulary_size = kNullVocabulary;
      info.context_length = options_.max_model_len > 0 ? options_.max_model_len : kNullContext;
      return loaded;
    }
    model::LoadOptions load_options;
    load_options.device = device_;
    load_options.max_model_len = options_.max_model_len;
    load_options.block_size = options_.block_size;
    load_options.kv_cache_dtype = options_.kv_cache_dtype;
    load_options.activation_dtype = options_.activation_dtype;
    load_options.dtype = options_.dtype;
    if (options_.progress) {
      load_options.progress = [this, &info](int64_t done, int64_t all) {
        options_.progress(info.name, done, all);
      };
    }
    auto runner = model::ModelRunner::load(source.path, load_options, *pool_);
    if (!runner) return std::unexpected(runner.error());
    const model::ModelConfig& config = (*runner)->config();
    auto tokenizer = load_model_tokenizer(source.path, config.vocabulary_size);
    if (!tokenizer) return std::unexpected(tokenizer.error());
    info.family = config.family;
    info.digest = config.digest;
    info.dtype = config.encoding.is_plain() ? config.dtype : format_name(config.encoding);
    info.profile = device_->profile() + model::profile_suffix((*runner)->kv_format()) +
                   ((*runner)->keeps_activations() ? "+a16" : "");
    tell_kept_activations(**runner, info.name);
    info.num_parameters = config.num_parameters;
    info.vocabulary_size = config.vocabulary_size;
    info.context_length =
        options_.max_model_len > 0 ? options_.max_model_len : config.context_length;
    info.has_tokenizer = *tokenizer != nullptr;
    info.end_token_ids = config.end_token_ids;
    info.kv_bytes_per_token = (*runner)->kv_bytes_per_block() / options_.block_size;
    loaded.served.tokenizer = std::move(*tokenizer);
    take_chat(source.path, &loaded.served);
    loaded.runner = std::move(*runner);
    if (!device_->is_cpu()) {
      const int32_t most = std::min(options_.max_num_batched_tokens, info.context_length);
      const int32_t most_logits =
          options_.max_num_seqs + scheduler::SchedulerOptions().max_prompt_logit_rows;
      auto tried = loaded.runner->try_step(most, std::min(most, most_logits));
      if (!tried) return std::unexpected(tried.error());
    }
    return loaded;
  }

  // A template that cannot be used takes away chats, not the model.
  void take_chat(const std::filesystem::path& folder, ServedModel* served) const {
    if (served->tokenizer == nullptr) return;
    auto chat = load_model_chat(folder, *served->tokenizer);
    if (chat) {
      served->chat = std::move(*chat);
      served->info.has_chat_template = true;
    } else if (chat.error().code != ErrorCode::kNotFound) {
      served->no_chat_reason = "the model's chat template cannot be used: " + chat.error().message;
      notice("model " + served->info.name + ": no chats: " + chat.error().message);
    }
  }

  int64_t blocks_for(int64_t tokens) const {
    return (tokens + options_.block_size - 1) / options_.block_size;
  }

  // For all pools together, once all models are loaded. A GPU's steps have their memory by then.
  int64_t bytes_for_kv() const {
    if (device_->is_cpu()) {
      return static_cast<int64_t>(kKvShareOfFreeMemory *
                                  static_cast<double>(device_->free_bytes()));
    }
    const auto left_alone = static_cast<int64_t>((1 - options_.gpu_memory_utilization) *
                                                 static_cast<double>(device_->total_bytes()));
    return std::max<int64_t>(device_->free_bytes() - left_alone, 0);
  }

  // Blocks of a model's pool: what the flag or the share pays for, and never more than all places
  // filled to the context's end could use. Shortens the context if it would not fit alone.
  Result<int32_t> choose_num_blocks(LoadedSource& source, int64_t kv_bytes) {
    ModelInfo& info = source.served.info;
    const int64_t most = std::min<int64_t>(blocks_for(info.context_length) * options_.max_num_seqs,
                                           INT32_MAX / options_.block_size);
    if (source.runner == nullptr) return static_cast<int32_t>(most);
    const int64_t bytes_per_block = source.runner->kv_bytes_per_block();
    const int64_t share = kv_bytes / std::ssize(loaded_);
    const int64_t bytes = options_.kv_cache_bytes > 0 ? options_.kv_cache_bytes : share;
    const int64_t num_blocks = std::min(most, bytes / bytes_per_block);
    const int64_t tokens = num_blocks * options_.block_size;
    if (tokens < 2) {
      return fail(ErrorCode::kResourceExhausted,
                  "a KV cache of " + std::to_string(bytes) + " bytes holds no block, which has " +
                      std::to_string(bytes_per_block) + ": raise --kv-cache-memory-bytes");
    }
    if (tokens < info.context_length) {
      if (options_.max_model_len > 0) {
        return fail(ErrorCode::kResourceExhausted,
                    "max_model_len is " + std::to_string(options_.max_model_len) +
                        ", but the KV cache holds " + std::to_string(tokens) +
                        " tokens: lower it or raise --kv-cache-memory-bytes");
      }
      notice("model " + info.name + ": context shortened from " +
             std::to_string(info.context_length) + " to the " + std::to_string(tokens) +
             " tokens that the KV cache holds");
      info.context_length = static_cast<int32_t>(tokens);
    }
    return static_cast<int32_t>(num_blocks);
  }

  Result<std::unique_ptr<Lane>> make_lane(LoadedSource& source, int64_t kv_bytes) {
    ModelInfo& info = source.served.info;
    const auto num_blocks = choose_num_blocks(source, kv_bytes);
    if (!num_blocks) return std::unexpected(num_blocks.error());
    info.kv_capacity_tokens = int64_t{*num_blocks} * options_.block_size;
    scheduler::SchedulerOptions scheduling;
    scheduling.num_blocks = *num_blocks;
    scheduling.block_size = options_.block_size;
    scheduling.max_model_len = info.context_length;
    scheduling.max_num_seqs = options_.max_num_seqs;
    scheduling.max_num_batched_tokens = options_.max_num_batched_tokens;
    scheduling.max_waiting_seqs = INT32_MAX;  // LiveRequests bounds them
    scheduling.stall_time = options_.limits.stall_time;
    scheduling.keep_prefixes = options_.enable_prefix_caching;
    std::random_device secret;
    scheduling.hash_seed = uint64_t{secret()} << 32 | secret();
    auto scheduler = scheduler::Scheduler::create(scheduling);
    if (!scheduler) return std::unexpected(scheduler.error());

    std::unique_ptr<StepExecutor> executor;
    if (source.runner == nullptr) {
      executor = std::make_unique<NullExecutor>(info.vocabulary_size, options_.null_step_time);
    } else {
      if (auto allocated = source.runner->allocate_kv(*num_blocks); !allocated) {
        return std::unexpected(allocated.error());
      }
      auto own =
          std::make_unique<ModelExecutor>(std::move(source.runner), pool_, make_sampler(*device_));
      if (options_.library_messages) own->say_library_messages();
      executors_.push_back(own.get());
      executor = std::move(own);
      notice("model " + info.name + ": KV cache holds " + std::to_string(info.kv_capacity_tokens) +
             " tokens (" + std::to_string(info.kv_capacity_tokens * info.kv_bytes_per_token) +
             " bytes)");
    }
    Notice log = options_.notice ? options_.notice : [](const std::string&) {};
    return std::make_unique<Lane>(std::move(*scheduler), std::move(executor), std::move(log),
                                  profiler_);
  }

  static std::unique_ptr<DeviceSampler> make_sampler(kernels::Device& device) {
    auto* gpu = dynamic_cast<kernels::cuda::CudaDevice*>(&device);
    return gpu == nullptr ? nullptr : std::make_unique<DeviceSampler>(*gpu);
  }

  Result<void> warm_up() {
    for (ModelExecutor* executor : executors_) {
      if (auto done = executor->warm_up(options_.block_size, options_.max_num_seqs); !done)
        return done;
      if (const std::string why = executor->why_not_recorded(); !why.empty()) {
        notice("some steps are not recorded on " + device_->name() + " and take longer: " + why);
      }
      executor->set_profiler(profiler_);
    }
    return {};
  }

  RuntimeOptions options_;
  kernels::Device* device_ = nullptr;
  std::shared_ptr<kernels::ThreadPool> pool_;
  std::vector<LoadedSource> loaded_;
  observability::StepProfiler* profiler_ = nullptr;  // the service's, null without
  std::vector<ModelExecutor*> executors_;            // owned by the lanes
};

}  // namespace
}  // namespace sluice::engine

namespace sluice {

Result<std::unique_ptr<Service>> create_service(RuntimeOptions options) {
  return engine::ServiceBuilder(std::move(options)).run();
}

}  // namespace sluice
