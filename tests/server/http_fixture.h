#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "tests/server/access/temporary_folder.h"
#include "tests/server/http_loopback.h"
#include "tests/server/raw_http.h"

namespace sluice::server {

// A listener before a service without a model, and a plain client.
class HttpFixture : public ::testing::Test {
 protected:
  void start(HttpFrontEndOptions options = {}) { http_.emplace(service_, std::move(options)); }
  void start_with_keys() {
    // printf %s open-sesame | sha256sum
    folder_.write("keys", "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7 ali\n");
    auto keys = ApiKeys::load(folder_ / "keys", [](const std::string&) {});
    ASSERT_TRUE(keys) << keys.error().message;
    start({.server = {}, .api_keys = *std::move(keys)});
  }
  RawResponse get(const std::string& path, const std::string& headers = "") {
    RawHttp client(port());
    client.get(path, headers);
    return client.read();
  }

  int port() const { return http_->port(); }

  TemporaryFolder folder_;
  FakeService service_;
  std::optional<HttpLoopback> http_;
};

}  // namespace sluice::server
