#pragma once

#include <gtest/gtest.h>

#include <string>

#include "fibers.h"

// Tests that run once in each order of threads: INSTANTIATE_TEST_SUITE_P(Schedules, MyTest,
// host::schedules(), host::schedule_name), where MyTest is or derives from WithSchedule.
namespace sluice::kernels::cuda::host {

class WithSchedule : public testing::TestWithParam<Schedule> {
 protected:
  void SetUp() override { set_schedule(GetParam()); }
  void TearDown() override { set_schedule(Schedule::kForwardLateCopies); }
};

inline auto schedules() {
  return testing::Values(Schedule::kForwardLateCopies, Schedule::kBackwardEarlyCopies);
}

inline std::string schedule_name(const testing::TestParamInfo<Schedule>& info) {
  return info.param == Schedule::kForwardLateCopies ? "forward" : "backward";
}

}  // namespace sluice::kernels::cuda::host
