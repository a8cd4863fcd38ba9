#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "server/call_handle.h"
#include "server/chunk_queue.h"
#include "server/http/http_server.h"
#include "server/http/openai_format.h"
#include "server/http/openai_request.h"
#include "sluice/service.h"

namespace sluice::server {

// The answer to one call: hands the call's requests to the service, puts their output together and
// writes it, as one JSON object or as server-sent events.
//
// An event stream begins with the first output: what fails before has its own status. While a write
// is under way output waits and joins; the service hears of tokens once they are written, so a
// client that does not read pauses its own requests. A client that leaves cancels them.
// Threads: the service's delivery thread and the HTTP server's; mutex_ orders them. No call into
// either is made under the lock.
class OpenAiAnswer final : public HttpBody, public std::enable_shared_from_this<OpenAiAnswer> {
 public:
  // Submits the call's requests, all or none: the first error is the answer. `headers` go with it.
  static void start(Service& service, std::shared_ptr<HttpExchange> exchange, OpenAiCall call,
                    OpenAiHeading heading, std::vector<HttpHeader> headers);

  bool take(std::string& out) override;
  void written() override;

 private:
  class PromptObserver;

  OpenAiAnswer(const ServiceLimits& limits, std::shared_ptr<HttpExchange> exchange, OpenAiCall call,
               OpenAiHeading heading, std::vector<HttpHeader> headers);

  void submit(Service& service);
  void on_chunk(size_t prompt_idx, GenerateChunk chunk);
  void on_end(size_t prompt_idx, Result<GenerateSummary> end);
  void begin_stream();
  void finish_whole();
  void cancel_all();
  void respond_error(const Error& error);

  OpenAiCall call_;  // its prompts are given away by submit()
  const size_t choices_per_prompt_;
  OpenAiFormat format_;
  const std::vector<HttpHeader> headers_;
  std::deque<CallHandle> calls_;  // one for each prompt

  std::mutex mutex_;
  std::shared_ptr<HttpExchange> exchange_;
  ChunkQueue queue_;                   // of a stream
  std::vector<OpenAiChoice> choices_;  // of a whole answer
  GenerateSummary summary_;            // of all requests
  std::optional<Error> error_;         // the first
  size_t num_ended_ = 0;
  bool is_submitted_ = false;  // all requests are with the service
  bool has_begun_ = false;     // the stream's head is on its way
  bool is_over_ = false;       // answered, or the client is gone
  // The HTTP server's thread.
  ChunkQueue taken_;                       // by take(), which empties it
  std::vector<int32_t> tokens_in_flight_;  // of each prompt
};

}  // namespace sluice::server
