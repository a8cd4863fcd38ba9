#include "server/http/http_text.h"

#include <algorithm>
#include <array>
#include <ctime>

namespace sluice::server {
namespace {

const char* reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Unknown";
  }
}

// RFC 9110, 5.6.7: "Sun, 06 Nov 1994 08:49:37 GMT".
void append_date(std::string& out) {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 40> text;
  const size_t size = std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  out.append(text.data(), size);
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> decode_percent(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
    if (high < 0 || low < 0) return std::nullopt;
    decoded += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return decoded;
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  const auto found = std::ranges::find_if(
      headers, [&](const HttpHeader& header) { return equal_ignoring_case(header.name, name); });
  return found == headers.end() ? std::string_view() : found->value;
}

std::string http_head(const HttpResponse& response, const HeadInfo& info) {
  std::string head = "HTTP/1.1 " + std::to_string(response.status) + ' ';
  head += reason_phrase(response.status);
  head += "\r\nServer: sluice\r\nDate: ";
  append_date(head);
  if (!response.content_type.empty()) head += "\r\nContent-Type: " + response.content_type;
  if (info.content_length) head += "\r\nContent-Length: " + std::to_string(*info.content_length);
  if (info.is_chunked) head += "\r\nTransfer-Encoding: chunked";
  if (!info.keep_alive) {
    head += "\r\nConnection: close";
  } else if (info.version < 11) {
    head += "\r\nConnection: keep-alive";
  }
  for (const HttpHeader& header : response.headers) {
    head += "\r\n" + header.name + ": " + header.value;
  }
  head += "\r\n\r\n";
  return head;
}

std::optional<HttpRequest> make_request(std::string_view target) {
  // The absolute form, which proxies are sent: only its path matters here.
  if (const size_t scheme = target.find("://");
      !target.starts_with('/') && scheme < target.size()) {
    const size_t path = target.find('/', scheme + 3);
    target = path == std::string_view::npos ? "/" : target.substr(path);
  }
  if (target != "*" && !target.starts_with('/')) return std::nullopt;
  const size_t question = target.find('?');
  std::optional<std::string> path = decode_percent(target.substr(0, question));
  if (!path) return std::nullopt;
  HttpRequest request;
  request.path = *std::move(path);
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
  return request;
}

void write_hex(size_t value, char* digits, size_t num_digits) {
  for (size_t i = num_digits; i-- > 0; value >>= 4) digits[i] = "0123456789abcdef"[value & 15];
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace sluice::server
