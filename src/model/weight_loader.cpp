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
  const std::set<std::string> multiplied = multiplied_weights(program);
  std::set<std::string> packed;
  for (const std::string& path : weights->paths()) {
    if (!is_among(multiplied, path)) continue;
    const auto target = options.aliases.find(path);
    packed.insert(target == options.aliases.end() ? path : target->second);
  }
  std::unique_ptr<WeightLoader> loader(
      new WeightLoader(*std::move(weights), std::move(options), pool));
  loader->packed_ = std::move(packed);
  return loader;
}

Result<void> WeightLoader::add(const std::string& path, const std::vector<at::Tensor>& parts,
                               bool is_table) {
  if (!weights_.contains(path)) {
    return invalid_argument("the program has no weight '" + path + "'");
  }
  if (!loaded_.insert(path).second) return invalid_argument("weight '" + path + "' comes twice");
  try {
    at::Tensor weight = join_parts(parts, is_table ? parts[0].scalar_type() : options_.dtype);
    if (auto finite = check_finite(path, weight, pool_); !finite) return finite;
    if (packed_.contains(path)) {
      auto packed = kernels::pack_weight(weight);
      if (!packed) return invalid_argument("weight '" + path + "': " + packed.error().message);
      weight = *std::move(packed);
      weight_bytes_ += kernels::packed_bytes(weight);
    } else {
      weight_bytes_ += static_cast<int64_t>(weight.nbytes());
      if (weight.nbytes() < kMappedBytes && weight.is_alias_of(parts[0])) weight = weight.clone();
    }
    weights_.set(path, weight);
    return {};
  } catch (const std::exception& exception) {
    return fail(ErrorCode::kResourceExhausted,
                "weight '" + path + "' cannot be prepared: " + one_line(exception));
  }
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
