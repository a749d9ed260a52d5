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
#include "serve/api_error.h"

namespace fathom::serve {

/// Text to be encoded, or token ids as they are.
using Prompt = std::variant<std::string, std::vector<int32_t>>;

/// What both completion routes have. Unset sampling parameters come from the model's generation_config.json.
struct GenerationRequest {
  std::string model;  // empty: not given
  bool chat = false;
  Json messages;                // chat: roles and contents as a template reads them
  Json template_arguments;      // chat: chat_template_kwargs, an object or null
  std::vector<Prompt> prompts;  // not chat
  int64_t n = 1;                // choices per prompt
  std::optional<int64_t> max_tokens;
  std::vector<std::string> stop;
  bool stream = false;
  bool include_usage = false;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;
};

/// The most choices (prompts times n) and stop strings of a request.
inline constexpr int64_t kMaxChoices = 128;
inline constexpr int64_t kMaxStops = 64;

ApiResult<GenerationRequest> parse_chat_request(const Json& body);
ApiResult<GenerationRequest> parse_completion_request(const Json& body);

/// The request's sampling over the model's defaults. Errors: out of range, by name.
ApiResult<SamplingParams> sampling_of(const GenerationRequest& request, const SamplingParams& defaults,
                                      uint64_t random_seed);
/// The sampling of choice `index` of a prompt: the first uses the seed itself, the others seeds derived from it.
SamplingParams choice_sampling(const SamplingParams& sampling, int64_t index);

/// Body of /tokenize: "prompt" (vLLM), "content" (llama.cpp) or "messages".
struct TokenizeRequest {
  std::string text;
  Json messages;  // null: text counts
  bool add_special_tokens = true;
};
ApiResult<TokenizeRequest> parse_tokenize_request(const Json& body);
/// Body of /detokenize: {"tokens": [...]}.
ApiResult<std::vector<int32_t>> parse_detokenize_request(const Json& body);

}  // namespace fathom::serve
