#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <string>
#include <unordered_set>

#include "model/program.h"

namespace sluice::model {
namespace {

namespace jit = torch::jit;

// What a program may use besides sluice::*. Left out on purpose: anything that reads or writes
// files, draws random numbers, changes tensors or attributes in place, or sums over a dimension (a
// matrix product or a softmax of LibTorch's gives a row other bits in another company: row law).
const std::unordered_set<std::string>& allowed_operators() {
  static const std::unordered_set<std::string> kAllowed = {
      // control flow, attributes, containers
      "prim::Constant", "prim::GetAttr", "prim::Loop", "prim::If", "prim::ListConstruct",
      "prim::ListUnpack", "prim::TupleConstruct", "prim::TupleUnpack", "prim::TupleIndex",
      "prim::RaiseException", "prim::Uninitialized", "prim::unchecked_cast",
      "prim::unchecked_unwrap_optional", "prim::min", "prim::max", "prim::dtype",
      "prim::NumToTensor", "prim::Return", "prim::Param", "aten::__getitem__", "aten::__is__",
      "aten::__isnot__", "aten::__not__", "aten::__contains__", "aten::__range_length",
      "aten::__derive_index", "aten::len",
      // numbers and text
      "aten::add", "aten::sub", "aten::mul", "aten::div", "aten::floordiv", "aten::remainder",
      "aten::neg", "aten::pow", "aten::sqrt", "aten::eq", "aten::ne", "aten::lt", "aten::le",
      "aten::gt", "aten::ge", "aten::Int", "aten::Float", "aten::Bool", "aten::str", "aten::format",

      // shapes and views
      "aten::size", "aten::dim", "aten::numel", "aten::view", "aten::reshape", "aten::flatten",
      "aten::unflatten", "aten::slice", "aten::select", "aten::narrow", "aten::split",
      "aten::chunk", "aten::unbind", "aten::cat", "aten::stack", "aten::unsqueeze", "aten::squeeze",
      "aten::transpose", "aten::permute", "aten::t", "aten::expand", "aten::contiguous", "aten::to",
      // element by element
      "aten::abs", "aten::clamp", "aten::exp", "aten::gelu", "aten::log", "aten::relu",
      "aten::rsqrt", "aten::sigmoid", "aten::silu", "aten::square", "aten::tanh", "aten::where"};
  return kAllowed;
}

// The blocks of a node that can run: of a choice by a constant (`inplace=False`) only one.
at::ArrayRef<const jit::Block*> live_blocks(const jit::Node* node) {
  if (node->kind() == c10::prim::If) {
    if (const auto condition = jit::constant_as<bool>(node->input(0))) {
      return node->blocks().slice(*condition ? 0 : 1, 1);
    }
  }
  return node->blocks();
}

Result<void> check_block(const jit::Block* block) {
  for (const jit::Node* node : block->nodes()) {
    const std::string name = node->kind().toQualString();
    if (!name.starts_with("sluice::") && !allowed_operators().contains(name)) {
      return invalid_argument("the program calls " + name.substr(0, 64) +
                              ", which is not allowed in a program (see docs/models.md)");
    }
    for (const jit::Block* inner : live_blocks(node)) {
      if (auto checked = check_block(inner); !checked) return checked;
    }
  }
  return {};
}

bool makes_a_tensor(const jit::Node* node) {
  return std::ranges::any_of(node->outputs(), [](const jit::Value* output) {
    return output->type()->kind() == c10::TypeKind::TensorType;
  });
}

// Elements of lists are no work of a device.
Result<void> check_device_block(const jit::Block* block) {
  for (const jit::Node* node : block->nodes()) {
    const std::string name = node->kind().toQualString();
    if (name.starts_with("aten::") && name != "aten::__getitem__" && makes_a_tensor(node)) {
      return fail(ErrorCode::kUnimplemented,
                  "the program calls " + name.substr(0, 64) +
                      ", which has no CUDA kernel: use --device cpu, or write it with sluice's "
                      "operators (see docs/models.md)");
    }
    for (const jit::Block* inner : live_blocks(node)) {
      if (auto checked = check_device_block(inner); !checked) return checked;
    }
  }
  return {};
}

}  // namespace

Result<void> check_device_operators(const jit::Module& program) {
  const auto graph = program.get_method("forward").graph()->copy();
  jit::Inline(*graph);
  return check_device_block(graph->block());
}

Result<void> check_operators(const jit::Module& program) {
  const auto graph = program.get_method("forward").graph()->copy();
  jit::Inline(*graph);
  return check_block(graph->block());
}

}  // namespace sluice::model
