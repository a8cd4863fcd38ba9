#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/quantize.h"
#include "model/program.h"
#include "model/weight_encoding.h"
#include "model/weight_sink.h"

namespace sluice::kernels {
class ThreadPool;
}

namespace sluice::model {

// The parts below each other, in `dtype`, contiguous; the part itself where nothing is to do.
// Requires: at least one part.
at::Tensor join_parts(const std::vector<at::Tensor>& parts, at::ScalarType dtype);

// Puts weights into a program as they arrive: joined, converted, checked, and packed where a
// product uses them. At most one unpacked weight is in memory at a time.
class WeightLoader final : public WeightSink {
 public:
  struct Options {
    kernels::Device& device;                     // where the weights shall be
    std::map<std::string, std::string> aliases;  // all that will come, path -> target
    at::ScalarType dtype = at::kFloat;
    WeightEncoding encoding;  // what products' weights become; how they come, if add_quantized()
    bool keeps_activations = false;  // kernels/quantize.h, of all quantized weights
  };
  static Result<std::unique_ptr<WeightLoader>> create(const torch::jit::Module& program,
                                                      Options options, kernels::ThreadPool& pool);

  // kInvalidArgument: the program has no such attribute, or the weight is not finite;
  // kResourceExhausted: memory.
  Result<void> add(const std::string& path, const std::vector<at::Tensor>& parts,
                   bool is_table) override;
  Result<void> alias(const std::string& path, const std::string& target) override;
  Result<void> absent(const std::string& path) override;

  // The same for a weight that is quantized already. kInvalidArgument also if no product uses it,
  // or its values or scales are not as kernels/quantize.h says.
  Result<void> add_quantized(const std::string& path, const kernels::QuantizedWeight& weight);

  // The same for one that is packed already.
  Result<void> add_packed(const std::string& path, const at::Tensor& packed);

  // kInvalidArgument, naming one, if a weight of the program has not come.
  Result<void> finish() const;
  int64_t weight_bytes() const { return weight_bytes_; }

 private:
  WeightLoader(ProgramWeights weights, Options options, kernels::ThreadPool& pool)
      : weights_(std::move(weights)), options_(std::move(options)), pool_(pool) {}

  Result<void> expect(const std::string& path);
  Result<at::Tensor> quantize_and_pack(const std::vector<at::Tensor>& parts) const;

  ProgramWeights weights_;
  Options options_;
  kernels::ThreadPool& pool_;
  std::set<std::string> packed_;  // paths of weights to pack, aliases resolved
  std::set<std::string> loaded_;
  int64_t weight_bytes_ = 0;
};

}  // namespace sluice::model
