#pragma once

#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "sluice/service.h"

namespace sluice::server {

// A Service that passes everything on to another one. What holds for every front end alike is a
// class over this that changes what it is about.
class ServiceDecorator : public Service {
 public:
  // `inner` must outlive this.
  explicit ServiceDecorator(Service& inner) : inner_(inner) {}

  Result<std::shared_ptr<GenerateCall>> generate(
      GenerateRequest request, std::shared_ptr<GenerateObserver> observer) override {
    return inner_.generate(std::move(request), std::move(observer));
  }
  Result<std::vector<int32_t>> tokenize(std::string_view model, std::string_view text,
                                        bool add_special_tokens) override {
    return inner_.tokenize(model, text, add_special_tokens);
  }
  Result<std::string> detokenize(std::string_view model, const std::vector<int64_t>& token_ids,
                                 bool skip_special_tokens) override {
    return inner_.detokenize(model, token_ids, skip_special_tokens);
  }
  Result<RenderedChat> render_chat(std::string_view model, const ChatPrompt& chat) override {
    return inner_.render_chat(model, chat);
  }
  std::vector<ModelInfo> models() const override { return inner_.models(); }
  ServerInfo server_info() const override { return inner_.server_info(); }
  Health health() const override { return inner_.health(); }
  const ServiceLimits& limits() const override { return inner_.limits(); }
  observability::Registry& metrics() override { return inner_.metrics(); }
  void set_not_ready() override { inner_.set_not_ready(); }
  void begin_drain() override { inner_.begin_drain(); }
  DrainEnd drain(std::chrono::nanoseconds limit) override { return inner_.drain(limit); }

 protected:
  Service& inner() const { return inner_; }

 private:
  Service& inner_;
};

}  // namespace sluice::server
