// Bad input over HTTP that no table row can say: bytes, heads, bodies, connections.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/json.h"
#include "tests/server/bad_input.h"
#include "tests/server/raw_http.h"

namespace sluice::server {
namespace {

using ::testing::HasSubstr;

constexpr const char* kCompletions = "/v1/completions";
constexpr const char* kChat = "/v1/chat/completions";

class BadHttp : public BadInput {
 protected:
  static void expect_refused(const std::string& name, const RawResponse& response, int status,
                             const std::string& words = "") {
    SCOPED_TRACE(name);
    EXPECT_EQ(response.status, status) << response.body;
    const Json json = response.json();
    ASSERT_TRUE(json.is_object() && json.contains("error")) << response.body;
    const std::string message = json["error"]["message"];
    EXPECT_THAT(message, HasSubstr(words));
    EXPECT_LE(message.size(), 400u);
  }
  // A body that is refused.
  static void refuse(const std::string& name, const std::string& body, int status,
                     const std::string& words = "", const char* path = kCompletions) {
    beside_a_neighbour("HTTP: " + name, [&] {
      expect_refused(name, http_post(http_->port(), path, body), status, words);
    });
  }
  static void serve(const std::string& name, const std::string& body,
                    const char* path = kCompletions) {
    beside_a_neighbour("HTTP: " + name, [&] {
      const RawResponse response = http_post(http_->port(), path, body);
      EXPECT_EQ(response.status, 200) << response.body;
    });
  }
  // Bytes that are refused, or at which the server just closes.
  static void send_bytes(const std::string& name, const std::string& bytes,
                         const std::vector<int>& statuses) {
    beside_a_neighbour("HTTP: " + name, [&] {
      RawHttp client(http_->port());
      client.send(bytes);
      EXPECT_THAT(statuses, ::testing::Contains(client.read().status));
    });
  }
};

TEST_F(BadHttp, BodiesThatAreNoJsonOrNotOurs) {
  const std::string good = R"("prompt": "a", "max_tokens": 2)";
  refuse("an empty body", "", 400, "JSON");
  refuse("half an object", "{" + good, 400, "not valid JSON");
  refuse("an object and more", "{" + good + "} {}", 400, "not valid JSON");
  refuse("a list", "[]", 400, "object");
  refuse("null", "null", 400, "object");
  refuse("a key twice", R"({"prompt": "a", "prompt": "b"})", 400, "twice");
  refuse("a key twice, once escaped", R"({"prompt": "a", "pr\u006fmpt": "b"})", 400, "twice");
  refuse("an unknown key", "{" + good + R"(, "temprature": 1})", 400, "temprature");
  refuse("a key of 1 MB", "{" + good + ", \"" + std::string(1 << 20, 'k') + "\": 1}", 400,
         "unknown field");
  refuse("1e999", "{" + good + R"(, "temperature": 1e999})", 400, "not valid JSON");
  refuse("NaN", "{" + good + R"(, "temperature": NaN})", 400, "not valid JSON");
  refuse("a hexadecimal number", R"({"prompt": "a", "max_tokens": 0x10})", 400, "not valid JSON");
  refuse("a number that is text", R"({"prompt": "a", "max_tokens": "16"})", 400, "max_tokens");
  refuse("a fraction of a token", R"({"prompt": "a", "max_tokens": 1.5})", 400, "max_tokens");
  refuse("2^64 tokens", R"({"prompt": "a", "max_tokens": 18446744073709551616})", 400,
         "max_tokens");
  refuse("a flag that is a number", "{" + good + R"(, "stream": 1})", 400, "stream");
  refuse("a prompt that is an object", R"({"prompt": {}})", 400, "prompt");
  refuse("a prompt of mixed kinds", R"({"prompt": ["a", 1]})", 400, "prompt");
  refuse("129 prompts", R"({"prompt": )" + Json(std::vector<std::string>(129, "a")).dump() + "}",
         400, "128");
  for (const size_t depth : {100, 10'000, 1'000'000}) {
    refuse(std::to_string(depth) + " deep",
           R"({"prompt": )" + std::string(depth, '[') + std::string(depth, ']') + "}", 400,
           "nested");
    refuse(std::to_string(depth) + " deep and open", R"({"prompt": )" + std::string(depth, '['),
           400);
  }
  for (const char* name : {"best_of", "guided_json", "suffix", "prompt_logprobs"}) {
    refuse(name, "{" + good + ", \"" + name + "\": 3}", 501, name);
  }
  refuse("another format", "{" + good + R"(, "response_format": {"type": "json_object"}})", 501,
         "response_format");
  const std::string chat = R"("messages": [{"role": "user", "content": "a"}], "max_tokens": 2)";
  refuse("a tool that must be called", "{" + chat + R"(, "tool_choice": "required"})", 501,
         "tool_choice", kChat);
  refuse("a prompt in a chat", "{" + chat + R"(, "prompt": "a"})", 400, "prompt", kChat);
  for (const char* count : {"-1", "21", "1000000"}) {
    refuse(std::string("top_logprobs ") + count,
           "{" + chat + R"(, "logprobs": true, "top_logprobs": )" + count + "}", 400,
           "top_logprobs", kChat);
  }
  serve("a byte order mark", "\xEF\xBB\xBF{" + good + "}");
  serve("a null is absent", "{" + good + R"(, "temperature": null, "stop": null})");
}

TEST_F(BadHttp, TextThatIsNotUtf8) {
  for (const char* text : {"a\x80", "\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80", "\xFF",
                           "\xF4\x90\x80\x80", "\xE4\xBA"}) {
    refuse("prompt " + ::testing::PrintToString(text),
           std::string(R"({"prompt": ")") + text + "\"}", 400);
    refuse("message " + ::testing::PrintToString(text),
           std::string(R"({"messages": [{"role": "user", "content": ")") + text + "\"}]}", 400, "",
           kChat);
    refuse("key " + ::testing::PrintToString(text),
           std::string(R"({"prompt": "a", ")") + text + "\": 1}", 400);
  }
  refuse("a lone surrogate", R"({"prompt": "\ud800"})", 400, "not valid JSON");
  refuse("surrogates in the wrong order", R"({"prompt": "\udc00\ud800"})", 400, "not valid JSON");
  refuse("a raw NUL", std::string("{\"prompt\": \"a\0b\"}", 17), 400, "not valid JSON");
  serve("an escaped NUL", R"({"prompt": "a\u0000b", "max_tokens": 2})");
  serve("a surrogate pair", R"({"prompt": "\ud83d\ude00", "max_tokens": 2})");
  std::string marks;
  for (int i = 0; i < 1'000'000; ++i) marks += "\xCC\x81";
  refuse("a million combining marks", R"({"prompt": ")" + marks + "\"}", 400, "1048576");
}

TEST_F(BadHttp, BodiesOverTheirLimit) {
  refuse("one byte over the limit", std::string(kMaxMessageBytes + 1, ' '), 413);
  refuse("spaces up to the limit", std::string(kMaxMessageBytes, ' '), 400, "JSON");
  const std::string head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\n";
  const std::string json = head + "Content-Type: application/json\r\n";
  for (const char* size : {"2147483648", "4294967296", "9223372036854775807"}) {
    send_bytes(std::string("a length of ") + size, json + "Content-Length: " + size + "\r\n\r\n",
               {413});
  }
  for (const char* size : {"-1", "18446744073709551616", "1e3", "0x10", "", "1, 2"}) {
    send_bytes(std::string("a length of '") + size + "'",
               json + "Content-Length: " + size + "\r\n\r\n{}", {400, 413});
  }
  send_bytes("two lengths", json + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", {400});
  send_bytes("a length and chunks",
             json + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400});
  const std::string chunked = json + "Transfer-Encoding: chunked\r\n\r\n";
  send_bytes("a chunk of 2^63 bytes", chunked + "8000000000000000\r\n", {400, 413});
  send_bytes("a chunk's size of 100 digits", chunked + std::string(100, 'f') + "\r\n", {400, 413});
  send_bytes("a chunk's size that is none", chunked + "zz\r\n", {400});
  send_bytes("an unknown transfer coding", json + "Transfer-Encoding: gzip\r\n\r\n",
             {400, 411, 415, 501});
  std::string many_chunks = chunked;
  for (int i = 0; i < 100'000; ++i) many_chunks += "1\r\n \r\n";
  send_bytes("100,000 chunks of one blank", many_chunks + "0\r\n\r\n", {400});
  const std::string gzip = "\x1F\x8B\x08";
  send_bytes("a compressed body",
             json + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n" + gzip, {415});
  send_bytes("a plain body that says it is compressed",
             json + "Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}", {415});
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded", "", "json"}) {
    send_bytes(std::string("a body of type '") + type + "'",
               head + "Content-Type: " + type + "\r\nContent-Length: 2\r\n\r\n{}", {415});
  }
}

TEST_F(BadHttp, HeadsThatAreNone) {
  send_bytes("a header over the limit",
             "GET /health HTTP/1.1\r\nHost: x\r\nx: " + std::string(20'000, 'x') + "\r\n\r\n",
             {431});
  std::string many = "GET /health HTTP/1.1\r\nHost: x\r\n";
  for (int i = 0; i < 1'000; ++i) many += "x-key-" + std::to_string(i) + ": v\r\n";
  send_bytes("a thousand headers", many + "\r\n", {200, 431});
  for (int i = 0; i < 3'000; ++i) many += "x-more-" + std::to_string(i) + ": v\r\n";
  send_bytes("four thousand headers", many + "\r\n", {431});
  send_bytes("a target of 1 MB", "GET /" + std::string(1 << 20, 'a') + " HTTP/1.1\r\n\r\n",
             {400, 414, 431});
  const std::vector<std::pair<std::string, std::string>> heads = {
      {"no version", "GET /health\r\n\r\n"},
      {"version 3", "GET /health HTTP/3.0\r\nHost: x\r\n\r\n"},
      {"no target", "GET  HTTP/1.1\r\nHost: x\r\n\r\n"},
      {"a blank before the colon", "GET /health HTTP/1.1\r\nHost : x\r\n\r\n"},
      {"a header without a colon", "GET /health HTTP/1.1\r\nHost\r\n\r\n"},
      {"a NUL in a header", std::string("GET /health HTTP/1.1\r\nHost: a\0b\r\n\r\n", 36)},
      {"a bare LF in a header", "GET /health HTTP/1.1\r\nHost: x\nx: y\r\n\r\n"},
      {"TLS at the plain port",
       "\x16\x03\x01\x02\x05\x01\x01\xfc\x03\x03"
       "\r\n\r\n"},
      {"HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}};
  for (const auto& [name, head] : heads) send_bytes(name, head, {0, 400, 505});
  for (const char* path :
       {"/v1/models/../../etc/passwd", "/v1/models/%2e%2e%2fetc", "/v1/models/%00",
        "/v1/models/nobody", "/v1/%ff", "/v1/completions/", "/v1//completions"}) {
    send_bytes(path, std::string("GET ") + path + " HTTP/1.1\r\nHost: x\r\n\r\n", {400, 404});
  }
  send_bytes("an incomplete escape", "GET /v1/%4 HTTP/1.1\r\nHost: x\r\n\r\n", {400, 404});
  send_bytes("a method that there is not", "BREW /health HTTP/1.1\r\nHost: x\r\n\r\n", {405});
  send_bytes("a malformed traceparent is ignored",
             "GET /health HTTP/1.1\r\nHost: x\r\ntraceparent: 00-zz-zz-1\r\n\r\n", {200});
}

TEST_F(BadHttp, RandomBytes) {
  std::mt19937 draw(20);
  for (int i = 0; i < 30; ++i) {
    std::string bytes(draw() % 400, '\0');
    for (char& c : bytes) c = static_cast<char>(draw());
    const std::string body = bytes;
    refuse("random body " + std::to_string(i), body, 400);
    send_bytes("random head " + std::to_string(i), bytes + "\r\n\r\n", {0, 400, 431, 505});
  }
}

TEST_F(BadHttp, ClientsThatGoAway) {
  const std::string body =
      R"({"prompt": "A long", "max_tokens": 200, "ignore_eos": true, "stream": true})";
  for (int num_events = 0; num_events < 8; ++num_events) {
    beside_a_neighbour("HTTP: cut after " + std::to_string(num_events) + " events", [&] {
      RawHttp client(http_->port());
      client.post(kCompletions, body);
      for (int i = 0; i < num_events; ++i) client.read_until("\n\n");
    });
  }
  const std::string request =
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
      "Content-Type: application/json\r\nContent-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body;
  for (size_t cut = 1; cut < request.size(); cut += 17) {
    beside_a_neighbour("HTTP: cut after " + std::to_string(cut) + " bytes", [&] {
      RawHttp client(http_->port());
      client.send(request.substr(0, cut));
    });
  }
}

TEST_F(BadHttp, AnIdThatIsAlive) {
  beside_a_neighbour("HTTP: a live request id again", [&] {
    const auto body = [](int max_tokens) {
      return R"({"prompt": "A long", "ignore_eos": true, "stream": true, "max_tokens": )" +
             std::to_string(max_tokens) + "}";
    };
    RawHttp elder(http_->port());
    elder.post(kCompletions, body(400), "x-request-id: twice\r\n");
    ASSERT_TRUE(elder.read_until("data: "));
    RawHttp younger(http_->port());
    younger.post(kCompletions, body(1), "x-request-id: twice\r\n");
    expect_refused("twice", younger.read(), 409);
    ASSERT_TRUE(elder.read_until("[DONE]"));
    younger.post(kCompletions, body(1), "x-request-id: twice\r\n");
    EXPECT_EQ(younger.read().status, 200) << "free again after its end";
  });
}

}  // namespace
}  // namespace sluice::server
