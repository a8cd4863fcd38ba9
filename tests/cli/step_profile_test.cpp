#include "cli/step_profile.h"

#include <gtest/gtest.h>

namespace sluice::cli {
namespace {

StepPart part(const std::string& name, const std::string& shape, int64_t calls, double ms) {
  StepPart part;
  part.name = name;
  part.shape = shape;
  part.calls = calls;
  part.ms = ms;
  return part;
}

StepProfile decode(int64_t steps, double ms, std::vector<StepPart> parts) {
  StepProfile profile;
  profile.kind = "decode";
  profile.steps = steps;
  profile.tokens = 16 * steps;
  profile.ms = ms;
  profile.parts = std::move(parts);
  return profile;
}

TEST(StepProfileTest, RunsAddUpByKindNameAndShape) {
  std::vector<StepProfile> sums;
  add_profiles(sums, {decode(2, 10, {part("linear", "[8, 4]", 4, 6)})});
  add_profiles(sums,
               {decode(2, 14, {part("linear", "[8, 4]", 4, 8), part("linear", "[4, 4]", 2, 1)})});
  ASSERT_EQ(sums.size(), 1);
  EXPECT_EQ(sums[0].steps, 4);
  EXPECT_DOUBLE_EQ(sums[0].ms, 24);
  ASSERT_EQ(sums[0].parts.size(), 2);
  EXPECT_EQ(sums[0].parts[0].calls, 8);
  EXPECT_DOUBLE_EQ(sums[0].parts[0].ms, 14);
}

TEST(StepProfileTest, ShowsOneStepWithTheLargestPartFirstAndTheRest) {
  const std::vector<StepProfile> profiles = {
      decode(2, 20, {part("plan", "", 2, 1), part("linear", "[8, 4]", 4, 16)})};
  EXPECT_EQ(profile_text(profiles),
            "\ndecode steps: 2, 16.0 rows and 10.0 ms each\n"
            "part    shape   calls  ms/step   share\n"
            "linear  [8, 4]      2    8.000  80.0 %\n"
            "rest                1    1.500  15.0 %\n"
            "plan                1    0.500   5.0 %\n");
  const nlohmann::ordered_json json = profile_json(profiles);
  EXPECT_EQ(json[0]["kind"], "decode");
  EXPECT_EQ(json[0]["ms"], 10);
  EXPECT_EQ(json[0]["parts"][1]["name"], "linear");
  EXPECT_EQ(json[0]["parts"][1]["calls"], 2);
  EXPECT_EQ(json[0]["parts"][1]["ms"], 8);
}

}  // namespace
}  // namespace sluice::cli
