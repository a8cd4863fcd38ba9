#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "observability/metrics.h"
#include "sluice/runtime.h"
#include "sluice/service.h"

namespace sluice::cli {

// A service that answers inside generate() unless the test holds it back, so that a test decides
// the order in which requests end. Threads: one.
class FakeService final : public Service {
 public:
  // Requests that are accepted but not answered before release().
  bool hold = false;
  // Live requests that are accepted; more get kResourceExhausted, after on_full.
  size_t capacity = 1000;
  std::function<void()> on_full;
  // Called for a request before it is accepted; an error refuses it.
  std::function<Result<void>(const GenerateRequest&)> check;
  size_t most_live = 0;
  int64_t num_delivered = 0;
  int64_t num_cancelled = 0;

  Result<std::shared_ptr<GenerateCall>> generate(
      GenerateRequest request, std::shared_ptr<GenerateObserver> observer) override;
  // Answers one of the held requests: `place` counts those that are left, in order of arrival.
  void release(size_t place);
  size_t num_held() const { return held_.size(); }

  Result<std::vector<int32_t>> tokenize(std::string_view, std::string_view, bool) override;
  Result<RenderedChat> render_chat(std::string_view, const ChatPrompt&) override;
  Result<std::string> detokenize(std::string_view, const std::vector<int64_t>&, bool) override;
  std::vector<ModelInfo> models() const override;
  ServerInfo server_info() const override { return {}; }
  Health health() const override { return {}; }
  const ServiceLimits& limits() const override { return limits_; }
  observability::Registry& metrics() override { return metrics_; }
  void set_not_ready() override {}
  void begin_drain() override {}
  DrainEnd drain(std::chrono::nanoseconds) override { return DrainEnd::kFinished; }

 private:
  using Held = std::pair<GenerateRequest, std::shared_ptr<GenerateObserver>>;
  static void answer(const Held& held);

  ServiceLimits limits_;
  observability::Registry metrics_;
  std::deque<Held> held_;
};

}  // namespace sluice::cli
