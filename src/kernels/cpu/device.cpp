#include "kernels/device.h"

#include <ATen/ops/from_blob.h>
#include <c10/util/Exception.h>

#include <memory>
#include <utility>

#include "base/machine_memory.h"
#include "kernels/compute.h"
#include "kernels/cpu/packed_panels.h"
#include "kernels/packed_weight.h"

namespace sluice::kernels {
namespace {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(std::string profile) : profile_(std::move(profile)) {}

  const std::string& name() const override { return name_; }
  bool is_cpu() const override { return true; }
  const std::string& profile() const override { return profile_; }
  int64_t total_bytes() const override { return base::machine_memory().total_bytes; }
  int64_t free_bytes() const override { return base::machine_memory().free_bytes; }

  // In huge pages where it is large.
  at::Tensor allocate(at::IntArrayRef sizes, at::ScalarType dtype) override {
    int64_t num_bytes = static_cast<int64_t>(c10::elementSize(dtype));
    for (const int64_t size : sizes) num_bytes *= size;
    auto memory = std::make_shared<HugeBuffer>(num_bytes);
    void* const data = memory->data();
    return at::from_blob(
        data, sizes, [memory = std::move(memory)](void*) {}, at::TensorOptions().dtype(dtype));
  }

  Float8Product float8_product() const override { return Float8Product::kNone; }
  Result<at::Tensor> pack(const at::Tensor& weight) override { return pack_weight(weight); }
  Result<at::Tensor> pack(const QuantizedWeight& weight, at::ScalarType activations) override {
    return pack_weight(weight, activations);
  }

  at::Tensor upload(const at::Tensor& tensor) override { return tensor; }
  at::Tensor download(const at::Tensor& tensor) override { return tensor; }
  void synchronize() override {}
  void copy_to(const at::Tensor&, const void*, size_t) override {
    TORCH_INTERNAL_ASSERT(false, "the CPU's tensors are written to, not copied to");
  }
  std::unique_ptr<Staging> make_staging() override {
    TORCH_INTERNAL_ASSERT(false, "the CPU's tensors need no staging");
  }
  // A call is done when it returns.
  Result<std::unique_ptr<Recording>> record(c10::function_ref<void()>) override {
    return fail(ErrorCode::kFailedPrecondition, "the CPU records nothing");
  }
  bool can_record() const override { return false; }
  void play(const Recording&) override {
    TORCH_INTERNAL_ASSERT(false, "the CPU has no recordings");
  }
  uint64_t memory_changes() const override { return 0; }
  bool take_refusal() override { return false; }

 private:
  std::string name_ = "cpu";
  std::string profile_;
};

}  // namespace

Result<Device*> cpu_device() {
  static const Result<Device*> device = []() -> Result<Device*> {
    auto profile = cpu_profile();
    if (!profile) return std::unexpected(profile.error());
    return new CpuDevice(*std::move(profile));
  }();
  return device;
}

}  // namespace sluice::kernels
