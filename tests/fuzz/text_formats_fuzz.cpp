// The small formats: an input's first byte says which of them the rest is (see kReaders).
#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "base/utf8.h"
#include "cli/address.h"
#include "cli/parse.h"
#include "cli/request_fields.h"
#include "cli/request_source.h"
#include "server/access/api_keys.h"
#include "server/header_value.h"
#include "server/http/event_parser.h"
#include "server/http/http_text.h"
#include "server/listen_address.h"
#include "server/log/trace_context.h"
#include "tests/fuzz/driver.h"

namespace sluice::fuzz {

std::span<const std::string_view> dictionary() {
  static constexpr std::array<std::string_view, 50> kWords = {
      "requests_per_minute=", "tokens_per_minute=", "concurrent_requests=",
      // SHA-256 of "k"
      "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a", "PRIVATE", "\n", "#", " ",
      "\t", "-01", "00000000000000000000000000000000", "ff-", "0123456789abcdef", "[::1]",
      "127.0.0.1", "localhost", ":65535", ":65536", "HTTP/1.1 200 OK\r\n",
      "HTTP/1.1 100 Continue\r\n\r\n", "Content-Type: text/event-stream\r\n",
      "Transfer-Encoding: chunked\r\n", "Content-Length: ", "\r\n\r\n", "\r\n", "data: {}\n\n",
      "data: [DONE]\n\n", "ffffffffffffffff", "0\r\n\r\n", "\n\n", R"("prompt": "PRIVATE")",
      R"("messages": [{"role": "user", "content": "PRIVATE"}])", R"("max_tokens": 1)",
      R"("maxtokens": 1)", R"("seed": 18446744073709551615)",
      R"("logit_bias": [{"token_id": 1, "bias": 2}])", R"("index": 1)", R"("completion": 1)",
      R"("error": "x")", "{\"index\": 2}\n", "null", "1e300h", "KiB", "ms", "nan", "=-inf", "%2F",
      "%0a", "http://a/", "?"};
  return kWords;
}

namespace {

bool is_printable(char c) {
  return c > 0x20 && c < 0x7F;
}

// What the command line or the log says of a text.
void require_reason(const Error& error) {
  require(!error.message.empty() && error.message.size() < 600, "a refusal says why, in short");
  require(std::ranges::all_of(error.message, [](char c) { return is_printable(c) || c == ' '; }),
          "a refusal is printable");
}

bool has_hash(const std::string& text, const std::string& hash) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::string word;
    std::istringstream(line) >> word;
    std::ranges::transform(word, word.begin(), [](unsigned char c) { return std::tolower(c); });
    if (word == hash) return true;
  }
  return false;
}

void read_keys(const std::string& text) {
  static const std::string kHash = sha256_hex("k");
  const auto keys = server::KeySet::parse(text);
  if (!keys) {
    require_reason(keys.error());
    require(keys.error().message.find("PRIVATE") == std::string::npos &&
                keys.error().message.find(kHash.substr(0, 8)) == std::string::npos,
            "no name and no hash is quoted");
    return;
  }
  require(keys->size() >= 1 && keys->size() <= server::KeySet::kMaxKeys, "there are some keys");
  require(keys->find("") == nullptr && keys->find(kHash) == nullptr, "a hash is no key");
  const server::Client* client = keys->find("k");
  require((client != nullptr) == has_hash(text, kHash), "a key in the file is found, no other is");
  if (client == nullptr) return;
  require(keys->limits_of(client->name) == client->limits, "a client has its limits");
  for (const auto& limit : {client->limits.requests_per_minute, client->limits.tokens_per_minute,
                            client->limits.concurrent_requests}) {
    require(!limit || (*limit >= 1 && *limit <= 1'000'000'000'000), "a limit is in its range");
  }
}

void read_trace(const std::string& text) {
  const std::string shape = "xx-" + std::string(32, 'x') + '-' + std::string(16, 'x') + "-xx";
  bool is_right = text.size() >= shape.size();
  for (size_t i = 0; is_right && i < shape.size(); ++i) {
    is_right =
        shape[i] == 'x' ? std::string_view("0123456789abcdef").contains(text[i]) : text[i] == '-';
  }
  const std::string trace = is_right ? text.substr(3, 32) : "";
  if (is_right) {
    const bool is_later = text.size() > shape.size();
    is_right = !text.starts_with("ff") && trace != std::string(32, '0') &&
               text.substr(36, 16) != std::string(16, '0') &&
               (!is_later || (text[shape.size()] == '-' && !text.starts_with("00")));
  }
  require(server::read_traceparent(text).trace_id == (is_right ? trace : ""),
          "a trace id is the standard's");
}

void write_header(const std::string& text) {
  const std::string value = server::header_value(text);
  require(std::ranges::all_of(value, is_printable), "a header is printable");
  std::string decoded;
  for (size_t i = 0; i < value.size(); ++i) {
    const bool is_coded = value[i] == '%';
    decoded +=
        is_coded ? static_cast<char>(std::stoi(value.substr(i + 1, 2), nullptr, 16)) : value[i];
    if (is_coded) i += 2;
  }
  require(decoded == text, "a header says what the text says");
}

void read_addresses(const std::string& text) {
  if (const auto address = server::parse_listen_address(text)) {
    const int port = std::stoi(address->port);
    require(!address->host.empty() && port >= 0 && port <= 65535, "an address has both parts");
    const auto again = server::parse_listen_address("[" + address->host + "]:" + address->port);
    require(again && again->host == address->host && again->port == address->port,
            "an address is read as it was");
  } else {
    require_reason(address.error());
  }
  if (const auto address = cli::parse_host_port(text)) {
    const auto again = cli::parse_host_port(address->host + ":" + std::to_string(address->port));
    require(again && again->host == address->host && again->port == address->port,
            "an address is read as it was");
    cli::is_loopback(address->host);
  } else {
    require_reason(address.error());
  }
}

struct Answer {
  std::vector<std::string> events;
  std::string body;
  int status = 0;
  bool is_done = false;
  bool is_refused = false;

  bool operator==(const Answer&) const = default;
};

// The bytes as they come, `piece_bytes` at a time.
Answer read_answer(std::string_view bytes, size_t piece_bytes) {
  server::EventParser parser;
  Answer answer;
  while (!bytes.empty() && !answer.is_refused) {
    const auto fed = parser.feed(bytes.substr(0, piece_bytes), [&](std::string_view event) {
      answer.events.emplace_back(event);
    });
    bytes.remove_prefix(std::min(piece_bytes, bytes.size()));
    answer.is_refused = !fed;
    answer.is_done = fed && *fed;
    if (!fed) require_reason(fed.error());
  }
  answer.body = parser.body();
  answer.status = parser.status();
  return answer;
}

void read_events(const std::string& text) {
  const Answer whole = read_answer(text, std::max<size_t>(1, text.size()));
  size_t num_bytes = whole.body.size();
  for (const std::string& event : whole.events) num_bytes += event.size();
  require(num_bytes <= text.size(), "nothing is made up");
  for (const size_t piece_bytes : {1, 7}) {
    require(read_answer(text, piece_bytes) == whole, "pieces are read as the whole is");
  }
}

void read_line(const std::string& text) {
  GenerateRequest defaults;
  defaults.top_k = 7;
  const auto request = cli::request_from_json(text, defaults);
  if (!request) {
    require(!request.error().message.empty() &&
                find_ill_formed_utf8(request.error().message) == std::string::npos,
            "a refusal says why");
    require(request.error().message.starts_with("unknown field ") ||
                request.error().message.find("PRIVATE") == std::string::npos,
            "a refusal does not show the request's texts");
    return;
  }
  const Json json = *parse_json(text);
  const auto is_same = [&](const auto& value, const char* name, const Json& absent = {}) {
    const Json said = json.value(name, Json());
    return (value ? Json(*value) : Json()) == (said.is_null() ? absent : said);
  };
  require(is_same(request->prompt, "prompt") && is_same(request->max_tokens, "max_tokens") &&
              is_same(request->seed, "seed") && is_same(request->token_ids, "token_ids") &&
              is_same(request->top_k, "top_k", 7),
          "a field has its value");
  if (!cli::has_messages(*request)) return;
  require(*parse_json(request->chat->messages) == json["messages"], "messages are as they came");
}

void read_output(const std::string& text) {
  const std::vector<int32_t> lines_per_request = {1, 0, 2, 1};
  std::istringstream output(text);
  const auto point = cli::find_resume_point(output, lines_per_request);
  if (!point) return require_reason(point.error());
  require(point->keep_bytes >= 0 && point->keep_bytes <= std::ssize(text) &&
              point->next_index >= 0 && point->next_index <= std::ssize(lines_per_request),
          "the point lies in the file");
  std::istringstream kept(text.substr(0, static_cast<size_t>(point->keep_bytes)));
  const auto again = cli::find_resume_point(kept, lines_per_request);
  require(again && again->next_index == point->next_index && again->keep_bytes == point->keep_bytes,
          "what is kept is all that is kept");
}

template <typename T>
void require_quote(const Result<T>& result) {
  if (result) return;
  require(result.error().message.starts_with('"'), "a refusal begins with the text");
  require_reason(result.error());
}

void read_values(const std::string& text) {
  const auto whole = cli::parse_int64(text);
  require_quote(whole);
  if (whole) require(cli::parse_int64(std::to_string(*whole)) == *whole, "a number is a number");
  const auto natural = cli::parse_uint64(text);
  require_quote(natural);
  require(!whole || text.starts_with('-') || natural.has_value(), "what is whole is natural");
  require_quote(cli::parse_double(text));
  require_quote(cli::parse_bool(text));
  require_quote(cli::parse_int64_list(text));
  require_quote(cli::parse_logit_bias(text));
  const auto duration = cli::parse_duration(text);
  require_quote(duration);
  require(!duration || duration->count() >= 0, "a duration is not negative");
  const auto bytes = cli::parse_bytes(text);
  require_quote(bytes);
  require(!bytes || *bytes >= 0, "a size is not negative");
  const std::string meant = cli::nearest(text, {"max_tokens", "min_tokens"});
  require(meant.empty() || meant.ends_with("_tokens"), "what is meant is known");
}

void read_target(const std::string& text) {
  const auto request = server::make_request(text);
  if (!request) return;
  require(request->path == "*" || request->path.starts_with('/'), "a path begins at the root");
  const size_t question = text.find('?');
  require(question == std::string::npos ? request->query.empty() : text.ends_with(request->query),
          "a query is as it came");
}

struct Reader {
  char letter;
  void (*read)(const std::string&);
};
constexpr std::array kReaders = std::to_array<Reader>({{'k', read_keys},
                                                       {'t', read_trace},
                                                       {'h', write_header},
                                                       {'a', read_addresses},
                                                       {'e', read_events},
                                                       {'l', read_line},
                                                       {'o', read_output},
                                                       {'v', read_values},
                                                       {'u', read_target}});

}  // namespace
}  // namespace sluice::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(sluice::fuzz::as_text(data + 1, size - 1));
  for (const auto& [letter, read] : sluice::fuzz::kReaders) {
    if (letter == static_cast<char>(data[0])) read(text);
  }
  return 0;
}
