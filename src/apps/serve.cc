// fathom serve: a model behind OpenAI's API. Listens first (503 until the model is loaded), says on standard output
// what it serves and where, and ends on Ctrl-C or SIGTERM after the requests in progress.
#include <pthread.h>
#include <signal.h>
#include <stdio_ext.h>

#include <cstdio>
#include <ctime>
#include <system_error>

#include "apps/console.h"
#include "apps/serve_prefixes.h"
#include "apps/served_model.h"
#include "apps/verbs.h"
#include "base/machine.h"
#include "base/rng.h"
#include "engine/speculate.h"
#include "model/quant_policy.h"
#include "serve/server.h"

namespace fathom::apps {
namespace {

constexpr long kPollNs = 100'000'000;
constexpr int64_t kWeightCheckS = 600;

/// Blocks SIGHUP in this thread and those it will start, so that it can be waited for.
sigset_t hold_hangups() {
  sigset_t hangup;
  sigemptyset(&hangup);
  sigaddset(&hangup, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &hangup, nullptr);
  ::signal(SIGPIPE, SIG_IGN);  // a reader of our log that goes is no reason to end
  ::signal(SIGXFSZ, SIG_IGN);  // nor is a file that may not grow: its write says so
  return hangup;
}

std::string_view dtype_name(const Model& model) {
  return name_of(model.weights.blocks.back().attention.o.value.codes.dtype);
}

/// What the pages of a prefix cache depend on beside the engine's options: the bits of the weights (of experts that are
/// read from a file its name, which is a hash of what they are made of), the kernels, and the program, by size and time
/// of change: a build with other kernels may have the same version.
uint64_t prefix_identity(const Session& session, serve::WeightGuard& guard) {
  std::error_code ignored;  // then the version alone speaks for the program
  const Path program = "/proc/self/exe";
  std::string text = std::string(session.kernels_name()) + " " + FATHOM_VERSION + " " +
                     std::to_string(std::filesystem::file_size(program, ignored)) + " " +
                     std::to_string(std::filesystem::last_write_time(program, ignored).time_since_epoch().count());
  if (session.model().experts) text += " " + session.model().experts->file().path().filename().string();
  return guard.digest() ^ stream_of(text);
}

/// A line of the log. That nobody can take it (a full disk) is no failure of the server.
void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  if (std::fflush(stdout) == 0) return;
  ::__fpurge(stdout);
  std::clearerr(stdout);
}

/// What would otherwise be found wrong when the server listens already and the model has been loaded.
Status check_flags(const ServeOptions& options) {
  const ComputeOptions& compute = options.compute;
  const auto named = [](const char* flag, const Error& error) {
    return Error{error.code, std::string(flag) + ": " + error.text};
  };
  if (!compute.precision.empty()) {
    if (auto parsed = parse_precision(compute.precision); !parsed) return named("--precision", parsed.error());
  }
  if (auto parsed = parse_kv_cache_dtype(compute.kv_cache_dtype); !parsed) return parsed.error();
  if (auto parsed = parse_quant_policy(compute.quant); !parsed) return named("--quant", parsed.error());
  if (auto parsed = parse_speculation(compute.speculate); !parsed) return named("--speculate", parsed.error());
  if (compute.mla != "absorbed" && compute.mla != "naive") {
    return invalid("--mla " + compute.mla + " is unknown; accepted: absorbed, naive");
  }
  return {};
}

}  // namespace

Status serve(const ServeOptions& options) {
  if (auto s = check_flags(options); !s) return s;
  const sigset_t hangup = hold_hangups();
  allow_many_open_files();
  serve::ServerOptions server_options = options.server;
  server_options.engine.max_running = options.compute.num_sequences;
  server_options.version = FATHOM_VERSION;
  server_options.log = [quiet = options.compute.is_quiet()](const std::string& line) {
    if (!quiet) std::fprintf(stderr, "%s\n", line.c_str());
  };
  const auto reasoning = serve::parse_reasoning_format(options.reasoning_parser);
  if (!reasoning) return Error{reasoning.error().code, "--reasoning-parser: " + reasoning.error().text};

  std::optional<serve::ToolFormat> tools;  // none: the template's
  if (options.tool_call_parser != "auto") {
    const auto format = serve::parse_tool_format(options.tool_call_parser);
    if (!format) return Error{format.error().code, "--tool-call-parser: " + format.error().text};
    tools = *format;
  }
  const auto share = serve::parse_share(options.verify);
  if (!share) return Error{share.error().code, "--verify: " + share.error().text};
  server_options.checks.verify_share = *share;
  const auto rate = serve::parse_rate_limits(options.rate_limit);
  if (!rate) return Error{rate.error().code, "--rate-limit: " + rate.error().text};
  server_options.rate = *rate;
  for (const std::string& name : options.metrics_compat) {
    const auto dialect = serve::parse_metrics_dialect(name);
    if (!dialect) return Error{dialect.error().code, "--metrics-compat: " + dialect.error().text};
    server_options.metrics_dialects.push_back(*dialect);
  }

  std::optional<PrefixDirectory> prefixes;
  const auto prefix_bytes = parse_memory(options.prefix_cache_size, std::nullopt);
  if (!prefix_bytes) return Error{prefix_bytes.error().code, "--prefix-cache-size: " + prefix_bytes.error().text};
  if (!options.prefix_cache_dir.empty()) {
    auto opened = PrefixDirectory::open(options.prefix_cache_dir);
    if (!opened) return opened.error();
    prefixes.emplace(std::move(*opened));
  }
  if (!options.without_effect.empty()) {
    std::string names;
    for (const std::string& name : options.without_effect) names += (names.empty() ? "" : ", ") + name;
    say("without effect here: " + names);
  }

  std::unique_ptr<Session> session;  // outlives the server, like the next
  std::unique_ptr<serve::WeightGuard> guard;
  auto started = serve::Server::start(server_options);
  if (!started) return started.error();
  serve::Server& server = **started;
  const bool tls = !server_options.http.certificate_file.empty();
  const std::string& host = server_options.http.host;
  const std::string address = std::string(tls ? "https://" : "http://") +
                              (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" +
                              std::to_string(server.port());
  say("listening on " + address + ", loading " + options.model);

  auto loaded = Session::load(options.model, options.compute);
  if (!loaded) {
    if (interrupted()) return {};
    return loaded.error();
  }
  session = std::move(*loaded);
  Engine& engine = session->engine();
  serve::ServedModel model = served_model(*session, options.model);
  model.reasoning = *reasoning;
  if (tools && model.chat_format != nullptr) model.tools = *tools;
  if (!options.names.empty()) model.names = options.names;
  const int64_t cache_tokens = engine.options().max_cache_tokens;
  say("model " + model.names.front() + ": " + session->model().config.model_type + ", " +
      std::string(dtype_name(session->model())) + " weights, context " + std::to_string(model.max_model_len) +
      " tokens" + (model.chat_format == nullptr ? ", no chat template" : ""));
  say("cache " + std::to_string(cache_tokens) + " tokens, " + std::to_string(cache_tokens / model.max_model_len) +
      " full-length requests, " + std::string(kv_cache_name(engine.cache_dtype())));
  // Weights that stay in their file are read from the disk to be hashed: only if that is asked for.
  const int64_t check_s = options.weight_check_s.value_or(options.compute.in_place ? 0 : kWeightCheckS);
  if (check_s > 0 || prefixes) guard = std::make_unique<serve::WeightGuard>(session->model());
  if (check_s > 0) {
    model.weights = guard.get();
    say("weights " + std::to_string(guard->num_bytes() >> 20) + " MiB, checked every " + std::to_string(check_s) +
        " s");
  }
  model.weight_pause_ms = check_s * 1000;
  model.least_priority = options.least_client_priority;
  if (prefixes) {
    const auto failed = [](const std::string& text) { say("prefix cache: " + text + "; serving goes on"); };
    const Status opened = engine.open_prefix_store({.directory = prefixes->path(),
                                                    .identity = prefix_identity(*session, *guard),
                                                    .max_bytes = *prefix_bytes,
                                                    .on_error = failed});
    if (!opened) {
      const bool is_size = opened.error().code == ErrorCode::kInvalidArgument;
      return Error{opened.error().code,
                   std::string(is_size ? "--prefix-cache-size: " : "--prefix-cache-dir: ") + opened.error().text};
    }
    say("prefix cache: " + std::to_string(engine.stats().store.pages) + " pages in " + prefixes->path().string());
  }
  server.attach(std::move(model));
  say("ready on " + address);

  while (!interrupted()) {
    const timespec poll{.tv_sec = 0, .tv_nsec = kPollNs};
    if (::sigtimedwait(&hangup, nullptr, &poll) != SIGHUP) continue;
    if (options.server.api_key_file.empty()) break;  // nothing to read anew: the terminal was closed
    server.reload_keys();
  }
  say("ending: no new requests; those in progress have " + std::to_string(options.drain_timeout_s) + " s");
  clear_interrupt();  // the next one hurries, the one after that ends the program at once
  if (!server.drain(options.drain_timeout_s * 1000, [] { return interrupted(); })) {
    say(interrupted()
            ? "ended requests that were not finished at the second signal"
            : "ended requests that were not finished after " + std::to_string(options.drain_timeout_s) + " s");
  }
  if (!prefixes) return {};
  const bool healthy = server.stats().healthy();
  started->reset();  // the engine is ours again
  session.reset();   // pages that are still to be written
  say(healthy ? "prefix cache: kept in " + prefixes->path().string()
              : "prefix cache: removed, the server was unhealthy");
  return {};
}

}  // namespace fathom::apps
