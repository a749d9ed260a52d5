// The flags of fathom serve. Names in second place are those of vLLM, SGLang and llama.cpp.
#include <CLI/CLI.hpp>

#include "apps/flags.h"
#include "apps/verbs.h"

namespace fathom::apps {

void add_serve_flags(CLI::App& app, ServeOptions& options) {
  serve::ServerOptions& server = options.server;
  serve::HttpOptions& http = server.http;
  app.add_option("--served-model-name,-a,--alias", options.names,
                 "name of the model for clients; may be given several times")
      ->expected(1)
      ->take_all();
  app.add_option("--reasoning-parser,--reasoning-format", options.reasoning_parser,
                 "how reasoning is told from the answer: auto, deepseek_r1, deepseek_v3, none")
      ->capture_default_str();
  app.add_option("--tool-call-parser", options.tool_call_parser,
                 "how tool calls are told from the answer: auto (as the chat template writes them), deepseek_v3, "
                 "deepseek_v31, kimi_k2, none")
      ->capture_default_str();
  app.add_flag(
      "--enable-auto-tool-choice,--jinja,--enable-prefix-caching,--enable-chunked-prefill,"
      "--enable-metrics,--metrics",
      options.always_on, "accepted from others' command lines: these are always on");
  app.add_option("--host", http.host, "address to listen on; 0.0.0.0: every one")
      ->capture_default_str()
      ->group("Network");
  add_integer<int64_t>(app, "--port", http.port, 0, 65535, "port; 0: any free one, which is printed")->group("Network");
  app.add_option("--ssl-certfile", http.certificate_file, "PEM certificate chain: serve HTTPS")->group("Network");
  app.add_option("--ssl-keyfile", http.key_file, "PEM key of the certificate")->group("Network");
  app.add_option("--api-key", server.api_keys,
                 "key that clients must send; may be given several times (or FATHOM_API_KEY)")
      ->expected(1)
      ->take_all()
      ->envname("FATHOM_API_KEY")
      ->group("Network");
  app.add_option("--api-key-file", server.api_key_file,
                 "file of keys, one a line; read again when it changes or on SIGHUP")
      ->group("Network");
  app.add_option("--allowed-origins", server.allowed_origins,
                 "origins of browser pages that may use the API, by commas; *: all")
      ->delimiter(',')
      ->group("Network");
  add_integer<int64_t>(app, "--max-connections", http.max_connections, 1, 1 << 20, "open connections at most")
      ->group("Limits");
  add_integer<int64_t>(app, "--max-body-bytes", http.limits.max_body_bytes, 1024, int64_t{1} << 30,
                       "bytes of a request's body at most")
      ->group("Limits");
  add_integer<int64_t>(app, "--max-num-seqs,--max-running-requests,--parallel", options.compute.num_sequences, 1,
                       1 << 20, "sequences computed at the same time (-np)")
      ->group("Limits");
  add_integer<int64_t>(app, "--max-queue", server.engine.max_waiting, 1, 1 << 20,
                       "sequences that wait; further requests are answered 429")
      ->group("Limits");
  add_integer<int64_t>(app, "--drain-timeout", options.drain_timeout_s, 0, 86400,
                       "seconds that requests in progress have after SIGTERM")
      ->group("Limits");
  app.add_option("--verify", options.verify, "share of the requests that is computed again to compare every bit, as 1%")
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--weight-check-interval",
         [&options](const std::string& text) {
           options.weight_check_s = integer_of<int64_t>("--weight-check-interval", text, 0, 86400 * 365);
         },
         "seconds between two checks that the weights in memory have not changed; 0: never; default 600, with "
         "--in-place 0")
      ->type_name("INT");
  app.add_option("--without-effect", options.without_effect)->expected(1)->take_all()->group("");  // foreign_flags.h
  add_integer<int64_t>(app, "--min-client-priority", options.least_client_priority, -1'000'000, 1'000'000,
                       "the lowest \"priority\" that a request may have; the lower goes first")
      ->group("Limits");
  CLI::Option* store =
      app.add_option("--prefix-cache-dir", options.prefix_cache_dir,
                     "directory in which pages of the prefix cache are kept too, found again when memory had no room "
                     "for them and after a restart");
  store->group("Computing");
  app.add_option("--prefix-cache-size", options.prefix_cache_size, "that directory's size at most, as 10GB")
      ->capture_default_str()
      ->needs(store)
      ->group("Computing");
  app.add_option("--rate-limit", options.rate_limit,
                 "REQUESTS or REQUESTS,TOKENS per minute and API key; more is answered 429; 0: no limit")
      ->capture_default_str()
      ->group("Limits");
  app.add_option("--metrics-compat", options.metrics_compat,
                 "servers whose metric names /metrics has too, by commas: vllm, sglang")
      ->delimiter(',');
  app.add_flag("--log-requests", server.log_requests, "a line per request on standard error, without its text");
  add_machine_flags(app, options.compute);
  add_precision_flag(app, options.compute);
  add_weight_flags(app, options.compute);
  add_generation_flags(app, options.compute,
                       "--prompt-chunk,--max-num-batched-tokens,--chunked-prefill-size,--batch-size,-b");
  add_cache_flag(app, options.compute);
  add_log_flag(app, options.compute.log_level);
  add_speculation_flags(app, options.compute);
  add_tokens(app, "-c,--context,--max-model-len,--context-length,--ctx-size", options.compute.context, 0, kMost,
             "tokens of a request at most; 0: the model's, 32768 at most")
      ->group("Computing");
  CLI::Option* tokens = add_tokens(app, "--cache-tokens", options.compute.cache_tokens, 0, INT64_MAX / (1 << 24),
                                   "tokens of KV cache; 0: by --cache-memory-share");
  tokens->group("Computing");
  app.add_option("--cache-memory-share,--gpu-memory-utilization,--mem-fraction-static",
                 options.compute.cache_memory_share, "KV cache: share of the available memory at most")
      ->check(within(0.01, 0.95))
      ->capture_default_str()
      ->excludes(tokens)
      ->group("Computing");
}

}  // namespace fathom::apps
