#include "tests/device/test_device.h"

#include <cstdio>
#include <cstdlib>

#include "host_device.h"
#include "kernels/cuda/plugin.h"

namespace sluice::test_device {
namespace {

std::string wanted_device() {
  const char* wanted = std::getenv("SLUICE_TEST_DEVICE");
  const std::string device = wanted == nullptr ? "cpu" : wanted;
  if (device == "cuda-host") {
    kernels::cuda::provide_device_api(kernels::cuda::host_device_api());
  } else if (device != "cpu" && device != "cuda") {
    std::fprintf(stderr, "SLUICE_TEST_DEVICE is %s, expected cpu, cuda or cuda-host\n", wanted);
    std::exit(2);
  }
  return device;
}

const std::string& wanted() {
  static const std::string device = wanted_device();
  return device;
}

// Before anybody asks what devices there are.
[[maybe_unused]] const bool is_provided = !wanted().empty();

}  // namespace

std::string name() {
  return wanted() == "cpu" ? "cpu" : "cuda";
}

bool is_slow() {
  return wanted() == "cuda-host";
}

}  // namespace sluice::test_device
