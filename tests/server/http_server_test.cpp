// The transport: HTTP by the letter, its limits in bytes, time and connections, streams and their
// readers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/http/http_server.h"
#include "server/http/router.h"
#include "tests/server/raw_http.h"

namespace sluice::server {
namespace {

using ::testing::HasSubstr;

// Sends as many of `num_parts` parts as it has been allowed, each of `part_bytes`.
class CountedBody final : public HttpBody {
 public:
  CountedBody(int64_t num_parts, size_t part_bytes)
      : num_parts_(num_parts), part_bytes_(part_bytes) {}
  bool take(std::string& out) override {
    if (num_taken_ < num_allowed_) {
      out.append(part_bytes_, static_cast<char>('a' + num_taken_ % 26));
      ++num_taken_;
    }
    return num_taken_ < num_parts_;
  }
  void written() override { ++num_written_; }
  void allow(int64_t num_parts) { num_allowed_ += num_parts; }
  int64_t num_taken() const { return num_taken_; }

 private:
  const int64_t num_parts_;
  const size_t part_bytes_;
  std::atomic<int64_t> num_allowed_{0};
  std::atomic<int64_t> num_taken_{0};
  std::atomic<int64_t> num_written_{0};
};

class HttpServerTest : public ::testing::Test {
 protected:
  void start(HttpServerOptions options = {}) {
    options.address = "127.0.0.1:0";
    router_.add("GET", "/hello", [](const std::shared_ptr<HttpExchange>& exchange) {
      HttpResponse response;
      response.content_type = "text/plain";
      response.body = "hello " + exchange->request().query;
      exchange->respond(response);
    });
    router_.add("POST", "/echo", [](const std::shared_ptr<HttpExchange>& exchange) {
      HttpResponse response;
      response.body = exchange->take_body();
      exchange->respond(response);
    });
    router_.add("GET", "/stream", [this](std::shared_ptr<HttpExchange> exchange) {
      exchange->on_gone([this] { gone_.release(); });
      exchange->stream({}, body_);
      const std::scoped_lock lock(mutex_);
      streaming_ = std::move(exchange);
      started_.release();
    });
    router_.add("GET", "/lost", [](const std::shared_ptr<HttpExchange>&) {});
    auto started = HttpServer::start(options, router_);
    ASSERT_TRUE(started) << started.error().message;
    server_ = *std::move(started);
  }
  void TearDown() override {
    const std::scoped_lock lock(mutex_);
    streaming_.reset();
  }
  void wake() {
    const std::scoped_lock lock(mutex_);
    streaming_->wake();
  }
  int port() const { return server_->port(); }

  std::shared_ptr<CountedBody> body_ = std::make_shared<CountedBody>(3, 10);
  std::counting_semaphore<> started_{0};
  std::counting_semaphore<> gone_{0};
  std::mutex mutex_;
  std::shared_ptr<HttpExchange> streaming_;
  Router router_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersSeveralRequestsOfOneConnection) {
  start();
  RawHttp client(port());
  for (int i = 0; i < 3; ++i) {
    client.get("/hello?" + std::to_string(i));
    const RawResponse response = client.read();
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "hello " + std::to_string(i));
    EXPECT_EQ(response.headers.at("content-type"), "text/plain");
    EXPECT_FALSE(response.headers.contains("connection"));
  }
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  start();
  RawHttp client(port());
  std::string all;
  for (int i = 0; i < 20; ++i) all += "GET /hello?" + std::to_string(i) + " HTTP/1.1\r\n\r\n";
  client.send(all);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.read().body, "hello " + std::to_string(i));
}

TEST_F(HttpServerTest, ClosesWhereTheClientOrItsVersionSaysSo) {
  start();
  RawHttp closing(port());
  closing.get("/hello", "Connection: close\r\n");
  EXPECT_EQ(closing.read().headers.at("connection"), "close");
  EXPECT_TRUE(closing.wait_for_close());
  RawHttp old(port());
  old.send("GET /hello HTTP/1.0\r\n\r\n");
  EXPECT_EQ(old.read().status, 200);
  EXPECT_TRUE(old.wait_for_close());
}

TEST_F(HttpServerTest, ReadsBodiesByLengthAndInChunks) {
  start();
  RawHttp client(port());
  client.post("/echo", "{\"a\": 1}");
  EXPECT_EQ(client.read().body, "{\"a\": 1}");
  client.send(
      "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(client.read().body, "abcde");
  client.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ok");
  EXPECT_EQ(client.read().body, "ok");
}

TEST_F(HttpServerTest, HeadHasTheLengthAndNoBody) {
  start();
  RawHttp client(port());
  client.send("HEAD /hello?1 HTTP/1.1\r\n\r\n");
  const RawResponse head = client.read(false);
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("content-length"), "7");
  client.get("/hello?2");
  EXPECT_EQ(client.read().body, "hello 2");
}

TEST_F(HttpServerTest, NamesWhatItDoesNotHave) {
  start();
  EXPECT_EQ(http_get(port(), "/nowhere").status, 404);
  const RawResponse wrong = http_post(port(), "/hello", "{}");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.at("allow"), "GET");
  EXPECT_EQ(http_get(port(), "/lost").status, 500);
}

TEST_F(HttpServerTest, RefusesWhatIsNotHttp) {
  start();
  for (const std::string bytes :
       {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01 not tls\r\n\r\n",
        "GET hello HTTP/1.1\r\n\r\n", "GET /%zz HTTP/1.1\r\n\r\n",
        "GET /hello HTTP/1.1\r\nno colon\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    RawHttp client(port());
    client.send(bytes);
    EXPECT_EQ(client.read().status, 400) << bytes;
    EXPECT_TRUE(client.wait_for_close()) << bytes;
  }
  EXPECT_EQ(http_get(port(), "/hello").status, 200);
}

TEST_F(HttpServerTest, BoundsHeadersAndBodies) {
  HttpServerOptions options;
  options.max_body_bytes = 1000;
  options.max_header_bytes = 2000;
  start(options);
  EXPECT_EQ(http_post(port(), "/echo", std::string(1000, 'x')).status, 200);
  const RawResponse large = http_post(port(), "/echo", std::string(1001, 'x'));
  EXPECT_EQ(large.status, 413);
  EXPECT_THAT(large.body, HasSubstr("1000 bytes"));
  {
    RawHttp client(port());  // announced, never sent
    client.send("POST /echo HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n");
    EXPECT_EQ(client.read().status, 413);
  }
  {
    RawHttp client(port());  // in chunks that never end
    client.send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    const std::string chunk = "3e8\r\n" + std::string(1000, 'x') + "\r\n";
    client.send(chunk + chunk);
    EXPECT_EQ(client.read().status, 413);
  }
  RawHttp client(port());
  client.get("/hello", "X: " + std::string(2000, 'x') + "\r\n");
  EXPECT_EQ(client.read().status, 431);
}

TEST_F(HttpServerTest, BoundsTheBodiesOfAllConnections) {
  HttpServerOptions options;
  options.max_body_bytes = 1 << 20;
  options.max_buffered_bytes = 1'500'000;
  start(options);
  const std::string large(1 << 20, 'x');
  const std::string head = "POST /echo HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n";
  std::vector<std::unique_ptr<RawHttp>> silent;
  for (int i = 0; i < 8; ++i) {
    silent.push_back(std::make_unique<RawHttp>(port()));
    silent.back()->send(i % 2 == 0 ? head + "x"
                                   : "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
  }
  EXPECT_EQ(http_post(port(), "/echo", large).status, 200) << "what is announced takes no place";
  RawHttp first(port());
  first.send(head + large.substr(1));
  EXPECT_TRUE([&] {
    const auto end = std::chrono::steady_clock::now() + kTestPatience;
    while (std::chrono::steady_clock::now() < end) {  // until the server has read so much
      RawHttp probe(port());
      probe.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 600000\r\n\r\n");
      if (probe.read_until("\r\n\r\n").value_or("").starts_with("HTTP/1.1 503")) return true;
    }
    return false;
  }()) << "a second one is too much";
  {
    RawHttp unsaid(port());
    unsaid.send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n92800\r\n" +
                std::string(600'064, 'y') + "\r\n");
    EXPECT_EQ(unsaid.read().status, 503) << "one that does not say its size is too much too";
  }
  EXPECT_EQ(http_post(port(), "/echo", std::string(60'000, 'y')).status, 200) << "small ones pass";
  first.send("x");
  EXPECT_EQ(first.read().body.size(), large.size());
  EXPECT_EQ(http_post(port(), "/echo", large).status, 200) << "the place is free again";
}

TEST_F(HttpServerTest, EndsConnectionsThatSendTooSlowly) {
  HttpServerOptions options;
  options.header_time = options.idle_time = options.body_time = std::chrono::milliseconds(300);
  start(options);
  RawHttp silent(port());
  RawHttp half_head(port());
  half_head.send("GET /hel");
  RawHttp half_body(port());
  half_body.send("POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nab");
  RawHttp idle(port());
  idle.get("/hello");
  EXPECT_EQ(idle.read().status, 200);
  for (RawHttp* client : {&silent, &half_head, &half_body, &idle}) {
    EXPECT_TRUE(client->wait_for_close());
  }
}

TEST_F(HttpServerTest, TurnsAwayOneConnectionTooMany) {
  HttpServerOptions options;
  options.max_connections = 2;
  start(options);
  {
    RawHttp first(port());
    RawHttp second(port());
    first.get("/hello");
    second.get("/hello");
    EXPECT_EQ(first.read().status, 200);
    EXPECT_EQ(second.read().status, 200);
    RawHttp third(port());
    const RawResponse refused = third.read();
    EXPECT_EQ(refused.status, 503);
    EXPECT_TRUE(refused.headers.contains("retry-after"));
    EXPECT_TRUE(third.wait_for_close());
  }
  // The places are free again as soon as the server has seen both leave.
  while (http_get(port(), "/hello").status != 200) continue;
}

TEST_F(HttpServerTest, StreamsWhatThereIsAndJoinsWhatComesMeanwhile) {
  start();
  RawHttp client(port());
  client.get("/stream");
  started_.acquire();
  body_->allow(1);
  wake();
  EXPECT_TRUE(client.read_until("aaaaaaaaaa\r\n"));
  body_->allow(2);
  wake();
  wake();
  EXPECT_TRUE(client.read_until("cccccccccc\r\n0\r\n\r\n"));
  client.get("/hello");  // the connection goes on
  EXPECT_EQ(client.read().status, 200);
}

TEST_F(HttpServerTest, StreamsToOldClientsUntilTheConnectionEnds) {
  start();
  RawHttp client(port());
  body_->allow(3);
  client.send("GET /stream HTTP/1.0\r\n\r\n");
  started_.acquire();
  wake();
  wake();
  const RawResponse response = client.read();
  EXPECT_FALSE(response.headers.contains("transfer-encoding"));
  EXPECT_EQ(response.body.substr(0, 10), "aaaaaaaaaa");
}

TEST_F(HttpServerTest, TellsWhenTheClientLeaves) {
  start();
  RawHttp client(port());
  client.get("/stream");
  started_.acquire();
  client.close();
  EXPECT_TRUE(gone_.try_acquire_for(kTestPatience));
}

// What comes behind a request is not read before its time, and must not hide that the client goes.
TEST_F(HttpServerTest, TellsWhenAClientLeavesThatHasSentMore) {
  start();
  for (const char* more : {"\r\n", "GET /hello HTTP/1.1\r\n\r\n"}) {
    RawHttp client(port());
    client.send(std::string("GET /stream HTTP/1.1\r\n\r\n") + more);
    started_.acquire();
    client.close();
    EXPECT_TRUE(gone_.try_acquire_for(kTestPatience));
  }
}

TEST_F(HttpServerTest, TellsTheStatusOfEveryAnswer) {
  HttpServerOptions options;
  options.max_connections = 1;
  std::mutex mutex;
  std::vector<int> statuses;
  options.on_answer = [&](int status) {
    const std::scoped_lock lock(mutex);
    statuses.push_back(status);
  };
  start(options);
  {
    RawHttp client(port());
    client.get("/hello");
    EXPECT_EQ(client.read().status, 200);
    RawHttp surplus(port());
    EXPECT_EQ(surplus.read().status, 503);
    client.get("/nowhere");
    EXPECT_EQ(client.read().status, 404);
    client.send("nonsense\r\n\r\n");
    EXPECT_EQ(client.read().status, 400);
  }
  const std::scoped_lock lock(mutex);
  EXPECT_EQ(statuses, (std::vector<int>{200, 503, 404, 400}));
}

TEST_F(HttpServerTest, ASlowReaderStopsItsOwnStreamOnlyAndIsEnded) {
  HttpServerOptions options;
  options.write_time = std::chrono::seconds(2);
  body_ = std::make_shared<CountedBody>(1 << 20, 1 << 20);
  body_->allow(1 << 20);
  start(options);
  RawHttp client(port(), 4096);
  client.get("/stream");
  started_.acquire();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(http_get(port(), "/hello").status, 200);
  EXPECT_TRUE(gone_.try_acquire_for(kTestPatience));
  EXPECT_LT(body_->num_taken(), 64);  // megabytes; the socket's buffers hold a few
}

TEST_F(HttpServerTest, DrainsByClosingAfterEachAnswer) {
  start();
  RawHttp idle(port());
  idle.get("/hello");
  EXPECT_EQ(idle.read().status, 200);
  RawHttp busy(port());
  busy.get("/stream");
  started_.acquire();
  server_->begin_drain();
  EXPECT_TRUE(idle.wait_for_close());
  EXPECT_EQ(http_get(port(), "/hello").headers.at("connection"), "close");
  body_->allow(3);
  for (int i = 0; i < 3; ++i) wake();
  const RawResponse whole = busy.read();
  EXPECT_TRUE(whole.is_whole);
  EXPECT_EQ(whole.body.size(), 30u);
  EXPECT_TRUE(busy.wait_for_close());
}

TEST_F(HttpServerTest, ShutdownEndsWhatIsLeft) {
  start();
  RawHttp client(port());
  client.get("/stream");
  started_.acquire();
  server_->shutdown(std::chrono::milliseconds(50));
  EXPECT_TRUE(gone_.try_acquire_for(kTestPatience));
  EXPECT_TRUE(client.wait_for_close());
  wake();  // of an exchange that outlives its server
}

TEST_F(HttpServerTest, SaysWhyItCannotListen) {
  start();
  HttpServerOptions options;
  options.address = "127.0.0.1:" + std::to_string(port());
  const auto busy = HttpServer::start(options, router_);
  ASSERT_FALSE(busy);
  EXPECT_THAT(busy.error().message, HasSubstr("in use"));
  options.address = "127.0.0.1";
  EXPECT_EQ(HttpServer::start(options, router_).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace sluice::server
