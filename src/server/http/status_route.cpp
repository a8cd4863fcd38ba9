#include "server/http/status_route.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "observability/metrics.h"
#include "server/http/http_caller.h"
#include "server/http/http_error.h"

namespace sluice::server {
namespace {

using observability::Counter;
using observability::Gauge;
using observability::Histogram;
using observability::MetricInfo;
using observability::Total;

// A metric of the registry, and the member of the answer that has its sum over all models.
struct Member {
  std::string_view metric;
  const char* name;
};
constexpr std::array<Member, 2> kCounters = {{
    {"sluice_prompt_tokens_total", "prompt_tokens"},
    {"sluice_generated_tokens_total", "generated_tokens"},
}};
constexpr std::array<Member, 4> kHistograms = {{
    {"sluice_time_to_first_token_seconds", "time_to_first_token_seconds"},
    {"sluice_inter_token_latency_seconds", "inter_token_latency_seconds"},
    {"sluice_step_duration_seconds", "step_duration_seconds"},
    {"sluice_step_sequences", "step_sequences"},
}};
// Counters whose members of one family are told apart by a label.
struct LabelledMember {
  std::string_view metric;
  std::string_view label;
  const char* name;
};
constexpr std::array<LabelledMember, 2> kLabelledCounters = {{
    {"sluice_requests_finished_total", "reason", "finished"},
    {"sluice_requests_refused_total", "code", "refused"},
}};

// Sums the registry's members up in a JSON object. A member whose metrics nobody has added yet is
// there all the same, as nothing.
class Summary final : public observability::Registry::Visitor {
 public:
  explicit Summary(Json& out) : out_(out) {
    for (const Member& member : kCounters) out_[member.name] = 0;
    for (const LabelledMember& member : kLabelledCounters) out_[member.name] = Json::object();
    for (const Member& member : kHistograms) out_[member.name] = nullptr;
  }

  void visit(const MetricInfo& info, const Counter& counter) override {
    for (const Member& member : kCounters) {
      if (member.metric == info.name) add(out_[member.name], counter.value());
    }
    for (const LabelledMember& member : kLabelledCounters) {
      if (member.metric != info.name || counter.value() == 0) continue;
      for (const auto& [label, value] : info.labels) {
        if (label == member.label) add(out_[member.name][value], counter.value());
      }
    }
  }
  void visit(const MetricInfo&, const Total&) override {}
  void visit(const MetricInfo&, const Gauge&) override {}
  void visit(const MetricInfo& info, const Histogram& histogram) override {
    for (const Member& member : kHistograms) {
      if (member.metric == info.name) add(out_[member.name], histogram.snapshot());
    }
  }

 private:
  static void add(Json& sum, int64_t value) {
    sum = (sum.is_number() ? sum.get<int64_t>() : 0) + value;
  }
  // All models' histograms of one name have the same bounds.
  static void add(Json& sum, const Histogram::Snapshot& snapshot) {
    if (!sum.is_object()) {
      sum = {{"upper_bounds", snapshot.upper_bounds},
             {"cumulative", snapshot.cumulative},
             {"sum", snapshot.sum}};
      return;
    }
    Json& cumulative = sum["cumulative"];
    const size_t size = std::min(cumulative.size(), snapshot.cumulative.size());
    for (size_t i = 0; i < size; ++i) add(cumulative[i], snapshot.cumulative[i]);
    sum["sum"] = sum["sum"].get<double>() + snapshot.sum;
  }

  Json& out_;
};

Json describe(const ModelInfo& model) {
  return {{"name", model.name},
          {"family", model.family},
          {"dtype", model.dtype},
          {"profile", model.profile},
          {"digest", model.digest},
          {"context_length", model.context_length},
          {"kv_capacity_tokens", model.kv_capacity_tokens},
          {"has_tokenizer", model.has_tokenizer},
          {"has_chat_template", model.has_chat_template}};
}

Json status(Service& service) {
  const ServerInfo info = service.server_info();
  const Health health = service.health();
  Json out = {{"version", info.version},
              {"device", info.device},
              {"num_threads", info.num_threads},
              {"uptime_seconds", std::chrono::duration<double>(info.uptime).count()},
              {"live", health.live},
              {"ready", health.ready},
              {"running", info.requests_running},
              {"waiting", info.requests_waiting},
              {"kv_blocks_used", info.kv_blocks_used},
              {"kv_blocks_total", info.kv_blocks_total},
              {"prefix_cache_queries", info.prefix_cache_queries},
              {"prefix_cache_hits", info.prefix_cache_hits},
              {"preemptions", info.preemptions},
              {"models", Json::array()}};
  for (const ModelInfo& model : service.models()) out["models"].push_back(describe(model));
  Summary summary(out);
  service.metrics().visit_uncollected(summary);
  return out;
}

}  // namespace

void add_status_route(Service& service, std::shared_ptr<const ApiKeys> keys, Router& router) {
  router.add("GET", "/status",
             [&service, keys = std::move(keys)](const std::shared_ptr<HttpExchange>& exchange) {
               const auto client = client_of(exchange->request(), keys.get());
               if (!client) return exchange->respond(error_response(client.error()));
               HttpResponse response;
               response.body = status(service).dump(-1, ' ', false, Json::error_handler_t::replace);
               response.headers.push_back({"Cache-Control", "no-store"});
               exchange->respond(std::move(response));
             });
}

}  // namespace sluice::server
