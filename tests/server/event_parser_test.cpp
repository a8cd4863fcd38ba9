#include "server/http/event_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice::server {
namespace {

using ::testing::ElementsAre;

struct Parsed {
  std::vector<std::string> events;
  bool is_whole = false;
  bool is_error = false;
  int status = 0;
  std::string body;
  bool ends_well = false;
};

// In pieces of `piece` bytes.
Parsed parse(const std::string& bytes, size_t piece) {
  EventParser parser;
  Parsed parsed;
  for (size_t at = 0; at < bytes.size(); at += piece) {
    const auto fed = parser.feed(std::string_view(bytes).substr(at, piece),
                                 [&](std::string_view data) { parsed.events.emplace_back(data); });
    if (!fed) {
      parsed.is_error = true;
      return parsed;
    }
    parsed.is_whole = *fed;
  }
  parsed.status = parser.status();
  parsed.body = parser.body();
  parsed.ends_well = parser.end();
  return parsed;
}

constexpr const char* kChunked =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    "Transfer-Encoding: chunked\r\n\r\n"
    "9\r\ndata: a\n\n\r\n0000000b\r\n: ping\n\ndat\r\n7\r\na: bc\n\n\r\n0\r\n\r\n";

TEST(EventParser, ReadsEventsHoweverTheirBytesCome) {
  const std::string bytes = kChunked;
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    const Parsed parsed = parse(bytes, piece);
    EXPECT_THAT(parsed.events, ElementsAre("a", "bc")) << piece;
    EXPECT_TRUE(parsed.is_whole) << piece;
    EXPECT_EQ(parsed.status, 200);
  }
}

// As other servers write them: CR LF, names and ids, comments, data in several lines or none.
TEST(EventParser, ReadsEventsOfAnyServer) {
  const std::string bytes =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
      ": hello\r\n\r\nevent: token\r\nid: 7\r\ndata: {\"a\": 1}\r\n\r\n"
      "retry: 9\n\ndata:first\ndata: second\n\nid: 8\n\ndata\n\ndata:\r\n\r\ndatas: x\n\n"
      "data: not whole\n";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    const Parsed parsed = parse(bytes, piece);
    EXPECT_THAT(parsed.events, ElementsAre(R"({"a": 1})", "first\nsecond", "")) << piece;
  }
}

TEST(EventParser, AStreamThatBreaksIsNotWhole) {
  const std::string bytes = kChunked;
  for (size_t size = 1; size < bytes.size(); ++size) {
    const Parsed parsed = parse(bytes.substr(0, size), 7);
    EXPECT_FALSE(parsed.is_whole) << size;
    EXPECT_FALSE(parsed.ends_well) << size;
  }
}

TEST(EventParser, ReadsBodiesByLengthAndUntilTheEnd) {
  const Parsed counted = parse("HTTP/1.1 429 Too Many\r\nContent-Length: 3\r\n\r\nabc", 2);
  EXPECT_TRUE(counted.is_whole);
  EXPECT_EQ(counted.status, 429);
  EXPECT_EQ(counted.body, "abc");
  const Parsed open =
      parse("HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata:x\n\n", 5);
  EXPECT_FALSE(open.is_whole);
  EXPECT_TRUE(open.ends_well);
  EXPECT_THAT(open.events, ElementsAre("x"));
  EXPECT_TRUE(
      parse("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n", 9)
          .is_whole);
}

TEST(EventParser, RefusesWhatIsNotHttpOrTooLarge) {
  EXPECT_TRUE(parse("SSH-2.0-x\r\n\r\n", 99).is_error);
  EXPECT_TRUE(parse("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 99).is_error);
  EXPECT_TRUE(parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 99).is_error);
  EXPECT_TRUE(parse("HTTP/1.1 200 OK\r\nA: " + std::string(100'000, 'x'), 4096).is_error);
  // What follows a chunk, and what follows the last one.
  const std::string chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_TRUE(parse(chunked + "1\r\na" + std::string(2000, 'x'), 99).is_error);
  EXPECT_TRUE(parse(chunked + "0\r\n" + std::string(2000, 'x'), 99).is_error);
}

}  // namespace
}  // namespace sluice::server
