#include "model/straight_program.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

#include <string>

namespace sluice::model {
namespace {

namespace jit = torch::jit;

constexpr const char* kHead =
    "def forward(self, tokens: Tensor, positions: Tensor, cache: List[Tensor],\n"
    "            plan: List[Tensor]) -> Tensor:\n";

jit::Module program_of(const std::string& body) {
  jit::Module program("program");
  program.register_attribute("count", c10::IntType::get(), 3);
  program.register_attribute("flag", c10::BoolType::get(), false);
  program.register_attribute(
      "weights", c10::ListType::ofTensors(),
      c10::List<at::Tensor>({at::full({2}, 2.0), at::full({2}, 3.0), at::full({2}, 5.0)}));
  program.define(kHead + body);
  return program;
}

ProgramInputs inputs() {
  ProgramInputs inputs;
  inputs.tokens = at::arange(2, at::kFloat);
  inputs.positions = at::ones({2});
  inputs.cache.push_back(at::full({2}, 7.0));
  inputs.plan.push_back(at::full({2}, 11.0));
  return inputs;
}

at::Tensor interpreted(jit::Module& program, const ProgramInputs& inputs) {
  return program.get_method("forward")({inputs.tokens, inputs.positions, inputs.cache, inputs.plan})
      .toTensor();
}

TEST(StraightProgramTest, UnrollsLoopsAndTakesChoices) {
  jit::Module program = program_of(
      "    x = tokens\n"
      "    scale = self.count ** 2\n"
      "    kept: Optional[Tensor] = None\n"
      "    for i in range(self.count):\n"
      "        y = x if self.flag else positions\n"
      "        x = x * self.weights[i] + y * scale\n"
      "        if i == 1:\n"
      "            kept = x\n"
      "    if kept is not None:\n"
      "        x = x - kept\n"
      "    return (x + cache[0]).view([1, 2]) * plan[0]\n");
  const ProgramInputs in = inputs();
  const auto straight = StraightProgram::record(program, in);
  ASSERT_NE(straight, nullptr);
  EXPECT_EQ(straight->num_calls(), 3 * 3 + 4);
  for (int step = 0; step < 3; ++step) {
    in.tokens.fill_(step);
    EXPECT_TRUE(straight->run().equal(interpreted(program, in)));
  }
}

TEST(StraightProgramTest, TheSizesAreThoseOfTheStep) {
  jit::Module program = program_of("    return tokens.exp() + positions\n");
  ProgramInputs in = inputs();
  const auto straight = StraightProgram::record(program, in);
  ASSERT_NE(straight, nullptr);
  for (const int64_t size : {1, 2}) {
    in.tokens.unsafeGetTensorImpl()->set_sizes_contiguous({size});
    in.positions.unsafeGetTensorImpl()->set_sizes_contiguous({size});
    EXPECT_EQ(straight->run().size(0), size);
  }
}

TEST(StraightProgramTest, ReturnsAnInputAsItIs) {
  const ProgramInputs in = inputs();
  const auto straight = StraightProgram::record(program_of("    return tokens\n"), in);
  ASSERT_NE(straight, nullptr);
  EXPECT_TRUE(straight->run().is_same(in.tokens));
}

TEST(StraightProgramTest, LeavesProgramsThatLookIntoAStepToTheInterpreter) {
  for (const char* body :
       {"    if tokens.size(0) > 1:\n        tokens = tokens + 1\n    return tokens\n",
        "    x = tokens\n    for i in range(tokens.size(0)):\n        x = x + 1\n    return x\n",
        "    return torch.cat([tokens, positions])\n",
        "    a, b = tokens.chunk(2)\n    return a + b\n"}) {
    EXPECT_EQ(StraightProgram::record(program_of(body), inputs()), nullptr) << body;
  }
}

TEST(StraightProgramTest, CanBeCalledAgainAfterAFailure) {
  const ProgramInputs in = inputs();
  jit::Module program = program_of("    return tokens.exp().view([2]) + positions\n");
  const auto straight = StraightProgram::record(program, in);
  ASSERT_NE(straight, nullptr);
  in.tokens.unsafeGetTensorImpl()->set_sizes_contiguous({1});
  EXPECT_ANY_THROW(straight->run());
  in.tokens.unsafeGetTensorImpl()->set_sizes_contiguous({2});
  EXPECT_TRUE(straight->run().equal(interpreted(program, in)));
}

}  // namespace
}  // namespace sluice::model
