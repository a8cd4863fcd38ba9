#pragma once

#include <torch/csrc/jit/api/module.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/config_file.h"
#include "model/family_source.h"
#include "model/weight_sink.h"
#include "sluice/error.h"

namespace sluice::model {

// One model family: a file NAME.py of TorchScript source, compiled here.
//
// It holds one class, which becomes the program, and the functions that an import calls and that
// are not part of it (docs/models.md):
//   model_types() -> List[str]                         config.json's model_type values it serves
//   configure(model, config: Config)                   sets the sizes from config.json
//   weights(model, checkpoint: Checkpoint, out: Weights)   names, shapes and joins of the weights
// Functions that families share stand in files without a class, which a family imports.
class Family final {
 public:
  // The family that serves a model_type: from `folder`, or the built-in ones if that is empty.
  // kUnimplemented if there is none; kInvalidArgument if a family file does not compile.
  static Result<Family> find(const std::string& model_type, const std::filesystem::path& folder);

  const std::string& name() const { return name_; }
  // sha256 of the file and its imports: which program it was.
  const std::string& source_digest() const { return source_digest_; }
  torch::jit::Module& program() { return program_; }

  // Sets the program's sizes. kInvalidArgument, kUnimplemented: the field of config.json at fault.
  Result<void> configure(const ConfigFile& config);
  // Sends every weight to the sink. kNotFound, kInvalidArgument: the tensor at fault; or what the
  // sink answered.
  Result<void> send_weights(Checkpoint& checkpoint, WeightSink& sink);

 private:
  // The first file is the family, the others are what it imports.
  static Result<Family> compile(const std::vector<FamilySource>& files);
  std::vector<std::string> model_types() const;

  std::string name_;
  std::string source_digest_;
  torch::jit::Module program_;
  std::shared_ptr<torch::jit::CompilationUnit> functions_;
};

}  // namespace sluice::model
