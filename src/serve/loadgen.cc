#include "serve/loadgen.h"

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <chrono>

#include "serve/load_stream.h"

namespace fathom::serve {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr auto kAwaitOutcome = asio::as_tuple(asio::use_awaitable);
constexpr size_t kPieceBytes = 8192;
constexpr uint32_t kMostHeaderBytes = 64 << 10;
constexpr size_t kMostErrorBytes = 4096;  // of the body of a refusal
constexpr auto kTick = std::chrono::milliseconds(100);

Clock::duration duration_of(double seconds) {
  constexpr double kMost = 1e8;  // three years: later than anything here
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(std::clamp(seconds, 0.0, kMost)));
}

/// What an exchange tells of an answer while it comes, and how it ended.
struct Answer {
  unsigned status = 0;
  std::string error{};  // kind
  std::string error_text{};
};

/// One request and its answer over a connection of its own. `on_bytes` gets the body of a 200, and says whether to go
/// on; the body of another status is kept in `refusal`. Arguments by reference to something with a name: g++ 12 is not
/// to be trusted with temporaries in co_await expressions. The request is emptied when it has been sent.
template <class OnBytes>
asio::awaitable<Answer> exchange(asio::io_context& context, const tcp::endpoint& server, Clock::time_point deadline,
                                 http::request<http::string_body>& request, OnBytes& on_bytes, std::string& refusal) {
  Answer answer;
  const auto fail = [&answer](error_code error, const char* kind) {
    const bool late = error == beast::error::timeout;
    answer.error = late ? "timeout" : kind;
    answer.error_text = late ? "" : error.message();
  };
  beast::tcp_stream stream(context);
  stream.expires_at(deadline);
  {
    const auto [error] = co_await stream.async_connect(server, kAwaitOutcome);
    if (error) {
      fail(error, "connect");
      co_return answer;
    }
  }
  error_code ignored;
  stream.socket().set_option(tcp::no_delay(true), ignored);
  {
    const auto [error, count] = co_await http::async_write(stream, request, kAwaitOutcome);
    // A server that refuses early may close before it has read everything; what it said is still there to read.
    if (error == beast::error::timeout) {
      fail(error, "closed");
      co_return answer;
    }
  }
  request = {};  // a long prompt need not stay until the answer has ended
  beast::flat_buffer buffer(kMostHeaderBytes + kPieceBytes);
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  parser.header_limit(kMostHeaderBytes);
  {
    const auto [error, count] = co_await http::async_read_header(stream, buffer, parser, kAwaitOutcome);
    if (error) {
      fail(error, "closed");
      co_return answer;
    }
  }
  answer.status = parser.get().result_int();
  std::array<char, kPieceBytes> piece;
  while (!parser.is_done()) {
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    parser.get().body().more = true;
    const auto [error, count] = co_await http::async_read_some(stream, buffer, parser, kAwaitOutcome);
    const std::string_view bytes(piece.data(), piece.size() - parser.get().body().size);
    if (answer.status != 200) {
      refusal += bytes.substr(0, kMostErrorBytes - std::min(kMostErrorBytes, refusal.size()));
    } else if (!bytes.empty() && !on_bytes(bytes)) {
      co_return answer;
    }
    if (error && error != http::error::need_buffer) {
      fail(error, "closed");
      co_return answer;
    }
  }
  co_return answer;
}

http::request<http::string_body> head_of(http::verb verb, const LoadTarget& target, const std::string& path) {
  http::request<http::string_body> request(verb, target.base + path, 11);
  request.set(http::field::host, target.address);
  request.set(http::field::connection, "close");
  request.set(http::field::user_agent, "fathom bench serve");
  if (!target.api_key.empty()) request.set(http::field::authorization, "Bearer " + target.api_key);
  return request;
}

tcp::endpoint endpoint_of(const LoadTarget& target) {
  error_code ignored;  // parse_target has judged it
  return {asio::ip::make_address(target.address, ignored), target.port};
}

class Generator {
 public:
  Generator(const LoadPlan& plan, const LoadTarget& target, const LoadOptions& options, Progress& progress)
      : plan_(plan), target_(target), options_(options), progress_(progress), server_(endpoint_of(target)) {}

  Result<LoadOutcome> run() {
    outcome_.records.resize(static_cast<size_t>(plan_.size()));
    asio::co_spawn(context_, conduct(), [](const std::exception_ptr&) {});
    asio::co_spawn(context_, watch(), [](const std::exception_ptr&) {});
    context_.run();
    if (error_) return *error_;
    if (options_.cold_first) {
      outcome_.cold = std::move(outcome_.records.front());
      outcome_.records.erase(outcome_.records.begin());
    }
    return std::move(outcome_);
  }

 private:
  double now_s() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  void end(std::optional<Error> error) {
    error_ = std::move(error);
    over_ = true;
    context_.stop();
  }

  /// Warm-ups, the cold request, then the plan.
  asio::awaitable<void> conduct() {
    GapHistogram unused;
    for (int64_t i = 0; i < options_.num_warmups; ++i) {
      LoadRecord record;
      const std::vector<int32_t> prompt = plan_.warm_up_prompt(i % plan_.size(), options_.tokens);
      co_await send(prompt, plan_.output_len(i % plan_.size()), record, unused);
      if (!record.answered()) co_return end(refused("the warm-up request", record));
    }
    if (options_.cold_first) {
      LoadRecord& record = outcome_.records.front();
      const std::vector<int32_t> prompt = plan_.prompt(0, options_.tokens);
      co_await send(prompt, plan_.output_len(0), record, unused);
      if (!record.answered()) co_return end(refused("the first request", record));
      next_ = num_done_ = 1;
    }
    // What is due at a time is due from here on.
    offset_s_ = now_s();
    wake_.expires_at(Clock::time_point::max());
    while (num_done_ < plan_.size()) {
      start_due();
      if (num_done_ == plan_.size()) break;
      const bool waits_for_time = next_ < plan_.size() && in_flight_ < options_.max_in_flight;
      wake_.expires_at(waits_for_time ? begin_ + duration_of(offset_s_ + plan_.start_s(next_))
                                      : Clock::time_point::max());
      co_await wake_.async_wait(kAwaitOutcome);
    }
    end(std::nullopt);
  }

  void start_due() {
    while (next_ < plan_.size() && in_flight_ < options_.max_in_flight) {
      const double late = now_s() - offset_s_ - plan_.start_s(next_);
      if (late < 0) return;
      outcome_.latest_start_s = std::max(outcome_.latest_start_s, late);
      ++in_flight_;
      outcome_.most_in_flight = std::max(outcome_.most_in_flight, in_flight_);
      asio::co_spawn(context_, one(next_++), [](const std::exception_ptr&) {});
    }
  }

  asio::awaitable<void> one(int64_t i) {
    LoadRecord& record = outcome_.records[static_cast<size_t>(i)];
    const std::vector<int32_t> prompt = plan_.prompt(i, options_.tokens);
    co_await send(prompt, plan_.output_len(i), record, outcome_.gaps);
    --in_flight_;
    ++num_done_;
    num_errors_ += !record.answered();
    num_tokens_ += record.output_tokens;
    wake_.cancel();
  }

  std::string body_of(const std::vector<int32_t>& prompt, int64_t output_len) const {
    Json json = Json::object();
    if (!options_.model.empty()) json.set("model", options_.model);
    if (options_.as_words) {
      json.set("prompt", words_of(prompt));
    } else {
      Json ids = Json::array();
      for (const int32_t id : prompt) ids.push(int64_t{id});
      json.set("prompt", std::move(ids));
    }
    // n_predict is what llama.cpp's older servers call max_tokens.
    json.set("max_tokens", output_len).set("n_predict", output_len).set("ignore_eos", true).set("temperature", 0);
    json.set("stream", true).set("stream_options", Json::object().set("include_usage", true));
    if (options_.extra.is_object()) {
      for (const auto& [key, value] : options_.extra.members()) json.set(key, value);
    }
    return json.dump();
  }

  /// Sends one request and fills in its record. The prompt outlives the call.
  asio::awaitable<void> send(const std::vector<int32_t>& prompt, int64_t output_len, LoadRecord& record,
                             GapHistogram& gaps) {
    http::request<http::string_body> request = head_of(http::verb::post, target_, options_.endpoint);
    request.set(http::field::content_type, "application/json");
    request.body() = body_of(prompt, output_len);
    request.prepare_payload();
    LoadStream stream;
    int64_t pieces = 0;
    double last_s = 0;
    const Clock::time_point start = Clock::now();
    record.start_s = std::chrono::duration<double>(start - begin_).count();
    const auto on_bytes = [&](std::string_view bytes) {
      const bool good = stream.push(bytes);
      const double now = now_s();
      // What came together in one read came at one time: the gap is that of the first piece in it.
      if (const int64_t came = stream.num_pieces() - pieces; came > 0) {
        if (pieces == 0) {
          record.first_s = now;
        } else {
          gaps.add(now - last_s);
          record.longest_gap_s = std::max(record.longest_gap_s, now - last_s);
        }
        for (int64_t i = 1; i < came; ++i) gaps.add(0);
        pieces += came;
        last_s = now;
      }
      return good;
    };
    std::string refusal;
    const Clock::time_point deadline = start + duration_of(options_.timeout_s);
    const Answer answer = co_await exchange(context_, server_, deadline, request, on_bytes, refusal);
    record.end_s = now_s();
    record.error = answer.error;
    record.error_text = answer.error_text;
    if (answer.status != 0 && answer.status != 200) {
      record.error = "http " + std::to_string(answer.status);
      record.error_text = error_message(refusal);
    } else if (stream.error()) {
      record.error = "error event";
      record.error_text = *stream.error();
    } else if (!stream.problem().empty()) {
      record.error = "malformed";
      record.error_text = stream.problem();
    } else if (record.answered() && !stream.finished()) {
      record.error = "closed";
      record.error_text = "the answer ended without a finish_reason";
    }
    if (pieces == 0) {
      record.first_s = record.end_s;
    } else if (record.answered()) {
      record.end_s = last_s;
    }
    record.input_tokens = stream.prompt_tokens().value_or(static_cast<int64_t>(prompt.size()));
    record.output_tokens = stream.output_tokens().value_or(pieces);
    record.tokens_are_pieces = !stream.output_tokens();
    record.cached_tokens = stream.cached_tokens();
  }

  Error refused(std::string_view which, const LoadRecord& record) const {
    return io_error(std::string(which) + " to http://" + target_.address + ":" + std::to_string(target_.port) +
                    target_.base + options_.endpoint + " failed: " + record.error +
                    (record.error_text.empty() ? "" : ": " + record.error_text));
  }

  asio::awaitable<void> watch() {
    asio::steady_timer timer(context_);
    while (!over_) {
      timer.expires_after(kTick);
      co_await timer.async_wait(kAwaitOutcome);
      if (progress_.stop_requested()) co_return end(cancelled("interrupted during the load test"));
      std::string note = std::to_string(in_flight_) + " in flight, " + std::to_string(num_tokens_) + " tokens";
      if (num_errors_ > 0) note += ", " + std::to_string(num_errors_) + " errors";
      progress_.update("requests", num_done_, plan_.size(), note);
    }
  }

  const LoadPlan& plan_;
  const LoadTarget& target_;
  const LoadOptions& options_;
  Progress& progress_;
  const tcp::endpoint server_;
  const Clock::time_point begin_ = Clock::now();
  asio::io_context context_{1};
  asio::steady_timer wake_{context_};
  LoadOutcome outcome_;
  std::optional<Error> error_;
  double offset_s_ = 0;
  int64_t next_ = 0, num_done_ = 0, in_flight_ = 0, num_errors_ = 0, num_tokens_ = 0;
  bool over_ = false;
};

}  // namespace

Result<LoadTarget> parse_target(std::string_view url) {
  const auto refuse = [url](std::string_view why) {
    return invalid("\"" + std::string(url.substr(0, 200)) + "\" " + std::string(why) +
                   "; accepted: http://127.0.0.1:8000, and other addresses of this machine's loopback");
  };
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme)) return refuse("does not begin with http://");
  std::string_view rest = url.substr(kScheme.size());
  LoadTarget target;
  const size_t slash = std::min(rest.find('/'), rest.size());
  target.base = rest.substr(slash);
  while (target.base.ends_with('/')) target.base.pop_back();
  const auto is_plain = [](char c) { return c > ' ' && c < 127 && c != '?' && c != '#'; };
  if (!std::all_of(target.base.begin(), target.base.end(), is_plain)) return refuse("has a path that is none");
  rest = rest.substr(0, slash);
  const size_t bracket = rest.find(']');
  const size_t colon = rest.find(':', bracket == rest.npos ? 0 : bracket);
  std::string host(rest.substr(0, colon));
  if (colon != rest.npos) {
    const std::string_view port = rest.substr(colon + 1);
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), target.port);
    if (error != std::errc{} || end != port.data() + port.size() || target.port == 0) {
      return refuse("has no port from 1 to 65535");
    }
  } else {
    target.port = 80;
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host == "localhost") host = "127.0.0.1";
  error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (error || !address.is_loopback()) return refuse("is not on this machine: only the loopback is put under load");
  target.address = address.to_string();
  return target;
}

Result<ServerFacts> ask_server(const LoadTarget& target, int64_t timeout_s) {
  constexpr size_t kMostBytes = size_t{1} << 20;
  const std::string url = "http://" + target.address + ":" + std::to_string(target.port) + target.base;
  asio::io_context context(1);
  const tcp::endpoint server = endpoint_of(target);
  std::string body, refusal;
  Answer answer;
  const auto ask = [&]() -> asio::awaitable<void> {
    http::request<http::string_body> request = head_of(http::verb::get, target, "/v1/models");
    const auto on_bytes = [&body](std::string_view bytes) {
      body += bytes;
      return body.size() < kMostBytes;
    };
    const Clock::time_point deadline = Clock::now() + std::chrono::seconds(timeout_s);
    answer = co_await exchange(context, server, deadline, request, on_bytes, refusal);
  };
  asio::co_spawn(context, ask(), [](const std::exception_ptr&) {});
  context.run();
  if (answer.status == 0) {
    return io_error("no server at " + url + ": " + (answer.error_text.empty() ? answer.error : answer.error_text));
  }
  if (answer.status == 401 || answer.status == 403) {
    return io_error(url + " wants a key: " + error_message(refusal) + "; give --api-key");
  }
  ServerFacts facts;
  const auto json = Json::parse(body, "/v1/models");
  const Json* data = json ? json->find("data") : nullptr;
  if (data == nullptr || !data->is_array() || data->items().empty()) return facts;
  const Json& model = data->items().front();
  if (const Json* id = model.find("id"); id != nullptr && id->is_string()) facts.model = id->as_string();
  const auto count = [](const Json* object, std::string_view key, std::optional<int64_t>& out) {
    const Json* found = object == nullptr ? nullptr : object->find(key);
    if (found != nullptr && found->is_int() && found->as_int() > 0) out = found->as_int();
  };
  count(model.find("meta"), "n_vocab", facts.vocab_size);
  count(model.find("meta"), "n_ctx_train", facts.context_length);
  count(&model, "max_model_len", facts.context_length);
  return facts;
}

Result<LoadOutcome> run_load(const LoadPlan& plan, const LoadTarget& target, const LoadOptions& options,
                             Progress& progress) {
  return Generator(plan, target, options, progress).run();
}

}  // namespace fathom::serve
