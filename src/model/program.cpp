#include "model/program.h"

#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <optional>

namespace sluice::model {
namespace {

namespace jit = torch::jit;

constexpr int64_t kMaxVocabulary = 1 << 24;
constexpr int64_t kMaxContext = 1 << 22;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadSize = 1024;

bool holds_tensors(const c10::Type& type) {
  if (type.kind() == c10::TypeKind::TensorType) return true;
  return std::ranges::any_of(type.containedTypes(),
                             [](const c10::TypePtr& inner) { return holds_tensors(*inner); });
}

// The attribute path that a value of an inlined graph was read from.
std::optional<std::string> attribute_path(const jit::Value* value, const jit::Value* self) {
  if (value == self) return "";
  const jit::Node* node = value->node();
  switch (node->kind()) {
    case c10::prim::GetAttr: {
      const auto owner = attribute_path(node->input(0), self);
      if (!owner) return std::nullopt;
      return (owner->empty() ? "" : *owner + ".") + node->s(c10::attr::name);
    }
    case c10::aten::__getitem__: {
      const auto list = attribute_path(node->input(0), self);
      if (!list) return std::nullopt;
      return *list + ".*";
    }
    case c10::prim::unchecked_cast:
    case c10::prim::unchecked_unwrap_optional:
      return attribute_path(node->input(0), self);
    default:
      return std::nullopt;
  }
}

// Adds what the weight argument may be: an attribute, or either branch's.
void add_paths(const jit::Value* value, const jit::Value* self, std::set<std::string>& paths) {
  const jit::Node* node = value->node();
  if (node->kind() == c10::prim::If) {
    for (const jit::Block* branch : node->blocks()) {
      add_paths(branch->outputs().at(value->offset()), self, paths);
    }
    return;
  }
  if (const auto path = attribute_path(value, self)) paths.insert(*path);
}

void visit_products(const jit::Block* block, const jit::Value* self, std::set<std::string>& paths) {
  static const c10::Symbol kLinear = c10::Symbol::fromQualString("sluice::linear");
  static const c10::Symbol kLogits = c10::Symbol::fromQualString("sluice::logits");
  for (const jit::Node* node : block->nodes()) {
    if (node->kind() == kLinear || node->kind() == kLogits) add_paths(node->input(1), self, paths);
    for (const jit::Block* inner : node->blocks()) visit_products(inner, self, paths);
  }
}

Result<int32_t> declared_size(const jit::Module& program, const std::string& name, int64_t limit) {
  if (!program.hasattr(name) || !program.attr(name).isInt()) {
    return invalid_argument("the program declares no integer attribute " + name);
  }
  const int64_t size = program.attr(name).toInt();
  if (size < 1 || size > limit) {
    return invalid_argument("the program's " + name + " is " + std::to_string(size) +
                            ", allowed are 1 to " + std::to_string(limit));
  }
  return static_cast<int32_t>(size);
}

}  // namespace

Result<void> check_signature(const jit::Module& program) {
  constexpr const char* kWanted =
      "the program needs forward(self, tokens: Tensor, positions: Tensor, cache: List[Tensor], "
      "plan: List[Tensor]) -> Tensor";
  const auto forward = program.find_method("forward");
  if (!forward) return invalid_argument(kWanted);
  const c10::FunctionSchema& schema = forward->function().getSchema();
  const auto tensor = c10::TensorType::get();
  const auto tensors = c10::ListType::ofTensors();
  const std::vector<c10::TypePtr> wanted = {tensor, tensor, tensors, tensors};
  const auto& arguments = schema.arguments();
  bool matches = arguments.size() == wanted.size() + 1 && schema.returns().size() == 1 &&
                 schema.returns()[0].type()->isSubtypeOf(*tensor);
  for (size_t i = 0; matches && i < wanted.size(); ++i) {
    matches = wanted[i]->isSubtypeOf(*arguments[i + 1].type());
  }
  if (!matches) return invalid_argument(kWanted);
  return {};
}

Result<ModelConfig> declared_sizes(const jit::Module& program) {
  ModelConfig config;
  struct Size {
    const char* name;
    int64_t limit;
    int32_t ModelConfig::* member;
  };
  for (const Size& size : {Size{"vocabulary_size", kMaxVocabulary, &ModelConfig::vocabulary_size},
                           Size{"context_length", kMaxContext, &ModelConfig::context_length},
                           Size{"num_layers", kMaxLayers, &ModelConfig::num_layers},
                           Size{"num_heads", kMaxHeads, &ModelConfig::num_heads},
                           Size{"num_kv_heads", kMaxHeads, &ModelConfig::num_kv_heads},
                           Size{"head_size", kMaxHeadSize, &ModelConfig::head_size}}) {
    const auto value = declared_size(program, size.name, size.limit);
    if (!value) return std::unexpected(value.error());
    config.*size.member = *value;
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    return invalid_argument("the program's num_heads (" + std::to_string(config.num_heads) +
                            ") is no multiple of its num_kv_heads (" +
                            std::to_string(config.num_kv_heads) + ")");
  }
  return config;
}

Result<ProgramWeights> ProgramWeights::find(const jit::Module& program) {
  ProgramWeights weights;
  if (auto added = weights.add_object("", program); !added) return std::unexpected(added.error());
  return weights;
}

Result<void> ProgramWeights::add_object(const std::string& prefix, const jit::Module& module) {
  const auto object = module._ivalue();
  const auto& type = *module.type();
  for (size_t i = 0; i < type.numAttributes(); ++i) {
    const std::string path = prefix + type.getAttributeName(i);
    const c10::IValue value = object->getSlot(i);
    if (value.isModule()) {
      if (auto added = add_object(path + ".", value.toModule()); !added) return added;
    } else if (value.isTensor()) {
      slots_[path] = Slot{object, i, -1};
    } else if (value.isList() && holds_tensors(*type.getAttribute(i))) {
      const auto list = value.toList();
      for (size_t element = 0; element < list.size(); ++element) {
        const c10::IValue item = list.get(element);
        if (item.isNone()) continue;
        if (!item.isTensor()) {
          return fail(ErrorCode::kUnimplemented,
                      "the program's attribute " + path + " nests lists of tensors");
        }
        slots_[path + "." + std::to_string(element)] =
            Slot{object, i, static_cast<int64_t>(element)};
      }
    } else if (!value.isNone() && holds_tensors(*type.getAttribute(i))) {
      return fail(ErrorCode::kUnimplemented, "the program keeps tensors in attribute " + path +
                                                 ", which is neither a tensor nor a list");
    }
  }
  return {};
}

std::vector<std::string> ProgramWeights::paths() const {
  std::vector<std::string> paths;
  for (const auto& [path, slot] : slots_) paths.push_back(path);
  return paths;
}

at::Tensor ProgramWeights::get(const std::string& path) const {
  const Slot& slot = slots_.at(path);
  const c10::IValue value = slot.object->getSlot(slot.slot_idx);
  if (slot.list_idx < 0) return value.toTensor();
  return value.toList().get(static_cast<size_t>(slot.list_idx)).toTensor();
}

void ProgramWeights::set(const std::string& path, const at::Tensor& tensor) {
  const Slot& slot = slots_.at(path);
  if (slot.list_idx < 0) {
    slot.object->setSlot(slot.slot_idx, tensor);
  } else {
    slot.object->getSlot(slot.slot_idx).toList().set(static_cast<size_t>(slot.list_idx), tensor);
  }
}

std::set<std::string> multiplied_weights(const jit::Module& program) {
  std::set<std::string> paths;
  const auto graph = program.get_method("forward").graph()->copy();
  jit::Inline(*graph);
  visit_products(graph->block(), graph->inputs().at(0), paths);
  return paths;
}

std::set<std::string> packed_weights(const jit::Module& program, const ProgramWeights& weights,
                                     const std::map<std::string, std::string>& aliases) {
  const std::set<std::string> multiplied = multiplied_weights(program);
  std::set<std::string> packed;
  for (const std::string& path : weights.paths()) {
    if (!is_among(multiplied, path)) continue;
    const auto target = aliases.find(path);
    packed.insert(target == aliases.end() ? path : target->second);
  }
  return packed;
}

bool is_among(const std::set<std::string>& patterns, const std::string& path) {
  if (patterns.contains(path)) return true;
  const size_t dot = path.rfind('.');
  return dot != std::string::npos && patterns.contains(path.substr(0, dot) + ".*");
}

}  // namespace sluice::model
