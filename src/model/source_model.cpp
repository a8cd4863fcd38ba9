#include "model/source_model.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <set>

#include "model/dtype.h"
#include "model/manifest.h"
#include "model/program.h"
#include "model/program_file.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;
namespace jit = torch::jit;

constexpr const char* kConfigFile = "config.json";

// Notes what a family's weights() sends while the checkpoint gives shapes without data.
class PlanSink final : public WeightSink {
 public:
  explicit PlanSink(at::ScalarType dtype) : dtype_(dtype) {}

  Result<void> add(const std::string& path, const std::vector<at::Tensor>& parts,
                   bool is_table) override {
    PlannedWeight weight{path, parts[0].sizes().vec(), is_table ? parts[0].scalar_type() : dtype_,
                         is_table};
    for (size_t i = 1; i < parts.size(); ++i) {
      if (parts[i].sizes().slice(1) != parts[0].sizes().slice(1)) {
        return invalid_argument("the parts of weight '" + path + "' have different widths");
      }
      weight.shape[0] += parts[i].size(0);
    }
    note(path, true);
    weights.push_back(std::move(weight));
    return {};
  }
  Result<void> alias(const std::string& path, const std::string& target) override {
    note(path, true);
    aliases[path] = target;
    return {};
  }
  Result<void> absent(const std::string& path) override {
    note(path, false);
    return {};
  }

  std::vector<PlannedWeight> weights;
  std::map<std::string, std::string> aliases;
  std::map<std::string, std::vector<bool>> lists;  // by attribute: which elements are there

 private:
  void note(const std::string& path, bool is_present) {
    const size_t dot = path.rfind('.');
    if (dot != std::string::npos) lists[path.substr(0, dot)].push_back(is_present);
  }

  at::ScalarType dtype_;
};

// Gives the program's lists their lengths, with an empty tensor for each weight to come.
Result<void> size_lists(jit::Module& program,
                        const std::map<std::string, std::vector<bool>>& lists) {
  const at::Tensor empty = at::empty({0}, at::kFloat);
  for (const auto& [name, elements] : lists) {
    const auto slot = program.type()->findAttributeSlot(name);
    const auto type = slot ? program.type()->getAttribute(*slot)->cast<c10::ListType>() : nullptr;
    if (!type) return invalid_argument("the program has no list '" + name + "'");
    const bool is_optional = type->getElementType()->kind() == c10::TypeKind::OptionalType;
    c10::impl::GenericList list(type->getElementType());
    for (const bool is_present : elements) {
      if (!is_present && !is_optional) {
        return invalid_argument("the program's list '" + name + "' cannot lack elements");
      }
      list.push_back(is_present ? c10::IValue(empty) : c10::IValue());
    }
    program.setattr(name, std::move(list));
  }
  return {};
}

Result<std::vector<int32_t>> end_tokens(const fs::path& folder, int32_t vocabulary_size) {
  std::error_code error;
  for (const char* name : {"generation_config.json", kConfigFile}) {
    if (!fs::exists(folder / name, error)) continue;
    const auto config = ConfigFile::open(folder / name);
    if (!config) return std::unexpected(config.error());
    auto ids = config->token_ids("eos_token_id");
    if (!ids) return ids;
    for (const int32_t id : *ids) {
      if (id < vocabulary_size) continue;
      return invalid_argument(std::string(name) + ": eos_token_id " + std::to_string(id) +
                              " is outside the vocabulary of " + std::to_string(vocabulary_size));
    }
    if (!ids->empty()) return ids;
  }
  return std::vector<int32_t>{};
}

Result<void> check_program(const jit::Module& program) {
  if (auto checked = check_signature(program); !checked) return checked;
  return check_operators(program);
}

int64_t num_parameters(const std::vector<PlannedWeight>& weights) {
  int64_t count = 0;
  for (const PlannedWeight& weight : weights) {
    if (!weight.is_table) count += c10::multiply_integers(weight.shape);
  }
  return count;
}

}  // namespace

Result<SourceModel> SourceModel::open(const fs::path& folder, const SourceOptions& options) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return fail(ErrorCode::kNotFound, folder.filename().string() + ": there is no such folder");
  }
  if (fs::exists(folder / kManifestFile, error)) {
    return invalid_argument(folder.filename().string() + ": is a package already");
  }
  if (fs::exists(folder / kProgramFile, error) &&
      fs::is_directory(folder / kWeightsFolder, error)) {
    return fail(ErrorCode::kNotFound, std::string(kManifestFile) +
                                          ": is missing from the package; copy it again, or "
                                          "import the model again");
  }
  const auto wanted = parse_dtype(options.dtype, options.group_size);
  if (!wanted) return std::unexpected(wanted.error());
  auto model = fs::exists(folder / kProgramFile, error) ? open_scripted(folder, *wanted)
                                                        : open_family(folder, options, *wanted);
  if (!model) return model;
  model->config_.encoding = wanted->encoding;
  if (auto marked = model->mark_quantized(); !marked) return std::unexpected(marked.error());
  auto end_token_ids = end_tokens(folder, model->config_.vocabulary_size);
  if (!end_token_ids) return std::unexpected(end_token_ids.error());
  model->folder_ = folder;
  model->config_.end_token_ids = *std::move(end_token_ids);
  model->config_.num_parameters = num_parameters(model->weights_);
  model->config_.dtype = dtype_of(model->dtype_).name;
  return model;
}

Result<SourceModel> SourceModel::open_family(const fs::path& folder, const SourceOptions& options,
                                             const WantedDType& wanted) {
  const auto config = ConfigFile::open(folder / kConfigFile);
  if (!config) {
    const Error weights = missing_weights(folder);  // Meta's own folders have no config.json
    const bool is_pickled =
        config.error().code == ErrorCode::kNotFound && weights.code == ErrorCode::kInvalidArgument;
    return std::unexpected(is_pickled ? weights : config.error());
  }
  if (config->has("quantization_config")) {
    return fail(ErrorCode::kUnimplemented,
                "config.json: quantization_config is set; quantized checkpoints are not read, "
                "import the original one");
  }
  const auto model_type = config->text("model_type", std::nullopt);
  if (!model_type) return std::unexpected(model_type.error());

  SourceModel model;
  auto family = Family::find(*model_type, options.families);
  if (!family) return std::unexpected(family.error());
  model.family_ = *std::move(family);
  model.program_ = model.family_->program();
  if (auto checked = check_program(model.program_); !checked) {
    return std::unexpected(checked.error());
  }
  if (auto done = model.family_->configure(*config); !done) return std::unexpected(done.error());
  auto sizes = declared_sizes(model.program_);
  if (!sizes) return fail(sizes.error().code, "config.json: " + sizes.error().message);
  model.config_ = *std::move(sizes);
  model.config_.family = model.family_->name();

  auto checkpoint = Checkpoint::open(folder);
  if (!checkpoint) return std::unexpected(checkpoint.error());
  model.checkpoint_ = *std::move(checkpoint);
  model.dtype_ = wanted.numbers.value_or(model.checkpoint_->main_dtype());
  if (auto planned = model.plan(); !planned) return std::unexpected(planned.error());
  return model;
}

Result<void> SourceModel::plan() {
  PlanSink sink(dtype_);
  checkpoint_->set_planning(true);
  auto sent = family_->send_weights(*checkpoint_, sink);
  checkpoint_->set_planning(false);
  if (!sent) return sent;
  if (const auto unused = checkpoint_->unused(); !unused.empty()) {
    return fail(ErrorCode::kUnimplemented, "the checkpoint has " + std::to_string(unused.size()) +
                                               " tensors that family " + family_->name() +
                                               " does not use, the first is '" + unused[0] + "'");
  }
  if (auto sized = size_lists(program_, sink.lists); !sized) return sized;
  weights_ = std::move(sink.weights);
  aliases_ = std::move(sink.aliases);
  return {};
}

// Notes which weights the encoding is for.
Result<void> SourceModel::mark_quantized() {
  if (config_.encoding.is_plain()) return {};
  const auto weights = ProgramWeights::find(program_);
  if (!weights) return std::unexpected(weights.error());
  const std::set<std::string> packed = packed_weights(program_, *weights, aliases_);
  for (PlannedWeight& weight : weights_) weight.is_quantized = packed.contains(weight.path);
  return {};
}

Result<SourceModel> SourceModel::open_scripted(const fs::path& folder, const WantedDType& wanted) {
  if (wanted.numbers) {
    return fail(ErrorCode::kUnimplemented,
                "program.pt keeps the dtypes it was exported with; leave dtype out");
  }
  SourceModel model;
  auto program = load_program(folder / kProgramFile, ProgramOrigin::kUser);
  if (!program) return std::unexpected(program.error());
  model.program_ = *std::move(program);
  if (auto checked = check_program(model.program_); !checked) {
    return std::unexpected(checked.error());
  }
  auto sizes = declared_sizes(model.program_);
  if (!sizes) return std::unexpected(sizes.error());
  model.config_ = *std::move(sizes);
  model.config_.family = "scripted";

  std::error_code error;
  if (fs::exists(folder / "model.safetensors", error)) {
    auto checkpoint = Checkpoint::open(folder);
    if (!checkpoint) return std::unexpected(checkpoint.error());
    model.checkpoint_ = *std::move(checkpoint);
  }
  auto taken = model.take_weights();
  if (!taken) return std::unexpected(taken.error());
  return model;
}

// Moves a user's program's tensors out of it, so that they go the way of all weights.
Result<void> SourceModel::take_weights() {
  auto slots = ProgramWeights::find(program_);
  if (!slots) return std::unexpected(slots.error());
  const std::set<std::string> multiplied = multiplied_weights(program_);
  std::map<const void*, std::string> first_path;  // of tensors that occur twice
  const at::Tensor empty = at::empty({0}, at::kFloat);
  for (const std::string& path : slots->paths()) {
    at::Tensor tensor = slots->get(path);
    if (checkpoint_ && checkpoint_->has(path)) {
      auto taken = checkpoint_->take(path);
      if (!taken) return std::unexpected(taken.error());
      tensor = *std::move(taken);
    }
    if (!tensor.defined() || tensor.numel() == 0) {
      return invalid_argument("program.pt: weight '" + path +
                              "' is empty, and model.safetensors "
                              "does not hold it");
    }
    if (!tensor.is_cpu() || tensor.layout() != at::kStrided ||
        dtype_of(tensor.scalar_type()).scalar_type != tensor.scalar_type()) {
      return fail(ErrorCode::kUnimplemented,
                  "program.pt: weight '" + path + "' is not a plain f32, f16 or bf16 tensor");
    }
    tensor = tensor.detach().contiguous();
    slots->set(path, empty);
    const auto [first, is_new] = first_path.emplace(tensor.const_data_ptr(), path);
    if (!is_new && tensors_.at(first->second).sizes() == tensor.sizes()) {
      aliases_[path] = first->second;
      continue;
    }
    if (is_among(multiplied, path)) dtype_ = tensor.scalar_type();
    tensors_[path] = tensor;
  }
  for (const auto& [path, tensor] : tensors_) {
    const at::ScalarType dtype = tensor.scalar_type();
    weights_.push_back({path, tensor.sizes().vec(), dtype, dtype != dtype_});
  }
  return {};
}

std::vector<fs::path> SourceModel::files() const {
  std::vector<fs::path> files;
  if (checkpoint_) {
    for (const SafetensorsFile& file : checkpoint_->files()) files.emplace_back(file.file_name());
  }
  std::vector<const char*> small(std::begin(kCompanionFiles), std::end(kCompanionFiles));
  small.insert(small.end(), {kConfigFile, kProgramFile});
  std::error_code error;
  for (const char* name : small) {
    if (fs::exists(folder_ / name, error)) files.emplace_back(name);
  }
  return files;
}

std::string SourceModel::origin() const {
  return (family_ ? "family " + family_->name() + " " + family_->source_digest() : "scripted") +
         " " + config_.dtype + format_name(config_.encoding);
}

Result<void> SourceModel::send_weights(WeightSink& sink) {
  if (family_) return family_->send_weights(*checkpoint_, sink);
  for (const PlannedWeight& weight : weights_) {
    auto sent = sink.add(weight.path, {tensors_.at(weight.path)}, weight.is_table);
    if (!sent) return sent;
  }
  for (const auto& [path, target] : aliases_) {
    if (auto sent = sink.alias(path, target); !sent) return sent;
  }
  return {};
}

}  // namespace sluice::model
