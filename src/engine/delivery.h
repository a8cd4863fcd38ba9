#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/engine_metrics.h"
#include "engine/live_requests.h"
#include "engine/output_event.h"
#include "engine/served_model.h"

namespace sluice::engine {

// Turns the engine's events into what observers get: text, chunks, the end with its summary.
//
// A step's events come in one hand-over; all that has come since the last round goes out as one
// chunk for each completion, so tokens join while this side is behind.
// Threads: publish() on the engine's, run() and deliver_pending() on the delivery thread,
// close() and stop() from any. Observers are called without a lock.
class Delivery final : public OutputSink {
 public:
  // The arguments must outlive this.
  Delivery(const std::vector<ServedModel>& models, LiveRequests& live, EngineMetrics& metrics);

  void publish(std::vector<OutputEvent>& events) override;

  // Delivers what was published until now. False if there was nothing.
  bool deliver_pending();
  // Delivers until stop(), and then what is left.
  void run();
  void stop();

  // For an engine that does not come back: drops what is published from now on.
  void close();
  // Ends requests in the engine's place. Requires: closed, and run() has returned.
  void end(const std::vector<std::shared_ptr<LiveRequest>>& requests, const Error& error,
           base::TimePoint now);

 private:
  void deliver(std::vector<OutputEvent>& events);
  void handle(OutputEvent& event);
  void handle_token(LiveRequest& request, DeliveryStream& stream, OutputEvent& event);
  void handle_end(LiveRequest& request, DeliveryStream& stream, const OutputEvent& event);
  void observe_token(const LiveRequest& request, DeliveryStream& stream, base::TimePoint time);
  void observe_end(const LiveRequest& request);
  void flush(LiveRequest& request);
  void flush_stream(LiveRequest& request, int32_t index);
  void send_prompt_chunk(LiveRequest& request, int32_t index);
  void end_request(LiveRequest& request);
  GenerateSummary summarize(const LiveRequest& request) const;
  static Usage usage_of(const LiveRequest& request);
  static FinishReason reason_of(const DeliveryState& state);

  void close_stream(DeliveryStream& stream, FinishReason reason);
  PositionLogprobs describe(const LiveRequest& request, const sampling::RowResult& result) const;
  std::string token_text(const LiveRequest& request, int32_t token_id) const;
  const ServedModel& model_of(const LiveRequest& request) const {
    return models_[request.checked.model_idx];
  }

  const std::vector<ServedModel>& models_;
  LiveRequests& live_;
  EngineMetrics& metrics_;
  std::vector<TokenTally> tallies_;  // a model
  std::mutex mutex_;
  std::condition_variable published_;
  std::vector<OutputEvent> pending_;  // guarded by mutex_
  bool is_stopping_ = false;          // guarded by mutex_
  bool is_closed_ = false;            // guarded by mutex_
  std::vector<OutputEvent> current_;
  std::vector<LiveRequest*> touched_;
};

}  // namespace sluice::engine
