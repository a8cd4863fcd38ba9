#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "server/http/http_front_end.h"
#include "tests/server/access/temporary_folder.h"
#include "tests/server/raw_http.h"

namespace sluice::server {

// A listener before a service without a model, and a plain client.
class HttpFixture : public ::testing::Test {
 protected:
  void start(HttpFrontEndOptions options = {}) {
    options.server.address = "127.0.0.1:0";
    auto started = HttpFrontEnd::start(options, service_);
    ASSERT_TRUE(started) << started.error().message;
    front_end_ = *std::move(started);
  }
  void start_with_keys() {
    // printf %s open-sesame | sha256sum
    folder_.write("keys", "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7 ali\n");
    auto keys = ApiKeys::load(folder_ / "keys", [](const std::string&) {});
    ASSERT_TRUE(keys) << keys.error().message;
    start({.server = {}, .api_keys = *std::move(keys)});
  }
  RawResponse get(const std::string& path, const std::string& headers = "") {
    RawHttp client(front_end_->port());
    client.get(path, headers);
    return client.read();
  }

  TemporaryFolder folder_;
  FakeService service_;
  std::unique_ptr<HttpFrontEnd> front_end_;
};

}  // namespace sluice::server
