#include "text/tokenizer_spec.h"

namespace fathom {
namespace {

// U+4E00 to U+9FA5, U+0800 to U+4E00, Hangul.
constexpr std::string_view kChineseAndKorean = R"re([\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+)re";

}  // namespace

std::vector<std::string> deepseek_v3_split_patterns() {
  return {
      R"re(\p{N}{1,3})re",
      // U+4E00 to U+9FA5, hiragana, katakana: the characters themselves, as in the published tokenizer.json.
      "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
      // Line ends are the characters too.
      R"re([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|)re"
      "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
  };
}

std::vector<std::string> deepseek_llm_split_patterns() {
  return {
      "[\r\n]",
      // Lu, Ll and Lt of an older Unicode, as code points: some of the characters themselves change under
      // normalization.
      R"re(\s?[)re"
      R"re(A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293})re"
      R"re(\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A})re"
      R"re(\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556})re"
      R"re(\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF})re"
      R"re(\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D})re"
      R"re(\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D})re"
      R"re(\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC})re"
      R"re(\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC})re"
      R"re(\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}\x{2126}\x{2128})re"
      R"re(\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E}\x{2183})re"
      R"re(\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D})re"
      R"re(\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF})re"
      R"re(\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F})re"
      R"re(\x{104B0}-\x{104D3}\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2})re"
      R"re(\x{118A0}-\x{118DF}\x{1E900}-\x{1E943})re"
      R"re(]+)re",
      R"re(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)re",
      R"re(\s+(?!\s|\S))re",  // the file says \s+$; line ends were cut off before
      std::string(kChineseAndKorean),
      R"re(\p{N})re",  // Digits with individual_digits
  };
}

std::vector<std::string> deepseek_coder_split_patterns() {
  return {"[\r\n]", R"re(\s?\p{L}+)re", R"re(\s?\p{P}+)re", std::string(kChineseAndKorean), R"re(\p{N})re"};
}

std::vector<std::string> kimi_split_patterns() {
  const std::string start = R"re([^\r\n\p{L}\p{N}]?)re";
  const std::string upper = R"re((?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]))re";
  const std::string lower = R"re((?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}]))re";
  const std::string suffix = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?";
  return {R"re([\p{Han}]+|)re" + start + upper + "*" + lower + "+" + suffix + "|" + start + upper + "+" + lower + "*" +
          suffix + R"re(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re"};
}

std::vector<std::string> glm4_split_patterns() {
  return {R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)re"
          R"re( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re"};
}

}  // namespace fathom
