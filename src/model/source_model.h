#pragma once

#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/family.h"
#include "model/model_runner.h"
#include "model/weight_sink.h"
#include "sluice/error.h"

namespace sluice::model {

struct SourceOptions {
  std::filesystem::path families;  // folder of family files; empty: the built-in ones
  std::string dtype;  // "f32", "f16", "bf16", "int8", "int4", "fp8"; empty: as the files have it
  int64_t group_size = 0;  // of int4; 0: the default
};

// A model that is not a package yet: a Hugging Face folder (config.json, safetensors), whose
// program is its family's, or a folder with a program.pt of the user's own.
//
// Everything is checked at open, but for the numbers in the weights.
class SourceModel final {
 public:
  static Result<SourceModel> open(const std::filesystem::path& folder,
                                  const SourceOptions& options);

  // The program, with its sizes; its weights are empty tensors.
  const torch::jit::Module& program() const { return program_; }
  // Without a digest.
  const ModelConfig& config() const { return config_; }
  const std::vector<PlannedWeight>& weights() const { return weights_; }
  const std::map<std::string, std::string>& aliases() const { return aliases_; }
  at::ScalarType dtype() const { return dtype_; }
  // Names of the folder's files that make the model what it is, its companions included.
  std::vector<std::filesystem::path> files() const;
  // What the digest is made of besides the folder's files.
  std::string origin() const;

  // Sends all weights, in the order of weights(). Errors are the sink's.
  Result<void> send_weights(WeightSink& sink);

 private:
  static Result<SourceModel> open_family(const std::filesystem::path& folder,
                                         const SourceOptions& options, const WantedDType& wanted);
  static Result<SourceModel> open_scripted(const std::filesystem::path& folder,
                                           const WantedDType& wanted);
  Result<void> plan();
  Result<void> take_weights();
  Result<void> mark_quantized();

  std::filesystem::path folder_;
  std::optional<Family> family_;  // of a Hugging Face folder
  std::optional<Checkpoint> checkpoint_;
  std::map<std::string, at::Tensor> tensors_;  // of a user's program
  torch::jit::Module program_;
  ModelConfig config_;
  std::vector<PlannedWeight> weights_;
  std::map<std::string, std::string> aliases_;
  at::ScalarType dtype_ = at::kFloat;
};

// Files of a model's folder that a package takes over as they are.
inline constexpr const char* kCompanionFiles[] = {
    "tokenizer.json",    "tokenizer.model",     "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja", "generation_config.json"};

}  // namespace sluice::model
