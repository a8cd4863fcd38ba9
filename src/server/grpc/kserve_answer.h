#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "inference/grpc_predict_v2.pb.h"
#include "server/grpc/kserve_request.h"
#include "sluice/generation.h"

namespace sluice::server {

// Makes the answers of one request: one for each piece of output, or one of the whole.
//
// The last one has sluice_seed, sluice_profile, sluice_digest and sluice_request_id as parameters:
// what a repeat of the answer needs. Threads: none of its own.
class KserveAnswer final {
 public:
  KserveAnswer(const KserveCall& call, std::string model_name, std::string id);

  // An answer of a stream. `summary` is null but in the last.
  inference::ModelInferResponse piece(GenerateChunk chunk, const GenerateSummary* summary);

  // Joins a chunk to its completion.
  void add(GenerateChunk chunk);
  // All that was added. Once.
  inference::ModelInferResponse whole(const GenerateSummary& summary);

 private:
  inference::ModelInferResponse make(std::vector<GenerateChunk> completions,
                                     const GenerateSummary* summary);
  void add_output(KserveOutput output, const std::vector<GenerateChunk>& completions,
                  const GenerateSummary* summary, inference::ModelInferResponse& response) const;

  const std::string model_name_;
  const std::string id_;
  const std::vector<KserveOutput> outputs_;
  const bool is_raw_;
  std::map<int32_t, GenerateChunk> completions_;  // of a whole answer, by index
  std::map<int32_t, double> sums_;                // of the logprobs so far, by index
};

}  // namespace sluice::server
