#include "text/tokenizer_spec.h"

namespace fathom {

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

}  // namespace fathom
