// fathom serve: a model behind OpenAI's API. Listens first (503 until the model is loaded), says on standard output
// what it serves and where, and ends on Ctrl-C or SIGTERM after the requests in progress.
#include <pthread.h>
#include <signal.h>
#include <stdio_ext.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <system_error>

#include "apps/console.h"
#include "apps/served_model.h"
#include "apps/verbs.h"
#include "base/rng.h"
#include "serve/server.h"

namespace fathom::apps {
namespace {

constexpr long kPollNs = 100'000'000;

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
uint64_t prefix_identity(const Session& session, const serve::WeightGuard& guard) {
  std::error_code ignored;  // then the version alone speaks for the program
  const Path program = "/proc/self/exe";
  std::string text = std::string(session.kernels_name()) + " " + FATHOM_VERSION + " " +
                     std::to_string(std::filesystem::file_size(program, ignored)) + " " +
                     std::to_string(std::filesystem::last_write_time(program, ignored).time_since_epoch().count());
  if (session.model().experts) text += " " + session.model().experts->file().path().filename().string();
  return guard.digest() ^ stream_of(text);
}

/// Takes the pages of an earlier run; a file that cannot be used is put away. What to say about it.
std::string load_prefixes(Engine& engine, const Path& file, uint64_t identity) {
  const auto loaded = engine.load_prefixes(file, identity);
  if (loaded) return "prefix cache: " + std::to_string(*loaded) + " pages from " + file.string();
  if (loaded.error().code == ErrorCode::kNotFound) return "prefix cache: will be saved to " + file.string();
  std::error_code ignored;
  std::filesystem::remove(file, ignored);
  return "prefix cache discarded: " + loaded.error().text;
}

/// A line of the log. That nobody can take it (a full disk) is no failure of the server.
void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  if (std::fflush(stdout) == 0) return;
  ::__fpurge(stdout);
  std::clearerr(stdout);
}

}  // namespace

Status serve(const ServeOptions& options) {
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

  if (std::error_code failed; !options.prefix_cache_dir.empty()) {
    std::filesystem::create_directories(options.prefix_cache_dir, failed);
    if (failed) return io_error("--prefix-cache-dir: " + options.prefix_cache_dir + ": " + failed.message());
    // Now, and not when everything is lost that was to be kept.
    if (::access(options.prefix_cache_dir.c_str(), W_OK | X_OK) != 0) {
      return io_error("--prefix-cache-dir: " + options.prefix_cache_dir + " cannot be written: " +
                      std::generic_category().message(errno) + "; give a directory of this user's");
    }
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
  if (*share > 0 || !options.prefix_cache_dir.empty()) {
    guard = std::make_unique<serve::WeightGuard>(session->model());
    say("hashed " + std::to_string(guard->num_bytes() >> 20) + " MiB of weights");
  }
  if (*share > 0) model.weights = guard.get();
  const Path prefix_file =
      options.prefix_cache_dir.empty() ? Path() : Path(options.prefix_cache_dir) / "prefix-cache.bin";
  const uint64_t identity = guard == nullptr ? 0 : prefix_identity(*session, *guard);
  if (!prefix_file.empty()) say(load_prefixes(engine, prefix_file, identity));
  server.attach(std::move(model));
  say("ready on " + address);

  while (!interrupted()) {
    const timespec poll{.tv_sec = 0, .tv_nsec = kPollNs};
    if (::sigtimedwait(&hangup, nullptr, &poll) == SIGHUP) server.reload_keys();
  }
  say("ending: no new requests; those in progress have " + std::to_string(options.drain_timeout_s) + " s");
  if (!server.drain(options.drain_timeout_s * 1000)) {
    say("ended requests that were not finished after " + std::to_string(options.drain_timeout_s) + " s");
  }
  if (prefix_file.empty()) return {};
  const bool healthy = server.stats().healthy();
  started->reset();  // the engine is ours again
  if (!healthy) {
    say("prefix cache not saved: the server was unhealthy");
  } else if (const auto saved = engine.save_prefixes(prefix_file, identity); !saved) {
    say("prefix cache not saved: " + saved.error().text);
  } else {
    say("prefix cache saved to " + prefix_file.string());
  }
  return {};
}

}  // namespace fathom::apps
