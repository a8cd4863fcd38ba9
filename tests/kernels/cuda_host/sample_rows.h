#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/device_api.h"
#include "sampling/sampler.h"

// Rows to draw from, and both samplers' results for them; for tests without LibTorch.
namespace sluice::kernels::cuda::host {

struct Row {
  std::vector<float> logits;
  sampling::SamplingParams params;
  sampling::TokenCounts counts;
  std::vector<int32_t> forbidden;
  uint32_t completion_index = 0;
  uint32_t position = 0;
  int32_t scored_token = -1;
  int32_t num_logprobs = -1;
  int32_t being_drawn = -1;  // a token that the row's counts have on the host only
};

const DeviceApi& host_memory();

// An array of the device's.
template <typename T>
class Device final {
 public:
  explicit Device(const std::vector<T>& values) : Device(values.size()) {
    if (!values.empty()) std::memcpy(data_, values.data(), values.size() * sizeof(T));
  }
  explicit Device(size_t size) : size_(size) {
    EXPECT_EQ(host_memory().allocate(&data_, size * sizeof(T)), kSuccess);
  }
  ~Device() {
    EXPECT_EQ(host_memory().release(data_), kSuccess) << "written before an array's start";
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  T* data() const { return static_cast<T*>(data_); }
  std::vector<T> copy() const { return {data(), data() + size_}; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

std::vector<sampling::RowResult> sample_on_device(const std::vector<Row>& rows);

std::string describe(const Row& row);  // for a failure
void expect_same(const sampling::RowResult& host, const sampling::RowResult& device,
                 const Row& row);
// Of every row, bit for bit.
void expect_host_equals_device(std::vector<Row>& rows);

}  // namespace sluice::kernels::cuda::host
