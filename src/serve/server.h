// The server: HTTP, keys, metrics, engine loop and routes put together. It listens at once and answers 503 until a
// model is attached.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serve/completion.h"
#include "serve/engine_loop.h"
#include "serve/http.h"
#include "serve/keys.h"
#include "serve/metrics_compat.h"
#include "serve/rate_limit.h"

namespace fathom::serve {

struct ServerOptions {
  HttpOptions http;
  EngineLoopLimits engine;
  EngineLoopChecks checks;  // its weights and alarm are set when a model is attached
  RateLimits rate;          // per API key
  std::vector<std::string> api_keys;
  Path api_key_file;
  std::vector<std::string> allowed_origins;      // of browsers; "*": any
  std::vector<MetricsDialect> metrics_dialects;  // that /metrics speaks beside its own
  bool log_requests = false;
  std::function<void(const std::string&)> log;  // a line for the operator; any thread
  std::string version;
};

class Server {
 public:
  /// Errors: those of HttpServer::start and ApiKeys::create.
  static Result<std::unique_ptr<Server>> start(ServerOptions options);
  /// Ends at once; drain() first for a quiet end.
  ~Server();

  int64_t port() const;
  /// Starts the engine loop; from now on requests are served. Once.
  void attach(ServedModel model);
  /// Reads the key file again; an error goes to the log and the old keys stay.
  void reload_keys();
  /// Takes no new requests (they and /health are answered 503) and waits for the others. When they have not ended
  /// within `timeout_ms`, or `hurry` is true, they end with the error shutting_down, in a stream as an event; then
  /// false.
  bool drain(int64_t timeout_ms, const std::function<bool()>& hurry = {});
  /// Zeros until a model is attached.
  EngineLoopStats stats() const;
  int64_t num_connections() const;

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fathom::serve
