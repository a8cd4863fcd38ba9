#pragma once

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <utility>

#include "server/http/http_front_end.h"
#include "tests/server/raw_http.h"

namespace sluice::server {

inline constexpr const char* kCompletionsPath = "/v1/completions";
inline constexpr const char* kChatPath = "/v1/chat/completions";

// The HTTP front end of a service on a free port of 127.0.0.1.
class HttpLoopback final {
 public:
  explicit HttpLoopback(Service& service, HttpFrontEndOptions options = {}) {
    options.server.address = "127.0.0.1:0";
    auto started = HttpFrontEnd::start(options, service);
    if (!started) {
      ADD_FAILURE() << started.error().message;
      return;
    }
    front_end_ = *std::move(started);
  }
  int port() const { return front_end_->port(); }
  HttpFrontEnd& front_end() { return *front_end_; }

 private:
  std::unique_ptr<HttpFrontEnd> front_end_;
};

inline GenerateSummary summary_of(int32_t prompt_tokens, int32_t completion_tokens) {
  GenerateSummary summary;
  summary.seed = std::numeric_limits<uint64_t>::max();
  summary.profile = "test/1";
  summary.digest = "00ff";
  summary.usage.prompt_tokens = prompt_tokens;
  summary.usage.cached_tokens = 1;
  summary.usage.completion_tokens = completion_tokens;
  return summary;
}

}  // namespace sluice::server
