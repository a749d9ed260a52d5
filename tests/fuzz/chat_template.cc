// libFuzzer target: any bytes as a template, rendered with a fixed conversation under small limits. Nothing may crash,
// leak, or run long; results and errors are both fine.
#include "text/chat_template.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"

namespace {

constexpr std::string_view kContext =
    R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "안녕 1+1?"},)"
    R"( {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "add",)"
    R"( "arguments": {"a": 1, "b": [1.5, true, null]}}}]}, {"role": "tool", "content": "2"}],)"
    R"( "tools": null, "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>"})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto context = fathom::Json::parse(kContext, "context");
  fathom::check(context.ok(), "the fixed context parses");
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  const auto parsed = fathom::ChatTemplate::parse(source, "fuzz");
  if (!parsed) return 0;
  fathom::RenderOptions options;
  options.now = [] { return std::tm{}; };
  options.max_steps = 200'000;
  options.max_output_bytes = 1 << 20;
  options.max_live_bytes = 16 << 20;
  const auto text = parsed->render(*context, options);
  fathom::check(!text || static_cast<int64_t>(text->size()) <= options.max_output_bytes, "the output limit holds");
  return 0;
}
