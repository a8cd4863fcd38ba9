#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "engine/delivery.h"
#include "engine/engine_gauges.h"
#include "engine/engine_loop.h"
#include "engine/engine_metrics.h"
#include "engine/lane.h"
#include "engine/live_requests.h"
#include "engine/served_model.h"
#include "observability/metrics.h"
#include "sluice/runtime.h"
#include "sluice/service.h"

namespace sluice::engine {

// What a service is made of: models[m] runs in lanes[m].
struct ServiceParts {
  std::vector<ServedModel> models;
  std::vector<std::unique_ptr<Lane>> lanes;
  ServiceLimits limits;
  int32_t max_num_seqs = 64;
  base::Duration live_within = RuntimeOptions().live_within;
  ServerInfo info;  // version, device, num_threads
  // Null: nothing is timed. Otherwise the lanes use it too.
  std::unique_ptr<observability::StepProfiler> profiler;
  // Null: the service makes one.
  std::shared_ptr<observability::Registry> metrics;
  std::function<void(const std::string&)> on_device_lost;  // RuntimeOptions::on_device_lost
};

// The Service over engine and delivery.
//
// Either start() runs both on their own threads, or a test calls tick() and everything happens on
// its thread, in a fixed order.
class EngineService final : public Service {
 public:
  // `clock` must outlive this.
  EngineService(ServiceParts parts, const base::Clock& clock);
  ~EngineService() override;

  // Starts the threads. `prepare` runs first on the engine's thread; its error is returned and
  // nothing runs then.
  Result<void> start(const std::function<Result<void>()>& prepare);
  // One round of the engine and of the delivery. False if neither had anything to do.
  bool tick();

  Result<std::shared_ptr<GenerateCall>> generate(
      GenerateRequest request, std::shared_ptr<GenerateObserver> observer) override;
  Result<std::vector<int32_t>> tokenize(std::string_view model, std::string_view text,
                                        bool add_special_tokens) override;
  Result<std::string> detokenize(std::string_view model, const std::vector<int64_t>& token_ids,
                                 bool skip_special_tokens) override;
  Result<RenderedChat> render_chat(std::string_view model, const ChatPrompt& chat) override;
  std::vector<ModelInfo> models() const override;
  ServerInfo server_info() const override;
  Health health() const override;
  const ServiceLimits& limits() const override { return limits_; }
  observability::Registry& metrics() override { return *registry_; }
  void set_not_ready() override { is_leaving_.store(true, std::memory_order_release); }
  void begin_drain() override { live_.close(); }
  DrainEnd drain(std::chrono::nanoseconds limit) override;

  StepStatistics take_step_statistics();
  // Sequences that lost their blocks and started again, of all models, since the start.
  int64_t num_preemptions() const;

 private:
  Result<size_t> find_model(std::string_view name) const;
  // Hands an accepted request to the engine, if its prompt tokens have room in the queue.
  Result<void> enqueue(const LiveRequest& live, NewSequences sequences);
  Result<std::shared_ptr<GenerateCall>> accept(GenerateRequest request,
                                               std::shared_ptr<GenerateObserver> observer);
  // Ends what runs and joins the threads. False if the engine is stuck: then nobody hears of it
  // any more, and its thread is still there.
  bool shut_down(std::chrono::nanoseconds last_step_time);
  bool join_engine(std::chrono::nanoseconds limit);
  void abandon_engine();
  void join_delivery();

  const base::Clock& clock_;
  const base::TimePoint start_time_;
  const ServiceLimits limits_;
  const base::Duration live_within_;
  const std::vector<ServedModel> models_;
  const ServerInfo info_;
  const std::shared_ptr<observability::Registry> registry_;
  EngineMetrics metrics_;
  EngineGauges gauges_;
  LiveRequests live_;
  const std::unique_ptr<observability::StepProfiler> profiler_;
  Delivery delivery_;
  std::shared_ptr<EngineQueue> queue_;
  EngineLoop loop_;
  std::atomic<uint64_t> next_request_{1};
  std::atomic<bool> is_started_{false};
  std::atomic<bool> is_leaving_{false};
  std::thread engine_thread_;
  std::binary_semaphore engine_has_ended_{0};
  std::thread delivery_thread_;
  int64_t num_steps_taken_ = 0;
  int64_t num_tokens_taken_ = 0;
  // The last member: it reads the others while it lives.
  std::unique_ptr<observability::Registry::Collection> collection_;
};

}  // namespace sluice::engine
