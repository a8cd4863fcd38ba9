#pragma once

#include <cstdint>
#include <string>

// The device that tests run on: what SLUICE_TEST_DEVICE names. "cpu" (or nothing); "cuda", a GPU;
// "cuda-host", the CUDA kernels compiled for the host (tests/kernels/cuda_host), a thousand times
// slower than a GPU and exact in what they test.
namespace sluice::test_device {

// "cpu" or "cuda", as RuntimeOptions::device has it. The kernels of "cuda-host" are provided before
// main(); another name ends the program.
std::string name();

// Of "cuda-host": from now on nothing that the device is asked succeeds, as on one that fell off
// its bus; or it works again.
void set_lost(bool is_lost);

// Of "cuda-host": from now on no recording can be played, or all can again.
void set_unplayable(bool is_unplayable);

// Of "cuda-host": a second device, which says that its compute capability is 8.0.
inline constexpr const char* kOldDevice = "cuda:1";

// Of "cuda-host": steps that were made from a recording so far.
int64_t num_recordings_played();

// True for "cuda-host": tests leave out what would take minutes there.
bool is_slow();

}  // namespace sluice::test_device
