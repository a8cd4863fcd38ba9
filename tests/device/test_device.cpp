#include "tests/device/test_device.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "host_device.h"
#include "host_stream.h"
#include "kernels/cuda/plugin.h"

namespace sluice::test_device {
namespace {

using kernels::cuda::DeviceApi;
using kernels::cuda::Status;
using kernels::cuda::Stream;

constexpr Status kLost = 719;  // a launch failed, as everything does afterwards
std::atomic<bool> is_lost{false};
std::atomic<bool> is_unplayable{false};
std::atomic<int64_t> num_played{0};

// The host's table, but for what tells of a lost device and of recordings.
const DeviceApi& fragile_api() {
  static const DeviceApi api = [] {
    DeviceApi made = kernels::cuda::host_device_api();
    made.count_devices = [](int32_t* count) -> Status {
      *count = 2;
      return kernels::cuda::kSuccess;
    };
    made.describe = [](int32_t ordinal, kernels::cuda::DeviceInfo* info) -> Status {
      const Status status = kernels::cuda::host_device_api().describe(0, info);
      if (ordinal == 1) info->compute_major = 8;
      return status;
    };
    made.use = [](int32_t) { return kernels::cuda::host_device_api().use(0); };
    made.synchronize = [](Stream stream) -> Status {
      return is_lost ? kLost : kernels::cuda::host_device_api().synchronize(stream);
    };
    made.wait_for_event = [](kernels::cuda::Event event) -> Status {
      return is_lost ? kLost : kernels::cuda::host_device_api().wait_for_event(event);
    };
    made.launch_graph = [](kernels::cuda::Graph graph, Stream stream) -> Status {
      if (is_unplayable) return kernels::cuda::kNotSupported;
      ++num_played;
      return kernels::cuda::host_device_api().launch_graph(graph, stream);
    };
    made.embed = [](const kernels::cuda::EmbedArgs& args, Stream stream) -> Status {
      return is_lost ? kLost : kernels::cuda::host_device_api().embed(args, stream);
    };
    return made;
  }();
  return api;
}

std::string wanted_device() {
  const char* wanted = std::getenv("SLUICE_TEST_DEVICE");
  const std::string device = wanted == nullptr ? "cpu" : wanted;
  if (device == "cuda-host") {
    kernels::cuda::provide_device_api(fragile_api());
    kernels::cuda::host::set_deferred(true);
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

void set_lost(bool lost) {
  is_lost = lost;
}

void set_unplayable(bool unplayable) {
  is_unplayable = unplayable;
}

int64_t num_recordings_played() {
  return num_played;
}

bool is_slow() {
  return wanted() == "cuda-host";
}

}  // namespace sluice::test_device
