#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host_memory.h"
#include "kernels/cuda/device_api.h"

// A weight with rows of x, and the device's `linear` over any of them; for tests without LibTorch.
namespace sluice::kernels::cuda::host {

class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes);
  template <typename T>
  explicit DeviceBytes(const std::vector<T>& numbers)
      : DeviceBytes(numbers.data(), numbers.size() * sizeof(T)) {}
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  ~DeviceBytes();

  template <typename T = void>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  DeviceBytes(const void* bytes, size_t size);

  void* data_ = nullptr;
};

enum class LinearFormat { kPlain, kInt8, kWide, kInt4, kFloat8, kWideFloat8 };

struct LinearShape {
  DType type = DType::kBF16;
  LinearFormat format = LinearFormat::kPlain;
  int64_t columns = 0;  // K
  int64_t rows = 72;    // N: no multiple of a block's
  bool float_output = false;

  std::string name() const;
};

// A weight, the most rows of x that a test asks for, and what is added to the product.
class LinearWorld {
 public:
  static constexpr int64_t kMostRows = 140;

  explicit LinearWorld(const LinearShape& shape);

  // Output rows [first, first + count) of a device of so many multiprocessors.
  std::vector<unsigned char> run(int64_t first, int64_t count, Activation activation,
                                 int32_t num_multiprocessors) const;

 private:
  LinearShape shape_;
  Weight weight_;
  DeviceBytes tiles_;
  DeviceBytes scales_;
  DeviceBytes multipliers_;
  DeviceBytes x_;
  DeviceBytes bias_;
  DeviceBytes residual_;
};

}  // namespace sluice::kernels::cuda::host
