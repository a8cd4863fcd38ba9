#include "engine/engine_gauges.h"

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace sluice::engine {
namespace {

using observability::Gauge;
using observability::Registry;

int64_t read(const std::atomic<int64_t>& value) {
  return value.load(std::memory_order_relaxed);
}
int32_t read(const std::atomic<int32_t>& value) {
  return value.load(std::memory_order_relaxed);
}

Gauge& model_gauge(Registry& registry, const std::string& model, const char* name,
                   const char* help) {
  return registry.gauge({name, help, {{"model", model}}});
}

}  // namespace

EngineGauges::Model::Model(Registry& registry, const ServedModel& model)
    : name(model.info.name),
      running(model_gauge(registry, name, "sluice_sequences_running",
                          "Sequences that hold KV blocks: computed in this step or paused.")),
      waiting(model_gauge(registry, name, "sluice_sequences_waiting",
                          "Sequences in the queue, preempted ones too.")),
      blocks_used(model_gauge(registry, name, "sluice_kv_cache_blocks_used",
                              "KV blocks that sequences hold.")),
      blocks_total(
          model_gauge(registry, name, "sluice_kv_cache_blocks", "KV blocks that there are.")),
      kv_usage(model_gauge(registry, name, "sluice_kv_cache_usage_ratio",
                           "Used part of the KV blocks, 0 to 1.")),
      preemptions(registry.total({"sluice_preemptions_total",
                                  "Sequences that lost their KV blocks and start again.",
                                  {{"model", name}}})) {
  const ModelInfo& info = model.info;
  registry
      .gauge({"sluice_model_info",
              "What is served: always 1.",
              {{"model", info.name},
               {"family", info.family},
               {"dtype", info.dtype},
               {"profile", info.profile},
               {"digest", info.digest}}})
      .set(1);
}

void EngineGauges::Model::update(Registry& registry, const Lane::Gauges& lane, int32_t arriving) {
  const int32_t used = read(lane.blocks_used);
  const int32_t total = read(lane.blocks_total);
  running.set(read(lane.running));
  waiting.set(read(lane.waiting) + std::max(0, arriving));
  blocks_used.set(used);
  blocks_total.set(total);
  kv_usage.set(total > 0 ? static_cast<double>(used) / total : 0);
  preemptions.set(static_cast<double>(read(lane.preemptions)));
  // Not there before the first query: a rate of hits without queries would be no number.
  const int64_t hits = read(lane.prefix_hits);
  if (const int64_t queries = read(lane.prefix_queries); queries > 0) {
    registry
        .total({"sluice_prefix_cache_query_tokens_total",
                "Tokens of sequences that started, or started again after a preemption.",
                {{"model", name}}})
        .set(static_cast<double>(queries));
    registry
        .total({"sluice_prefix_cache_hit_tokens_total",
                "Of these, tokens whose keys and values were in the cache already.",
                {{"model", name}}})
        .set(static_cast<double>(hits));
  }
}

EngineGauges::EngineGauges(Registry& registry, std::span<const ServedModel> models,
                           const ServerInfo& info)
    : registry_(registry),
      tick_age_(registry.gauge({"sluice_engine_tick_age_seconds",
                                "Since the engine's loop last began a round; it does so several "
                                "times a second unless a step takes longer.",
                                {}})),
      step_age_(registry.gauge({"sluice_engine_step_age_seconds",
                                "Since the last step's end; grows while there is nothing to do.",
                                {}})),
      live_(registry.gauge({"sluice_live", "1 if the engine's loop ticked lately.", {}})),
      ready_(registry.gauge({"sluice_ready", "1 if the server accepts work.", {}})),
      gateway_waiting_(registry.gauge(
          {"vllm:num_requests_waiting", "sluice_sequences_waiting of all models.", {}})),
      gateway_running_(registry.gauge(
          {"vllm:num_requests_running", "sluice_sequences_running of all models.", {}})),
      gateway_kv_usage_(registry.gauge({"vllm:kv_cache_usage_perc",
                                        "sluice_kv_cache_usage_ratio of the fullest model, 0 to 1.",
                                        {}})) {
  for (const ServedModel& model : models) models_.emplace_back(registry, model);
  registry
      .gauge({"sluice_build_info",
              "The server: always 1.",
              {{"version", info.version}, {"device", info.device}}})
      .set(1);
}

void EngineGauges::update(const EngineLoop& loop, EngineMetrics& metrics, const Health& health,
                          base::TimePoint now) {
  double waiting = 0;
  double running = 0;
  double fullest = 0;
  for (size_t i = 0; i < models_.size(); ++i) {
    Model& model = models_[i];
    model.update(registry_, loop.lanes()[i]->gauges(), read(metrics.model(i).num_arriving));
    waiting += model.waiting.value();
    running += model.running.value();
    fullest = std::max(fullest, model.kv_usage.value());
  }
  tick_age_.set(std::max(0.0, base::in_seconds(now - loop.heartbeat())));
  step_age_.set(std::max(0.0, base::in_seconds(now - loop.last_step())));
  live_.set(health.live ? 1 : 0);
  ready_.set(health.ready ? 1 : 0);
  gateway_waiting_.set(waiting);
  gateway_running_.set(running);
  gateway_kv_usage_.set(fullest);
}

}  // namespace sluice::engine
