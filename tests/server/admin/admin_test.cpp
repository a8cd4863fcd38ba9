// The admin listener over loopback: before, while and after a service serves, and with a step that
// hangs.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "observability/metrics.h"
#include "server/admin/admin_server.h"
#include "tests/engine/fakes.h"
#include "tests/server/raw_http.h"

namespace sluice::server {
namespace {

class AdminTest : public testing::Test {
 protected:
  void SetUp() override {
    auto started = AdminServer::start("127.0.0.1:0", registry_);
    ASSERT_TRUE(started.has_value()) << started.error().message;
    admin_ = *std::move(started);
  }
  RawResponse get(const std::string& path) { return http_get(admin_->port(), path); }
  int status(const std::string& path) { return get(path).status; }

  observability::Registry registry_;
  std::unique_ptr<AdminServer> admin_;
};

TEST_F(AdminTest, WhileModelsLoadItIsLiveAndNotReady) {
  EXPECT_EQ(status("/health/startup"), 503);
  EXPECT_EQ(status("/health/ready"), 503);
  EXPECT_EQ(status("/health/live"), 200);
  const RawResponse page = get("/metrics");
  EXPECT_EQ(page.status, 200);
  EXPECT_NE(page.body.find("\nprocess_resident_memory_bytes "), std::string::npos) << page.body;
  EXPECT_EQ(page.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(status("/"), 404);
  EXPECT_EQ(http_post(admin_->port(), "/metrics", "{}").status, 405);
}

TEST_F(AdminTest, ReadyUntilItLeavesAndLiveToTheEnd) {
  engine::FakeService fake;
  ASSERT_TRUE(fake.service->start([] { return Result<void>(); }));
  admin_->set_service(fake.service.get());
  for (const char* path : {"/health/startup", "/health/ready", "/health/live"}) {
    EXPECT_EQ(status(path), 200) << path;
  }
  fake.service->set_not_ready();
  EXPECT_EQ(status("/health/ready"), 503);
  EXPECT_EQ(status("/health/live"), 200);
  EXPECT_TRUE(
      fake.service->generate(engine::request_of({1}, 2), std::make_shared<engine::Recorder>()));
  fake.service->begin_drain();
  EXPECT_EQ(status("/health/ready"), 503);
  EXPECT_EQ(status("/health/startup"), 200);
  admin_->set_service(nullptr);
  EXPECT_EQ(status("/health/ready"), 503);
}

TEST_F(AdminTest, AStuckStepTurnsLiveOffUntilItGoesOn) {
  engine::FakeService fake;
  std::atomic<bool> is_stuck{false};
  std::atomic<bool> may_go_on{false};
  fake.script->fails = [&](const engine::StepInput&) -> std::optional<Error> {
    is_stuck.store(true);
    is_stuck.notify_all();
    may_go_on.wait(false);
    return std::nullopt;
  };
  ASSERT_TRUE(fake.service->start([] { return Result<void>(); }));
  admin_->set_service(fake.service.get());
  const auto accepted =
      fake.service->generate(engine::request_of({1}, 1), std::make_shared<engine::Recorder>());
  ASSERT_TRUE(accepted);
  is_stuck.wait(false);
  EXPECT_EQ(status("/health/live"), 200);
  fake.clock.advance(std::chrono::minutes(2));
  EXPECT_EQ(status("/health/live"), 503);
  EXPECT_EQ(status("/health/ready"), 503);
  EXPECT_EQ(get("/health/live").body, "the engine is stuck\n");
  may_go_on.store(true);
  may_go_on.notify_all();
  while (status("/health/live") != 200) std::this_thread::yield();
  EXPECT_EQ(status("/health/ready"), 200);
  admin_->set_service(nullptr);
}

}  // namespace
}  // namespace sluice::server
