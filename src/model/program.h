#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "model/model_runner.h"
#include "sluice/error.h"

// What Sluice knows of a TorchScript program: its sizes, its weights, what it calls.
namespace sluice::model {

// kInvalidArgument unless the program has
//   forward(self, Tensor tokens, Tensor positions, Tensor[] cache, Tensor[] plan) -> Tensor.
Result<void> check_signature(const torch::jit::Module& program);

// kInvalidArgument, naming it, if forward(), or what it calls, uses an operator that is not on the
// list (operator_allow_list.cpp): file access and in-place changes, but also ordinary matrix
// products, whose bits depend on the number of rows. Functions that are never called may hold
// anything. Requires: check_signature().
Result<void> check_operators(const torch::jit::Module& program);

// kUnimplemented, naming it, if forward() computes tensors with an operator of LibTorch's: a device
// other than the CPU has kernels for sluice's only. Requires: check_operators().
Result<void> check_device_operators(const torch::jit::Module& program);

// The sizes that a program declares as integer attributes: vocabulary_size, context_length,
// num_layers, num_heads, num_kv_heads, head_size. kInvalidArgument: missing or out of range.
Result<ModelConfig> declared_sizes(const torch::jit::Module& program);

// Every tensor that a program holds in its attributes, by path: "embedding", "qkv.3" for an element
// of a list, "layers.0.norm.weight" inside submodules.
class ProgramWeights final {
 public:
  // kUnimplemented if tensors are kept in something else than an attribute or a list.
  static Result<ProgramWeights> find(const torch::jit::Module& program);

  std::vector<std::string> paths() const;
  bool contains(const std::string& path) const { return slots_.contains(path); }
  // Requires: contains(path).
  at::Tensor get(const std::string& path) const;
  void set(const std::string& path, const at::Tensor& tensor);

 private:
  struct Slot {
    c10::intrusive_ptr<c10::ivalue::Object> object;
    size_t slot_idx = 0;
    int64_t list_idx = -1;  // in the attribute's list; -1: the attribute itself
  };
  Result<void> add_object(const std::string& prefix, const torch::jit::Module& object);

  std::map<std::string, Slot> slots_;
};

// Paths of the weights that `linear` or `logits` multiply with; "qkv.*" for every element of a
// list. They are what a kernel profile wants packed.
std::set<std::string> multiplied_weights(const torch::jit::Module& program);

// The tensors that multiplied_weights() means, by the paths of those that are no alias of another.
//   aliases: path -> target
std::set<std::string> packed_weights(const torch::jit::Module& program,
                                     const ProgramWeights& weights,
                                     const std::map<std::string, std::string>& aliases);

// True if `path` is in the set, by itself or by its list.
bool is_among(const std::set<std::string>& patterns, const std::string& path);

}  // namespace sluice::model
