#include "model/weight_loader.h"

#include <ATen/ops/cat.h>

#include <exception>

#include "kernels/packed_weight.h"
#include "model/failure.h"
#include "model/finite.h"

namespace sluice::model {
namespace {

constexpr size_t kMappedBytes = 1 << 20;  // smaller weights are copied rather than kept mapped

}  // namespace

at::Tensor join_parts(const std::vector<at::Tensor>& parts, at::ScalarType dtype) {
  if (parts.size() == 1) return parts[0].to(dtype).contiguous();
  std::vector<at::Tensor> converted;
  for (const at::Tensor& part : parts) converted.push_back(part.to(dtype));
  return at::cat(converted);
}

Result<std::unique_ptr<WeightLoader>> WeightLoader::create(const torch::jit::Module& program,
                                                           Options options,
                                                           kernels::ThreadPool& pool) {
  auto weights = ProgramWeights::find(program);
  if (!weights) return std::unexpected(weights.error());
  std::set<std::string> packed = packed_weights(program, *weights, options.aliases);
  std::unique_ptr<WeightLoader> loader(
      new WeightLoader(*std::move(weights), std::move(options), pool));
  loader->packed_ = std::move(packed);
  return loader;
}

Result<void> WeightLoader::add(const std::string& path, const std::vector<at::Tensor>& parts,
                               bool is_table) {
  if (auto expected = expect(path); !expected) return expected;
  try {
    if (packed_.contains(path) && !options_.encoding.is_plain()) {
      const auto packed = quantize_and_pack(parts);
      if (!packed) return invalid_argument("weight '" + path + "': " + packed.error().message);
      weight_bytes_ += kernels::packed_bytes(*packed);
      weights_.set(path, *packed);
      return {};
    }
    at::Tensor weight = join_parts(parts, is_table ? parts[0].scalar_type() : options_.dtype);
    if (auto finite = check_finite(path, weight, pool_); !finite) return finite;
    if (packed_.contains(path)) {
      auto packed = options_.device.pack(weight);
      if (!packed) return invalid_argument("weight '" + path + "': " + packed.error().message);
      weight = *std::move(packed);
      weight_bytes_ += kernels::packed_bytes(weight);
    } else {
      weight_bytes_ += static_cast<int64_t>(weight.nbytes());
      const bool is_mapped = weight.is_alias_of(parts[0]);
      if (weight.nbytes() < kMappedBytes && is_mapped) weight = weight.clone();
      weight = options_.device.upload(weight);
    }
    weights_.set(path, weight);
    return {};
  } catch (const std::exception& exception) {
    return fail(ErrorCode::kResourceExhausted,
                "weight '" + path + "' cannot be prepared: " + one_line(exception));
  }
}

Result<void> WeightLoader::add_quantized(const std::string& path,
                                         const kernels::QuantizedWeight& weight) {
  try {
    kernels::QuantizedWeight own = weight;
    own.keeps_activations = options_.keeps_activations;
    const auto packed = options_.device.pack(own, options_.dtype);
    if (!packed) return invalid_argument("weight '" + path + "': " + packed.error().message);
    return add_packed(path, *packed);
  } catch (const std::exception& exception) {
    return fail(ErrorCode::kResourceExhausted,
                "weight '" + path + "' cannot be prepared: " + one_line(exception));
  }
}

Result<void> WeightLoader::add_packed(const std::string& path, const at::Tensor& packed) {
  if (auto expected = expect(path); !expected) return expected;
  if (!packed_.contains(path)) {
    return invalid_argument("weight '" + path + "' is packed, but no product uses it");
  }
  weight_bytes_ += kernels::packed_bytes(packed);
  weights_.set(path, packed);
  return {};
}

Result<void> WeightLoader::expect(const std::string& path) {
  if (!weights_.contains(path)) {
    return invalid_argument("the program has no weight '" + path + "'");
  }
  if (!loaded_.insert(path).second) return invalid_argument("weight '" + path + "' comes twice");
  return {};
}

// From the checkpoint's own numbers, as the importer does it: the bits are the package's.
Result<at::Tensor> WeightLoader::quantize_and_pack(const std::vector<at::Tensor>& parts) const {
  const at::Tensor weight = parts.size() == 1 ? parts[0].contiguous() : at::cat(parts);
  auto quantized =
      kernels::quantize(weight, options_.encoding.format, options_.encoding.group_size);
  if (!quantized) return std::unexpected(quantized.error());
  quantized->keeps_activations = options_.keeps_activations;
  return options_.device.pack(*quantized, options_.dtype);
}

Result<void> WeightLoader::alias(const std::string& path, const std::string& target) {
  if (!weights_.contains(path) || !loaded_.contains(target)) {
    return invalid_argument("weight '" + path + "' cannot stand for '" + target + "'");
  }
  loaded_.insert(path);
  weights_.set(path, weights_.get(target));
  return {};
}

Result<void> WeightLoader::absent(const std::string&) {
  return {};  // its place in the program holds None
}

Result<void> WeightLoader::finish() const {
  for (const std::string& path : weights_.paths()) {
    if (!loaded_.contains(path)) return invalid_argument("weight '" + path + "' is missing");
  }
  return {};
}

}  // namespace sluice::model
