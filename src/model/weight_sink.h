#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sluice/error.h"

namespace sluice::model {

// A weight that a model will have.
struct PlannedWeight {
  std::string path;
  std::vector<int64_t> shape;
  at::ScalarType dtype = at::kFloat;
  bool is_table = false;
  bool is_quantized = false;  // a product's, in a model whose weights are quantized
};

// Takes a model's weights one by one, by the path of the program's attribute ("embedding",
// "qkv.3"), so that never more than one of them has to be in memory.
class WeightSink {
 public:
  virtual ~WeightSink() = default;

  // The weight is the parts below each other (concatenated on their first dimension).
  // `is_table`: computed, not learned; stays float32 whatever the model's dtype.
  virtual Result<void> add(const std::string& path, const std::vector<at::Tensor>& parts,
                           bool is_table) = 0;
  // The attribute `path` is the same tensor as `target`, added before.
  virtual Result<void> alias(const std::string& path, const std::string& target) = 0;
  // An optional attribute that this model does not have.
  virtual Result<void> absent(const std::string& path) = 0;
};

}  // namespace sluice::model
