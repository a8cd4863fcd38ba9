#include "server/http/event_parser.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "server/http/http_text.h"

namespace sluice::server {
namespace {

constexpr size_t kMaxHeadBytes = 64 << 10;
constexpr size_t kMaxLineBytes = 1 << 10;
constexpr size_t kMaxBodyBytes = 1 << 20;
constexpr std::string_view kHeadEnd = "\r\n\r\n";

// Moves bytes from `bytes` to the end of `line` until it ends with `end`. True once it does.
bool read_until(std::string_view end, std::string_view* bytes, std::string* line) {
  const size_t before = line->size();
  const size_t overlap = std::min(before, end.size() - 1);
  line->append(*bytes);
  const size_t found = line->find(end, before - overlap);
  if (found == std::string::npos) {
    *bytes = {};
    return false;
  }
  const size_t taken = found + end.size() - before;
  line->resize(found + end.size());
  bytes->remove_prefix(taken);
  return true;
}

// What is more than fits is cut off.
void append_bounded(std::string_view bytes, std::string* text) {
  text->append(bytes.substr(0, kMaxBodyBytes - std::min(kMaxBodyBytes, text->size())));
}

// The value of a header in a head; empty if it is absent.
std::string_view find_header(std::string_view head, std::string_view name) {
  size_t at = head.find("\r\n");
  while (at != std::string_view::npos && at + 2 < head.size()) {
    const size_t begin = at + 2;
    const size_t end = head.find("\r\n", begin);
    const std::string_view line = head.substr(begin, end - begin);
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos && equal_ignoring_case(line.substr(0, colon), name)) {
      std::string_view value = line.substr(colon + 1);
      while (value.starts_with(' ')) value.remove_prefix(1);
      return value;
    }
    at = end;
  }
  return {};
}

std::unexpected<Error> not_http() {
  return fail(ErrorCode::kInternal, "the server's answer is not HTTP/1.1, or is too large");
}

}  // namespace

Result<void> EventParser::read_head() {
  const std::string_view head = line_;
  if (!head.starts_with("HTTP/1.") || head.size() < 12) return not_http();
  status_ = 0;
  std::from_chars(head.data() + 9, head.data() + 12, status_);
  is_event_stream_ = find_header(head, "content-type").starts_with("text/event-stream");
  const std::string_view length = find_header(head, "content-length");
  if (equal_ignoring_case(find_header(head, "transfer-encoding"), "chunked")) {
    state_ = State::kChunkSize;
  } else if (!length.empty()) {
    const auto parsed = std::from_chars(length.data(), length.data() + length.size(), left_);
    if (parsed.ec != std::errc()) return not_http();
    state_ = left_ == 0 ? State::kDone : State::kCounted;
  } else {
    state_ = State::kUntilClose;
  }
  if (status_ == 100) state_ = State::kHead;
  line_.clear();
  return {};
}

Result<void> EventParser::read_chunk_size() {
  const auto parsed = std::from_chars(line_.data(), line_.data() + line_.size(), left_, 16);
  if (parsed.ec != std::errc()) return not_http();
  line_.clear();
  state_ = State::kChunk;
  return {};
}

void EventParser::take(std::string_view payload, const OnEvent& on_event) {
  if (!is_event_stream_) {
    return append_bounded(payload, &body_);
  }
  while (!payload.empty()) {
    const size_t end = payload.find('\n');
    append_bounded(payload.substr(0, end), &event_line_);
    if (end == std::string_view::npos) return;
    payload.remove_prefix(end + 1);
    end_line(on_event);
  }
}

void EventParser::end_line(const OnEvent& on_event) {
  std::string_view line = event_line_;
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) {
    if (has_data_) on_event(data_);
    has_data_ = false;
    data_.clear();
  } else if (line.starts_with("data:")) {
    line.remove_prefix(5);
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (std::exchange(has_data_, true)) append_bounded("\n", &data_);
    append_bounded(line, &data_);
  }
  event_line_.clear();
}

Result<bool> EventParser::feed(std::string_view bytes, const OnEvent& on_event) {
  while (!bytes.empty() && state_ != State::kDone) {
    switch (state_) {
      case State::kHead: {
        const bool is_whole = read_until(kHeadEnd, &bytes, &line_);
        if (line_.size() > kMaxHeadBytes) return not_http();
        if (!is_whole) break;
        if (auto read = read_head(); !read) return std::unexpected(read.error());
        break;
      }
      case State::kChunkSize: {
        const bool is_whole = read_until("\r\n", &bytes, &line_);
        if (line_.size() > kMaxLineBytes) return not_http();
        if (!is_whole) break;
        if (auto read = read_chunk_size(); !read) return std::unexpected(read.error());
        if (left_ == 0) state_ = State::kChunkEnd;
        break;
      }
      case State::kChunk:
      case State::kCounted: {
        const std::string_view payload = bytes.substr(0, left_);
        bytes.remove_prefix(payload.size());
        left_ -= payload.size();
        take(payload, on_event);
        if (left_ > 0) break;
        state_ = state_ == State::kCounted ? State::kDone : State::kChunkEnd;
        left_ = 1;  // a chunk with bytes has ended
        break;
      }
      case State::kChunkEnd: {
        const bool is_whole = read_until("\r\n", &bytes, &line_);
        if (line_.size() > kMaxLineBytes) return not_http();
        if (!is_whole) break;
        line_.clear();
        state_ = left_ == 0 ? State::kDone : State::kChunkSize;
        break;
      }
      case State::kUntilClose:
        take(bytes, on_event);
        bytes = {};
        break;
      case State::kDone:
        break;
    }
  }
  return state_ == State::kDone;
}

}  // namespace sluice::server
