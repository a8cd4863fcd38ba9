#include "kernels/output_pool.h"

#include <gtest/gtest.h>

#include <utility>

#include "kernels/device.h"

namespace sluice::kernels {
namespace {

TEST(OutputPoolTest, GivesAFreeTensorAgain) {
  OutputPool pool(**cpu_device());
  const void* first = nullptr;
  {
    const at::Tensor tensor = pool.take({4, 8}, at::kFloat);
    first = tensor.data_ptr();
    EXPECT_EQ(tensor.sizes(), (at::IntArrayRef{4, 8}));
    EXPECT_TRUE(tensor.is_contiguous());
    EXPECT_EQ(tensor.scalar_type(), at::kFloat);
  }
  const at::Tensor again = pool.take({2, 3, 5}, at::kFloat);
  EXPECT_EQ(again.data_ptr(), first);
  EXPECT_EQ(again.sizes(), (at::IntArrayRef{2, 3, 5}));
  EXPECT_TRUE(again.is_contiguous());
  EXPECT_EQ(pool.size(), 1);
}

TEST(OutputPoolTest, NeverGivesAwayWhatSomebodyHolds) {
  OutputPool pool(**cpu_device());
  const at::Tensor held = pool.take({16}, at::kFloat);
  at::Tensor tensor = pool.take({16}, at::kFloat);
  EXPECT_NE(tensor.data_ptr(), held.data_ptr());
  const at::Tensor view = tensor.view({4, 4});
  const void* viewed = tensor.data_ptr();
  tensor = at::Tensor();
  const at::Tensor third = pool.take({16}, at::kFloat);
  EXPECT_NE(third.data_ptr(), viewed);
  EXPECT_NE(third.data_ptr(), held.data_ptr());
  EXPECT_EQ(pool.size(), 3);
}

TEST(OutputPoolTest, KeepsDtypesApartAndGrows) {
  OutputPool pool(**cpu_device());
  pool.take({16}, at::kFloat);
  EXPECT_EQ(pool.take({16}, at::kBFloat16).scalar_type(), at::kBFloat16);
  EXPECT_EQ(pool.size(), 2);
  const at::Tensor large = pool.take({1 << 20}, at::kFloat);  // the small one grew
  EXPECT_EQ(pool.size(), 2);
  large.fill_(1);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(large.data_ptr()) % (1 << 21), 0);  // huge pages
}

TEST(OutputPoolTest, OperatorsUseThePoolInForce) {
  OutputPool pool(**cpu_device());
  {
    const OutputScope scope(pool);
    empty_output({8}, at::kFloat);
    EXPECT_EQ(pool.size(), 1);
  }
  empty_output({8}, at::kFloat);
  EXPECT_EQ(pool.size(), 1);
}

}  // namespace
}  // namespace sluice::kernels
