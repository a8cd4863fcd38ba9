#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice {

namespace observability {
class Registry;
}

// Receives one request's output.
//
// Threads: called on the service's delivery thread, never concurrently for one request. A call
// must not block: it hands the chunk on (to a write queue, a terminal, ...) and returns.
class GenerateObserver {
 public:
  virtual ~GenerateObserver() = default;
  virtual void on_chunk(GenerateChunk chunk) = 0;
  // Once, before on_end and however the request ends: what it used, and why its first completion
  // ended (the failed one, if one failed). For who keeps books; a summary has the usage too.
  virtual void on_usage(const Usage& /*usage*/, FinishReason /*reason*/) {}
  // Exactly once, and last. An error here ends all of the request's completions.
  virtual void on_end(Result<GenerateSummary> end) = 0;
};

// A request under way. Any thread.
class GenerateCall {
 public:
  virtual ~GenerateCall() = default;
  // Ends the request before the next step and frees its blocks. The observer still gets on_end
  // (kCancelled), unless it had it already. Idempotent.
  virtual void cancel() = 0;
  // Tells that the reader has taken `num_tokens` more tokens. A request whose tokens are not taken
  // is paused when the limit of undelivered tokens is reached, and goes on after this.
  virtual void delivered(int32_t num_tokens) = 0;
  // Tokens of the request's prompt, as the usage will report them.
  virtual int32_t num_prompt_tokens() const = 0;
};

struct ModelInfo {
  std::string name;
  std::string family;
  std::string digest;
  std::string dtype;
  std::string profile;
  int64_t num_parameters = 0;
  int32_t vocabulary_size = 0;
  int32_t context_length = 0;  // prompt and completion together, as served (--max-model-len)
  bool has_tokenizer = false;
  bool has_chat_template = false;
  std::vector<int32_t> end_token_ids;
  int64_t kv_capacity_tokens = 0;
  int64_t kv_bytes_per_token = 0;
};

struct ServerInfo {
  std::string version;
  std::string device;
  int32_t num_threads = 0;
  std::chrono::nanoseconds uptime{0};
  int64_t requests_running = 0;
  int64_t requests_waiting = 0;
  int64_t kv_blocks_used = 0;
  int64_t kv_blocks_total = 0;
  // Since the start: tokens of sequences that began, or began again after a preemption; those of
  // them whose keys and values were in the cache already; preemptions.
  int64_t prefix_cache_queries = 0;
  int64_t prefix_cache_hits = 0;
  int64_t preemptions = 0;
};

struct Health {
  bool live = false;   // the engine loop ticked lately
  bool ready = false;  // accepts work now
};

// How a drain ended.
enum class DrainEnd : uint8_t {
  kFinished,  // everything by itself
  kCutOff,    // what was left ended with kUnavailable
  // What was left, if anything was, ended with kUnavailable, and a step that was under way did not
  // come back: the service cannot be destroyed. Whoever drained it ends the process.
  kStuck,
};

// What the step under way at the end of a drain gets, before it counts as stuck.
inline constexpr std::chrono::seconds kLastStepTime{3};

// Limits that a front end shows or enforces before it calls the service.
struct ServiceLimits {
  int64_t max_prompt_bytes = 1 << 20;  // also of a chat, as JSON and rendered
  int32_t max_chat_messages = 1024;
  int32_t max_queued_requests = 256;
  // Prompt tokens of requests that wait, of one model. A request that finds none waiting is taken
  // whatever its length.
  int64_t max_queued_tokens = 1 << 20;
  int32_t max_undelivered_tokens = 256;  // per completion, then it pauses
  int32_t max_stop_strings = 16;
  int32_t max_stop_bytes = 256;  // of one stop string
  int32_t max_stop_token_ids = 64;
  int32_t max_logit_bias = 1024;
  int32_t max_logprobs = 20;
  // Of a request's prompt chunks: prompt tokens * (prompt_logprobs + 1) * n.
  int64_t max_prompt_logprob_entries = 1 << 19;
  int32_t max_n = 8;
  std::chrono::nanoseconds max_request_age = std::chrono::minutes(10);
  std::chrono::nanoseconds stall_time = std::chrono::minutes(1);  // paused this long: ended
};

// Text in, text out, over one or more models: what every front end and the command line call.
//
// Threads: any. No call blocks on the engine; generate() tokenizes on the caller's thread.
class Service {
 public:
  virtual ~Service() = default;

  // Checks and queues a request. Errors: kInvalidArgument (with name, value and limit), kNotFound
  // (model), kAlreadyExists (a live request has this id), kResourceExhausted (queue full),
  // kUnavailable (loading or draining). After an error the observer is never called.
  virtual Result<std::shared_ptr<GenerateCall>> generate(
      GenerateRequest request, std::shared_ptr<GenerateObserver> observer) = 0;

  // `model` may be empty when there is one. kInvalidArgument: text is not UTF-8, or too long.
  virtual Result<std::vector<int32_t>> tokenize(std::string_view model, std::string_view text,
                                                bool add_special_tokens) = 0;
  virtual Result<std::string> detokenize(std::string_view model,
                                         const std::vector<int64_t>& token_ids,
                                         bool skip_special_tokens) = 0;

  // The prompt that generate() would make of `chat`. Errors: as generate()'s for a chat;
  // kFailedPrecondition if the model has no chat template.
  virtual Result<RenderedChat> render_chat(std::string_view model, const ChatPrompt& chat) = 0;

  virtual std::vector<ModelInfo> models() const = 0;
  virtual ServerInfo server_info() const = 0;
  virtual Health health() const = 0;
  virtual const ServiceLimits& limits() const = 0;
  // Where the process's figures are; front ends add theirs.
  virtual observability::Registry& metrics() = 0;

  // Health says "not ready" from now on, so that load balancers turn away; new work is still
  // accepted.
  virtual void set_not_ready() = 0;
  // Refuses new work from now on (kUnavailable); running requests go on.
  virtual void begin_drain() = 0;
  // Waits until nothing runs or waits, at most `limit`; what is left then ends with kUnavailable,
  // within kLastStepTime even if the engine is stuck.
  virtual DrainEnd drain(std::chrono::nanoseconds limit) = 0;
};

}  // namespace sluice
