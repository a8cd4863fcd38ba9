#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tests/server/fake_service.h"

namespace sluice::server {

struct RawResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks joined
  bool is_whole = false;                       // ended as its head announced

  Json json() const { return Json::parse(body, nullptr, false); }
  // The payloads of its server-sent events.
  std::vector<std::string> events() const {
    std::vector<std::string> found;
    size_t at = 0;
    while (at < body.size()) {
      const size_t end = body.find("\n\n", at);
      if (end == std::string::npos) break;
      const std::string_view event = std::string_view(body).substr(at, end - at);
      if (event.starts_with("data: ")) found.emplace_back(event.substr(6));
      at = end + 2;
    }
    return found;
  }
};

// A client's connection that sends bytes as they are, and reads answers by the letter of RFC 9112.
class RawHttp final {
 public:
  // `receive_bytes`: of the socket's buffer, for readers that should fall behind soon.
  explicit RawHttp(int port, int receive_bytes = 0) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_bytes > 0) {
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      ADD_FAILURE() << "cannot connect";
    }
  }
  ~RawHttp() { close(); }
  RawHttp(const RawHttp&) = delete;
  RawHttp& operator=(const RawHttp&) = delete;

  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  void get(const std::string& path, const std::string& headers = "") {
    send("GET " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n");
  }
  void post(const std::string& path, const std::string& body, const std::string& headers = "") {
    send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }

  // The next answer; status 0 if the server closed without one, or nothing came for a long time.
  RawResponse read(bool has_body = true) {
    RawResponse response;
    const std::optional<std::string> head = read_until("\r\n\r\n");
    if (!head) return response;
    parse_head(*head, response);
    if (response.status == 100) return read(has_body);
    if (!has_body) {
      response.is_whole = true;
    } else if (response.headers.contains("transfer-encoding")) {
      read_chunks(response);
    } else if (response.headers.contains("content-length")) {
      const size_t size = std::stoul(response.headers["content-length"]);
      response.is_whole = fill(size);
      response.body = take(std::min(size, buffer_.size()));
    } else {
      while (fill(buffer_.size() + 1)) continue;
      response.body = take(buffer_.size());
      response.is_whole = true;
    }
    return response;
  }
  // Everything up to and with `end`; nothing if the connection ends before.
  std::optional<std::string> read_until(std::string_view end) {
    size_t found = buffer_.find(end);
    while (found == std::string::npos) {
      if (!fill(buffer_.size() + 1)) return std::nullopt;
      found = buffer_.find(end);
    }
    return take(found + end.size());
  }
  // True once the server has closed its side.
  bool wait_for_close() {
    while (fill(buffer_.size() + 1)) buffer_.clear();
    return is_closed_;
  }

 private:
  // Reads until the buffer has `size` bytes. False if the connection ends, or hangs.
  bool fill(size_t size) {
    while (buffer_.size() < size) {
      pollfd waiting{fd_, POLLIN, 0};
      constexpr int kMilliseconds =
          std::chrono::duration_cast<std::chrono::milliseconds>(kTestPatience).count();
      if (poll(&waiting, 1, kMilliseconds) <= 0) return false;
      char bytes[4096];
      const ssize_t got = recv(fd_, bytes, sizeof bytes, 0);
      if (got <= 0) {
        is_closed_ = true;
        return false;
      }
      buffer_.append(bytes, static_cast<size_t>(got));
    }
    return true;
  }
  std::string take(size_t size) {
    std::string taken = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return taken;
  }
  static void parse_head(std::string_view head, RawResponse& response) {
    if (!head.starts_with("HTTP/1.1 ")) return;
    response.status = std::atoi(std::string(head.substr(9, 3)).c_str());
    size_t at = head.find("\r\n") + 2;
    while (at < head.size()) {
      const size_t end = head.find("\r\n", at);
      const size_t colon = head.find(": ", at);
      if (end == at || colon == std::string_view::npos) break;
      std::string name(head.substr(at, colon - at));
      std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
      response.headers[name] = head.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
  }
  void read_chunks(RawResponse& response) {
    while (true) {
      const std::optional<std::string> line = read_until("\r\n");
      if (!line) return;
      const size_t size = std::stoul(*line, nullptr, 16);
      if (!fill(size + 2)) return;
      response.body += take(size);
      take(2);
      if (size == 0) {
        response.is_whole = true;
        return;
      }
    }
  }

  int fd_;
  std::string buffer_;
  bool is_closed_ = false;
};

// One request on a connection of its own.
inline RawResponse http_get(int port, const std::string& path) {
  RawHttp client(port);
  client.get(path);
  return client.read();
}
inline RawResponse http_post(int port, const std::string& path, const std::string& body) {
  RawHttp client(port);
  client.post(path, body);
  return client.read();
}

}  // namespace sluice::server
