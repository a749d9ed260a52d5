#include "serve/server.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <mutex>
#include <optional>

#include "base/rng.h"
#include "serve/embeddings.h"
#include "serve/metrics_compat.h"
#include "serve/page.h"
#include "serve/stats.h"
#include "serve/stream.h"
#include "text/utf8.h"

namespace fathom::serve {
namespace {

/// A model with the loop that drives its engine.
struct Served {
  Served(ServedModel m, EngineLoopLimits limits, EngineLoopChecks checks)
      : model(std::move(m)), loop(*model.engine, limits, std::move(checks)) {}
  ServedModel model;
  EngineLoop loop;
  int64_t created = std::time(nullptr);
};

constexpr int64_t kDrainPollMs = 50;
constexpr int64_t kCutMs = 1000;  // for clients to take the errors that end their answers

int64_t milliseconds_until(Clock::time_point end) {
  return std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count());
}

ApiError loading() { return {.status = 503, .code = "loading", .message = "the model is being loaded", .param = {}}; }

ApiError problem_error(const HttpProblem& problem) {
  const char* code = problem.status == 413   ? "body_too_large"
                     : problem.status == 431 ? "header_too_large"
                     : problem.status == 503 ? "too_many_connections"
                                             : "bad_http";
  return {.status = problem.status, .code = code, .message = problem.text, .param = {}};
}

/// The text of a token as llama.cpp's server gives it: a string, or bytes where it is only a part of characters.
Json piece_json(const ServedModel& model, int32_t id) {
  const auto found = model.tokenizer->bytes_of(id);
  const std::string_view bytes = found ? *found : std::string_view{};
  if (!first_invalid_utf8(bytes)) return Json(bytes);
  Json list = Json::array();
  for (const char byte : bytes) list.push(int64_t{static_cast<uint8_t>(byte)});
  return list;
}

}  // namespace

class Server::Impl {
 public:
  explicit Impl(ServerOptions options, ApiKeys keys)
      : options_(std::move(options)), keys_(std::move(keys)), limiter_(options_.rate) {}
  ~Impl() {
    if (http_) http_->stop();
    served_.reset();  // its thread posts to connections: before them
  }

  Status listen() {
    auto server = HttpServer::start(options_.http,
                                    {.handle = [this](std::shared_ptr<Exchange> e) { handle(std::move(e)); },
                                     .refuse = [this](const HttpProblem& problem) { return refuse(problem); },
                                     .dropped = [this](std::string_view why) { metrics_.count_dropped_client(why); }});
    if (!server) return server.error();
    http_ = std::move(*server);
    return {};
  }

  HttpServer& http() { return *http_; }
  void attach(ServedModel model) {
    EngineLoopChecks checks = options_.checks;
    checks.weights = model.weights;
    checks.weight_pause_ms = model.weight_pause_ms;
    checks.alarm = [this](const std::string& line) { log("ERROR " + line); };
    served_ = std::make_unique<Served>(std::move(model), options_.engine, std::move(checks));
    ready_ = served_.get();
  }
  void reload_keys(bool always) {
    const std::lock_guard lock(keys_mutex_);
    const auto done = keys_.reload(always);
    if (!done) log("API keys: " + done.error().text + "; the old keys stay");
    if (done && *done) log("API keys: read again");
  }
  EngineLoopStats stats() const {
    const Served* served = ready_;
    return served == nullptr ? EngineLoopStats{} : served->loop.stats();
  }
  bool drain(int64_t timeout_ms, const std::function<bool()>& hurry) {
    draining_ = true;
    http_->drain();
    const auto end = Clock::now() + std::chrono::milliseconds(timeout_ms);
    while (!http_->wait_drained(std::min(kDrainPollMs, milliseconds_until(end)))) {
      if (Clock::now() < end && !(hurry && hurry())) continue;
      http_->post([this] { cut_calls(); });
      http_->wait_drained(kCutMs);
      return false;
    }
    return true;
  }

 private:
  using Handler = void (Impl::*)(const std::shared_ptr<Call>&);
  struct Route {
    std::string_view method, path;
    Handler handler;
    bool open = false;        // needs no key
    bool needs_model = true;  // 503 before there is one
  };

  static const std::array<Route, 18>& routes();

  void log(const std::string& line) {
    if (options_.log) options_.log(line);
  }
  HttpResponse refuse(const HttpProblem& problem) {
    const ApiError error = problem_error(problem);
    metrics_.count_error(error.code);
    metrics_.count_response("none", problem.status);
    return {.status = problem.status, .headers = {}, .body = to_json(error).dump() + "\n"};
  }

  /// Ends every answer that is not complete with an error.
  void cut_calls() {
    is_cut_ = true;
    int64_t num_cut = 0;
    for (const auto& weak : calls_) {
      const auto call = weak.lock();
      num_cut += call && call->cut(shutting_down()) ? 1 : 0;
    }
    if (num_cut > 0) log("ended " + std::to_string(num_cut) + " unfinished requests with the error shutting_down");
  }
  /// To be cut if it has to be.
  void remember(const std::shared_ptr<Call>& call) {
    if (calls_.size() >= most_calls_) {
      std::erase_if(calls_, [](const auto& weak) { return weak.expired(); });
      most_calls_ = std::max<size_t>(1024, 2 * calls_.size());
    }
    calls_.push_back(call);
  }

  void handle(std::shared_ptr<Exchange> exchange);
  const Route* find(const HttpRequest& request, std::string& allowed) const;
  HttpHeaders cors_headers(const HttpRequest& request) const;
  /// What stands for the key of a request that may enter (keys themselves are not kept): empty where none is needed.
  std::optional<std::string> enter(const HttpRequest& request);

  void models(const std::shared_ptr<Call>& call);
  void health(const std::shared_ptr<Call>& call);
  void version(const std::shared_ptr<Call>& call);
  void metrics(const std::shared_ptr<Call>& call);
  void stats(const std::shared_ptr<Call>& call);
  void page(const std::shared_ptr<Call>& call) { call->respond(page_response(call->request())); }
  void chat(const std::shared_ptr<Call>& call) { complete(call, true); }
  void completions(const std::shared_ptr<Call>& call) { complete(call, false); }
  void complete(const std::shared_ptr<Call>& call, bool chat);
  void embeddings(const std::shared_ptr<Call>& call);
  void tokenize(const std::shared_ptr<Call>& call);
  void detokenize(const std::shared_ptr<Call>& call);
  /// Answers with what `work` returns; it runs beside the server's thread.
  void answer_aside(const std::shared_ptr<Call>& call, std::function<ApiResult<Json>()> work);

  ServerOptions options_;
  std::mutex keys_mutex_;
  ApiKeys keys_;
  RateLimiter limiter_;
  Metrics metrics_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<Served> served_;
  std::atomic<Served*> ready_{nullptr};
  std::atomic<bool> draining_{false};
  // Of the server's thread:
  std::vector<std::weak_ptr<Call>> calls_;  // that a model answers; some have been
  size_t most_calls_ = 1024;                // then the answered ones are forgotten
  bool is_cut_ = false;                     // no answer can be begun any more
};

const std::array<Server::Impl::Route, 18>& Server::Impl::routes() {
  static constexpr std::array<Route, 18> kRoutes = {{
      {"GET", "/", &Impl::page, true, false},
      {"GET", "/assets/", &Impl::page, true, false},  // and a name
      {"GET", "/licenses", &Impl::page, true, false},
      {"GET", "/api/stats", &Impl::stats, false, false},
      {"GET", "/health", &Impl::health, true, false},
      {"GET", "/version", &Impl::version, false, false},
      {"GET", "/metrics", &Impl::metrics, false, false},
      {"GET", "/v1/models", &Impl::models},
      {"GET", "/models", &Impl::models},
      {"GET", "/v1/models/", &Impl::models},  // and a name
      {"POST", "/v1/chat/completions", &Impl::chat},
      {"POST", "/chat/completions", &Impl::chat},
      {"POST", "/v1/completions", &Impl::completions},
      {"POST", "/completions", &Impl::completions},
      {"POST", "/v1/embeddings", &Impl::embeddings},
      {"POST", "/embeddings", &Impl::embeddings},
      {"POST", "/tokenize", &Impl::tokenize},
      {"POST", "/detokenize", &Impl::detokenize},
  }};
  return kRoutes;
}

/// The route of a request; when only the method is wrong, `allowed` has the right ones.
const Server::Impl::Route* Server::Impl::find(const HttpRequest& request, std::string& allowed) const {
  const std::string_view path = request.path();
  const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  for (const Route& route : routes()) {
    const bool named = route.path.size() > 1 && route.path.ends_with('/') && path.starts_with(route.path) &&
                       path.size() > route.path.size();
    if (route.path != path && !named) continue;
    if (route.method == method) return &route;
    allowed = std::string(route.method) + (route.method == "GET" ? ", HEAD, OPTIONS" : ", OPTIONS");
  }
  return nullptr;
}

HttpHeaders Server::Impl::cors_headers(const HttpRequest& request) const {
  const std::string* origin = request.header("Origin");
  if (origin == nullptr || options_.allowed_origins.empty()) return {};
  const auto& allowed = options_.allowed_origins;
  const bool any = std::find(allowed.begin(), allowed.end(), "*") != allowed.end();
  if (!any && std::find(allowed.begin(), allowed.end(), *origin) == allowed.end()) return {};
  return {{"Access-Control-Allow-Origin", any ? "*" : *origin},
          {"Vary", "Origin"},
          {"Access-Control-Expose-Headers", "X-Request-Id"}};
}

std::optional<std::string> Server::Impl::enter(const HttpRequest& request) {
  reload_keys(false);
  const std::lock_guard lock(keys_mutex_);
  if (!keys_.required()) return "";
  const std::string* authorization = request.header("Authorization");
  const std::string* x_api_key = request.header("x-api-key");
  const std::string_view key = authorization != nullptr ? bearer_key(*authorization)
                               : x_api_key != nullptr   ? std::string_view(*x_api_key)
                                                        : std::string_view{};
  if (key.empty() || !keys_.accepts(key)) return std::nullopt;
  return std::to_string(stream_of(key));
}

void Server::Impl::handle(std::shared_ptr<Exchange> exchange) {
  const HttpRequest& request = exchange->request();
  std::string allowed;
  const Route* route = find(request, allowed);
  HttpHeaders headers = cors_headers(request);
  const bool preflight = request.method == "OPTIONS";
  if (preflight && !headers.empty()) {
    headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    headers.emplace_back("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Request-Id, x-api-key, *");
    headers.emplace_back("Access-Control-Max-Age", "600");
  }
  if (!allowed.empty()) headers.emplace_back("Allow", allowed);
  const auto call = std::make_shared<Call>(std::move(exchange), route != nullptr ? route->path : "none",
                                           request_id(request, random_hex(32)), std::move(headers), metrics_,
                                           options_.log_requests ? options_.log : nullptr);
  if (preflight) return call->respond_text(204, "", "");
  const std::optional<std::string> key =
      route != nullptr && route->open ? std::optional<std::string>("") : enter(request);
  if (!key) {
    return call->fail({.status = 401,
                       .code = "invalid_api_key",
                       .message = "the API key is missing or wrong; send Authorization: Bearer KEY",
                       .param = {}});
  }
  if (route == nullptr) {
    if (!allowed.empty()) {
      return call->fail({.status = 405,
                         .code = "method_not_allowed",
                         .message = "this path has another method; accepted: " + allowed,
                         .param = {}});
    }
    return call->fail({.status = 404,
                       .code = "not_found",
                       .message = "there is nothing here; the API begins at /v1/models and /v1/chat/completions",
                       .param = {}});
  }
  if (route->needs_model && (ready_ == nullptr || draining_)) {
    return call->fail(draining_ ? shutting_down() : loading());
  }
  if (route->needs_model && route->method == "POST" && options_.rate.any()) {
    if (const auto wait = limiter_.admit(*key, std::chrono::steady_clock::now())) {
      return call->fail({.status = 429,
                         .code = "rate_limit_exceeded",
                         .message = "this key has used up its requests or tokens per minute; try again in " +
                                    std::to_string(*wait) + " s",
                         .param = {},
                         .retry_after_s = *wait});
    }
    call->on_tokens(
        [this, key = *key](int64_t count) { limiter_.pay_tokens(key, count, std::chrono::steady_clock::now()); });
  }
  if (route->needs_model) remember(call);
  (this->*route->handler)(call);
}

void Server::Impl::health(const std::shared_ptr<Call>& call) {
  if (ready_ == nullptr || draining_) {
    return call->fail(draining_ ? shutting_down() : loading());
  }
  if (!stats().healthy()) {
    return call->fail({.status = 503,
                       .code = "unhealthy",
                       .message =
                           "an answer could not be reproduced, or the weights have changed in memory; see the log "
                           "and restart the server",
                       .param = {}});
  }
  call->respond(200, Json::object().set("status", "ok"));
}

void Server::Impl::version(const std::shared_ptr<Call>& call) {
  call->respond(200, Json::object().set("version", options_.version));
}

void Server::Impl::metrics(const std::shared_ptr<Call>& call) {
  const Served* served = ready_;
  const Gauges gauges{
      .engine = stats(), .connections = http_->num_connections(), .ready = served != nullptr && !draining_};
  const std::string model = served == nullptr ? "" : served->model.names.front();
  std::string text = metrics_.text(gauges, model, options_.version);
  for (const MetricsDialect dialect : options_.metrics_dialects) {
    text += metrics_in_dialect(dialect, metrics_.snapshot(), gauges, model);
  }
  call->respond_text(200, "text/plain; version=0.0.4; charset=utf-8", std::move(text));
}

void Server::Impl::stats(const std::shared_ptr<Call>& call) {
  const Served* served = ready_;
  call->respond(200, stats_json({.gauges = {.engine = stats(),
                                            .connections = http_->num_connections(),
                                            .ready = served != nullptr && !draining_},
                                 .counts = metrics_.snapshot(),
                                 .model = served == nullptr ? "" : served->model.names.front(),
                                 .version = options_.version,
                                 .max_model_len = served == nullptr ? 0 : served->model.max_model_len,
                                 .expert_load = served == nullptr ? ExpertLoad{} : served->loop.expert_load()}));
}

void Server::Impl::models(const std::shared_ptr<Call>& call) {
  const Served& served = *ready_;
  const auto entry = [&](const std::string& name) {
    return model_json(name, served.created, served.model.max_model_len, served.model.vocab_size);
  };
  constexpr std::string_view kNamed = "/v1/models/";
  const std::string_view path = call->request().path();
  if (!path.starts_with(kNamed)) {
    Json list = Json::array();
    for (const std::string& name : served.model.names) list.push(entry(name));
    return call->respond(200, Json::object().set("object", "list").set("data", std::move(list)));
  }
  const std::string_view name = path.substr(kNamed.size());
  for (const std::string& known : served.model.names) {
    if (known == name) return call->respond(200, entry(known));
  }
  call->fail(
      {.status = 404,
       .code = "model_not_found",
       .message = "the model \"" + std::string(name.substr(0, 200)) + "\" does not exist; GET /v1/models lists all",
       .param = "model"});
}

void Server::Impl::complete(const std::shared_ptr<Call>& call, bool chat) {
  Served& served = *ready_;
  const auto prepared = std::make_shared<std::optional<ApiResult<PreparedRequest>>>();
  call->exchange().aside(
      [prepared, call, &served, chat] { *prepared = prepare_request(served.model, call->request().body, chat); },
      [prepared, call, &served, chat, this] {
        auto& result = **prepared;
        if (const auto* error = std::get_if<ApiError>(&result)) return call->fail(*error);
        if (is_cut_) return call->fail(shutting_down());
        auto& request = std::get<PreparedRequest>(result);
        ResponseHead head{.id = (chat ? "chatcmpl-" : "cmpl-") + random_hex(32),
                          .created = std::time(nullptr),
                          .model = request.request.model.empty() ? served.model.names.front() : request.request.model,
                          .fingerprint = "fathom-" + options_.version,
                          .chat = chat};
        std::make_shared<Completion>(call, served.model, served.loop, std::move(request), std::move(head))->start();
      });
}

void Server::Impl::embeddings(const std::shared_ptr<Call>& call) {
  Served& served = *ready_;
  const auto prepared = std::make_shared<std::optional<ApiResult<PreparedEmbeddings>>>();
  call->exchange().aside(
      [prepared, call, &served] { *prepared = prepare_embeddings(served.model, call->request().body); },
      [prepared, call, &served, this] {
        auto& result = **prepared;
        if (const auto* error = std::get_if<ApiError>(&result)) return call->fail(*error);
        if (is_cut_) return call->fail(shutting_down());
        auto& request = std::get<PreparedEmbeddings>(result);
        std::string name = request.request.model.empty() ? served.model.names.front() : request.request.model;
        std::make_shared<Embeddings>(call, served.loop, std::move(request), std::move(name))->start();
      });
}

void Server::Impl::answer_aside(const std::shared_ptr<Call>& call, std::function<ApiResult<Json>()> work) {
  const auto result = std::make_shared<std::optional<ApiResult<Json>>>();
  call->exchange().aside([result, work = std::move(work)] { *result = work(); },
                         [result, call] {
                           if (const auto* error = std::get_if<ApiError>(&**result)) return call->fail(*error);
                           call->respond(200, std::get<Json>(**result));
                         });
}

void Server::Impl::tokenize(const std::shared_ptr<Call>& call) {
  const ServedModel& model = ready_.load()->model;
  answer_aside(call, [call, &model]() -> ApiResult<Json> {
    const auto json = Json::parse(call->request().body, "the body");
    if (!json) return ApiError{.status = 400, .code = "invalid_json", .message = json.error().text, .param = {}};
    auto parsed = parse_tokenize_request(*json);
    if (auto* error = std::get_if<ApiError>(&parsed)) return *error;
    auto& request = std::get<TokenizeRequest>(parsed);
    if (!request.messages.is_null()) {
      auto rendered = render_chat(model.chat_format, request.messages, Json());
      if (auto* error = std::get_if<ApiError>(&rendered)) return *error;
      request.text = std::get<std::string>(rendered);
    }
    const auto ids = request.add_special_tokens ? model.encode_prompt(request.text)
                                                : model.tokenizer->encode(request.text, AddedTokens::kParse);
    if (!ids) return bad_parameter("prompt", ids.error().text);
    Json tokens = Json::array();
    for (const int32_t id : *ids) {
      tokens.push(request.with_pieces ? Json::object().set("id", int64_t{id}).set("piece", piece_json(model, id))
                                      : Json(int64_t{id}));
    }
    Json body = Json::object();
    body.set("count", static_cast<int64_t>(ids->size())).set("max_model_len", model.max_model_len);
    body.set("tokens", std::move(tokens));
    if (!request.return_token_strs) return body;
    Json texts = Json::array();
    for (const int32_t id : *ids) {
      const auto bytes = model.tokenizer->bytes_of(id);
      texts.push(bytes ? *bytes : std::string_view{});
    }
    return body.set("token_strs", std::move(texts));
  });
}

void Server::Impl::detokenize(const std::shared_ptr<Call>& call) {
  const ServedModel& model = ready_.load()->model;
  answer_aside(call, [call, &model]() -> ApiResult<Json> {
    const auto json = Json::parse(call->request().body, "the body");
    if (!json) return ApiError{.status = 400, .code = "invalid_json", .message = json.error().text, .param = {}};
    const auto ids = parse_detokenize_request(*json);
    if (const auto* error = std::get_if<ApiError>(&ids)) return *error;
    const auto text = model.tokenizer->decode(std::get<0>(ids));
    if (!text) return bad_parameter("tokens", text.error().text);
    return Json::object().set("prompt", *text).set("content", *text);
  });
}

Result<std::unique_ptr<Server>> Server::start(ServerOptions options) {
  auto keys = ApiKeys::create(options.api_keys, options.api_key_file);
  if (!keys) return keys.error();
  auto impl = std::make_unique<Impl>(std::move(options), *std::move(keys));
  if (auto s = impl->listen(); !s) return s.error();
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

int64_t Server::port() const { return impl_->http().port(); }
void Server::attach(ServedModel model) { impl_->attach(std::move(model)); }
void Server::reload_keys() { impl_->reload_keys(true); }
EngineLoopStats Server::stats() const { return impl_->stats(); }
int64_t Server::num_connections() const { return impl_->http().num_connections(); }

bool Server::drain(int64_t timeout_ms, const std::function<bool()>& hurry) { return impl_->drain(timeout_ms, hurry); }

}  // namespace fathom::serve
