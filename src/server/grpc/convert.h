#pragma once

#include "sluice/error.h"
#include "sluice/generation.h"
#include "sluice/service.h"
#include "sluice/v1/generation.pb.h"

namespace sluice::server {

// Between the messages of sluice.v1 and Sluice's own types, field by field, nothing checked: the
// validator behind Service does that. deadline is not a field, it travels with the call.
// Errors: chat_from_proto's.
Result<GenerateRequest> from_proto(v1::GenerateRequest&& message);
v1::GenerateRequest to_proto(const GenerateRequest& request);

v1::GenerateResponse to_proto(GenerateChunk&& chunk);
GenerateChunk chunk_from_proto(v1::GenerateResponse&& message);

// Fills the fields that only a stream's last message has.
void add_summary(const GenerateSummary& summary, v1::GenerateResponse& message);
GenerateSummary summary_from_proto(const v1::GenerateResponse& message);

v1::ModelInfo to_proto(const ModelInfo& model);
ModelInfo from_proto(const v1::ModelInfo& message);

v1::ServerInfo to_proto(const ServerInfo& info);
ServerInfo from_proto(const v1::ServerInfo& message);

}  // namespace sluice::server
