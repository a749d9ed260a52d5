// Fuzzes tiktoken.model and its tokenizer_config.json. Input: the ranks file, a zero byte, the config, a zero byte, a
// text. A tokenizer that is accepted gives back every text that it encodes.
#include "text/tiktoken.h"

#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto cut = [&] {
    const size_t end = rest.find('\0');
    const std::string_view part = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    return part;
  };
  const std::string_view ranks = cut();
  const std::string_view config = cut();
  const auto spec = spec_from_tiktoken(ranks, "ranks", config.empty() ? "{}" : config, "config");
  if (!spec) {
    check(spec.error().text.starts_with("ranks: ") || spec.error().text.starts_with("config"),
          "an error names its source");
    return 0;
  }
  const auto tokenizer = Tokenizer::create(*spec);
  if (!tokenizer) return 0;
  const auto ids = tokenizer->encode(rest, AddedTokens::kParse);
  if (!ids) return 0;
  const auto back = tokenizer->decode(*ids);
  check(back.ok() && *back == rest, "decoding gives back the text");
  return 0;
}
