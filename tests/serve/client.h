// A client that speaks HTTP over a plain socket, so that tests decide about every byte.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cctype>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/json.h"

namespace fathom::testing {

/// Whether `condition` comes true; gives up after a time that only a broken server needs.
inline bool eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

struct Response {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  Json json() const {
    auto parsed = Json::parse(body, "body");
    EXPECT_TRUE(parsed) << parsed.error().text << "\n" << body;
    return parsed ? *parsed : Json();
  }
  std::string error_code() const {
    const Json whole = json();
    const Json* error = whole.find("error");
    const Json* code = error == nullptr ? nullptr : error->find("code");
    return code == nullptr ? "" : code->as_string();
  }
  std::string error_message() const {
    const Json whole = json();
    const Json* error = whole.find("error");
    return error == nullptr ? "" : error->find("message")->as_string();
  }
  /// The data of every event of a stream.
  std::vector<std::string> events() const {
    std::vector<std::string> found;
    std::string_view rest = body;
    while (!rest.empty()) {
      const size_t end = rest.find("\n\n");
      EXPECT_NE(end, std::string_view::npos) << "an event ends with an empty line: " << rest;
      if (end == std::string_view::npos) break;
      EXPECT_TRUE(rest.starts_with("data: ")) << rest;
      found.emplace_back(rest.substr(6, end - 6));
      rest.remove_prefix(end + 2);
    }
    return found;
  }
};

class Client {
 public:
  explicit Client(int64_t port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    const timeval limit{.tv_sec = 60, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { close(); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void end_sending() { ::shutdown(fd_, SHUT_WR); }
  /// Leaves without telling the other end, as a machine that loses its power. False where the system does not permit
  /// it.
  bool vanish() {
    const int on = 1;
    if (::setsockopt(fd_, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) != 0) return false;
    close();
    return true;
  }
  /// Whether `fd` of this process is the other end of this connection.
  bool is_peer_of(int fd) const {
    const auto port = [](int socket, auto name_of) {
      sockaddr_in address{};
      socklen_t size = sizeof(address);
      return name_of(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0 ? int{address.sin_port} : 0;
    };
    return port(fd_, ::getsockname) != 0 && port(fd, ::getpeername) == port(fd_, ::getsockname);
  }

  /// False when the server has closed before everything was taken.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  bool request(std::string_view method, std::string_view path, std::string_view body = "",
               std::string_view headers = "") {
    return send(std::string(method) + " " + std::string(path) + " HTTP/1.1\r\nHost: test\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n" + std::string(headers) + "\r\n" + std::string(body));
  }

  /// Reads until in_ holds `text`; false at the end of the connection.
  bool read_until(std::string_view text) {
    while (in_.find(text) == std::string::npos) {
      if (!read_some()) return false;
    }
    return true;
  }
  /// The next response; status 0 when the connection ended instead.
  Response response() {
    Response out;
    if (!read_until("\r\n\r\n")) return out;
    std::string head = take(in_.find("\r\n\r\n") + 4);
    out.status = std::atoi(head.substr(9, 3).c_str());
    for (size_t at = head.find("\r\n") + 2; at + 2 < head.size();) {
      const size_t end = head.find("\r\n", at), colon = head.find(": ", at);
      std::string name = head.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      out.headers[name] = head.substr(colon + 2, end - colon - 2);
      at = end + 2;
    }
    if (out.status < 200) return out;                        // no body, and the answer is still to come
    if (out.status == 204 || out.status == 304) return out;  // RFC 9110: no body, whatever the head says
    if (out.headers.contains("content-length")) {
      const auto size = static_cast<size_t>(std::atoll(out.headers["content-length"].c_str()));
      while (in_.size() < size && read_some()) continue;
      out.body = take(size);
    } else if (out.headers.contains("transfer-encoding")) {
      while (read_until("\r\n")) {
        const size_t size = std::stoul(take(in_.find("\r\n") + 2), nullptr, 16);
        while (in_.size() < size + 2 && read_some()) continue;
        out.body += take(size);
        take(2);
        if (size == 0) break;
      }
    } else {
      while (read_some()) continue;
      out.body = take(in_.size());
    }
    return out;
  }
  Response ask(std::string_view method, std::string_view path, std::string_view body = "",
               std::string_view headers = "") {
    request(method, path, body, headers);
    return response();
  }
  /// True when the server ends the connection without another byte.
  bool ends() { return in_.empty() && !read_some(); }

 private:
  bool read_some() {
    char piece[16384];
    const ssize_t got = ::recv(fd_, piece, sizeof(piece), 0);
    if (got <= 0) return false;
    in_.append(piece, static_cast<size_t>(got));
    return true;
  }
  std::string take(size_t count) {
    std::string out = in_.substr(0, count);
    in_.erase(0, count);
    return out;
  }

  int fd_;
  bool connected_ = false;
  std::string in_;
};

}  // namespace fathom::testing
