#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace sluice::model {

// What a program's forward() gets. The tensors stay the same from step to step; their sizes and
// contents are the step's.
struct ProgramInputs {
  at::Tensor tokens;     // [T] int32
  at::Tensor positions;  // [T] int32
  c10::List<at::Tensor> cache;
  c10::List<at::Tensor> plan;
};

// A program's forward() with all that is the same in every step done once: attributes read, loops
// unrolled, choices made. What is left is a list of operator calls, with the arguments and in the
// order of the program, so it gives the same bits; and unlike the interpreter it allocates nothing.
//
// Threads: one at a time.
class StraightProgram final {
 public:
  ~StraightProgram();

  // Null if the program asks a step for something before it decides what to call (the number of
  // its tokens, say): the interpreter runs it then.
  // Requires: the program's operators are on the allow-list (none changes a tensor in place, but
  // for the cache); its attributes are the final ones.
  static std::unique_ptr<StraightProgram> record(const torch::jit::Module& program,
                                                 const ProgramInputs& inputs);

  // Throws what an operator throws; can be called again then.
  at::Tensor run();

  size_t num_calls() const { return calls_.size(); }

 private:
  class Recorder;
  // Either the result of an earlier call or the same value in every step.
  struct Argument {
    int32_t result_idx = -1;
    bool is_last_use = false;
    c10::IValue constant;
  };
  enum class Kind : uint8_t { kBoxed, kAttention, kSelectRows };
  struct Call {
    Kind kind = Kind::kBoxed;
    torch::jit::Operation operation;
    std::vector<Argument> arguments;
    bool is_used = false;  // its result is
  };

  StraightProgram() = default;
  void find_last_uses();
  c10::IValue take(Argument& argument);
  at::Tensor call(Call& call);

  std::vector<Call> calls_;
  Argument returned_;
  std::vector<at::Tensor> plan_;  // as the operators with a plan take it
  std::vector<c10::IValue> results_;
  torch::jit::Stack stack_;
};

}  // namespace sluice::model
