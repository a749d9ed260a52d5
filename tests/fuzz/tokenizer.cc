// Fuzzes tokenizer.json and the tokenizer that it makes. Input: a tokenizer.json, a zero byte, a text. Whatever is
// accepted must give back every text that it encodes, and must survive being written and read again.
#include "text/tokenizer.h"

#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "text/tokenizer_json.h"

namespace {

using namespace fathom;

void check_round_trip(const Tokenizer& tokenizer, const Tokenizer& again, std::string_view text, AddedTokens added) {
  const auto ids = tokenizer.encode(text, added);
  const auto same = again.encode(text, added);
  check(ids.ok() == same.ok(), "a written tokenizer accepts the same texts");
  if (!ids) return;
  check(*ids == *same, "a written tokenizer gives the same ids");
  const auto back = tokenizer.decode(*ids);
  check(back.ok() && *back == text, "decoding gives back the text");
  StreamDecoder stream(tokenizer);
  std::string joined;
  for (int32_t id : *ids) {
    const auto part = stream.push(id);
    check(part.ok(), "the stream knows the ids");
    joined += *part;
  }
  check(joined + stream.flush() == text, "the stream gives back the text");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find('\0');
  const std::string_view json = input.substr(0, cut);
  const std::string_view text = cut == std::string_view::npos ? "" : input.substr(cut + 1);
  const auto spec = spec_from_tokenizer_json(json, "fuzz");
  if (!spec) return 0;
  const auto tokenizer = Tokenizer::create(*spec);
  if (!tokenizer) return 0;
  const auto written = spec_from_tokenizer_json(to_tokenizer_json(*spec), "written");
  check(written.ok(), "a written tokenizer can be read");
  const auto again = Tokenizer::create(*written);
  check(again.ok(), "a written tokenizer can be used");
  check_round_trip(*tokenizer, *again, text, AddedTokens::kParse);
  check_round_trip(*tokenizer, *again, text, AddedTokens::kIgnore);
  return 0;
}
