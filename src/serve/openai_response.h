// Responses in OpenAI's JSON: whole completions and the chunks of a stream. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/sequence.h"
#include "serve/tool_parser.h"

namespace fathom::serve {

/// What every chunk of one response repeats.
struct ResponseHead {
  std::string id;  // "chatcmpl-..." or "cmpl-..."
  int64_t created = 0;
  std::string model;
  std::string fingerprint;
  bool chat = false;
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t reasoning_tokens = 0;
  int64_t cached_tokens = 0;    // of the prompts: found in the prefix cache
  int64_t accepted_tokens = 0;  // guesses of speculation that were right
  int64_t rejected_tokens = 0;  // and that were not
};

/// A call of a tool.
struct ToolCall {
  std::string id, name, arguments;
};

/// A finished choice.
struct ChoiceResult {
  std::string content;
  std::string reasoning;  // empty: none
  std::string finish_reason;
  Json logprobs{};
  std::vector<ToolCall> calls{};
};

/// "stop", "length", "timeout" when the deadline has passed, or "error" for a sequence whose logits held a NaN.
std::string_view finish_reason(FinishReason finish, bool stopped_by_string);

/// The object of a response that is not streamed; choices in order of their index.
Json completion_json(const ResponseHead& head, const std::vector<ChoiceResult>& choices, const Usage& usage);

/// Chunks of a stream. With `usage_follows` they say "usage": null, as OpenAI does when include_usage is asked for.
Json role_chunk(const ResponseHead& head, int64_t index, bool usage_follows);
Json text_chunk(const ResponseHead& head, int64_t index, std::string_view reasoning, std::string_view content,
                Json logprobs, bool usage_follows);
/// Pieces of calls; those that begin have an id.
Json tools_chunk(const ResponseHead& head, int64_t index, const std::vector<ToolDelta>& calls, Json logprobs,
                 bool usage_follows);
Json finish_chunk(const ResponseHead& head, int64_t index, std::string_view reason, Json logprobs, bool usage_follows);
Json usage_chunk(const ResponseHead& head, const Usage& usage);

/// One entry of /v1/models; the size of the vocabulary where llama.cpp has it.
Json model_json(std::string_view id, int64_t created, int64_t max_model_len, int64_t vocab_size);

}  // namespace fathom::serve
