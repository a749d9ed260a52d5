// fathom bench serve: a server under load: one that runs on this machine, or a model that this process serves, or (to
// see what serving costs) that model's engine without a server. Which requests, and what they amount to, is in
// serve/load_plan.h and serve/load_report.h.
#include <algorithm>
#include <cstdio>
#include <unordered_map>

#include "apps/console.h"
#include "apps/served_model.h"
#include "apps/verbs.h"
#include "serve/loadgen.h"
#include "serve/server.h"

namespace fathom::apps {
namespace {

constexpr int64_t kDefaultConcurrency = 16;
constexpr int64_t kOwnFiles = 64;  // that are open beside the connections

/// What is put under load.
struct Subject {
  std::unique_ptr<Session> session;       // of MODEL; outlives the server
  std::unique_ptr<serve::Server> server;  // of this process
  serve::LoadTarget target;               // with a server
  std::string name;                       // for people: an address, or the model's directory
  std::string model;                      // in requests
  std::optional<int64_t> vocab_size, context_length;
};

bool is_open_loop(const BenchServeOptions& options) { return options.rate.has_value() || !options.trace.empty(); }

Result<serve::LoadPlan> plan_of(const BenchServeOptions& options) {
  if (options.trace.empty()) {
    if (options.shared_prefix_len > 0 && options.num_prompts < 2) {
      return invalid("--shared-prefix-len needs --num-prompts of 2 or more: the first request computes the prefix");
    }
    const serve::SyntheticLoad load{.num_prompts = options.num_prompts,
                                    .input_len = options.input_len,
                                    .output_len = options.output_len,
                                    .shared_prefix_len = options.shared_prefix_len,
                                    .requests_per_s = options.rate.value_or(0)};
    return serve::LoadPlan::synthetic(load, options.seed);
  }
  const auto text = read_file(options.trace);
  if (!text) return Error{text.error().code, "--trace: " + text.error().text};
  const serve::TraceScale scale{
      .speed_up = options.speed_up, .length_scale = options.length_scale, .limit = options.limit};
  auto plan = serve::LoadPlan::from_trace(*text, options.trace, scale, options.seed);
  if (!plan) return Error{plan.error().code, "--trace: " + plan.error().text};
  return plan;
}

/// Requests that may be out at the same time: no more than there are, and than files may be open for.
Result<int64_t> max_in_flight(const BenchServeOptions& options, int64_t num_requests) {
  const int64_t asked = options.concurrency.value_or(is_open_loop(options) ? num_requests : kDefaultConcurrency);
  const int64_t wanted = std::min(asked, num_requests);
  if (options.offline) return wanted;
  const int64_t ends = options.url.empty() ? 2 : 1;  // of a connection that are ours
  const int64_t most = std::max<int64_t>(1, (allow_many_open_files() - kOwnFiles) / ends);
  if (options.concurrency && wanted > most) {
    return invalid("--concurrency " + std::to_string(*options.concurrency) + " needs " +
                   std::to_string(wanted * ends + kOwnFiles) + " open files, and " +
                   std::to_string(most * ends + kOwnFiles) + " are allowed; raise the hard limit (ulimit -Hn)");
  }
  return std::min(wanted, most);
}

Result<Subject> remote(const BenchServeOptions& options) {
  constexpr int64_t kPatienceS = 30;
  Subject subject;
  const auto target = serve::parse_target(options.url);
  if (!target) return Error{target.error().code, "--url: " + target.error().text};
  subject.target = *target;
  subject.target.api_key = options.api_key;
  const auto facts = serve::ask_server(subject.target, std::min(kPatienceS, options.timeout_s));
  if (!facts) return facts.error();
  subject.name = options.url;
  subject.model = facts->model;
  subject.vocab_size = facts->vocab_size;
  subject.context_length = facts->context_length;
  return subject;
}

Result<Subject> local(const BenchServeOptions& options, int64_t in_flight) {
  Subject subject;
  auto session = Session::load(options.model, options.compute);
  if (!session) return session.error();
  subject.session = std::move(*session);
  subject.name = subject.session->model_dir().string();
  subject.vocab_size = subject.session->model().config.vocab_size;
  subject.context_length = subject.session->context_length();
  if (options.offline) return subject;
  serve::ServerOptions server_options;
  server_options.http.port = 0;
  server_options.http.max_connections = in_flight + kOwnFiles;
  server_options.engine = {.max_running = options.compute.num_sequences, .max_waiting = in_flight + kOwnFiles};
  server_options.version = FATHOM_VERSION;
  auto server = serve::Server::start(server_options);
  if (!server) return server.error();
  subject.server = std::move(*server);
  serve::ServedModel model = served_model(*subject.session, options.model);
  subject.model = model.names.front();
  subject.server->attach(std::move(model));
  subject.target = {
      .address = "127.0.0.1", .port = static_cast<uint16_t>(subject.server->port()), .base = {}, .api_key = {}};
  return subject;
}

Result<serve::TokenRange> tokens_of(const BenchServeOptions& options, const Subject& subject) {
  if (options.vocab_size > 0) return serve::token_range(options.vocab_size);
  if (subject.vocab_size) return serve::token_range(*subject.vocab_size);
  if (options.words) return serve::token_range(INT32_MAX);
  return invalid(
      "the server does not say how many tokens its vocabulary has; give --vocab-size, or --words for "
      "prompts of words");
}

Status check_lengths(const BenchServeOptions& options, const serve::LoadPlan& plan, const Subject& subject) {
  if (!subject.context_length || !options.trace.empty() || plan.longest() <= *subject.context_length) return {};
  return invalid("--shared-prefix-len " + std::to_string(options.shared_prefix_len) + ", --input-len " +
                 std::to_string(options.input_len) + " and --output-len " + std::to_string(options.output_len) +
                 " make " + std::to_string(plan.longest()) + " tokens; the context of " + subject.name + " has " +
                 std::to_string(*subject.context_length));
}

/// The plan's requests through the engine, as many at a time as the server would get from the same clients.
class Offline {
 public:
  Offline(const serve::LoadPlan& plan, Session& session, serve::TokenRange tokens)
      : plan_(plan),
        engine_(session.engine()),
        tokens_(tokens),
        sampling_(session.sampling({})),
        speculation_(session.speculation()) {
    sampling_.temperature = 0;
  }

  Result<serve::LoadOutcome> run(int64_t num_warmups, bool cold_first, int64_t in_flight, ConsoleProgress& progress) {
    serve::LoadOutcome outcome;
    serve::GapHistogram unused;
    for (int64_t i = 0; i < num_warmups; ++i) {
      serve::LoadRecord record;
      const int64_t like = i % plan_.size();
      begin(record, plan_.warm_up_prompt(like, tokens_), plan_.output_len(like));
      if (auto s = finish_all(unused, nullptr); !s) return s.error();
    }
    int64_t next = 0;
    if (cold_first) {
      begin(outcome.cold.emplace(), plan_.prompt(next, tokens_), plan_.output_len(next));
      if (auto s = finish_all(unused, nullptr); !s) return s.error();
      ++next;
    }
    outcome.records.resize(static_cast<size_t>(plan_.size() - next));
    outcome.most_in_flight = std::min(in_flight, std::ssize(outcome.records));
    const int64_t first = next;
    const auto refill = [&] {
      for (; next < plan_.size() && std::ssize(running_) < in_flight; ++next) {
        serve::LoadRecord& record = outcome.records[static_cast<size_t>(next - first)];
        begin(record, plan_.prompt(next, tokens_), plan_.output_len(next));
      }
      progress.update("requests", next - std::ssize(running_), plan_.size(), "");
    };
    if (auto s = finish_all(outcome.gaps, refill); !s) return s.error();
    return outcome;
  }

 private:
  struct Running {
    serve::LoadRecord* record;
    double last_s = 0;
  };

  double now_s() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  void begin(serve::LoadRecord& record, std::vector<int32_t> prompt, int64_t output_len) {
    record.start_s = now_s();
    record.input_tokens = std::ssize(prompt);
    const auto id = engine_.submit({.prompt = std::move(prompt),
                                    .sampling = sampling_,
                                    .max_new_tokens = output_len,
                                    .speculation = speculation_,
                                    .ignore_stop_tokens = true});
    if (id) {
      running_.emplace(*id, Running{.record = &record});
    } else {
      record.end_s = record.first_s = record.start_s;
      record.error = "refused";
      record.error_text = id.error().text;
    }
  }

  /// Steps until nothing runs; `refill` begins what may begin.
  Status finish_all(serve::GapHistogram& gaps, const std::function<void()>& refill) {
    while (true) {
      if (refill) refill();
      if (running_.empty()) return {};
      if (interrupted()) return interrupted_error("the load test");
      const auto events = engine_.step();
      if (!events) return events.error();
      const double now = now_s();
      for (const TokenEvent& event : *events) see(event, now, gaps);
    }
  }

  void see(const TokenEvent& event, double now, serve::GapHistogram& gaps) {
    Running& running = running_.at(event.sequence_id);
    serve::LoadRecord& record = *running.record;
    if (event.token != TokenEvent::kNoToken) {
      if (record.output_tokens++ == 0) {
        record.first_s = now;
      } else {
        gaps.add(now - running.last_s);
        record.longest_gap_s = std::max(record.longest_gap_s, now - running.last_s);
      }
      running.last_s = now;
    }
    if (event.finish == FinishReason::kNone) return;
    record.end_s = now;
    if (record.output_tokens == 0) record.first_s = now;
    record.cached_tokens = event.prefix_hit_tokens;
    if (event.finish == FinishReason::kNumericError) record.error = "not a number";
    running_.erase(event.sequence_id);
    engine_.remove(event.sequence_id);
  }

  const serve::LoadPlan& plan_;
  Engine& engine_;
  const serve::TokenRange tokens_;
  SamplingParams sampling_;
  SpeculationParams speculation_;
  const Clock::time_point begin_ = Clock::now();
  std::unordered_map<int64_t, Running> running_;
};

std::string mode_text(const BenchServeOptions& options, int64_t in_flight) {
  const std::string most = std::to_string(in_flight) + " at the same time";
  if (!options.trace.empty()) {
    char scale[96];
    std::snprintf(scale, sizeof(scale), ", %g times as fast, %g times as long, at most ", options.speed_up,
                  options.length_scale);
    return "trace " + options.trace + scale + most;
  }
  char rate[64] = "";
  if (options.rate) std::snprintf(rate, sizeof(rate), "Poisson arrivals, %g a second, at most ", *options.rate);
  return rate + most + ", " + std::to_string(options.num_prompts) + " prompts of " +
         (options.shared_prefix_len > 0 ? std::to_string(options.shared_prefix_len) + " shared and " : "") +
         std::to_string(options.input_len) + " random tokens, answers of " + std::to_string(options.output_len);
}

Json settings_of(const BenchServeOptions& options, const Subject& subject, int64_t in_flight) {
  Json json = Json::object();
  json.set("model", subject.session == nullptr ? Json(subject.model) : Json(subject.name));
  json.set("server", options.offline ? "none" : options.url.empty() ? "in process" : options.url);
  if (subject.session != nullptr) json.set("kernels", subject.session->kernels_name());
  json.set("max_in_flight", in_flight).set("seed", options.seed);
  if (options.rate) json.set("rate", *options.rate);
  if (!options.trace.empty()) {
    json.set("trace", options.trace).set("speed_up", options.speed_up).set("length_scale", options.length_scale);
    return json.set("limit", options.limit);
  }
  json.set("num_prompts", options.num_prompts).set("input_len", options.input_len);
  return json.set("output_len", options.output_len).set("shared_prefix_len", options.shared_prefix_len);
}

/// "input_len 128, now 64": what differs between the settings of two reports besides the speed.
std::vector<std::string> differences_of_settings(const Json& before, const Json& now) {
  std::vector<std::string> out;
  const Json *old_settings = before.find("settings"), *settings = now.find("settings");
  if (old_settings == nullptr || !old_settings->is_object()) return out;
  for (const auto& [key, value] : settings->members()) {
    const Json* old = old_settings->find(key);
    if (old != nullptr && !(*old == value)) out.push_back(key + " " + old->dump() + ", now " + value.dump());
  }
  return out;
}

Json to_json(const std::vector<serve::LoadComparison>& comparisons) {
  Json array = Json::array();
  for (const serve::LoadComparison& c : comparisons) {
    Json line = Json::object().set("figure", c.name).set("new", c.now);
    line.set("old", c.before ? Json(*c.before) : Json()).set("ratio", c.ratio() ? Json(*c.ratio()) : Json());
    array.push(std::move(line));
  }
  return array;
}

Result<Json> read_report(const std::string& path) {
  constexpr int64_t kMostBytes = int64_t{16} << 20;
  const auto text = read_file(path, kMostBytes);
  if (!text) return text.error();
  return Json::parse(*text, path);
}

}  // namespace

Result<int> bench_serve(const BenchServeOptions& options) {
  if (options.model.empty() && options.url.empty()) {
    return invalid("name a MODEL to serve, or --url of a server; see fathom bench serve --help");
  }
  // Whatever the flags can have wrong, before a model is loaded.
  serve::LatencyGoals goals;
  if (!options.goodput.empty()) {
    const auto parsed = serve::parse_goals(options.goodput);
    if (!parsed) return Error{parsed.error().code, "--goodput: " + parsed.error().text};
    goals = *parsed;
  }
  serve::LoadOptions load;
  load.endpoint = options.endpoint;
  load.num_warmups = options.num_warmups;
  load.cold_first = options.shared_prefix_len > 0;
  load.as_words = options.words;
  load.timeout_s = static_cast<double>(options.timeout_s);
  if (!options.extra_body.empty()) {
    auto extra = Json::parse(options.extra_body, "--extra-body");
    if (!extra) return extra.error();
    if (!extra->is_object()) return invalid("--extra-body is no JSON object, but " + std::string(extra->kind()));
    load.extra = std::move(*extra);
  }
  if (!options.endpoint.starts_with('/')) return invalid("--endpoint \"" + options.endpoint + "\" begins with no /");
  const auto plan = plan_of(options);
  if (!plan) return plan.error();
  const auto in_flight = max_in_flight(options, plan->size());
  if (!in_flight) return in_flight.error();
  load.max_in_flight = *in_flight;
  std::optional<Json> earlier;
  if (!options.compare.empty()) {
    auto read = read_report(options.compare);
    if (!read) return Error{read.error().code, "--compare: " + read.error().text};
    earlier = std::move(*read);
    const auto judged = serve::compare_loads(serve::to_json(serve::LoadReport{}), *earlier, options.compare);
    if (!judged) return Error{judged.error().code, "--compare: " + judged.error().text};
  }

  auto subject = options.url.empty() ? local(options, *in_flight) : remote(options);
  if (!subject) return subject.error();
  if (auto s = check_lengths(options, *plan, *subject); !s) return s.error();
  const auto tokens = tokens_of(options, *subject);
  if (!tokens) return tokens.error();
  load.tokens = *tokens;
  load.model = options.model_name.empty() ? subject->model : options.model_name;

  ConsoleProgress progress(options.json || options.compute.is_quiet());
  auto outcome =
      options.offline
          ? Offline(*plan, *subject->session, *tokens).run(load.num_warmups, load.cold_first, *in_flight, progress)
          : serve::run_load(*plan, subject->target, load, progress);
  progress.finish();
  if (!outcome) return outcome.error();
  serve::LoadReport report = serve::summarise(outcome->records, outcome->gaps, goals);
  if (outcome->cold) report.cold_ttft_ms = 1e3 * outcome->cold->ttft_s();

  Json json = Json::object();
  json.set("settings", settings_of(options, *subject, *in_flight));
  const Json figures = serve::to_json(report);
  for (const auto& [key, value] : figures.members()) json.set(key, value);
  json.set("most_in_flight", outcome->most_in_flight).set("latest_start_ms", 1e3 * outcome->latest_start_s);
  std::vector<serve::LoadComparison> comparisons;
  if (earlier) {
    auto compared = serve::compare_loads(json, *earlier, options.compare);
    if (!compared) return Error{compared.error().code, "--compare: " + compared.error().text};
    comparisons = std::move(*compared);
  }
  if (options.json) {
    if (earlier) json.set("compare", to_json(comparisons));
    std::printf("%s\n", json.dump(2).c_str());
  } else {
    std::printf("%s%s: %s\n\n%s", subject->name.c_str(), options.offline ? ", engine without a server" : "",
                mode_text(options, *in_flight).c_str(), serve::load_table(report).c_str());
    if (is_open_loop(options)) {
      std::printf("requests began %.1f ms after they were due at most\n", 1e3 * outcome->latest_start_s);
    }
    if (earlier) {
      std::printf("\nagainst %s\n", options.compare.c_str());
      for (const std::string& difference : differences_of_settings(*earlier, json)) {
        std::printf("  another %s\n", difference.c_str());
      }
      std::printf("%s", serve::comparison_table(comparisons).c_str());
    }
  }
  int code = report.answered == report.requests ? 0 : 1;
  if (options.fail_below) {
    const auto ratio = comparisons.front().ratio();  // of output tokens per second
    if (ratio && *ratio < *options.fail_below) {
      std::fprintf(stderr, "fathom: below --fail-below: output tokens per second, new/old %.3f\n", *ratio);
      code = 1;
    }
  }
  return code;
}

}  // namespace fathom::apps
