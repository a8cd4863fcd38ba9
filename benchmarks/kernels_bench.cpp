// Kernels against the machine's limits: bytes read per second beside the read bandwidth measured in
// the same run (of_limit), and operations beside what the same instructions do from registers
// (of_peak). Each linear's result is checked first; a wrong one is an error.
//
//   kernels_bench --benchmark_filter=_linears     one model step's linear layers and logits
//   SLUICE_CPU_ISA=avx512 kernels_bench           another instruction set
//
// SLUICE_BENCH_THREADS sets the number of threads; all cores by default.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <benchmark/benchmark.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/compute.h"
#include "kernels/kv_layout.h"
#include "kernels/operators.h"
#include "kernels/packed_weight.h"
#include "kernels/quantize.h"
#include "machine.h"
#include "peak.h"

namespace sluice::kernels {
namespace {

using benchmarks::pool;
using benchmarks::read_bandwidth;

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

// Operations per second of all threads together, by what the linear layers multiply with.
double arithmetic_limit(bool is_quantized) {
  static const auto limits = [] {
    std::atomic<int64_t> bf16{0};
    std::atomic<int64_t> int8{0};
    const auto measure = *cpu_isa() == Isa::kAmx          ? benchmarks::measure_amx_peak
                         : *cpu_isa() == Isa::kAvx512     ? benchmarks::measure_avx512_peak
                         : *cpu_isa() == Isa::kAvx512Vnni ? benchmarks::measure_avx512vnni_peak
                         : *cpu_isa() == Isa::kAvx512Bw   ? benchmarks::measure_avx512bw_peak
                                                          : benchmarks::measure_avx2_peak;
    pool().run_on_each([&] {
      const benchmarks::Peak peak = measure();
      bf16 += static_cast<int64_t>(peak.bf16);
      int8 += static_cast<int64_t>(peak.int8);
    });
    return std::pair(static_cast<double>(bf16.load()), static_cast<double>(int8.load()));
  }();
  return is_quantized ? limits.second : limits.first;
}

// How a weight is stored. Activations are of `type`.
struct Kind {
  const char* name;
  at::ScalarType type;
  WeightFormat format;
  int64_t group_size;
};
constexpr Kind kKinds[] = {{"bf16", at::kBFloat16, WeightFormat::kPlain, 0},
                           {"int8", at::kBFloat16, WeightFormat::kInt8, 0},
                           {"int4g32", at::kBFloat16, WeightFormat::kInt4, 32},
                           {"int4g128", at::kBFloat16, WeightFormat::kInt4, 128},
                           {"f16", at::kHalf, WeightFormat::kPlain, 0},
                           {"f32", at::kFloat, WeightFormat::kPlain, 0}};

// `count` packed copies of one random weight [n, k].
std::vector<at::Tensor> packed_copies(const Kind& kind, int64_t n, int64_t k, int64_t bytes) {
  const at::Tensor source = at::randn({n, k}).div_(32).to(kind.type);
  std::vector<at::Tensor> weights;
  QuantizedWeight quantized;
  if (kind.format != WeightFormat::kPlain) {
    quantized = quantize(source, kind.format, kind.group_size).value();
  }
  do {
    weights.push_back(kind.format == WeightFormat::kPlain
                          ? pack_weight(source).value()
                          : pack_weight(quantized, kind.type).value());
  } while (packed_bytes(weights[0]) * static_cast<int64_t>(weights.size()) < bytes);
  return weights;
}

// Enough copies of a weight that none is in a cache when its turn comes; kept for the next M.
const std::vector<at::Tensor>& many_weights(const Kind& kind, int64_t n, int64_t k) {
  constexpr int64_t kBytes = int64_t{512} << 20;
  static std::string held;
  static std::vector<at::Tensor> weights;
  const std::string wanted =
      std::string(kind.name) + "/" + std::to_string(n) + "/" + std::to_string(k);
  if (held != wanted) {
    weights.clear();
    weights = packed_copies(kind, n, k, kBytes);
    held = wanted;
  }
  return weights;
}

// True if y = x weight^T in its corners: within 1 % of the sum of the products' magnitudes, which
// is far above any format's error and far below the value of a wrong sum.
bool is_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& y) {
  const at::Tensor ids = at::zeros({2}, at::TensorOptions().dtype(at::kInt));
  ids.data_ptr<int32_t>()[1] = static_cast<int32_t>(weight.size(0) - 1);
  const at::Tensor columns = embed(ids, weight, std::nullopt).to(at::kFloat);
  const at::Tensor rows = x.index_select(0, at::zeros({1}, at::kLong).add(x.size(0) - 1));
  const at::Tensor wide = rows.to(at::kFloat);
  const at::Tensor expected = at::matmul(wide, columns.t());
  const at::Tensor bound = at::matmul(wide.abs(), columns.abs().t()) * 0.01;
  const at::Tensor actual =
      y.narrow(0, x.size(0) - 1, 1).index_select(1, ids.to(at::kLong)).to(at::kFloat);
  return ((actual - expected).abs() <= bound).all().item<bool>();
}

void linear_bench(benchmark::State& state, const Kind& kind, int64_t m, int64_t n, int64_t k) {
  const ComputeScope scope(pool());
  const std::vector<at::Tensor>& weights = many_weights(kind, n, k);
  const at::Tensor x = at::randn({m, k}).to(kind.type);
  if (!is_product(x, weights[0], linear(x, weights[0], std::nullopt, "", std::nullopt))) {
    state.SkipWithError("the result is wrong");
    return;
  }
  size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(linear(x, weights[next], std::nullopt, "", std::nullopt));
    next = (next + 1) % weights.size();
  }
  const double flops = 2.0 * static_cast<double>(m * n * k);
  report_bytes(state, static_cast<double>(packed_bytes(weights[0])));
  report_flops(state, flops);
  if (const double limit = arithmetic_limit(kind.format != WeightFormat::kPlain);
      kind.type == at::kBFloat16) {
    state.counters["of_peak"] =
        benchmark::Counter(flops / limit, benchmark::Counter::kIsIterationInvariantRate);
  }
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

  explicit BloomLinears(const Kind& kind) {
    const ComputeScope scope(pool());
    auto make = [&](int64_t n, int64_t k) { return packed_copies(kind, n, k, 1)[0]; };
    for (int64_t i = 0; i < kLayers; ++i) {
      layers.push_back({make(3 * kHidden, kHidden), make(kHidden, kHidden),
                        make(4 * kHidden, kHidden), make(kHidden, 4 * kHidden)});
      for (const at::Tensor& w : {layers[i].qkv, layers[i].dense, layers[i].up, layers[i].down}) {
        bytes += static_cast<double>(packed_bytes(w));
      }
    }
    embedding = make(kVocabulary, kHidden);
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

void linears_bench(benchmark::State& state, const Kind& kind, int64_t m) {
  const ComputeScope scope(pool());
  static std::string held;
  static std::unique_ptr<BloomLinears> model;
  if (held != kind.name) {
    model.reset();
    model = std::make_unique<BloomLinears>(kind);
    held = kind.name;
  }
  const bool is_decode = m <= 64;
  const at::Tensor x = at::randn({m, BloomLinears::kHidden}).div_(64).to(kind.type);
  for (auto _ : state) model->run(x, is_decode);
  report_bytes(state, model->bytes);
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

// K and N of the linear layers of bloom-560m and of Llama 3.2 1B.
constexpr std::pair<int64_t, int64_t> kShapes[] = {{1024, 3072},  {1024, 1024}, {1024, 4096},
                                                   {4096, 1024},  {2048, 3072}, {2048, 2048},
                                                   {2048, 16384}, {8192, 2048}};

void register_linears() {
  using benchmark::RegisterBenchmark;
  for (const Kind& kind : kKinds) {
    for (const auto& [k, n] : kShapes) {
      for (const int64_t m : {1, 4, 16, 64, 512}) {
        const std::string title = std::string("linear/") + kind.name + "/K" + std::to_string(k) +
                                  "/N" + std::to_string(n) + "/M" + std::to_string(m);
        RegisterBenchmark(title.c_str(), linear_bench, kind, m, n, k)->UseRealTime();
      }
    }
  }
  for (const Kind& kind : {kKinds[0], kKinds[1], kKinds[2]}) {
    for (const int64_t m : {1, 4, 16, 64, 512}) {
      const std::string title =
          std::string("bloom560m_linears/") + kind.name + "/M" + std::to_string(m);
      RegisterBenchmark(title.c_str(), linears_bench, kind, m)
          ->UseRealTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
}

void register_benchmarks() {
  using benchmark::RegisterBenchmark;
  register_linears();
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
  sluice::kernels::register_operators();
  return sluice::benchmarks::run(argc, argv, sluice::kernels::register_benchmarks);
}
