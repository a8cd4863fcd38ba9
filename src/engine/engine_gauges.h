#pragma once

#include <deque>
#include <span>
#include <string>

#include "base/clock.h"
#include "engine/engine_loop.h"
#include "engine/engine_metrics.h"
#include "engine/lane.h"
#include "engine/served_model.h"
#include "observability/metrics.h"
#include "sluice/service.h"

namespace sluice::engine {

// Figures that are read when somebody looks: what the engine holds now, and how long ago it moved.
//
// The three gauges that the Kubernetes inference gateway balances by are here under vLLM's names
// too; each is one number for the server, whatever models it has.
// Source: gateway-api-inference-extension, proposal 003 (model server protocol).
// Threads: one at a time.
class EngineGauges final {
 public:
  // `registry` must outlive this.
  EngineGauges(observability::Registry& registry, std::span<const ServedModel> models,
               const ServerInfo& info);

  void update(const EngineLoop& loop, EngineMetrics& metrics, const Health& health,
              base::TimePoint now);

 private:
  struct Model {
    Model(observability::Registry& registry, const ServedModel& model);
    void update(observability::Registry& registry, const Lane::Gauges& lane, int32_t arriving);

    const std::string name;
    observability::Gauge& running;
    observability::Gauge& waiting;
    observability::Gauge& blocks_used;
    observability::Gauge& blocks_total;
    observability::Gauge& kv_usage;
    observability::Total& preemptions;
  };

  observability::Registry& registry_;
  std::deque<Model> models_;
  observability::Gauge& tick_age_;
  observability::Gauge& step_age_;
  observability::Gauge& live_;
  observability::Gauge& ready_;
  observability::Gauge& gateway_waiting_;
  observability::Gauge& gateway_running_;
  observability::Gauge& gateway_kv_usage_;
};

}  // namespace sluice::engine
