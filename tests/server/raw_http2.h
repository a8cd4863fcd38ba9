#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace sluice::server {

// A client that speaks HTTP/2 by hand, for what a well-behaved library never sends.
class RawHttp2 final {
 public:
  explicit RawHttp2(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval patience{.tv_sec = 60, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) {
      throw std::runtime_error("cannot connect");
    }
    write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    write_frame(kSettings, 0, 0, "");
  }
  ~RawHttp2() { disconnect(); }
  RawHttp2(const RawHttp2&) = delete;
  RawHttp2& operator=(const RawHttp2&) = delete;

  enum Type : uint8_t {
    kData = 0,
    kHeaders = 1,
    kReset = 3,
    kSettings = 4,
    kPing = 6,
    kGoAway = 7,
    kWindowUpdate = 8,
    kContinuation = 9
  };
  static constexpr uint8_t kEndStream = 1;
  static constexpr uint8_t kEndHeaders = 4;

  using Fields = std::vector<std::pair<std::string, std::string>>;

  // Opens a stream for a call of `path`; no message yet.
  void open(uint32_t stream, const std::string& path, const Fields& more = {}) {
    std::string block;
    const auto field = [&](const std::string& name, const std::string& value) {
      block += '\0';  // literal, not indexed, new name, no Huffman code
      append_length(name.size(), block);
      block += name;
      append_length(value.size(), block);
      block += value;
    };
    field(":method", "POST");
    field(":scheme", "http");
    field(":path", path);
    field(":authority", "localhost");
    field("te", "trailers");
    field("content-type", "application/grpc");
    for (const auto& [name, value] : more) field(name, value);
    write_frame(kHeaders, kEndHeaders, stream, block);
  }
  // One gRPC message, and the end of the client's half.
  void send_message(uint32_t stream, const std::string& message) {
    write_frame(kData, kEndStream, stream, prefix(message.size()) + message);
  }
  static std::string prefix(size_t size) {
    std::string bytes(5, '\0');
    for (int i = 0; i < 4; ++i)
      bytes[4 - static_cast<size_t>(i)] = static_cast<char>(size >> (8 * i));
    return bytes;
  }
  // Bytes of any kind, after the preface.
  void write_bytes(const std::string& bytes) { write(bytes); }
  // True once the server has said GOAWAY or closed; false if its frames just stop coming.
  bool wait_for_goodbye() {
    Frame frame;
    while (read_frame(frame)) {
      if (frame.type == kGoAway) return true;
    }
    return has_closed_;
  }
  void write_frame(Type type, uint8_t flags, uint32_t stream, const std::string& payload) {
    std::string bytes;
    for (int shift : {16, 8, 0}) bytes += static_cast<char>(payload.size() >> shift);
    bytes += static_cast<char>(type);
    bytes += static_cast<char>(flags);
    for (int shift : {24, 16, 8, 0}) bytes += static_cast<char>(stream >> shift);
    write(bytes + payload);
  }

  struct Frame {
    uint8_t type = 0;
    uint8_t flags = 0;
    uint32_t stream = 0;
    std::string payload;
  };
  // False when the connection has ended.
  bool read_frame(Frame& frame) {
    std::string head;
    if (!read(9, head)) return false;
    const auto byte = [&](size_t i) {
      return static_cast<uint32_t>(static_cast<uint8_t>(head[i]));
    };
    frame.type = static_cast<uint8_t>(byte(3));
    frame.flags = static_cast<uint8_t>(byte(4));
    frame.stream = (byte(5) << 24 | byte(6) << 16 | byte(7) << 8 | byte(8)) & 0x7FFFFFFF;
    return read(byte(0) << 16 | byte(1) << 8 | byte(2), frame.payload);
  }
  // Reads until the stream ends: the grpc-status in its trailers (gRPC writes them without Huffman
  // code), or -1 if the stream or the connection ended without one.
  int read_status(uint32_t stream) {
    Frame frame;
    while (read_frame(frame)) {
      if (frame.type == kReset && frame.stream == stream) return -1;
      if (frame.type != kHeaders || frame.stream != stream || !(frame.flags & kEndStream)) continue;
      const std::string name = "grpc-status";
      const size_t at = frame.payload.find(name);
      if (at == std::string::npos) return -1;
      const size_t length = static_cast<uint8_t>(frame.payload[at + name.size()]);
      return std::stoi(frame.payload.substr(at + name.size() + 1, length));
    }
    return -1;
  }

  void disconnect() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

 private:
  static void append_length(size_t size, std::string& block) {
    if (size < 127) {
      block += static_cast<char>(size);
      return;
    }
    block += '\x7F';
    for (size -= 127; size >= 128; size >>= 7) block += static_cast<char>((size & 0x7F) | 0x80);
    block += static_cast<char>(size);
  }
  void write(const std::string& bytes) {
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t n = ::send(fd_, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
      if (n <= 0) return;  // the server has closed; reading shows it
      done += static_cast<size_t>(n);
    }
  }
  bool read(size_t size, std::string& bytes) {
    bytes.resize(size);
    size_t done = 0;
    while (done < size) {
      const ssize_t n = ::recv(fd_, bytes.data() + done, size - done, 0);
      if (n <= 0) {
        has_closed_ = n == 0 || errno == ECONNRESET;
        return false;
      }
      done += static_cast<size_t>(n);
    }
    return true;
  }

  int fd_;
  bool has_closed_ = false;
};

}  // namespace sluice::server
