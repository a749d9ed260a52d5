// Fuzz target: any text as a trace of requests (Mooncake's or Azure's lines) is refused with its line, or becomes a
// plan in the order of time whose requests have bounded lengths.
#include "scratch.h"
#include "serve/load_plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  using serve::LoadPlan;
  if (size < 1) return 0;
  const serve::TraceScale scale{.speed_up = data[0] % 2 == 0 ? 1.0 : 3.5,
                                .length_scale = data[0] % 4 < 2 ? 1.0 : 0.01,
                                .limit = data[0] % 8 < 4 ? 0 : 3};
  const auto plan = LoadPlan::from_trace(fuzz::text_of(data + 1, size - 1), "fuzz", scale, 1);
  if (!plan) {
    check(plan.error().text.starts_with("fuzz"), "an error names its source");
    return 0;
  }
  double before_s = 0;
  for (int64_t i = 0; i < plan->size(); ++i) {
    check(plan->start_s(i) >= before_s, "requests are in the order of time");
    before_s = plan->start_s(i);
    check(plan->input_len(i) >= 1 && plan->input_len(i) <= LoadPlan::kMostTokens, "prompts are bounded");
    check(plan->output_len(i) >= 1 && plan->output_len(i) <= LoadPlan::kMostTokens, "answers are bounded");
    constexpr int64_t kShort = 4096;
    if (i >= 4 || plan->input_len(i) > kShort) continue;
    const auto prompt = plan->prompt(i, serve::token_range(384));
    check(std::ssize(prompt) == plan->input_len(i), "a prompt has its length");
  }
  return 0;
}
