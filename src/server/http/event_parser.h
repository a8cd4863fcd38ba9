#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "sluice/error.h"

namespace sluice::server {

// Reads one HTTP/1.1 answer as its bytes come: an event stream event by event, anything else as one
// body. For the load client; bounded in head, event and body.
//
// Of events the data counts, not their names and ids. Lines end with LF or CR LF; a CR alone, which
// the standard allows too, ends none.
// Source: WHATWG HTML, section 9.2.6 (html.spec.whatwg.org/multipage/server-sent-events.html).
class EventParser final {
 public:
  using OnEvent = std::function<void(std::string_view data)>;

  // The next bytes of the connection. True once the answer is whole. kInternal: not HTTP, or larger
  // than this reader takes.
  Result<bool> feed(std::string_view bytes, const OnEvent& on_event);
  // The connection has ended: true if that ends the answer.
  bool end() const { return state_ == State::kUntilClose || state_ == State::kDone; }

  int status() const { return status_; }
  // Of an answer that is no event stream.
  const std::string& body() const { return body_; }

 private:
  enum class State : uint8_t { kHead, kChunkSize, kChunk, kChunkEnd, kCounted, kUntilClose, kDone };

  Result<void> read_head();
  Result<void> read_chunk_size();
  void take(std::string_view payload, const OnEvent& on_event);
  void end_line(const OnEvent& on_event);

  State state_ = State::kHead;
  int status_ = 0;
  bool is_event_stream_ = false;
  size_t left_ = 0;   // bytes of the chunk, or of the counted body
  std::string line_;  // head or chunk size, not complete yet
  std::string body_;
  // Of an event stream.
  std::string event_line_;  // not complete yet
  std::string data_;        // of the event that is not complete yet
  bool has_data_ = false;
};

}  // namespace sluice::server
