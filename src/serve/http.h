// The HTTP server: connections over TCP or TLS as coroutines on one thread. It reads requests, gives each to a handler
// as an Exchange, and writes what the handler says. Slow, silent and greedy clients are bounded in time and memory, and
// what one of them does touches no other.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/http_request.h"

namespace fathom::serve {

struct HttpOptions {
  std::string host = "127.0.0.1";
  int64_t port = 8000;  // 0: any free one
  HttpLimits limits;
  int64_t max_connections = 4096;
  int64_t max_buffered_bytes = int64_t{4} << 20;  // unsent bytes of one connection
  int64_t send_buffer_bytes = 0;                  // of the socket; 0: the system's
  int64_t idle_timeout_ms = 75'000;               // between requests
  int64_t header_timeout_ms = 15'000;             // from the first byte (or the connection's start with TLS)
  int64_t body_timeout_ms = 60'000;
  int64_t write_timeout_ms = 30'000;  // without any byte leaving, or without an answer from the client's system
  int64_t keepalive_s = 15;           // of silence; then the client's system is asked whether it is still there
  std::string certificate_file;       // PEM chain; with its key: TLS
  std::string key_file;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers{};
  std::string body{};
};

/// One request and its answer. Everything but post() belongs to the server's thread.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;

  /// The whole answer. After the client has gone, this and the calls below do nothing.
  virtual void respond(HttpResponse response) = 0;
  /// An answer of unknown length: its head, pieces, its end.
  virtual void begin_stream(HttpResponse head) = 0;
  virtual void send(std::string_view bytes) = 0;
  virtual void end() = 0;

  /// Called once if the client goes (or is dropped) before the answer is complete; let go of afterwards.
  virtual void on_gone(std::function<void()> handler) = 0;
  /// Runs `work` on the server's thread. Any thread; also after the client has gone.
  virtual void post(std::function<void()> work) = 0;
  /// Runs `work` beside the server's thread, then `then` on it.
  virtual void aside(std::function<void()> work, std::function<void()> then) = 0;
};

/// What the server asks of its owner; all on the server's thread.
struct HttpHooks {
  std::function<void(std::shared_ptr<Exchange>)> handle;
  /// The answer to what never became a request.
  std::function<HttpResponse(const HttpProblem&)> refuse;
  /// A client was ended early: "slow_reader", "buffer", "timeout", "tls".
  std::function<void(std::string_view why)> dropped;
};

class HttpServer {
 public:
  /// Binds and listens. Errors: an address that cannot be had (in use, no permission, not of this machine), a
  /// certificate or key that cannot be read or do not belong together.
  static Result<std::unique_ptr<HttpServer>> start(const HttpOptions& options, HttpHooks hooks);
  /// Ends the thread and every connection.
  virtual ~HttpServer() = default;

  virtual int64_t port() const = 0;
  virtual int64_t num_connections() const = 0;
  /// Runs `work` on the server's thread.
  virtual void post(std::function<void()> work) = 0;
  /// Closes idle connections, and the others after their answer. Until the last of these has gone, new connections are
  /// still taken for one request each, so that a probe hears what is going on; then the listener is closed.
  virtual void drain() = 0;
  /// Waits until drain() has closed the last connection that was there before it; false when `timeout_ms` were not
  /// enough.
  virtual bool wait_drained(int64_t timeout_ms) = 0;
  /// Ends the threads; no hook and no posted work runs afterwards.
  virtual void stop() = 0;
};

}  // namespace fathom::serve
