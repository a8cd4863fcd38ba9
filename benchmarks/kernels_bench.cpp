// Kernels against the machine's limits: bytes read per second beside the read bandwidth measured in
// the same run, and arithmetic rates.
//
//   kernels_bench --benchmark_filter=linears      one model step's linear layers and logits
//   SLUICE_CPU_ISA=avx512 kernels_bench           another instruction set
//
// SLUICE_BENCH_THREADS sets the number of threads; all cores by default.
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/compute.h"
#include "kernels/kv_layout.h"
#include "kernels/operators.h"
#include "kernels/packed_weight.h"

namespace sluice::kernels {
namespace {

using Clock = std::chrono::steady_clock;

ThreadPool& pool() {
  static ThreadPool* const pool = [] {
    const char* threads = std::getenv("SLUICE_BENCH_THREADS");
    return new ThreadPool(threads == nullptr
                              ? static_cast<int>(std::max(1u, std::thread::hardware_concurrency()))
                              : std::max(1, std::atoi(threads)));
  }();
  return *pool;
}

uint64_t sum_words(const uint64_t* words, int64_t count) {
  uint64_t sums[8] = {};
  for (int64_t i = 0; i < count; i += 8) {
    for (int lane = 0; lane < 8; ++lane) sums[lane] ^= words[i + lane];
  }
  uint64_t sum = 0;
  for (const uint64_t lane : sums) sum ^= lane;
  return sum;
}

// Bytes per second that all threads read together from memory in huge pages: the best of five.
double read_bandwidth() {
  static const double bandwidth = [] {
    constexpr int64_t kBytes = int64_t{1} << 29;
    constexpr int64_t kPart = int64_t{1} << 20;
    at::Tensor words = at::zeros({kBytes}, at::TensorOptions().dtype(at::kByte));
    std::memset(words.data_ptr(), 1, kBytes);
    double best = 0;
    for (int round = 0; round < 5; ++round) {
      const auto begin = Clock::now();
      auto part = [&](int64_t i) {
        const auto* p =
            reinterpret_cast<const uint64_t*>(words.const_data_ptr<uint8_t>() + i * kPart);
        benchmark::DoNotOptimize(sum_words(p, kPart / 8));
      };
      pool().run(kBytes / kPart, std::ref(part));
      const std::chrono::duration<double> time = Clock::now() - begin;
      best = std::max(best, static_cast<double>(kBytes) / time.count());
    }
    return best;
  }();
  return bandwidth;
}

void report_bytes(benchmark::State& state, double bytes_per_iteration) {
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(bytes_per_iteration * 1e-9, Counter::kIsIterationInvariantRate);
  state.counters["of_limit"] =
      Counter(bytes_per_iteration / read_bandwidth(), Counter::kIsIterationInvariantRate);
}

void report_flops(benchmark::State& state, double flops_per_iteration) {
  using benchmark::Counter;
  state.counters["GFLOP/s"] =
      Counter(flops_per_iteration * 1e-9, Counter::kIsIterationInvariantRate);
}

at::Tensor random_weight(int64_t n, int64_t k, at::ScalarType type) {
  return pack_weight(at::randn({n, k}).div_(32).to(type)).value();
}

// Enough copies of a weight that none is in a cache when its turn comes.
std::vector<at::Tensor> many_weights(int64_t n, int64_t k, at::ScalarType type) {
  constexpr int64_t kBytes = int64_t{768} << 20;
  std::vector<at::Tensor> weights = {random_weight(n, k, type)};
  const at::Tensor source = at::randn({n, k}).div_(32).to(type);
  while (packed_bytes(weights[0]) * static_cast<int64_t>(weights.size()) < kBytes) {
    weights.push_back(pack_weight(source).value());
  }
  return weights;
}

void linear_bench(benchmark::State& state, at::ScalarType type, int64_t m, int64_t n, int64_t k) {
  const ComputeScope scope(pool());
  const std::vector<at::Tensor> weights = many_weights(n, k, type);
  const at::Tensor x = at::randn({m, k}).to(type);
  size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(linear(x, weights[next], std::nullopt, "", std::nullopt));
    next = (next + 1) % weights.size();
  }
  report_bytes(state, static_cast<double>(packed_bytes(weights[0])));
  report_flops(state, 2.0 * static_cast<double>(m * n * k));
}

// The linear layers of BLOOM 560M, and the logits of `m` rows (of the last one for a prefill).
struct BloomLinears {
  static constexpr int64_t kHidden = 1024, kLayers = 24, kVocabulary = 250880;
  struct Layer {
    at::Tensor qkv, dense, up, down;
  };
  std::vector<Layer> layers;
  at::Tensor embedding;
  double bytes = 0;

  explicit BloomLinears(at::ScalarType type) {
    const ComputeScope scope(pool());
    for (int64_t i = 0; i < kLayers; ++i) {
      layers.push_back(
          {random_weight(3 * kHidden, kHidden, type), random_weight(kHidden, kHidden, type),
           random_weight(4 * kHidden, kHidden, type), random_weight(kHidden, 4 * kHidden, type)});
      for (const at::Tensor& w : {layers[i].qkv, layers[i].dense, layers[i].up, layers[i].down}) {
        bytes += static_cast<double>(packed_bytes(w));
      }
    }
    embedding = random_weight(kVocabulary, kHidden, type);
    bytes += static_cast<double>(packed_bytes(embedding));
  }

  void run(const at::Tensor& input, bool all_logits) const {
    at::Tensor x = input;
    for (const Layer& layer : layers) {
      const at::Tensor qkv = linear(x, layer.qkv, std::nullopt, "", std::nullopt);
      benchmark::DoNotOptimize(qkv);
      x = linear(x, layer.dense, std::nullopt, "", x);
      const at::Tensor up = linear(x, layer.up, std::nullopt, "gelu_tanh", std::nullopt);
      x = linear(up, layer.down, std::nullopt, "", x);
    }
    benchmark::DoNotOptimize(logits(all_logits ? x : x.narrow(0, 0, 1), embedding));
  }
};

void linears_bench(benchmark::State& state, at::ScalarType type, int64_t m) {
  const ComputeScope scope(pool());
  static const BloomLinears bf16(at::kBFloat16);
  const bool is_decode = m <= 64;
  const at::Tensor x = at::randn({m, BloomLinears::kHidden}).div_(64).to(type);
  for (auto _ : state) bf16.run(x, is_decode);
  report_bytes(state, bf16.bytes);
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(m), benchmark::Counter::kIsIterationInvariantRate);
}

struct AttentionCase {
  int64_t batch, rows, context, heads, kv_heads, head_size;
};

void attention_bench(benchmark::State& state, at::ScalarType type, const AttentionCase& c) {
  const ComputeScope scope(pool());
  constexpr int64_t kBlock = 16;
  const auto integers = at::TensorOptions().dtype(at::kInt);
  const int64_t blocks = (c.context + kBlock - 1) / kBlock;
  at::Tensor cache =
      at::randn(kv_cache_shape({c.batch * blocks, c.kv_heads, kBlock, c.head_size})).to(type);
  const at::Tensor qkv =
      at::randn({c.batch * c.rows, (c.heads + 2 * c.kv_heads) * c.head_size}).to(type);
  const at::Tensor positions =
      at::arange(c.context - c.rows, c.context, integers).repeat({c.batch});
  const std::vector<at::Tensor> plan = {
      at::arange(c.batch + 1, integers).mul(c.rows), at::zeros({c.batch}, integers).add(c.context),
      at::arange(c.batch * blocks, integers).view({c.batch, blocks}), at::zeros({1}, integers)};
  for (auto _ : state) {
    benchmark::DoNotOptimize(attention(qkv, positions, cache, plan, c.heads, c.kv_heads, 0.125,
                                       std::nullopt, std::nullopt, 0));
  }
  report_bytes(state, static_cast<double>(cache.nbytes()));
  report_flops(state, 4.0 * static_cast<double>(c.batch * c.heads * c.head_size * c.rows) *
                          (static_cast<double>(c.context) - static_cast<double>(c.rows - 1) / 2));
}

void pool_bench(benchmark::State& state) {
  for (auto _ : state) {
    pool().run(pool().num_threads(), [](int64_t) {});
  }
}

void norm_bench(benchmark::State& state, int64_t rows) {
  const ComputeScope scope(pool());
  const at::Tensor x = at::randn({rows, 2048}).to(at::kBFloat16);
  const at::Tensor weight = at::randn({2048}).to(at::kBFloat16);
  for (auto _ : state) benchmark::DoNotOptimize(rms_norm(x, weight, 1e-5));
}

void register_benchmarks() {
  using benchmark::RegisterBenchmark;
  const struct {
    const char* name;
    at::ScalarType type;
  } types[] = {{"bf16", at::kBFloat16}, {"f16", at::kHalf}, {"f32", at::kFloat}};
  for (const auto& [name, type] : types) {
    for (const auto& [n, k] : {std::pair<int64_t, int64_t>{4096, 4096}, {4096, 1024}}) {
      for (const int64_t m : {1, 4, 16, 64, 512}) {
        const std::string title = std::string("linear/") + name + "/N" + std::to_string(n) + "/K" +
                                  std::to_string(k) + "/M" + std::to_string(m);
        RegisterBenchmark(title.c_str(), linear_bench, type, m, n, k)->UseRealTime();
      }
    }
  }
  for (const int64_t m : {1, 4, 16, 64, 512}) {
    RegisterBenchmark(("bloom560m_linears/bf16/M" + std::to_string(m)).c_str(), linears_bench,
                      at::kBFloat16, m)
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
  const std::pair<const char*, AttentionCase> cases[] = {
      {"decode_B1_ctx4096_gqa", {1, 1, 4096, 32, 8, 64}},
      {"decode_B4_ctx4096_gqa", {4, 1, 4096, 32, 8, 64}},
      {"decode_B16_ctx512_mha", {16, 1, 512, 16, 16, 64}},
      {"prefill_512_mha", {1, 512, 512, 16, 16, 64}},
  };
  for (const auto& [name, shape] : cases) {
    RegisterBenchmark((std::string("attention/bf16/") + name).c_str(), attention_bench,
                      at::kBFloat16, shape)
        ->UseRealTime()
        ->Unit(benchmark::kMicrosecond);
  }
  for (const int64_t rows : {1, 16, 512}) {
    RegisterBenchmark(("rms_norm/bf16/hidden2048/rows" + std::to_string(rows)).c_str(), norm_bench,
                      rows)
        ->UseRealTime();
  }
  RegisterBenchmark("thread_pool/round_trip", pool_bench)->UseRealTime();
}

}  // namespace
}  // namespace sluice::kernels

int main(int argc, char** argv) {
  using namespace sluice::kernels;
  benchmark::Initialize(&argc, argv);
  const auto profile = cpu_profile();
  if (!profile) {
    std::fprintf(stderr, "%s\n", profile.error().message.c_str());
    return 1;
  }
  register_operators();
  register_benchmarks();
  std::printf("profile %s, %d threads, read limit %.1f GB/s\n", profile->c_str(),
              pool().num_threads(), read_bandwidth() * 1e-9);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
