#include "serve/http.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "base/check.h"

namespace fathom::serve {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Milliseconds = std::chrono::milliseconds;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
constexpr size_t kReadBytes = 16384;
constexpr size_t kMaxAheadBytes = 65536;  // of pipelined requests, while an answer is made
constexpr int64_t kLingerMs = 2000;       // to let a refused client read why
constexpr int64_t kAcceptPauseMs = 100;   // after accept fails for want of descriptors
constexpr size_t kNumAsideThreads = 2;

class Server;

class Connection final : public Exchange, public std::enable_shared_from_this<Connection> {
 public:
  /// `is_late`: it came when the server was draining already.
  Connection(Server& server, tcp::socket socket, bool is_late);

  asio::awaitable<void> serve(bool refused);
  void drain();
  void close();
  bool is_late() const { return is_late_; }
  /// One without a request yet counts as one that came later: what may be on the way is answered, nobody waits for it.
  void become_late_if_unused() { is_late_ = is_late_ || (idle_ && !is_used_); }

  const HttpRequest& request() const override { return request_; }
  void respond(HttpResponse response) override;
  void begin_stream(HttpResponse head) override;
  void send(std::string_view bytes) override;
  void end() override;
  void on_gone(std::function<void()> handler) override;
  /// For the server's end: nothing runs any more, so the handler must not keep us alive.
  void abandon() { gone_handler_ = nullptr; }
  void post(std::function<void()> work) override;
  void aside(std::function<void()> work, std::function<void()> then) override;

 private:
  enum class Answer { kNone, kOpen, kComplete };

  asio::awaitable<void> converse();
  asio::awaitable<bool> handshake();
  asio::awaitable<bool> read_request();
  asio::awaitable<bool> wait_for_bytes();
  asio::awaitable<bool> write_answer();
  // Arguments by reference, and always to something with a name: g++ 12 is not to be trusted with temporaries in
  // co_await expressions.
  asio::awaitable<bool> write_all(std::string_view bytes);
  asio::awaitable<void> refuse(const HttpProblem& problem);
  asio::awaitable<void> finish_politely();

  void start_read();
  void set_deadline(int64_t ms, std::string_view why);
  /// Not cancel(): a wait that is over already, but whose handler has not run, must find that it does not count.
  void clear_deadline() { deadline_.expires_at(asio::steady_timer::time_point::max()); }
  void append_head(const HttpResponse& response, std::string_view framing);
  void mark_gone();
  bool open_to_answer() const { return !gone_ && answer_ != Answer::kComplete; }

  Server& server_;
  tcp::socket socket_;
  std::optional<asio::ssl::stream<tcp::socket&>> tls_;
  asio::steady_timer wake_, deadline_;
  std::string_view deadline_reason_;

  std::array<char, kReadBytes> read_buffer_;
  std::string in_;  // read, not parsed yet
  bool reading_ = false;
  bool input_ended_ = false;

  HttpRequest request_;
  std::string out_;  // to be written
  Answer answer_ = Answer::kNone;
  bool chunked_ = false;
  bool close_after_ = false;
  bool idle_ = true;  // between requests
  bool is_late_;
  bool is_used_ = false;  // it has had a request
  bool gone_ = false;
  std::function<void()> gone_handler_;
};

class Server final : public HttpServer {
 public:
  Server(HttpOptions options, HttpHooks hooks)
      : options_(std::move(options)), hooks_(std::move(hooks)), aside_(kNumAsideThreads) {}
  ~Server() override { stop(); }

  Status listen();
  Status use_tls();
  void run() {
    thread_ = std::thread([this] { context_.run(); });
  }

  int64_t port() const override { return port_; }
  int64_t num_connections() const override {
    const std::lock_guard lock(mutex_);
    return num_connections_;
  }
  void post(std::function<void()> work) override { asio::post(context_, std::move(work)); }
  void drain() override;
  bool wait_drained(int64_t timeout_ms) override;
  void stop() override;

  const HttpOptions& options() const { return options_; }
  const HttpHooks& hooks() const { return hooks_; }
  asio::io_context& context() { return context_; }
  asio::thread_pool& aside() { return aside_; }
  asio::ssl::context* tls() { return tls_ ? &*tls_ : nullptr; }
  bool draining() const { return draining_; }
  void left(Connection* connection);

 private:
  asio::awaitable<void> accept();
  void admit(tcp::socket socket);
  void end_drain();

  HttpOptions options_;
  HttpHooks hooks_;
  asio::io_context context_{1};
  asio::thread_pool aside_;
  std::optional<asio::ssl::context> tls_;
  std::optional<tcp::acceptor> listener_;
  std::set<Connection*> connections_;  // those of context_'s thread
  int64_t port_ = 0;
  bool draining_ = false;
  int64_t num_to_drain_ = 0;  // connections of before that are still there
  std::thread thread_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  int64_t num_connections_ = 0;
  bool drained_ = false;
};

// Connection

Connection::Connection(Server& server, tcp::socket socket, bool is_late)
    : server_(server),
      socket_(std::move(socket)),
      wake_(server.context()),
      deadline_(server.context()),
      is_late_(is_late) {
  if (server.tls() != nullptr) tls_.emplace(socket_, *server.tls());
  wake_.expires_at(asio::steady_timer::time_point::max());
}

asio::awaitable<void> Connection::serve(bool refused) {
  const auto self = shared_from_this();
  if (co_await handshake()) {
    if (refused) {
      const HttpProblem full{503, "the server has its most connections (" +
                                      std::to_string(server_.options().max_connections) + "); try again later"};
      co_await refuse(full);
    } else {
      co_await converse();
    }
  }
  mark_gone();
  clear_deadline();
  close();
}

asio::awaitable<void> Connection::converse() {
  while (true) {
    idle_ = true;
    request_ = {};
    answer_ = Answer::kNone;
    if (!co_await read_request()) co_return;
    close_after_ = !request_.keep_alive;
    server_.hooks().handle(shared_from_this());
    const bool written = co_await write_answer();
    if (!written) co_return;
    gone_handler_ = nullptr;
    if (close_after_ || server_.draining()) {
      co_await finish_politely();
      co_return;
    }
  }
}

asio::awaitable<bool> Connection::handshake() {
  if (!tls_) co_return true;
  set_deadline(server_.options().header_timeout_ms, "timeout");
  const auto [error] = co_await tls_->async_handshake(asio::ssl::stream_base::server, kAwait);
  clear_deadline();
  if (error) server_.hooks().dropped("tls");
  co_return !error;
}

/// Reads until one request is whole; false when the connection is to end.
asio::awaitable<bool> Connection::read_request() {
  const HttpOptions& options = server_.options();
  RequestReader reader(options.limits);
  bool header_told = false, begun = false, continued = false;
  set_deadline(options.idle_timeout_ms, "");
  while (!reader.done()) {
    const size_t taken = in_.empty() ? 0 : reader.push(in_);
    if (!in_.empty() && !begun) {
      begun = true;
      idle_ = false;
      set_deadline(options.header_timeout_ms, "timeout");
    }
    in_.erase(0, taken);
    if (reader.problem()) {
      co_await refuse(*reader.problem());
      co_return false;
    }
    if (reader.done()) break;
    if (reader.header_done() && !header_told) {
      header_told = true;
      set_deadline(options.body_timeout_ms, "timeout");
    }
    if (reader.header_done() && !continued && in_.empty() && reader.expects_continue()) {
      continued = true;
      constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      if (!co_await write_all(kContinue)) co_return false;
      set_deadline(options.body_timeout_ms, "timeout");
    }
    if (in_.size() >= kMaxAheadBytes) {
      const HttpProblem endless{400, "a line of a chunk has more than " + std::to_string(kMaxAheadBytes) + " bytes"};
      co_await refuse(endless);
      co_return false;
    }
    if (idle_ && server_.draining() && !is_late_) co_return false;
    if (!co_await wait_for_bytes()) co_return false;
  }
  clear_deadline();
  request_ = reader.take();
  is_used_ = true;
  co_return true;
}

/// Waits until in_ has grown; false when nothing more will come.
asio::awaitable<bool> Connection::wait_for_bytes() {
  const size_t before = in_.size();
  start_read();
  while (reading_ && !gone_) co_await wake_.async_wait(kAwait);
  co_return !gone_ && in_.size() > before;
}

/// One read at a time is in flight, also while an answer is made: that is how a client that leaves is noticed.
void Connection::start_read() {
  if (reading_ || input_ended_ || gone_ || in_.size() >= kMaxAheadBytes) return;
  reading_ = true;
  const auto done = [self = shared_from_this()](error_code error, size_t count) {
    self->reading_ = false;
    self->in_.append(self->read_buffer_.data(), count);
    if (error) self->input_ended_ = true;
    self->wake_.cancel();
  };
  if (tls_) {
    tls_->async_read_some(asio::buffer(read_buffer_), done);
  } else {
    socket_.async_read_some(asio::buffer(read_buffer_), done);
  }
}

/// Writes what the handler says until its answer is complete; false when the client has gone.
asio::awaitable<bool> Connection::write_answer() {
  while (true) {
    if (!out_.empty()) {
      const std::string ready = std::exchange(out_, {});
      if (!co_await write_all(ready)) co_return false;
      continue;
    }
    if (answer_ == Answer::kComplete) co_return !gone_;
    start_read();
    if (gone_ || input_ended_) co_return false;
    co_await wake_.async_wait(kAwait);
  }
}

asio::awaitable<bool> Connection::write_all(std::string_view bytes) {
  size_t written = 0;
  while (written < bytes.size() && !gone_) {
    set_deadline(server_.options().write_timeout_ms, "slow_reader");
    const auto rest = asio::buffer(bytes.data() + written, bytes.size() - written);
    error_code error;
    size_t count = 0;
    if (tls_) {
      std::tie(error, count) = co_await tls_->async_write_some(rest, kAwait);
    } else {
      std::tie(error, count) = co_await socket_.async_write_some(rest, kAwait);
    }
    if (error) co_return false;
    written += count;
  }
  clear_deadline();
  co_return !gone_;
}

asio::awaitable<void> Connection::refuse(const HttpProblem& problem) {
  clear_deadline();
  close_after_ = true;
  answer_ = Answer::kNone;
  respond(server_.hooks().refuse(problem));
  const std::string answer = std::exchange(out_, {});
  if (co_await write_all(answer)) co_await finish_politely();
}

/// Ends our side and waits a moment for the client's: a socket closed with unread bytes would take the answer back.
asio::awaitable<void> Connection::finish_politely() {
  set_deadline(kLingerMs, "");
  error_code ignored;
  if (tls_) co_await tls_->async_shutdown(kAwait);
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  while (!tls_ && !input_ended_ && !gone_) {
    in_.clear();
    start_read();
    co_await wake_.async_wait(kAwait);
  }
}

void Connection::set_deadline(int64_t ms, std::string_view why) {
  deadline_reason_ = why;
  deadline_.expires_after(Milliseconds(ms));
  deadline_.async_wait([self = shared_from_this()](error_code error) {
    if (error || self->deadline_.expiry() > std::chrono::steady_clock::now()) return;
    if (!self->deadline_reason_.empty()) self->server_.hooks().dropped(self->deadline_reason_);
    self->mark_gone();
    self->close();
  });
}

void Connection::mark_gone() {
  if (gone_) return;
  gone_ = true;
  out_ = {};
  wake_.cancel();
  if (const auto handler = std::exchange(gone_handler_, nullptr)) handler();
}

void Connection::on_gone(std::function<void()> handler) {
  gone_handler_ = std::move(handler);
  if (!gone_ || !gone_handler_) return;
  const auto now = std::exchange(gone_handler_, nullptr);
  now();
}

void Connection::close() {
  error_code ignored;
  socket_.close(ignored);
  wake_.cancel();
}

void Connection::drain() {
  if (!idle_ || is_late_) return;
  mark_gone();
  close();
}

void Connection::append_head(const HttpResponse& response, std::string_view framing) {
  if (server_.draining()) close_after_ = true;
  out_ += "HTTP/1.1 " + std::to_string(response.status) + " " + std::string(reason_phrase(response.status)) + "\r\n";
  out_ += "Server: fathom\r\n";
  if (!response.content_type.empty()) out_ += "Content-Type: " + response.content_type + "\r\n";
  for (const auto& [name, value] : response.headers) out_ += name + ": " + value + "\r\n";
  out_ += framing;
  out_ += close_after_ ? "Connection: close\r\n\r\n" : "Connection: keep-alive\r\n\r\n";
}

void Connection::respond(HttpResponse response) {
  if (!open_to_answer()) return;
  check(answer_ == Answer::kNone, "an exchange is answered once");
  const bool has_length = response.status != 204 && response.status != 304;  // RFC 9110, 8.6
  append_head(response, has_length ? "Content-Length: " + std::to_string(response.body.size()) + "\r\n" : "");
  if (request_.method != "HEAD") out_ += response.body;
  answer_ = Answer::kComplete;
  wake_.cancel();
}

void Connection::begin_stream(HttpResponse head) {
  if (!open_to_answer()) return;
  check(answer_ == Answer::kNone, "an exchange is answered once");
  chunked_ = !request_.http_1_0;
  if (!chunked_) close_after_ = true;  // the end of the connection is the end of the answer
  append_head(head, chunked_ ? "Transfer-Encoding: chunked\r\n" : "");
  answer_ = Answer::kOpen;
  send(head.body);
  wake_.cancel();
}

void Connection::send(std::string_view bytes) {
  if (!open_to_answer() || bytes.empty()) return;
  if (static_cast<int64_t>(out_.size() + bytes.size()) > server_.options().max_buffered_bytes) {
    server_.hooks().dropped("buffer");
    mark_gone();
    return close();
  }
  if (chunked_) {
    char size[24];
    std::snprintf(size, sizeof(size), "%zx\r\n", bytes.size());
    out_ += size;
  }
  out_ += bytes;
  if (chunked_) out_ += "\r\n";
  wake_.cancel();
}

void Connection::end() {
  if (!open_to_answer()) return;
  if (chunked_) out_ += "0\r\n\r\n";
  answer_ = Answer::kComplete;
  wake_.cancel();
}

void Connection::post(std::function<void()> work) {
  asio::post(server_.context(), [self = shared_from_this(), work = std::move(work)] { work(); });
}

void Connection::aside(std::function<void()> work, std::function<void()> then) {
  asio::post(server_.aside(), [self = shared_from_this(), work = std::move(work), then = std::move(then)]() mutable {
    work();
    asio::post(self->server_.context(), [self, then = std::move(then)] { then(); });
  });
}

// Server

std::string address_text(const HttpOptions& options) { return options.host + ":" + std::to_string(options.port); }

Status Server::listen() {
  error_code error;
  const auto address = asio::ip::make_address(options_.host == "localhost" ? "127.0.0.1" : options_.host, error);
  if (error)
    return invalid("--host " + options_.host + " is no IP address; accepted: 127.0.0.1, 0.0.0.0, ::, localhost, ...");
  const tcp::endpoint endpoint(address, static_cast<uint16_t>(options_.port));
  tcp::acceptor& listener = listener_.emplace(context_);
  listener.open(endpoint.protocol(), error);
  if (!error) listener.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) listener.bind(endpoint, error);
  if (!error) listener.listen(asio::socket_base::max_listen_connections, error);
  if (!error) port_ = listener.local_endpoint(error).port();
  if (error) {
    const char* way_out =
        error == asio::error::address_in_use  ? "; another program has the port, choose one with --port"
        : error == asio::error::access_denied ? "; ports below 1024 need a permission, choose another with --port"
        : error == boost::system::errc::address_not_available
            ? "; --host must be an address of this machine, or 0.0.0.0 for all of them"
            : "";
    return io_error("cannot listen on " + address_text(options_) + ": " + error.message() + way_out);
  }
  asio::co_spawn(context_, accept(), [](const std::exception_ptr&) {});
  return {};
}

Status Server::use_tls() {
  const std::string &certificate = options_.certificate_file, &key = options_.key_file;
  if (certificate.empty() && key.empty()) return {};
  if (certificate.empty() || key.empty()) {
    return invalid("TLS needs both --ssl-certfile and --ssl-keyfile; one of them is missing");
  }
  error_code error;
  tls_.emplace(asio::ssl::context::tls_server);
  tls_->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                        asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1,
                    error);
  tls_->use_certificate_chain_file(certificate, error);
  if (error) return io_error("--ssl-certfile " + certificate + " is no readable PEM certificate: " + error.message());
  // A key with a password would ask the terminal.
  tls_->set_password_callback([](size_t, asio::ssl::context::password_purpose) { return std::string(); }, error);
  tls_->use_private_key_file(key, asio::ssl::context::pem, error);
  if (error) {
    return io_error("--ssl-keyfile " + key + " is no readable PEM key of the certificate: " + error.message());
  }
  return {};
}

asio::awaitable<void> Server::accept() {
  asio::steady_timer pause(context_);
  while (listener_->is_open()) {
    auto [error, socket] = co_await listener_->async_accept(kAwait);
    if (error == asio::error::operation_aborted || !listener_->is_open()) co_return;
    if (error) {  // no descriptors left, or the client has gone already
      pause.expires_after(Milliseconds(kAcceptPauseMs));
      co_await pause.async_wait(kAwait);
      continue;
    }
    admit(std::move(socket));
  }
}

/// A client that vanished without a word (power cut, cable) is noticed also while nothing is sent to it: probes, and an
/// end to unacknowledged bytes that the kernel would repeat for a quarter of an hour.
void notice_vanished(tcp::socket& socket, const HttpOptions& options) {
  const auto set = [&](int level, int name, int64_t value) {
    const int number = static_cast<int>(value);
    ::setsockopt(socket.native_handle(), level, name, &number,
                 sizeof(number));  // without it, only the timeouts are left
  };
  constexpr int64_t kProbes = 3;
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, options.keepalive_s);
  set(IPPROTO_TCP, TCP_KEEPINTVL, std::max<int64_t>(1, options.keepalive_s / kProbes));
  set(IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, options.write_timeout_ms);
}

void Server::admit(tcp::socket socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  notice_vanished(socket, options_);
  if (options_.send_buffer_bytes > 0) {
    socket.set_option(asio::socket_base::send_buffer_size(static_cast<int>(options_.send_buffer_bytes)), ignored);
  }
  const bool refused = static_cast<int64_t>(connections_.size()) >= options_.max_connections;
  if (static_cast<int64_t>(connections_.size()) >= 2 * options_.max_connections) return;  // not even a word
  const auto connection = std::make_shared<Connection>(*this, std::move(socket), draining_);
  connections_.insert(connection.get());
  {
    const std::lock_guard lock(mutex_);
    num_connections_ = static_cast<int64_t>(connections_.size());
  }
  asio::co_spawn(context_, connection->serve(refused), [this, connection](const std::exception_ptr&) {
    connection->close();  // also when memory ran out: this client's end, not the server's
    left(connection.get());
  });
}

void Server::left(Connection* connection) {
  connections_.erase(connection);
  if (draining_ && !connection->is_late() && --num_to_drain_ == 0) end_drain();
  const std::lock_guard lock(mutex_);
  num_connections_ = static_cast<int64_t>(connections_.size());
}

void Server::end_drain() {
  error_code ignored;
  listener_->close(ignored);
  const std::lock_guard lock(mutex_);
  drained_ = true;
  changed_.notify_all();
}

void Server::drain() {
  asio::post(context_, [this] {
    if (std::exchange(draining_, true)) return;
    for (Connection* connection : connections_) connection->become_late_if_unused();
    num_to_drain_ = std::ranges::count_if(connections_, [](const Connection* c) { return !c->is_late(); });
    if (num_to_drain_ == 0) return end_drain();
    for (Connection* connection : std::set<Connection*>(connections_)) connection->drain();
  });
}

bool Server::wait_drained(int64_t timeout_ms) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, Milliseconds(timeout_ms), [this] { return drained_; });
}

void Server::stop() {
  context_.stop();
  if (thread_.joinable()) thread_.join();
  aside_.stop();
  aside_.join();
  for (Connection* connection : connections_) connection->abandon();
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::start(const HttpOptions& options, HttpHooks hooks) {
  auto server = std::make_unique<Server>(options, std::move(hooks));
  if (auto s = server->use_tls(); !s) return s.error();
  if (auto s = server->listen(); !s) return s.error();
  server->run();
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace fathom::serve
