#pragma once

namespace sluice::kernels {
class ThreadPool;
}

// What the micro-benchmarks share: their threads, and the machine's limits.
namespace sluice::benchmarks {

// SLUICE_BENCH_THREADS threads, or one a core.
kernels::ThreadPool& pool();

// Bytes per second that all threads of the pool read together from memory in huge pages, each part
// as one stream: the best of 32 rounds over 2 GiB, every other one with prefetches, measured at the
// first call.
double read_bandwidth();

// main() of a benchmark: prints the profile, the threads and the read bandwidth, then runs what
// `add` registers.
int run(int argc, char** argv, void (*add)());

}  // namespace sluice::benchmarks
