#pragma once

#include <ATen/core/ivalue.h>
#include <torch/custom_class.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/checkpoint.h"
#include "model/config_file.h"
#include "model/weight_sink.h"

// What a family file's functions see as Config, Checkpoint and Weights. TorchScript can carry an
// exception's text only, so each keeps the Error that made it throw.
namespace sluice::model {

struct FamilyApiObject : torch::CustomClassHolder {
  std::optional<Error> error;

  // The value, or an exception that ends the family's function.
  template <typename T>
  T unwrap(Result<T> result) {
    if (!result) raise(result.error());
    if constexpr (!std::is_void_v<T>) return *std::move(result);
  }

 private:
  [[noreturn]] void raise(const Error& what);
};

struct ConfigObject final : FamilyApiObject {
  explicit ConfigObject(const ConfigFile& file) : config(file) {}
  const ConfigFile& config;
};

struct CheckpointObject final : FamilyApiObject {
  explicit CheckpointObject(Checkpoint& source) : checkpoint(source) {}
  Checkpoint& checkpoint;
};

struct WeightsObject final : FamilyApiObject {
  explicit WeightsObject(WeightSink& target) : sink(target) {}
  WeightSink& sink;
  std::map<std::string, int64_t> list_sizes;  // entries appended so far, by attribute
};

// Makes the three known to TorchScript, by the names that resolve_family_type() knows. Idempotent.
void register_family_api();

// The TorchScript type of "Config", "Checkpoint" or "Weights"; nullptr for another name.
c10::TypePtr resolve_family_type(const std::string& name);

}  // namespace sluice::model
