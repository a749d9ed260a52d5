// tiktoken.model: the ids of a ranks file are those of the definition (the neighbours whose joined bytes have the
// lowest rank are joined first), and hostile files are errors that name the line.
#include "text/tiktoken.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/byte_level.h"
#include "tokenizer_cases.h"

namespace fathom {
namespace {

using Ids = std::vector<int32_t>;

std::string base64(std::string_view bytes) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bits, out;
  for (char c : bytes) {
    for (int b = 7; b >= 0; --b) bits.push_back((static_cast<uint8_t>(c) >> b & 1) != 0 ? '1' : '0');
  }
  while (bits.size() % 6 != 0) bits.push_back('0');
  for (size_t i = 0; i < bits.size(); i += 6) out.push_back(kAlphabet[std::stoul(bits.substr(i, 6), nullptr, 2)]);
  while (out.size() % 4 != 0) out.push_back('=');
  return out;
}

std::string ranks_file(const std::vector<std::string>& tokens) {
  std::string file;
  for (size_t i = 0; i < tokens.size(); ++i) file += base64(tokens[i]) + " " + std::to_string(i) + "\n";
  return file;
}

std::vector<std::string> byte_tokens() {
  std::vector<std::string> tokens;
  for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
  return tokens;
}

/// The definition, on one piece: join the neighbours whose joined bytes have the lowest rank, leftmost first.
Ids slow_ids(const std::vector<std::string>& tokens, const std::string& piece) {
  std::map<std::string, int32_t> rank;
  for (size_t i = 0; i < tokens.size(); ++i) rank[tokens[i]] = static_cast<int32_t>(i);
  if (rank.contains(piece)) return {rank[piece]};
  std::vector<std::string> parts;
  for (char c : piece) parts.emplace_back(1, c);
  while (true) {
    size_t best = parts.size();
    int32_t best_rank = -1;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = rank.find(parts[i] + parts[i + 1]);
      if (found != rank.end() && (best_rank < 0 || found->second < best_rank)) best = i, best_rank = found->second;
    }
    if (best_rank < 0) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) ids.push_back(rank[part]);
  return ids;
}

constexpr std::string_view kConfig = R"({"added_tokens_decoder": {
  "300": {"content": "[BOS]", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true},
  "301": {"content": "<|im_end|>", "special": true},
  "302": {"content": "<tool>", "special": false}}, "bos_token": "[BOS]"})";

TEST(Tiktoken, IdsAreThoseOfTheDefinition) {
  std::vector<std::string> tokens = byte_tokens();
  // Joins in an order that is not that of the splits: "abc" can come from ab+c and a+bc.
  for (const char* token : {"bc", "ab", "abc", "aa", "aaaa", "aaa", "cab", "bcab"}) tokens.emplace_back(token);
  const auto spec = spec_from_tiktoken(ranks_file(tokens), "tiktoken.model", kConfig, "tokenizer_config.json");
  ASSERT_TRUE(spec) << spec.error().text;
  const Tokenizer tokenizer = make_tokenizer(*spec);
  SequentialRng rng(8, 1);
  for (int round = 0; round < 2000; ++round) {
    std::string piece;
    for (int64_t left = rng.between(1, 12); left > 0; --left) piece.push_back("abc"[rng.below(3)]);
    const auto ids = tokenizer.encode(piece, AddedTokens::kParse);
    ASSERT_TRUE(ids) << ids.error().text;
    EXPECT_EQ(*ids, slow_ids(tokens, piece)) << piece;
    EXPECT_EQ(*tokenizer.decode(*ids), piece);
  }
}

TEST(Tiktoken, SpecialTokensAreThoseOfTheConfig) {
  const auto spec = spec_from_tiktoken(ranks_file(byte_tokens()), "tiktoken.model", kConfig, "tokenizer_config.json");
  ASSERT_TRUE(spec) << spec.error().text;
  EXPECT_EQ(spec->split_patterns, kimi_split_patterns());
  const Tokenizer tokenizer = make_tokenizer(*spec);
  EXPECT_EQ(*tokenizer.encode("[BOS]a<|im_end|>", AddedTokens::kParse), (Ids{300, 'a', 301}));
  EXPECT_EQ(tokenizer.encode("[BOS]", AddedTokens::kIgnore)->size(), 5u);
  EXPECT_TRUE(tokenizer.is_special(300));
  EXPECT_FALSE(tokenizer.is_special(302));
  EXPECT_FALSE(tokenizer.bytes_of(299));
}

TEST(Tiktoken, Gpt2RanksGiveTheIdsOfGpt2) {
  const Path vocab = tokenizer_data("gpt2/gpt2_vocab.json.xz");
  if (!std::filesystem::exists(vocab)) GTEST_SKIP() << "needs " << vocab.string();
  const auto json = Json::parse(read_xz(vocab), "vocab.json");
  ASSERT_TRUE(json) << json.error().text;
  // GPT-2's ids are its ranks: the bytes first, then one token per merge, in order.
  std::string ranks;
  for (const auto& [text, id] : json->members()) {
    if (text != "<|endoftext|>") ranks += base64(*from_byte_level(text)) + " " + std::to_string(id.as_int()) + "\n";
  }
  auto spec = spec_from_tiktoken(ranks, "tiktoken.model", "{}", "tokenizer_config.json");
  ASSERT_TRUE(spec) << spec.error().text;
  spec->split_patterns = {std::string(kGpt2SplitPattern)};
  const Tokenizer tokenizer = make_tokenizer(*spec);
  const auto inputs = read_file(tokenizer_data("llama.cpp-vectors/gpt-2.inp"));
  const auto outputs = read_file(tokenizer_data("llama.cpp-vectors/gpt-2.out"));
  ASSERT_TRUE(inputs && outputs);
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  std::string_view rest = *inputs, lines = *outputs;
  int num_cases = 0;
  while (!lines.empty()) {
    const size_t cut = rest.find(kSeparator);
    const std::string text(rest.substr(0, cut));
    rest = cut == std::string_view::npos ? std::string_view{} : rest.substr(cut + kSeparator.size());
    const size_t end = lines.find('\n');
    std::string line(lines.substr(0, end));
    lines = end == std::string_view::npos ? std::string_view{} : lines.substr(end + 1);
    Ids expected;
    for (char *at = line.data(), *next = nullptr;; at = next) {
      const long id = std::strtol(at, &next, 10);
      if (next == at) break;
      expected.push_back(static_cast<int32_t>(id));
    }
    const auto ids = tokenizer.encode(text, AddedTokens::kParse);
    ASSERT_TRUE(ids) << ids.error().text;
    EXPECT_EQ(*ids, expected) << text;
    ++num_cases;
  }
  EXPECT_GT(num_cases, 30);
}

TEST(Tiktoken, FilesThatLie) {
  const auto error = [](std::string_view ranks, std::string_view config = "{}") {
    const auto spec = spec_from_tiktoken(ranks, "t.model", config, "c.json");
    return spec ? "no error" : spec.error().text;
  };
  EXPECT_EQ(error("YQ== 0\r\n\nYg== 1"), "no error");
  EXPECT_EQ(error(""), "t.model: holds no tokens");
  EXPECT_EQ(error("YQ==0\n"), "t.model: line 1, \"YQ==0\": accepted: a token in base64, a blank and its rank");
  for (const char* bad : {"YQ=", "Y===", "Y*==", "YQ==YQ==", "YR==", "=YQ=", "", "YQ=a"}) {
    EXPECT_NE(error(std::string("YQ== 0\n") + bad + " 1").find("t.model: line 2, "), std::string::npos) << bad;
  }
  EXPECT_EQ(error("YQ== 0\nYg== -1"), "t.model: line 2, \"Yg== -1\": the rank is no integer from 0 to 2147483647");
  EXPECT_EQ(error("YQ== 99999999999"),
            "t.model: line 1, \"YQ== 99999999999\": the rank is no integer from 0 to 2147483647");
  EXPECT_EQ(error("YQ== 1x"), "t.model: line 1, \"YQ== 1x\": the rank is no integer from 0 to 2147483647");
  EXPECT_EQ(error("YQ== 0\nYQ== 1"), "t.model: token \"a\" has two ranks, 0 and 1");
  EXPECT_NE(error(base64(std::string(513, 'a')) + " 0").find("the token has 513 bytes; accepted: up to 512"),
            std::string::npos);
  EXPECT_EQ(error("YQ== 0", "["), Json::parse("[", "c.json").error().text);
  EXPECT_EQ(error("YQ== 0", R"({"added_tokens_decoder": []})"),
            "c.json: added_tokens_decoder is of kind array; accepted: an object of ids and tokens");
  EXPECT_EQ(error("YQ== 0", R"({"added_tokens_decoder": {"x": {"content": "a"}}})"),
            "c.json: added_tokens_decoder \"x\": the key is no id");
  EXPECT_EQ(error("YQ== 0", R"({"added_tokens_decoder": {"5": {}}})"),
            "c.json: added_tokens_decoder \"5\": content must be a string");
  EXPECT_EQ(error("YQ== 0", R"({"added_tokens_decoder": {"5": {"content": "x", "lstrip": true}}})"),
            "c.json: added_tokens_decoder \"5\": lstrip is true; accepted: false");
}

}  // namespace
}  // namespace fathom
