// The CUDA kernels alone, against the memory bandwidth that a copy reaches in the same run.
//
//   gpu_kernels_bench [--only linear|attention|sampling] [--rows 1,8,16,64,256,4096]
//
// linear: the matrices of Llama 3.1 8B in bf16, rotated so that none is in the cache when its turn
// comes. attention: its heads, blocks of 16 tokens in random order. sampling: BLOOM's vocabulary,
// temperature 0.7 and top-p 0.9, of normal logits. Kernels are put into the stream one after
// another and timed with the host's clock over the whole row of them, so that only the first one's
// launch counts; the median of several rows. Prints one JSON object. Ends with 1 if a result is
// wrong or a kernel cannot run.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/plugin.h"

namespace sluice::kernels::cuda {
namespace {

using Clock = std::chrono::steady_clock;
using OrderedJson = nlohmann::ordered_json;

constexpr int64_t kCopiedBytes = int64_t{1} << 30;
constexpr int64_t kRotatedBytes = int64_t{512} << 20;  // far beyond any cache
constexpr int64_t kRandomNumbers = int64_t{1} << 22;   // drawn once, repeated to fill a matrix
constexpr double kRowOfCallsUs = 20000;
constexpr int kTimes = 5;
constexpr int64_t kMostFloatRows = 256;  // logits come in float32: more rows would fill the memory

constexpr std::string_view kParts[] = {"linear", "attention", "sampling"};

struct Options {
  std::vector<int64_t> rows = {1, 8, 16, 64, 256, 4096};
  std::string only;

  bool wants(std::string_view part) const { return only.empty() || only == part; }
};

struct Matrix {
  const char* name;
  int64_t n, k;
  bool float_output = false;
};
constexpr Matrix kMatrices[] = {{"qkv", 6144, 4096},
                                {"attention output", 4096, 4096},
                                {"gate and up", 28672, 4096},
                                {"down", 4096, 14336},
                                {"logits", 128256, 4096, true}};

// Sequences of one context, each with so many rows of it at its end.
struct AttentionCase {
  const char* name;
  int64_t sequences, rows, context;
};
constexpr AttentionCase kAttentionCases[] = {
    {"decode, B=1, 1,000 tokens", 1, 1, 1000},   {"decode, B=1, 16,384 tokens", 1, 1, 16384},
    {"decode, B=32, 1,000 tokens", 32, 1, 1000}, {"decode, B=256, 1,000 tokens", 256, 1, 1000},
    {"prefill of 4,096 tokens", 1, 4096, 4096},
};
constexpr int64_t kHeads = 32, kKvHeads = 8, kHeadSize = 128, kBlock = 16;

// Rows of logits of BLOOM's vocabulary.
struct SampleCase {
  const char* name;
  int64_t rows;
  bool draws;
};
constexpr SampleCase kSampleCases[] = {{"drawn, B=1", 1, true},
                                       {"drawn, B=32", 32, true},
                                       {"drawn, B=256", 256, true},
                                       {"likeliest, B=256", 256, false}};
constexpr int64_t kVocabulary = 250880;

double us_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

// Microseconds of one call among others like it; `call` gets the number of the call.
template <typename Call>
double median_us(CudaDevice& device, const Call& call) {
  int64_t next = 0;
  const auto row_us = [&](int64_t calls) {
    const auto begin = Clock::now();
    for (int64_t i = 0; i < calls; ++i) call(next++);
    device.synchronize();
    return us_since(begin) / static_cast<double>(calls);
  };
  row_us(3);
  const auto calls =
      std::clamp(static_cast<int64_t>(kRowOfCallsUs / row_us(3)), int64_t{3}, int64_t{2000});
  std::vector<double> times;
  for (int i = 0; i < kTimes; ++i) times.push_back(row_us(calls));
  std::nth_element(times.begin(), times.begin() + kTimes / 2, times.end());
  return times[kTimes / 2];
}

// Random numbers in the host's memory; past the first few millions they repeat.
at::Tensor random_matrix(int64_t rows, int64_t columns, at::ScalarType type = at::kBFloat16) {
  static const at::Tensor drawn = at::randn({kRandomNumbers});
  const at::Tensor numbers = drawn.to(type);
  at::Tensor matrix = at::empty({rows, columns}, type);
  auto* to = static_cast<std::byte*>(matrix.data_ptr());
  for (size_t done = 0; done < matrix.nbytes(); done += numbers.nbytes()) {
    std::memcpy(to + done, numbers.const_data_ptr(),
                std::min(numbers.nbytes(), matrix.nbytes() - done));
  }
  return matrix;
}

// Bytes that a copy in the device's memory reads and writes a second, in GB.
double measure_copy(CudaDevice& device) {
  const at::Tensor from = device.allocate({kCopiedBytes}, at::kByte);
  const at::Tensor to = device.allocate({kCopiedBytes}, at::kByte);
  const double us = median_us(device, [&](int64_t) { device.copy(to, from); });
  return 2e-3 * static_cast<double>(kCopiedBytes) / us;
}

// What putting a kernel into the stream takes, when it has next to nothing to do.
double measure_launch(CudaDevice& device) {
  const at::Tensor row = device.allocate({2, 256}, at::kByte);
  CopyColumnsArgs args;
  args.x = row.data_ptr();
  args.output = static_cast<std::byte*>(row.data_ptr()) + 256;
  args.num_rows = 1;
  args.row_bytes = 256;
  args.num_bytes = 256;
  return median_us(device, [&](int64_t) { device.run(device.api().copy_columns, args); });
}

double number_at(const at::Tensor& tensor, int64_t row, int64_t column) {
  return tensor.select(0, row).select(0, column).item().toDouble();
}

// The last row's first and last number: within 1 % of the sum of the products' magnitudes, which is
// far above bfloat16's error and far below the value of a wrong sum.
bool is_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& output) {
  const int64_t row = x.size(0) - 1;
  const at::Tensor wide = x.select(0, row).to(at::kDouble);
  for (const int64_t column : {int64_t{0}, weight.size(0) - 1}) {
    const at::Tensor products = wide * weight.select(0, column).to(at::kDouble);
    const double difference = number_at(output, row, column) - products.sum().item().toDouble();
    if (!(std::abs(difference) <= 0.01 * products.abs().sum().item().toDouble())) return false;
  }
  return true;
}

class LinearBench {
 public:
  LinearBench(CudaDevice& device, const Matrix& matrix, double copy_gb_per_s)
      : device_(device),
        matrix_(matrix),
        copy_gb_per_s_(copy_gb_per_s),
        weight_(random_matrix(matrix.n, matrix.k)) {
    do {
      auto packed = device.pack(weight_);
      TORCH_CHECK(packed.has_value(), packed.error().message);
      packed_.push_back(*std::move(packed));
    } while (packed_bytes(packed_[0]) * static_cast<int64_t>(packed_.size()) < kRotatedBytes);
  }

  OrderedJson measure(int64_t num_rows) {
    const at::Tensor host = random_matrix(num_rows, matrix_.k);
    const at::Tensor x = device_.upload(host);
    const at::Tensor output =
        device_.allocate({num_rows, matrix_.n}, matrix_.float_output ? at::kFloat : at::kBFloat16);
    LinearArgs args;
    args.x = x.const_data_ptr();
    args.output = output.data_ptr();
    args.num_rows = num_rows;
    args.float_output = matrix_.float_output;
    args.num_multiprocessors = device_.info().num_multiprocessors;
    args.weight = *packed_weight(packed_[0]);
    args.workspace = device_.workspace(device_.api().linear_workspace(args));
    device_.run(device_.api().linear, args);
    TORCH_CHECK(is_product(host, weight_, device_.download(output)), matrix_.name, " of ", num_rows,
                " rows: the result is wrong");
    const double us = median_us(device_, [&](int64_t call) {
      args.weight = *packed_weight(packed_[static_cast<size_t>(call) % packed_.size()]);
      device_.run(device_.api().linear, args);
    });
    return json(num_rows, us, static_cast<double>(x.nbytes() + output.nbytes()));
  }

 private:
  OrderedJson json(int64_t num_rows, double us, double activation_bytes) const {
    const double bytes = static_cast<double>(packed_bytes(packed_[0])) + activation_bytes;
    const double gb_per_s = 1e-3 * bytes / us;
    return {{"matrix", matrix_.name},
            {"n", matrix_.n},
            {"k", matrix_.k},
            {"rows", num_rows},
            {"us", us},
            {"gb_per_s", gb_per_s},
            {"of_copy", gb_per_s / copy_gb_per_s_},
            {"tflops", 2e-6 * static_cast<double>(num_rows * matrix_.n * matrix_.k) / us}};
  }

  CudaDevice& device_;
  const Matrix& matrix_;
  double copy_gb_per_s_;
  at::Tensor weight_;
  std::vector<at::Tensor> packed_;
};

class AttentionBench {
 public:
  AttentionBench(CudaDevice& device, const AttentionCase& shape) : device_(device), case_(shape) {
    const int64_t blocks = (shape.context + kBlock - 1) / kBlock;
    const int64_t num_blocks = shape.sequences * blocks;
    const auto integers = at::TensorOptions().dtype(at::kInt);
    const int64_t num_tokens = shape.sequences * shape.rows;
    qkv_ = device.upload(random_matrix(num_tokens, (kHeads + 2 * kKvHeads) * kHeadSize));
    positions_ = device.upload(
        at::arange(shape.context - shape.rows, shape.context, integers).repeat({shape.sequences}));
    starts_ = device.upload(at::arange(shape.sequences + 1, integers).mul(shape.rows));
    contexts_ = device.upload(at::full({shape.sequences}, shape.context, integers));
    tables_ = device.upload(at::randperm(num_blocks, integers).view({shape.sequences, blocks}));
    rope_ = device.upload(at::randn({shape.context, kHeadSize / 2, 2}));
    output_ = device.allocate({num_tokens, kHeads * kHeadSize}, at::kBFloat16);
    const at::Tensor cache = random_matrix(num_blocks * kKvHeads * kBlock, 2 * kHeadSize);
    // Of a prompt the cache is written first, and then comes from near.
    const int64_t wanted = shape.rows == 1 ? kRotatedBytes : 1;
    do {
      caches_.push_back(device.upload(cache));
    } while (static_cast<int64_t>(cache.nbytes() * caches_.size()) < wanted);
    fill_args(blocks);
  }

  OrderedJson measure(double copy_gb_per_s) {
    args_.workspace = device_.workspace(device_.api().attention_workspace(args_));
    run(0);
    const at::Tensor result = device_.download(output_).to(at::kFloat);
    TORCH_CHECK(
        std::isfinite(result.sum().item().toDouble()) && result.abs().max().item().toDouble() > 0,
        case_.name, ": the result is wrong");
    const double us = median_us(device_, [&](int64_t call) { run(call); });
    OrderedJson json = {{"case", case_.name}, {"us", us}};
    if (case_.rows == 1) {
      const double bytes =
          2.0 * 2 * kKvHeads * kHeadSize * static_cast<double>(case_.sequences * case_.context);
      json["gb_per_s"] = 1e-3 * bytes / us;
      json["of_copy"] = 1e-3 * bytes / us / copy_gb_per_s;
    } else {
      const auto rows = static_cast<double>(case_.rows);
      const double products = rows * (static_cast<double>(case_.context) - (rows - 1) / 2);
      json["tflops"] =
          4e-6 * static_cast<double>(case_.sequences * kHeads * kHeadSize) * products / us;
    }
    return json;
  }

 private:
  void fill_args(int64_t blocks) {
    args_.qkv = qkv_.const_data_ptr();
    args_.positions = positions_.const_data_ptr<int32_t>();
    args_.starts = starts_.const_data_ptr<int32_t>();
    args_.contexts = contexts_.const_data_ptr<int32_t>();
    args_.tables = tables_.const_data_ptr<int32_t>();
    args_.rope = rope_.const_data_ptr<float>();
    args_.output = output_.data_ptr();
    args_.num_tokens = case_.sequences * case_.rows;
    args_.num_sequences = case_.sequences;
    args_.num_heads = kHeads;
    args_.num_kv_heads = kKvHeads;
    args_.head_size = kHeadSize;
    args_.block_size = kBlock;
    args_.max_blocks = blocks;
    args_.rotary_size = kHeadSize;
    args_.rotary_positions = case_.context;
    args_.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(kHeadSize)));
  }

  void run(int64_t call) {
    args_.cache = caches_[static_cast<size_t>(call) % caches_.size()].data_ptr();
    device_.run(device_.api().attention, args_);
  }

  CudaDevice& device_;
  const AttentionCase& case_;
  at::Tensor qkv_, positions_, starts_, contexts_, tables_, rope_, output_;
  std::vector<at::Tensor> caches_;
  AttentionArgs args_;
};

// Draws, or takes the most likely token, from the widest vocabulary.
OrderedJson measure_sampling(CudaDevice& device, const SampleCase& shape, double copy_gb_per_s) {
  const at::Tensor host = random_matrix(shape.rows, kVocabulary, at::kFloat);
  std::vector<SampleRow> rows(static_cast<size_t>(shape.rows));
  for (SampleRow& row : rows) {
    row.temperature = shape.draws ? 0.7f : 0.0f;
    row.top_p = shape.draws ? 0.9f : 1.0f;
    row.position = static_cast<uint32_t>(&row - rows.data());
  }
  const auto bytes_of = [&](size_t size) { return static_cast<int64_t>(size * rows.size()); };
  // In turn, so that none of them is in the second cache.
  std::vector<at::Tensor> logits;
  do {
    logits.push_back(device.upload(host));
  } while (static_cast<int64_t>(logits.size() * host.nbytes()) < kRotatedBytes);
  const at::Tensor row_bytes = device.allocate({bytes_of(sizeof(SampleRow))}, at::kByte);
  device.copy_to(row_bytes, rows.data(), row_bytes.nbytes());
  const at::Tensor results = device.allocate({bytes_of(sizeof(SampleResult))}, at::kByte);
  SampleArgs args;
  args.logits = logits[0].const_data_ptr<float>();
  args.rows = static_cast<SampleRow*>(row_bytes.mutable_data_ptr());
  args.results = static_cast<SampleResult*>(results.data_ptr());
  args.num_rows = shape.rows;
  args.vocabulary_size = kVocabulary;
  args.draws = shape.draws;
  args.scores = false;
  args.workspace = device.workspace(device.api().sample_workspace(args));
  device.run(device.api().sample, args);
  const at::Tensor back = device.download(results);
  const auto* last = static_cast<const SampleResult*>(back.const_data_ptr()) + shape.rows - 1;
  const auto likeliest = host.select(0, shape.rows - 1).argmax().item().toLong();
  TORCH_CHECK(last->fault == SampleFault::kNone && last->token_id >= 0 &&
                  last->token_id < kVocabulary && (shape.draws || last->token_id == likeliest),
              shape.name, ": the result is wrong");
  const double us = median_us(device, [&](int64_t call) {
    args.logits = logits[static_cast<size_t>(call) % logits.size()].const_data_ptr<float>();
    device.run(device.api().sample, args);
  });
  const double gb_per_s = 1e-3 * static_cast<double>(host.nbytes()) / us;
  return {{"case", shape.name},
          {"rows", shape.rows},
          {"us", us},
          {"gb_per_s", gb_per_s},
          {"of_copy", gb_per_s / copy_gb_per_s}};
}

// Adds what `measure` gives, or why there is nothing. True if there is something.
template <typename Measure>
bool add(OrderedJson& list, const std::string& name, const Measure& measure) try {
  list.push_back(measure());
  return true;
} catch (const c10::Error& error) {
  list.push_back({{"failed", name}, {"error", error.what_without_backtrace()}});
  (void)std::fprintf(stderr, "gpu_kernels_bench: %s: %s\n", name.c_str(),
                     error.what_without_backtrace());
  return false;
}

bool measure_linears(CudaDevice& device, const Options& options, OrderedJson& report) {
  bool is_whole = true;
  for (const Matrix& matrix : kMatrices) {
    LinearBench bench(device, matrix, report["copy_gb_per_s"].get<double>());
    for (const int64_t rows : options.rows) {
      if (matrix.float_output && rows > kMostFloatRows) continue;
      const std::string name = std::string(matrix.name) + ", " + std::to_string(rows) + " rows";
      is_whole &= add(report["linear"], name, [&] { return bench.measure(rows); });
    }
  }
  return is_whole;
}

bool measure_others(CudaDevice& device, const Options& options, OrderedJson& report) {
  bool is_whole = true;
  const auto copy_gb_per_s = report["copy_gb_per_s"].get<double>();
  for (const AttentionCase& shape : kAttentionCases) {
    if (!options.wants("attention")) break;
    is_whole &= add(report["attention"], shape.name,
                    [&] { return AttentionBench(device, shape).measure(copy_gb_per_s); });
  }
  for (const SampleCase& shape : kSampleCases) {
    if (!options.wants("sampling")) break;
    is_whole &= add(report["sampling"], shape.name,
                    [&] { return measure_sampling(device, shape, copy_gb_per_s); });
  }
  return is_whole;
}

bool parse_rows(std::string_view text, std::vector<int64_t>& rows) {
  rows.clear();
  while (!text.empty()) {
    int64_t number = 0;
    const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number < 1) return false;
    rows.push_back(number);
    text.remove_prefix(static_cast<size_t>(rest - text.data()));
    if (text.starts_with(',')) text.remove_prefix(1);
  }
  return !rows.empty();
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i];
    if (i + 1 >= argc) return false;
    if (name == "--only") {
      options.only = argv[i + 1];
      if (std::ranges::find(kParts, options.only) == std::end(kParts)) return false;
    } else if (name != "--rows" || !parse_rows(argv[i + 1], options.rows)) {
      return false;
    }
  }
  return true;
}

Result<CudaDevice*> open_device() {
  const auto api = device_api();
  if (!api) return std::unexpected(api.error());
  return CudaDevice::open(**api, 0);
}

int run(const Options& options) {
  const auto device = open_device();
  if (!device) {
    (void)std::fprintf(stderr, "gpu_kernels_bench: %s\n", device.error().message.c_str());
    return 1;
  }
  CudaDevice& gpu = **device;
  OrderedJson report = {{"device", gpu.info().name},
                        {"profile", gpu.profile()},
                        {"num_multiprocessors", gpu.info().num_multiprocessors},
                        {"copy_gb_per_s", measure_copy(gpu)},
                        {"launch_us", measure_launch(gpu)}};
  bool is_whole = true;
  if (options.wants("linear")) is_whole &= measure_linears(gpu, options, report);
  is_whole &= measure_others(gpu, options, report);
  std::printf("%s\n", report.dump().c_str());
  return is_whole ? 0 : 1;
}

}  // namespace
}  // namespace sluice::kernels::cuda

int main(int argc, char** argv) {
  sluice::kernels::cuda::Options options;
  if (!sluice::kernels::cuda::parse(argc, argv, options)) {
    (void)std::fputs(
        "usage: gpu_kernels_bench [--only linear|attention|sampling] [--rows N,N,...]\n", stderr);
    return 2;
  }
  try {
    return sluice::kernels::cuda::run(options);
  } catch (const std::exception& error) {
    (void)std::fprintf(stderr, "gpu_kernels_bench: %s\n", error.what());
    return 1;
  }
}
