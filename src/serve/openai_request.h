// Requests in OpenAI's JSON: /v1/chat/completions, /v1/completions, /tokenize, /detokenize as values. Pure functions. A
// parameter that asks for something the engine cannot do is an error that names it; a field that no part of the API
// knows is ignored, as OpenAI does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "engine/sampler.h"
#include "engine/speculate.h"
#include "serve/api_error.h"

namespace fathom::serve {

/// Text to be encoded, or token ids as they are.
using Prompt = std::variant<std::string, std::vector<int32_t>>;

/// Who decides about calls: the model, or the client (a call of any tool, of a named one, none).
enum class ToolChoice { kAuto, kNone, kRequired, kNamed };

/// What both completion routes have. Unset sampling parameters come from the model's generation_config.json.
struct GenerationRequest {
  std::string model;  // empty: not given
  bool chat = false;
  Json messages;            // chat: roles and contents as a template reads them
  Json template_arguments;  // chat: chat_template_kwargs, an object or null
  Json tools;               // chat: a list with names, descriptions and parameters; null: none
  ToolChoice tool_choice = ToolChoice::kAuto;
  std::string tool_name;  // of kNamed
  bool parallel_tool_calls = true;
  std::vector<Prompt> prompts;  // not chat
  int64_t n = 1;                // choices per prompt
  std::optional<int64_t> max_tokens;
  std::vector<std::string> stop;
  bool stream = false;
  bool include_usage = false;
  std::optional<double> temperature, top_p, min_p, typical_p;
  std::optional<double> repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<double> dry_multiplier, dry_base;
  std::optional<int64_t> dry_allowed_length;
  std::optional<std::vector<std::string>> dry_sequence_breakers;
  std::vector<LogitBias> logit_bias;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;

  int64_t num_logprobs = -1;  // most probable tokens to report with every token; negative: no log-probabilities
  bool echo = false;          // not chat: the prompt in front of the answer
  int64_t min_tokens = 0;
  bool ignore_eos = false;
  bool include_stop = false;  // a stop string that ends the answer is part of it
  std::vector<int32_t> stop_token_ids;
  int64_t priority = 0;  // as in vLLM the lower goes first
  std::optional<double> timeout_seconds;
  std::optional<SpeculationKind> speculate;
  std::optional<int64_t> draft_tokens;

  bool may_call() const { return !tools.is_null() && tool_choice != ToolChoice::kNone; }
};

/// The most choices (prompts times n) and stop strings of a request.
inline constexpr int64_t kMaxChoices = 128;
inline constexpr int64_t kMaxStops = 64;
/// The most inputs of /v1/embeddings: OpenAI's, and what its clients send at a time.
inline constexpr int64_t kMaxInputs = 2048;
/// The most tools, entries of logit_bias, and most probable tokens that are reported.
inline constexpr int64_t kMaxTools = 128;
inline constexpr int64_t kMaxLogitBias = 4096;
inline constexpr int64_t kMaxTopLogprobs = 20;

ApiResult<GenerationRequest> parse_chat_request(const Json& body);
ApiResult<GenerationRequest> parse_completion_request(const Json& body);

/// The request's sampling over the model's defaults. Errors: out of range, by name.
ApiResult<SamplingParams> sampling_of(const GenerationRequest& request, const SamplingParams& defaults,
                                      uint64_t random_seed);
/// The speculation that the request asks for over the server's. Errors: a kind or a length that the model has no means
/// for.
ApiResult<SpeculationParams> speculation_of(const GenerationRequest& request, const SpeculationParams& defaults,
                                            int64_t num_mtp_modules);
/// The sampling of choice `index` of a prompt: the first uses the seed itself, the others seeds derived from it.
SamplingParams choice_sampling(const SamplingParams& sampling, int64_t index);

/// Body of /v1/embeddings.
struct EmbeddingRequest {
  std::string model;  // empty: not given
  std::vector<Prompt> inputs;
  bool base64 = false;
};
ApiResult<EmbeddingRequest> parse_embedding_request(const Json& body);

/// Body of /tokenize: "prompt" (vLLM), "content" (llama.cpp) or "messages".
struct TokenizeRequest {
  std::string text;
  Json messages;  // null: text counts
  bool add_special_tokens = true;
  bool return_token_strs = false;  // the text of every token too
  bool with_pieces = false;        // the same as llama.cpp says it: tokens as {id, piece}
};
ApiResult<TokenizeRequest> parse_tokenize_request(const Json& body);
/// Body of /detokenize: {"tokens": [...]}.
ApiResult<std::vector<int32_t>> parse_detokenize_request(const Json& body);

}  // namespace fathom::serve
