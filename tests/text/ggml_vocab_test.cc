// Tokenizers from GGUF metadata give the ids of the tokenizer.json that they were made from, on every vector.
#include "text/ggml_vocab.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/byte_level.h"
#include "text/tokenizer_json.h"
#include "tokenizer_cases.h"

namespace fathom {
namespace {

using Ids = std::vector<int32_t>;

/// What a converter to GGUF writes for a tokenizer: texts by id, types, merges as text. Owns what the views point to.
struct Written {
  std::vector<std::string> tokens, merges;
  std::vector<int64_t> types;
  std::string pre = "deepseek-v3";

  explicit Written(const TokenizerSpec& spec) {
    std::map<int32_t, std::pair<std::string, int64_t>> rows;
    for (const VocabEntry& e : spec.vocab) rows[e.id] = {e.literal ? e.bytes : to_byte_level(e.bytes), 1};
    for (const AddedToken& t : spec.added_tokens) rows[t.id] = {t.content, t.special ? 3 : 4};
    for (int32_t id = 0; id <= rows.rbegin()->first; ++id) {
      const auto row = rows.find(id);
      tokens.push_back(row == rows.end() ? "[PAD" + std::to_string(id) + "]" : row->second.first);
      types.push_back(row == rows.end() ? 5 : row->second.second);
    }
    for (const Merge& m : spec.merges) {
      merges.push_back(tokens[static_cast<size_t>(m.left)] + " " + tokens[static_cast<size_t>(m.right)]);
    }
  }

  GgmlVocab vocab() const {
    GgmlVocab v{.model = "gpt2", .pre = pre, .tokens = {}, .token_type = types, .merges = {}};
    v.tokens.assign(tokens.begin(), tokens.end());
    v.merges.assign(merges.begin(), merges.end());
    return v;
  }
};

TEST(GgmlVocab, DeepSeekV3GivesTheIdsOfItsTokenizerJson) {
  const Path file = tokenizer_data("deepseek-v3/tokenizer.json.xz");
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "needs " << file.string();
  const auto original = spec_from_tokenizer_json(read_xz(file), "tokenizer.json");
  ASSERT_TRUE(original) << original.error().text;
  const Written written(*original);
  const auto spec = spec_from_ggml_vocab(written.vocab(), "m.gguf");
  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_EQ(spec->split_patterns, original->split_patterns);
  EXPECT_EQ(spec->merges, original->merges);
  const Tokenizer tokenizer = make_tokenizer(*spec);
  EXPECT_EQ(tokenizer.vocab_size(), 128815);
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_FALSE(tokenizer.is_special(128803));
  const auto vectors = read_file(tokenizer_data("deepseek-v3/vectors.jsonl"));
  ASSERT_TRUE(vectors) << vectors.error().text;
  int num_vectors = 0;
  for (size_t begin = 0; begin < vectors->size();) {
    const size_t end = vectors->find('\n', begin);
    const auto vector = Json::parse(vectors->substr(begin, end - begin), "vectors.jsonl");
    ASSERT_TRUE(vector) << vector.error().text;
    begin = end + 1;
    Ids expected;
    for (const Json& id : vector->find("ids")->items()) expected.push_back(static_cast<int32_t>(id.as_int()));
    const auto ids = tokenizer.encode(vector->find("text")->as_string(), AddedTokens::kParse);
    ASSERT_TRUE(ids) << ids.error().text;
    EXPECT_EQ(*ids, expected) << vector->dump();
    ++num_vectors;
  }
  EXPECT_EQ(num_vectors, 271);
}

TEST(GgmlVocab, ATrainedTokenizerComesBack) {
  TokenizerSpec original = trained_spec(sample_text(), 300);
  original.added_tokens.push_back({"<tool>", 310, false, false});  // 300 to 309 are unused
  original.split_patterns = {std::string(kGpt2SplitPattern)};
  Written written(original);
  written.pre = "gpt-2";
  const auto spec = spec_from_ggml_vocab(written.vocab(), "m.gguf");
  ASSERT_TRUE(spec) << spec.error().text;
  const Tokenizer a = make_tokenizer(original), b = make_tokenizer(*spec);
  EXPECT_EQ(a.vocab_size(), b.vocab_size());
  EXPECT_FALSE(b.bytes_of(305));
  EXPECT_FALSE(b.is_special(310));
  SequentialRng rng(4, 2);
  for (int round = 0; round < 300; ++round) {
    const std::string text = random_text(rng, 60) + (round % 3 == 0 ? "<tool> <|end|>x" : "");
    const auto ids = b.encode(text, AddedTokens::kParse);
    ASSERT_TRUE(ids) << ids.error().text;
    EXPECT_EQ(*ids, *a.encode(text, AddedTokens::kParse));
    EXPECT_EQ(*b.decode(*ids), text);
  }
}

std::vector<std::string> pieces(std::vector<std::string> patterns, std::string_view text) {
  const auto pretokenizer = Pretokenizer::create(patterns);
  EXPECT_TRUE(pretokenizer) << pretokenizer.error().text;
  const auto split = pretokenizer->split(text);
  EXPECT_TRUE(split) << split.error().text;
  return {split->begin(), split->end()};
}

using Pieces = std::vector<std::string>;

TEST(GgmlVocab, DeepSeekLlmPatterns) {
  const auto split = [](std::string_view text) { return pieces(deepseek_llm_split_patterns(), text); };
  EXPECT_EQ(split("Hello world"), (Pieces{"Hello", " world"}));
  EXPECT_EQ(split("a\n\nb"), (Pieces{"a", "\n", "\n", "b"}));
  EXPECT_EQ(split("x = 123;"), (Pieces{"x", " =", " ", "1", "2", "3", ";"}));
  EXPECT_EQ(split("Привет, мир"), (Pieces{"Привет", ",", " мир"}));
  EXPECT_EQ(split("中文abc"), (Pieces{"中文", "abc"}));
  EXPECT_EQ(split("end   "), (Pieces{"end", "   "}));
  EXPECT_EQ(split("\u1f7d\u2126\u212a"), (Pieces{"\u1f7d\u2126\u212a"}));  // letters that normalization would replace
  // The class of punctuation, ":-~", has the ASCII letters too, and is applied to the pieces of the letters.
  EXPECT_EQ(split("naïve café"), (Pieces{"na", "ï", "ve", " caf", "é"}));
}

TEST(GgmlVocab, DeepSeekCoderPatterns) {
  const auto split = [](std::string_view text) { return pieces(deepseek_coder_split_patterns(), text); };
  EXPECT_EQ(split("if (x1):\n"), (Pieces{"if", " (", "x", "1", "):", "\n"}));
  EXPECT_EQ(split("中文 ok"), (Pieces{"中文", " ok"}));
}

TEST(GgmlVocab, KimiPattern) {
  const auto split = [](std::string_view text) { return pieces(kimi_split_patterns(), text); };
  EXPECT_EQ(split("Hello world's 12345"), (Pieces{"Hello", " world's", " ", "123", "45"}));
  EXPECT_EQ(split("HTMLParser fooBar"), (Pieces{"HTMLParser", " foo", "Bar"}));  // capitals, then small letters
  EXPECT_EQ(split("你好world世界"), (Pieces{"你好", "world", "世界"}));          // Han never joins other letters
  EXPECT_EQ(split("こんにちは世界"), (Pieces{"こんにちは", "世界"}));
  EXPECT_EQ(split("a  b\n\n c"), (Pieces{"a", " ", " b", "\n\n", " c"}));
  EXPECT_EQ(split("x == y;\n"), (Pieces{"x", " ==", " y", ";\n"}));
  EXPECT_EQ(split("IT'S"), (Pieces{"IT'S"}));
}

TEST(GgmlVocab, Glm4Pattern) {
  const auto split = [](std::string_view text) { return pieces(glm4_split_patterns(), text); };
  EXPECT_EQ(split("I'LL take 2024!"), (Pieces{"I", "'LL", " take", " ", "202", "4", "!"}));
}

TEST(GgmlVocab, WhatIsRefused) {
  const TokenizerSpec original = trained_spec(sample_text(), 280);
  Written written(original);
  const auto error = [](const GgmlVocab& vocab) {
    const auto spec = spec_from_ggml_vocab(vocab, "m.gguf");
    return spec ? "no error" : spec.error().text;
  };
  GgmlVocab v = written.vocab();
  v.model = "llama";
  EXPECT_EQ(error(v), "m.gguf: tokenizer.ggml.model \"llama\" is not supported; accepted: gpt2");
  v = written.vocab();
  v.pre = "tekken";
  EXPECT_EQ(
      error(v),
      "m.gguf: tokenizer.ggml.pre \"tekken\" is not supported; accepted: deepseek-v3, deepseek-llm, deepseek-coder, "
      "gpt-2, kimi-k2, glm4");
  v = written.vocab();
  v.token_type.pop_back();
  EXPECT_EQ(error(v), "m.gguf: tokenizer.ggml.token_type has 279 entries for 280 tokens");
  v = written.vocab();
  v.token_type[7] = 6;
  EXPECT_NE(error(v).find("m.gguf: token 7 "), std::string::npos);
  EXPECT_NE(error(v).find(" has type 6; accepted: 1 (normal), 3 (control), 4 (user-defined), 5 (unused)"),
            std::string::npos);
  for (const char* bad : {"ab", " b", "a ", ""}) {
    v = written.vocab();
    v.merges[0] = bad;
    EXPECT_EQ(error(v), "m.gguf: tokenizer.ggml.merges[0] is \"" + std::string(bad) + "\"; accepted: \"a b\"");
  }
  v.merges[0] = "zzz a";
  EXPECT_EQ(error(v), "m.gguf: tokenizer.ggml.merges[0] is \"zzz a\", but the vocabulary has no \"zzz\"");
}

}  // namespace
}  // namespace fathom
