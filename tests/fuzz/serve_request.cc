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
  check(!request.max_tokens || *request.max_tokens >= 1, "at least one token");
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
  static_cast<void>(parse_tokenize_request(*json));
  static_cast<void>(parse_detokenize_request(*json));
  return 0;
}
