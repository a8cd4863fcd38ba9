#include "kernels/device.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/cuda/plugin.h"
#include "support.h"

namespace sluice::kernels {
namespace {

using testing::device;
using testing::random_tensor;
using testing::same_bits;

// What the CPU's memory does where it is the operators' own.
class GpuDeviceTest : public testing::KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (!IsSkipped() && device().is_cpu()) GTEST_SKIP() << "of a GPU";
  }
};

TEST_F(GpuDeviceTest, MemoryComesBackAsItWent) {
  const at::Tensor x = random_tensor({33, 7}, 5, at::kBFloat16);
  EXPECT_TRUE(same_bits(device().download(device().upload(x)), x));
}

TEST_F(GpuDeviceTest, TooMuchIsAnErrorOfItsOwnAndTheNextCallWorks) {
  device().take_refusal();
  EXPECT_THROW(device().allocate({int64_t{1} << 50}, at::kFloat), c10::OutOfMemoryError);
  EXPECT_TRUE(device().take_refusal());
  EXPECT_FALSE(device().take_refusal());
  const uint64_t before = device().memory_changes();
  EXPECT_TRUE(device().allocate({16}, at::kFloat).defined());
  EXPECT_EQ(device().memory_changes(), before + 1) << "it went";
}

// A copy may come long after it was asked for.
TEST_F(GpuDeviceTest, CopiesFromStagingMemory) {
  constexpr size_t kBytes = 256 * sizeof(int32_t);
  const at::Tensor tensor = device().allocate({256}, at::kInt);
  const std::vector<int32_t> ones(256, 1);
  {
    const auto staging = device().make_staging();
    std::memcpy(staging->room_for(kBytes), ones.data(), kBytes);
    device().copy_to(tensor, staging->room_for(kBytes), kBytes);
  }
  EXPECT_EQ(0, std::memcmp(device().download(tensor).const_data_ptr(), ones.data(), kBytes));
}

TEST(Float8ProductTest, GoesByTheComputeCapability) {
  const auto product_of = [](int32_t major, int32_t minor) {
    cuda::DeviceInfo info;
    info.compute_major = major;
    info.compute_minor = minor;
    return cuda::float8_product_of(info);
  };
  for (const int32_t minor : {0, 6, 7}) EXPECT_EQ(product_of(8, minor), Float8Product::kNone);
  EXPECT_EQ(product_of(8, 9), Float8Product::kNative);
  EXPECT_EQ(product_of(9, 0), Float8Product::kConverted);
  EXPECT_EQ(product_of(10, 0), Float8Product::kConverted);
  EXPECT_EQ(product_of(10, 3), Float8Product::kConverted);
  EXPECT_EQ(product_of(12, 0), Float8Product::kNative);
  EXPECT_EQ(product_of(0, 0), Float8Product::kNative) << "the tests' host";
}

}  // namespace
}  // namespace sluice::kernels
