// Load generator: sends the requests of a LoadPlan to an OpenAI-compatible server on this machine and records what
// comes back. One thread, a connection per request, server-sent events; what a connection needs in memory is bounded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "base/result.h"
#include "serve/load_plan.h"
#include "serve/load_report.h"

namespace fathom::serve {

/// A server on this machine.
struct LoadTarget {
  std::string address;  // an IP address of the loopback
  uint16_t port = 8000;
  std::string base;  // path in front of the endpoints, "" or "/lm"
  std::string api_key;
};

/// "http://127.0.0.1:8000", "http://[::1]:8000/lm", "http://localhost". Errors: another scheme, a host that is not this
/// machine, a port that is none. A load test of somebody else's machine is an attack on it.
Result<LoadTarget> parse_target(std::string_view url);

/// What GET /v1/models tells.
struct ServerFacts {
  std::string model;                      // the first name; empty: there is no such list
  std::optional<int64_t> vocab_size;      // "meta.n_vocab", as llama.cpp has it
  std::optional<int64_t> context_length;  // "max_model_len" or "meta.n_ctx_train"
};
/// Errors: nobody listens, or the server answers 401 or 403.
Result<ServerFacts> ask_server(const LoadTarget& target, int64_t timeout_s);

struct LoadOptions {
  std::string endpoint = "/v1/completions";
  std::string model;          // of the requests; empty: none is named
  int64_t max_in_flight = 1;  // requests at the same time
  int64_t num_warmups = 1;    // requests before, one after the other, that do not count
  bool cold_first = false;    // the first request goes alone, before the others, and is recorded apart
  bool as_words = false;      // prompts are text instead of ids
  TokenRange tokens;          // of prompts
  Json extra;                 // an object: fields that are set in every request
  double timeout_s = 600;     // of a request from its start
};

struct LoadOutcome {
  std::vector<LoadRecord> records;  // in the order of the plan
  GapHistogram gaps;
  std::optional<LoadRecord> cold;  // with cold_first: request 0
  double latest_start_s = 0;       // how much later than due a request began at most
  int64_t most_in_flight = 0;
};

/// Sends every request when it is due and fewer than max_in_flight are out; a request that fails is a record with the
/// kind of its error: "connect", "http 429", "timeout", "closed", "error event", "malformed". Errors: a warm-up request
/// or the cold one fails, kCancelled.
Result<LoadOutcome> run_load(const LoadPlan& plan, const LoadTarget& target, const LoadOptions& options,
                             Progress& progress);

}  // namespace fathom::serve
