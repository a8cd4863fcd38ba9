// Requests as bytes: what is not UTF-8, not protobuf, or from a newer client.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/server/fake_service.h"
#include "tests/server/loopback.h"
#include "tests/server/raw_call.h"

namespace sluice::server {
namespace {

using ::testing::HasSubstr;

struct Text {
  const char* name;
  std::string bytes;
  int invalid_at;  // -1: UTF-8
};

TEST(Wire, TextThatIsNotUtf8IsInvalidByFieldAndPosition) {
  const std::vector<Text> texts = {
      {"lone continuation", "a\x80", 1},
      {"truncated character", "ab\xE4\xBA", 2},
      {"overlong slash", "\xC0\xAF", 0},
      {"overlong three bytes", "\xE0\x80\xAF", 0},
      {"surrogate", "x\xED\xA0\x80", 1},
      {"above U+10FFFF", "\xF4\x90\x80\x80", 0},
      {"byte that never occurs", "ok\xFF", 2},
      {"NUL", std::string("a\0b", 3), -1},
      {"BOM", "\xEF\xBB\xBFtext", -1},
      {"bidi control", "\xE2\x80\xAEtext", -1},
      {"last code point", "\xF4\x8F\xBF\xBF", -1},
      {"Chinese", "人工智能", -1},
  };
  FakeService service;
  Loopback loopback(service);
  for (const Text& text : texts) {
    SCOPED_TRACE(text.name);
    const std::vector<std::tuple<std::string, std::string, int>> fields = {
        {"Generate", "model", 1}, {"Generate", "request_id", 2}, {"Generate", "prompt", 3},
        {"Tokenize", "text", 2},  {"Detokenize", "model", 1},    {"GetModel", "model", 1}};
    for (const auto& [method, field, number] : fields) {
      const grpc::Status status = call_raw(loopback, method, string_field(number, text.bytes));
      if (text.invalid_at < 0) {
        EXPECT_NE(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
        EXPECT_NE(status.error_code(), grpc::StatusCode::INTERNAL);
        continue;
      }
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
      EXPECT_EQ(status.error_message(), field + " is not UTF-8: byte " +
                                            std::to_string(text.invalid_at) +
                                            " starts no character");
    }
  }
}

TEST(Wire, AStopStringThatIsNotUtf8IsNamedToo) {
  FakeService service;
  Loopback loopback(service);
  // Field 17 takes a two-byte tag.
  const std::string bytes = string_field(3, "prompt") + "\x8A\x01\x03" + "ab\xFF";
  const grpc::Status status = call_raw(loopback, "Generate", bytes);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "stop is not UTF-8: byte 2 starts no character");
  EXPECT_EQ(service.num_calls(), 0u);
}

TEST(Wire, BytesThatAreNoMessageAreRefused) {
  FakeService service;
  Loopback loopback(service);
  const std::vector<std::string> cases = {
      std::string("\x1A\x7F") + "short",        // length beyond the end
      std::string("\x1A\xFF\xFF\xFF\xFF\x0F"),  // length 2^32 - 1
      std::string("\x1A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"),
      std::string(1, '\x00'),       // field 0
      std::string(1, '\x28'),       // a varint that is not there
      std::string(200, '\x0B'),     // groups, 200 deep, none ended
      std::string("\x0F\x01\x02"),  // wire type 7
      string_field(3, "prompt") + '\xFF',
  };
  for (const std::string& bytes : cases) {
    const grpc::Status status = call_raw(loopback, "Generate", bytes);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL) << ::testing::PrintToString(bytes);
    EXPECT_EQ(status.error_message(), "request is not a sluice.v1.GenerateRequest message");
  }
  EXPECT_EQ(service.num_calls(), 0u);
}

TEST(Wire, RandomBytesNeverEndTheServer) {
  FakeService service;
  Loopback loopback(service);
  for (uint32_t seed = 0; seed < 500; ++seed) {
    std::mt19937 random(seed);
    std::string bytes(random() % 64, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    call_raw(loopback, seed % 2 == 0 ? "Generate" : "Tokenize", bytes);
  }
  EXPECT_TRUE(generate(loopback.stub(), prompt_request()).status.ok());
}

TEST(Wire, FieldsOfANewerClientAreIgnored) {
  FakeService service;
  Loopback loopback(service);
  const std::string unknown = "\xC2\x3E\x03new" + std::string("\xC8\x3E\x01");  // fields 1000, 1001
  EXPECT_TRUE(call_raw(loopback, "Generate", string_field(3, "prompt") + unknown).ok());
  EXPECT_EQ(service.wait_for_call()->request().prompt, "prompt");
}

TEST(Wire, TokenIdsMayBePackedOrNot) {
  FakeService service;
  Loopback loopback(service);
  ASSERT_TRUE(call_raw(loopback, "Generate", std::string("\x22\x03\x01\x02\x03")).ok());
  ASSERT_TRUE(call_raw(loopback, "Generate", std::string("\x20\x01\x20\x02\x20\x03")).ok());
  const std::vector<int64_t> expected = {1, 2, 3};
  EXPECT_EQ(service.wait_for_call(0)->request().token_ids, expected);
  EXPECT_EQ(service.wait_for_call(1)->request().token_ids, expected);
}

TEST(Wire, UnknownMethodsAreUnimplemented) {
  FakeService service;
  Loopback loopback(service);
  EXPECT_EQ(call_raw(loopback, "Abort", "").error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

}  // namespace
}  // namespace sluice::server
