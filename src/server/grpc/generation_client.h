#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sluice/error.h"
#include "sluice/generation.h"
#include "sluice/service.h"

namespace sluice::server {

// How a client shows who it is and whom it trusts.
struct ClientOptions {
  std::string api_key;  // printable ASCII without blanks; empty: none is sent
  bool uses_tls = false;
  // PEM. Whose servers are trusted (empty: whom this machine trusts), and what the client shows of
  // itself to one that asks (both empty: nothing).
  std::string ca_pem;
  std::string certificate_pem;
  std::string key_pem;
};

// A blocking client of sluice.v1.Generation in plain types, for `sluice client` and `bench serve`.
//
// Threads: any; one call blocks its caller.
class GenerationClient {
 public:
  virtual ~GenerationClient() = default;
  // Does not connect yet.
  static std::unique_ptr<GenerationClient> create(const std::string& target,
                                                  const ClientOptions& options = {});

  // Streams one request. `on_chunk` returning false cancels it (kCancelled). Errors carry the
  // server's code and message; kUnavailable if it cannot be reached.
  virtual Result<GenerateSummary> generate(const GenerateRequest& request,
                                           const std::function<bool(GenerateChunk)>& on_chunk) = 0;
  virtual Result<std::vector<ModelInfo>> list_models() = 0;
  virtual Result<ServerInfo> server_info() = 0;
  virtual Result<std::vector<int32_t>> tokenize(const std::string& model, const std::string& text,
                                                bool add_special_tokens) = 0;
  virtual Result<RenderedChat> render_chat(const std::string& model, const ChatPrompt& chat) = 0;
  virtual Result<std::string> detokenize(const std::string& model,
                                         const std::vector<int64_t>& token_ids) = 0;
  // grpc.health.v1: true if SERVING.
  virtual Result<bool> healthy() = 0;
};

}  // namespace sluice::server
