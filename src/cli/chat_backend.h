#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/grpc/generation_client.h"
#include "sluice/error.h"
#include "sluice/generation.h"
#include "sluice/runtime.h"
#include "sluice/service.h"

namespace sluice::cli {

// Who answers in `sluice chat`: a model in this process, or a server.
class ChatBackend {
 public:
  virtual ~ChatBackend() = default;

  // The model that answers; kNotFound if there is none of that name.
  virtual Result<ModelInfo> model() = 0;
  // Streams one answer. `on_chunk` returning false stops it (kCancelled). Blocks.
  virtual Result<GenerateSummary> generate(const GenerateRequest& request,
                                           const std::function<bool(GenerateChunk)>& on_chunk) = 0;
  // Stops the answer under way, if it can at once; else the next chunk stops it. Any thread.
  virtual void interrupt() {}
};

// Keeps the service.
std::unique_ptr<ChatBackend> make_local_backend(std::unique_ptr<Service> service);
// `model` may be empty if the server has one.
std::unique_ptr<ChatBackend> make_remote_backend(std::unique_ptr<server::GenerationClient> client,
                                                 std::string model);

}  // namespace sluice::cli
