#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/grpc/generation_client.h"
#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::server {

// Hears what one stream brings. Calls come on the client's threads, one at a time for one stream,
// and must not block.
class StreamListener {
 public:
  virtual ~StreamListener() = default;
  // A message with so many tokens has come.
  virtual void on_tokens(int32_t num_tokens) = 0;
  // Once, and last: how many tokens the server says it made, or what went wrong.
  virtual void on_end(Result<int64_t> completion_tokens) = 0;
};

// Streams many requests at once on a few threads, for load tests: what comes is counted, not kept.
//
// Threads: any. The destructor waits for the streams under way.
class StreamClient {
 public:
  virtual ~StreamClient() = default;
  virtual void generate(const GenerateRequest& request,
                        std::shared_ptr<StreamListener> listener) = 0;
};

// Over sluice.v1.Generation. Does not connect yet; `num_connections` share the streams.
std::unique_ptr<StreamClient> make_grpc_stream_client(const std::string& target,
                                                      const ClientOptions& options,
                                                      int32_t num_connections);

// A server of OpenAI's API and the model that is asked for.
struct OpenAiTarget {
  std::string host;  // without brackets
  std::string port;
  std::string base = "/v1";     // of the API's paths
  std::string model;            // as the server names it
  bool says_token_ids = false;  // it is a Sluice, so events can be asked for their token ids
  int32_t vocabulary_size = 0;  // 0: it does not say
};

// Asks the server at HOST:PORT or HOST:PORT/BASE for its models and takes `model`, or its only one
// if that is empty. Here and below kInvalidArgument names the flag whose file OpenSSL does not
// take.
Result<OpenAiTarget> find_openai_target(const std::string& address, const std::string& model,
                                        const ClientOptions& options);

// Over POST completions, or chat/completions for a request with a chat, with events, of any server
// that speaks them; a connection a stream. An event with text counts as one token where the server
// does not say token ids.
Result<std::unique_ptr<StreamClient>> make_openai_stream_client(const OpenAiTarget& target,
                                                                const ClientOptions& options);

}  // namespace sluice::server
