// Fuzz target: any JSON is either a request whose values keep their promises, or an error that names a code.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "serve/openai_request.h"

namespace {

using namespace fathom;
using namespace fathom::serve;

void judge(const ApiResult<GenerationRequest>& result) {
  if (const auto* error = std::get_if<ApiError>(&result)) {
    check(error->status == 400 && !error->code.empty() && !error->message.empty(), "an error says what is wrong");
    return;
  }
  const auto& request = std::get<GenerationRequest>(result);
  check(request.n >= 1 && request.n <= kMaxChoices, "n is bounded");
  check(static_cast<int64_t>(request.prompts.size()) * request.n <= kMaxChoices, "choices are bounded");
  check(!request.max_tokens || *request.max_tokens >= (request.echo ? 0 : 1), "at least one token");
  check(request.num_logprobs >= -1 && request.num_logprobs <= kMaxTopLogprobs, "log-probabilities are bounded");
  check(std::ssize(request.logit_bias) <= kMaxLogitBias && std::ssize(request.stop_token_ids) <= kMaxStops,
        "lists are bounded");
  for (const int32_t id : request.stop_token_ids) check(id >= 0, "token ids are not negative");
  check(request.min_tokens >= 0 && request.min_tokens <= request.max_tokens.value_or(INT64_MAX), "ends can be met");
  check(!request.timeout_seconds || *request.timeout_seconds > 0, "time passes");
  const auto speculation = speculation_of(request, {}, 1);
  if (const auto* good = std::get_if<SpeculationParams>(&speculation)) {
    check(check_speculation(*good, 1).ok(), "speculation is in range");
  }
  for (const std::string& stop : request.stop) check(!stop.empty(), "no empty stop string");
  const auto params = sampling_of(request, {}, 1);
  if (const auto* good = std::get_if<SamplingParams>(&params))
    check(check_sampling(*good).ok(), "sampling is in range");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto json = Json::parse({reinterpret_cast<const char*>(data), size}, "input");
  if (!json) return 0;
  judge(parse_chat_request(*json));
  judge(parse_completion_request(*json));
  const auto embeddings = parse_embedding_request(*json);
  if (const auto* request = std::get_if<EmbeddingRequest>(&embeddings)) {
    check(!request->inputs.empty() && std::ssize(request->inputs) <= kMaxChoices, "inputs are bounded");
  }
  static_cast<void>(parse_tokenize_request(*json));
  static_cast<void>(parse_detokenize_request(*json));
  return 0;
}
