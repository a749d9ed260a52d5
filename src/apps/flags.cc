#include "apps/flags.h"

#include <CLI/CLI.hpp>
#include <charconv>

#include "apps/verbs.h"
#include "serve/load_plan.h"

namespace fathom::apps {

template <class T>
T integer_of(const std::string& flag, const std::string& text, T least, T most) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most) {
    throw CLI::ValidationError(flag, "\"" + text.substr(0, 100) + "\" is not an integer from " + std::to_string(least) +
                                         " to " + std::to_string(most));
  }
  return value;
}

template <class T>
CLI::Option* add_integer(CLI::App& app, const std::string& name, T& value, T least, std::type_identity_t<T> most,
                         const std::string& help) {
  const std::string flag = name.substr(name.find("--"), name.find(',', name.find("--")) - name.find("--"));
  return app
      .add_option_function<std::string>(
          name,
          [&value, flag, least, most](const std::string& text) { value = integer_of<T>(flag, text, least, most); },
          help)
      ->type_name("INT")
      ->default_str(std::to_string(value));
}

template int64_t integer_of(const std::string&, const std::string&, int64_t, int64_t);
template uint64_t integer_of(const std::string&, const std::string&, uint64_t, uint64_t);
template CLI::Option* add_integer(CLI::App&, const std::string&, int64_t&, int64_t, int64_t, const std::string&);
template CLI::Option* add_integer(CLI::App&, const std::string&, uint64_t&, uint64_t, uint64_t, const std::string&);

CLI::Option* add_integers(CLI::App& app, const std::string& name, std::vector<int64_t>& values, int64_t least,
                          int64_t most, const std::string& help) {
  constexpr size_t kMostValues = 64;
  const std::string flag = name.substr(name.find("--"));
  std::string defaults;
  for (int64_t value : values) defaults += (defaults.empty() ? "" : ",") + std::to_string(value);
  return app
      .add_option_function<std::string>(
          name,
          [&values, flag, least, most](const std::string& text) {
            values.clear();
            for (size_t begin = 0; begin <= text.size();) {
              const size_t end = std::min(text.find(',', begin), text.size());
              values.push_back(integer_of(flag, text.substr(begin, end - begin), least, most));
              if (values.size() > kMostValues) {
                throw CLI::ValidationError(flag, "has more than " + std::to_string(kMostValues) + " numbers");
              }
              begin = end + 1;
            }
          },
          help)
      ->type_name("INT,...")
      ->default_str(defaults);
}

CLI::Option* add_optional(CLI::App& app, const std::string& name, std::optional<double>& value,
                          const std::string& help) {
  return app
      .add_option_function<double>(
          name, [&value](double given) { value = given; }, help)
      ->type_name("FLOAT");
}

namespace {

/// A factor above 0.
CLI::Option* add_factor(CLI::App& app, const std::string& name, double& value, const std::string& help) {
  return app.add_option(name, value, help)->check(CLI::Range(1e-6, 1e6))->capture_default_str();
}

}  // namespace

// Names in second place are those of vLLM's `bench serve`.
void add_bench_serve_flags(CLI::App& app, BenchServeOptions& options) {
  BenchServeOptions* o = &options;
  CLI::Option* model = app.add_option("MODEL", o->model, "the model to serve in this process");
  CLI::Option* url = app.add_option("--url,--base-url", o->url,
                                    "or a server on this machine, as http://127.0.0.1:8000: any with OpenAI's API");
  url->excludes(model);
  CLI::Option* offline =
      app.add_flag("--offline", o->offline, "the same requests to MODEL's engine itself, without a server")
          ->excludes(url);
  CLI::Option* rate = add_optional(app, "--rate,--request-rate", o->rate,
                                   "Poisson arrivals, requests per second; else --concurrency decides");
  rate->check(CLI::Range(1e-6, 1e6))->group("Load");
  app.add_option_function<std::string>(
         "--concurrency,--max-concurrency",
         [o](const std::string& text) { o->concurrency = integer_of<int64_t>("--concurrency", text, 1, 1 << 20); },
         "requests at the same time; default 16, with --rate or --trace as many as are due")
      ->type_name("INT")
      ->group("Load");
  CLI::Option* trace =
      app.add_option("--trace", o->trace, "requests of a recorded trace: Mooncake's JSON lines or Azure's CSV");
  trace->excludes(rate)->group("Load");
  offline->excludes(rate)->excludes(trace);
  add_factor(app, "--speed-up", o->speed_up, "divide the trace's times by this")->needs(trace)->group("Load");
  add_factor(app, "--length-scale", o->length_scale, "multiply the trace's lengths by this")
      ->needs(trace)
      ->group("Load");
  add_integer<int64_t>(app, "--limit", o->limit, 0, serve::LoadPlan::kMostRequests,
                       "first requests of the trace; 0: all")
      ->needs(trace)
      ->group("Load");
  const auto shape = [&](const char* name, int64_t& value, int64_t least, int64_t most, const char* help) {
    add_integer<int64_t>(app, name, value, least, most, help)->excludes(trace)->group("Load");
  };
  constexpr int64_t kMostTokens = serve::LoadPlan::kMostTokens;
  shape("--num-prompts", o->num_prompts, 1, serve::LoadPlan::kMostRequests, "requests");
  shape("--input-len,--random-input-len", o->input_len, 1, kMostTokens, "random tokens of a prompt");
  shape("--output-len,--random-output-len", o->output_len, 1, kMostTokens, "tokens of an answer");
  shape("--shared-prefix-len,--random-prefix-len", o->shared_prefix_len, 0, kMostTokens,
        "tokens in front of every prompt, the same in all; the first request goes alone and is shown apart");
  add_integer<uint64_t>(app, "-s,--seed", o->seed, 0, UINT64_MAX, "of prompts and arrivals")->group("Load");
  add_integer<int64_t>(app, "--num-warmups", o->num_warmups, 0, 1000, "requests before, which do not count")
      ->group("Load");
  app.add_option("--goodput", o->goodput,
                 "count requests that keep these, in ms: ttft, tpot, itl (longest gap), e2e, as ttft:200,itl:50")
      ->group("Load");
  add_integer<int64_t>(app, "--timeout-s", o->timeout_s, 1, 86400, "seconds that a request may take")->group("Load");
  const auto request = [&](CLI::Option* option) { option->excludes(offline)->group("Requests"); };
  request(add_integer<int64_t>(app, "--vocab-size", o->vocab_size, 0, INT32_MAX,
                               "prompts are ids below this; 0: what the server says"));
  request(app.add_flag("--words", o->words, "prompts are words instead of ids"));
  request(app.add_option("--extra-body", o->extra_body, "JSON object: fields that every request gets"));
  app.add_option("--api-key", o->api_key, "key of the server at --url (or FATHOM_API_KEY)")
      ->envname("FATHOM_API_KEY")
      ->group("Requests");
  request(app.add_option("--model-name,--served-model-name", o->model_name,
                         "model to ask for; else the first of /v1/models"));
  request(app.add_option("--endpoint", o->endpoint, "path of the completions")->capture_default_str());
  CLI::Option* compare = app.add_option("--compare", o->compare, "an earlier --json report to stand beside");
  add_optional(app, "--fail-below", o->fail_below, "exit with 1 if new/old output tokens per second is less")
      ->check(CLI::Range(0.0, 1000.0))
      ->needs(compare);
  app.add_flag("--json", o->json, "the result as JSON");
  add_integer<int64_t>(app, "--max-num-seqs", o->compute.num_sequences, 1, 1 << 20,
                       "sequences that the served MODEL computes at the same time")
      ->group("Computing");
}

}  // namespace fathom::apps
