// Attention alone, against the read bandwidth measured in the same run: bytes of the KV cache that
// a decode reads per second, and what a prompt's attention takes.
//
//   attention_bench                            the machine's instruction set
//   SLUICE_CPU_ISA=avx2 attention_bench        another one
//
// SLUICE_BENCH_THREADS sets the number of threads; all cores by default. Blocks of 16 tokens lie in
// random order in a pool larger than any cache.
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/zeros.h>
#include <benchmark/benchmark.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/compute.h"
#include "kernels/device.h"
#include "kernels/kv_layout.h"
#include "kernels/operators.h"
#include "kv_cache/kv_pool.h"
#include "machine.h"

namespace sluice::kernels {
namespace {

constexpr int64_t kBlock = 16;
constexpr int64_t kPoolBytes = int64_t{768} << 20;

using benchmarks::pool;
using benchmarks::read_bandwidth;

// A model's heads: BLOOM 560M's (MHA, ALiBi) or Llama 3.2 1B's (GQA, RoPE).
struct Heads {
  const char* name;
  int64_t heads, kv_heads;
  bool rope;
};
constexpr int64_t kHeadSize = 64;

struct Case {
  Heads heads;
  int64_t batch, rows, context;
  KvFormat format;
};

void attention_bench(benchmark::State& state, const Case& c) {
  const ComputeScope scope(pool());
  const auto integers = at::TensorOptions().dtype(at::kInt);
  const int64_t blocks = (c.context + kBlock - 1) / kBlock;
  const KvShape shape{.num_blocks = c.batch * blocks,
                      .num_kv_heads = c.heads.kv_heads,
                      .block_size = kBlock,
                      .head_size = kHeadSize,
                      .format = c.format};
  const at::ScalarType dtype = c.format == KvFormat::kInt8 ? at::kChar : at::kBFloat16;
  Device& device = **cpu_device();
  auto layers = kv_cache::KvPool::create(device, kv_cache_shape(shape), 1, dtype);
  const auto layer_bytes = static_cast<int64_t>((*layers)->layers()[0].nbytes());
  layers =
      kv_cache::KvPool::create(device, kv_cache_shape(shape), kPoolBytes / layer_bytes + 1, dtype);
  for (const at::Tensor& layer : (*layers)->layers()) at::Tensor(layer).fill_(0);
  const at::Tensor qkv =
      at::randn({c.batch * c.rows, (c.heads.heads + 2 * c.heads.kv_heads) * kHeadSize})
          .to(at::kBFloat16);
  const at::Tensor positions =
      at::arange(c.context - c.rows, c.context, integers).repeat({c.batch});
  const std::vector<at::Tensor> plan = {
      at::arange(c.batch + 1, integers).mul(c.rows), at::full({c.batch}, c.context, integers),
      at::randperm(c.batch * blocks, integers).view({c.batch, blocks}), at::zeros({1}, integers)};
  std::optional<at::Tensor> rope, slopes;
  if (c.heads.rope) {
    rope = at::ones({c.context, kHeadSize / 2, 2});
  } else {
    slopes = at::full({c.heads.heads}, 0.01, at::TensorOptions().dtype(at::kFloat));
  }
  size_t next = 0;
  at::Tensor output;
  for (auto _ : state) {
    output = attention(qkv, positions, (*layers)->layers()[next], plan, c.heads.heads,
                       c.heads.kv_heads, 0.125, rope, slopes, 0);
    next = (next + 1) % (*layers)->layers().size();
  }
  if (!std::isfinite(output.sum().item<float>())) state.SkipWithError("the output is not finite");
  using benchmark::Counter;
  const auto bytes = static_cast<double>(layer_bytes);
  if (c.rows == 1) {
    state.counters["GB/s"] = Counter(bytes * 1e-9, Counter::kIsIterationInvariantRate);
    state.counters["of_limit"] =
        Counter(bytes / read_bandwidth(), Counter::kIsIterationInvariantRate);
  } else {
    state.counters["tokens/s"] =
        Counter(static_cast<double>(c.batch * c.rows), Counter::kIsIterationInvariantRate);
  }
}

void register_benchmarks() {
  constexpr Heads kModels[] = {{"bloom560m", 16, 16, false}, {"llama1b", 32, 8, true}};
  for (const Heads& heads : kModels) {
    for (const KvFormat format : {KvFormat::kModel, KvFormat::kInt8}) {
      const std::string start =
          std::string(heads.name) + (format == KvFormat::kInt8 ? "/kv_int8/" : "/kv_bf16/");
      const auto add = [&](const std::string& name, int64_t batch, int64_t rows, int64_t context) {
        const Case c{heads, batch, rows, context, format};
        benchmark::RegisterBenchmark((start + name).c_str(), attention_bench, c)
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
      };
      for (const int64_t context : {512, 4096}) {
        for (const int64_t batch : {1, 4, 16}) {
          add("decode/B" + std::to_string(batch) + "/context" + std::to_string(context), batch, 1,
              context);
        }
      }
      for (const int64_t rows : {512, 4096}) {
        add("prefill/" + std::to_string(rows), 1, rows, rows);
      }
    }
  }
}

}  // namespace
}  // namespace sluice::kernels

int main(int argc, char** argv) {
  sluice::kernels::register_operators();
  return sluice::benchmarks::run(argc, argv, sluice::kernels::register_benchmarks);
}
