#include "observability/step_profiler.h"

#include <gtest/gtest.h>

namespace sluice::observability {
namespace {

using std::chrono::milliseconds;

TEST(StepProfilerTest, AddsUpPartsOfTheStepsOfAKind) {
  StepProfiler profiler;
  for (int step = 1; step <= 2; ++step) {
    profiler.add("linear", "[8, 4]", milliseconds(step));
    profiler.add("linear", "[16, 4]", milliseconds(10 * step));
    profiler.add("linear", "[8, 4]", milliseconds(step));
    profiler.end_step("decode", 3, milliseconds(20 * step));
  }
  profiler.add("linear", "[8, 4]", milliseconds(5));
  profiler.end_step("prefill", 100, milliseconds(7));

  const std::vector<StepProfile> profiles = profiler.take();
  ASSERT_EQ(profiles.size(), 2);
  EXPECT_EQ(profiles[0].kind, "decode");
  EXPECT_EQ(profiles[0].steps, 2);
  EXPECT_EQ(profiles[0].tokens, 6);
  EXPECT_DOUBLE_EQ(profiles[0].ms, 60);
  ASSERT_EQ(profiles[0].parts.size(), 2);
  EXPECT_EQ(profiles[0].parts[0].shape, "[8, 4]");
  EXPECT_EQ(profiles[0].parts[0].calls, 4);
  EXPECT_DOUBLE_EQ(profiles[0].parts[0].ms, 6);
  EXPECT_DOUBLE_EQ(profiles[0].parts[1].ms, 30);
  EXPECT_EQ(profiles[1].kind, "prefill");
  EXPECT_EQ(profiles[1].parts[0].calls, 1);
  EXPECT_TRUE(profiler.take().empty());
}

TEST(StepProfilerTest, APartWithoutProfilerDoesNothing) {
  StepProfiler profiler;
  {
    const ProfiledPart part(&profiler, "plan");
  }
  {
    const ProfiledPart part(nullptr, "plan");
  }
  profiler.end_step("decode", 1, milliseconds(1));
  const std::vector<StepProfile> profiles = profiler.take();
  ASSERT_EQ(profiles[0].parts.size(), 1);
  EXPECT_EQ(profiles[0].parts[0].calls, 1);
  EXPECT_GE(profiles[0].parts[0].ms, 0);
}

}  // namespace
}  // namespace sluice::observability
