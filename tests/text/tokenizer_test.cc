// Tokenizer, its pre-tokenizer and its files, against published vectors, against a slow reading of the definition, and
// against hostile input.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <thread>

#include "../effort.h"
#include "base/json.h"
#include "text/byte_level.h"
#include "text/tokenizer_json.h"
#include "tokenizer_cases.h"

namespace fathom {
namespace {

using Ids = std::vector<int32_t>;

Ids ids_of(const Json& list) {
  Ids ids;
  for (const Json& id : list.items()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

std::vector<std::string> lines_of(std::string_view text, std::string_view separator) {
  std::vector<std::string> lines;
  for (size_t cut; (cut = text.find(separator)) != std::string_view::npos; text.remove_prefix(cut + separator.size())) {
    lines.emplace_back(text.substr(0, cut));
  }
  if (!text.empty()) lines.emplace_back(text);
  return lines;
}

// Every token is one byte, with merges given as text: enough to see the order of merges.
TokenizerSpec byte_spec(const std::vector<std::pair<std::string, std::string>>& merges) {
  TokenizerSpec spec;
  for (int byte = 0; byte < 256; ++byte) spec.vocab.push_back({std::string(1, static_cast<char>(byte)), byte});
  const auto id_of = [&spec](const std::string& bytes) {
    const auto found =
        std::find_if(spec.vocab.begin(), spec.vocab.end(), [&](const auto& e) { return e.bytes == bytes; });
    return found == spec.vocab.end() ? -1 : found->id;
  };
  for (const auto& [left, right] : merges) {
    spec.merges.push_back({id_of(left), id_of(right), static_cast<int32_t>(spec.merges.size())});
    const auto next = static_cast<int32_t>(spec.vocab.size());
    if (id_of(left + right) < 0) spec.vocab.push_back({left + right, next});
  }
  return spec;
}

// The definition read literally: again and again the lowest rank, and of it the leftmost place.
Ids slow_merge(const TokenizerSpec& spec, std::string_view piece) {
  std::vector<std::string> symbols;
  for (char byte : piece) symbols.emplace_back(1, byte);
  while (true) {
    const Merge* best = nullptr;
    size_t place = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      for (const Merge& merge : spec.merges) {
        const bool fits = spec.vocab[static_cast<size_t>(merge.left)].bytes == symbols[i] &&
                          spec.vocab[static_cast<size_t>(merge.right)].bytes == symbols[i + 1];
        if (fits && (best == nullptr || merge.rank < best->rank)) {
          best = &merge;
          place = i;
        }
      }
    }
    if (best == nullptr) break;
    symbols[place] += symbols[place + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
  Ids ids;
  for (const std::string& symbol : symbols) {
    const auto same = [&](const VocabEntry& e) { return e.bytes == symbol; };
    ids.push_back(std::find_if(spec.vocab.begin(), spec.vocab.end(), same)->id);
  }
  return ids;
}

class DeepSeekV3 : public ::testing::Test {
 protected:
  void SetUp() override {
    const Path file = tokenizer_data("deepseek-v3/tokenizer.json.xz");
    if (!std::filesystem::exists(file)) GTEST_SKIP() << "needs " << file.string();
    auto spec = spec_from_tokenizer_json(read_xz(file), "tokenizer.json");
    ASSERT_TRUE(spec) << spec.error().text;
    spec_ = std::move(*spec);
  }
  TokenizerSpec spec_;
};

TEST_F(DeepSeekV3, EncodesAndDecodesEveryVector) {
  const Tokenizer tokenizer = make_tokenizer(spec_);
  const auto text = read_file(tokenizer_data("deepseek-v3/vectors.jsonl"));
  ASSERT_TRUE(text) << text.error().text;
  int num_vectors = 0;
  for (const std::string& line : lines_of(*text, "\n")) {
    const auto vector = Json::parse(line, "vectors.jsonl");
    ASSERT_TRUE(vector) << vector.error().text;
    const std::string& input = vector->find("text")->as_string();
    const auto ids = tokenizer.encode(input, AddedTokens::kParse);
    ASSERT_TRUE(ids) << ids.error().text;
    EXPECT_EQ(*ids, ids_of(*vector->find("ids"))) << line;
    const auto back = tokenizer.decode(*ids);
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(*back, input);
    ++num_vectors;
  }
  EXPECT_EQ(num_vectors, 271);
}

TEST_F(DeepSeekV3, KnowsItsSpecialTokens) {
  const Tokenizer tokenizer = make_tokenizer(spec_);
  EXPECT_EQ(tokenizer.vocab_size(), 128815);
  EXPECT_EQ(tokenizer.token_id("<｜begin▁of▁sentence｜>"), 0);
  EXPECT_EQ(tokenizer.token_id("<｜User｜>"), 128803);
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_FALSE(tokenizer.is_special(128803));
  const std::string text = "<｜begin▁of▁sentence｜><｜User｜>Hi<｜end▁of▁sentence｜>";
  const auto ids = tokenizer.encode(text, AddedTokens::kParse);
  ASSERT_TRUE(ids);
  EXPECT_EQ(ids->size(), 4u);
  EXPECT_EQ(*tokenizer.decode(*ids, SpecialTokens::kSkip), "<｜User｜>Hi");
  const auto plain = tokenizer.encode(text, AddedTokens::kIgnore);
  ASSERT_TRUE(plain);
  for (int32_t id : *plain) EXPECT_TRUE(id > 2 && id < 128000) << id;
  EXPECT_EQ(*tokenizer.decode(*plain), text);
}

TEST_F(DeepSeekV3, SurvivesWritingAndReading) {
  auto again = spec_from_tokenizer_json(to_tokenizer_json(spec_), "written");
  ASSERT_TRUE(again) << again.error().text;
  // Writing puts the added tokens into the vocabulary too; everything else is as it was.
  EXPECT_EQ(again->vocab.size(), 128815u);
  EXPECT_EQ(again->merges, spec_.merges);
  EXPECT_EQ(again->split_patterns, deepseek_v3_split_patterns());
  EXPECT_EQ(again->split_patterns, spec_.split_patterns);
  EXPECT_EQ(again->added_tokens, spec_.added_tokens);
  again->vocab.resize(128000);
  const auto by_id = [](const VocabEntry& a, const VocabEntry& b) { return a.id < b.id; };
  std::sort(spec_.vocab.begin(), spec_.vocab.end(), by_id);
  EXPECT_EQ(again->vocab, spec_.vocab);
}

// Eight times the text takes about eight times the work; quadratic work would take 64 times.
TEST_F(DeepSeekV3, EncodesAMegabyteOfOneLetterAtOnce) {
  if (testing::effort() == testing::Effort::kLittle)
    GTEST_SKIP() << "its time is what it looks at; the usual round runs it";
  const Tokenizer tokenizer = make_tokenizer(spec_);
  for (const char* unit : {"a", " ", "\n", "!", "世", "🦙", "1"}) {
    const auto cpu_seconds = [&](size_t size) {
      std::string text;
      while (text.size() < size) text += unit;
      const std::clock_t begin = std::clock();
      const auto ids = tokenizer.encode(text, AddedTokens::kParse);
      const auto ticks = static_cast<double>(std::clock() - begin);
      EXPECT_TRUE(ids) << ids.error().text;
      EXPECT_EQ(*tokenizer.decode(*ids), text);
      return ticks / CLOCKS_PER_SEC;
    };
    const double part = cpu_seconds(size_t{1} << 17);
    EXPECT_LT(cpu_seconds(size_t{1} << 20), 24 * part + 0.1) << unit << ", an eighth: " << part;
  }
}

TEST(Gpt2, EncodesEveryVector) {
  const Path folder = tokenizer_data("gpt2");
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "needs " << folder.string();
  // vocab.json and merges.txt are the two tables of a tokenizer.json.
  const auto vocab = Json::parse(read_xz(folder / "gpt2_vocab.json.xz"), "vocab.json");
  ASSERT_TRUE(vocab) << vocab.error().text;
  Json merges = Json::array();
  for (std::string& line : lines_of(read_xz(folder / "gpt2_merges.txt.xz"), "\n")) {
    if (!line.starts_with("#version")) merges.push(std::move(line));
  }
  Json byte_level, model, file;
  byte_level.set("type", "ByteLevel").set("add_prefix_space", false);
  model.set("type", "BPE").set("vocab", *vocab).set("merges", std::move(merges));
  file.set("pre_tokenizer", byte_level).set("decoder", byte_level).set("model", std::move(model));
  const auto spec = spec_from_tokenizer_json(file.dump(), "gpt2");
  ASSERT_TRUE(spec) << spec.error().text;
  ASSERT_EQ(spec->split_patterns, std::vector<std::string>{std::string(kGpt2SplitPattern)});
  const Tokenizer tokenizer = make_tokenizer(*spec);

  const auto inputs = read_file(tokenizer_data("llama.cpp-vectors/gpt-2.inp"));
  const auto outputs = read_file(tokenizer_data("llama.cpp-vectors/gpt-2.out"));
  ASSERT_TRUE(inputs && outputs);
  const auto texts = lines_of(*inputs, "\n__ggml_vocab_test__\n");
  const auto lists = lines_of(*outputs, "\n");
  ASSERT_GT(texts.size(), 30u);
  ASSERT_EQ(texts.size(), lists.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    Ids expected;
    for (const std::string& id : lines_of(lists[i], " ")) {
      if (!id.empty()) expected.push_back(std::stoi(id));
    }
    const auto ids = tokenizer.encode(texts[i], AddedTokens::kParse);
    ASSERT_TRUE(ids) << ids.error().text;
    EXPECT_EQ(*ids, expected) << texts[i];
    EXPECT_EQ(*tokenizer.decode(*ids), texts[i]);
  }
}

TEST(Tokenizer, MergesByRankAndThenFromTheLeft) {
  const TokenizerSpec spec = byte_spec({{"b", "c"}, {"a", "a"}, {"a", "bc"}, {"aa", "aa"}, {"a", "b"}});
  const Tokenizer tokenizer = make_tokenizer(spec);
  const auto id = [&](const char* bytes) { return *tokenizer.token_id(bytes); };
  EXPECT_EQ(*tokenizer.encode("abc", AddedTokens::kParse), Ids{id("abc")});  // not ab + c: b + c has the lower rank
  EXPECT_EQ(*tokenizer.encode("aaa", AddedTokens::kParse), (Ids{id("aa"), id("a")}));
  EXPECT_EQ(*tokenizer.encode("aaaaa", AddedTokens::kParse), (Ids{id("aaaa"), id("a")}));
}

TEST(Tokenizer, AgreesWithASlowReadingOfTheDefinition) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    SequentialRng rng(seed, stream_of("slow merge"));
    std::vector<std::string> tokens = {"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> merges;
    for (int i = 0; i < 12; ++i) {
      std::pair<std::string, std::string> merge(rng.pick(tokens), rng.pick(tokens));
      if (merge.first.size() + merge.second.size() > 8) continue;
      if (std::find(merges.begin(), merges.end(), merge) != merges.end()) continue;
      tokens.push_back(merge.first + merge.second);
      merges.push_back(std::move(merge));
    }
    TokenizerSpec spec = byte_spec(merges);
    if (seed % 3 == 0) {
      for (Merge& merge : spec.merges) merge.rank /= 3;  // equal ranks, as tiktoken files have them
    }
    const Tokenizer tokenizer = make_tokenizer(spec);
    std::string text;
    for (int64_t left = rng.between(0, 40); left > 0; --left) text.push_back("abc"[rng.below(3)]);
    EXPECT_EQ(*tokenizer.encode(text, AddedTokens::kParse), slow_merge(spec, text)) << text;
  }
}

TEST(Tokenizer, TakesWholePiecesWhenMergesAreIgnored) {
  TokenizerSpec spec = byte_spec({{"a", "b"}});
  spec.vocab.push_back({"abab", 300});
  EXPECT_EQ(make_tokenizer(spec).encode("abab", AddedTokens::kParse)->size(), 2u);
  spec.ignore_merges = true;
  EXPECT_EQ(*make_tokenizer(spec).encode("abab", AddedTokens::kParse), Ids{300});
  spec.added_tokens = {{"abab", 300, false, false}};
  EXPECT_EQ(make_tokenizer(spec).encode("abab", AddedTokens::kIgnore)->size(), 2u);
}

TEST(Tokenizer, PrefersTheLongestAddedTokenAtTheLeftmostPlace) {
  TokenizerSpec spec = byte_spec({});
  spec.added_tokens = {{"<a", 256}, {"<ab>", 257}, {"b>x", 258}, {"<b", 259, false, true}, {"b>", 260, true, true}};
  const Tokenizer tokenizer = make_tokenizer(spec);
  EXPECT_EQ(*tokenizer.encode("<ab>x", AddedTokens::kParse), (Ids{257, 'x'}));
  EXPECT_EQ(*tokenizer.encode("<aab", AddedTokens::kParse), (Ids{256, 'a', 'b'}));
  // "b>x" is of the first pass, so it wins over "<b" of the second, which begins further left.
  EXPECT_EQ(*tokenizer.encode("<b>x<b>ab>", AddedTokens::kParse), (Ids{'<', 258, 259, '>', 'a', 260}));
  EXPECT_EQ(*tokenizer.encode("<ab>", AddedTokens::kIgnore), (Ids{'<', 'a', 'b', '>'}));
  EXPECT_FALSE(tokenizer.is_special(259));
  EXPECT_FALSE(tokenizer.is_special(-1));
  EXPECT_FALSE(tokenizer.is_special(100000));
}

TEST(Tokenizer, RoundTripsRandomTextAndAnyBytes) {
  const Tokenizer tokenizer = make_tokenizer(trained_spec(sample_text() + sample_text(), 400));
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    SequentialRng rng(seed, stream_of("round trip"));
    std::string text = random_text(rng, 60);
    const auto ids = tokenizer.encode(text, AddedTokens::kParse);
    ASSERT_TRUE(ids) << ids.error().text;
    EXPECT_EQ(*tokenizer.decode(*ids), text);
    std::string bytes;
    for (int32_t id : *ids) bytes.append(*tokenizer.bytes_of(id));
    EXPECT_EQ(bytes, text);

    // Random bytes are either text, and come back, or are refused at the first offset that is none.
    for (int64_t i = rng.between(1, 5); i > 0 && !text.empty(); --i) {
      text[rng.below(text.size())] = static_cast<char>(rng.below(256));
    }
    const auto bad = first_invalid_utf8(text);
    const auto again = tokenizer.encode(text, AddedTokens::kIgnore);
    ASSERT_EQ(again.ok(), !bad.has_value());
    if (again) {
      EXPECT_EQ(*tokenizer.decode(*again), text);
    } else {
      EXPECT_EQ(again.error().text, "the text is not valid UTF-8 at byte offset " + std::to_string(*bad));
    }
  }
}

TEST(Tokenizer, MayBeSharedBetweenThreads) {
  const Tokenizer tokenizer = make_tokenizer(trained_spec(sample_text(), 350));
  const Ids expected = *tokenizer.encode(sample_text(), AddedTokens::kParse);
  std::vector<Ids> results(4);
  {
    std::vector<std::jthread> threads;
    for (Ids& result : results) {
      threads.emplace_back([&] {
        for (int i = 0; i < 50; ++i) result = *tokenizer.encode(sample_text(), AddedTokens::kParse);
      });
    }
  }
  for (const Ids& result : results) EXPECT_EQ(result, expected);
}

TEST(StreamDecoder, NeverCutsACharacterWhereverTheStreamEnds) {
  const Tokenizer tokenizer = make_tokenizer(byte_spec({}));
  for (const std::string& text : {sample_text(), std::string("\xF0\x9F\xA6"),
                                  std::string("a\xE4\xB8"
                                              "b\xFF\xC3")}) {
    Ids ids;
    for (char byte : text) ids.push_back(static_cast<uint8_t>(byte));
    for (size_t end = 0; end <= ids.size(); ++end) {
      StreamDecoder stream(tokenizer);
      std::string joined;
      for (size_t i = 0; i < end; ++i) {
        const auto part = stream.push(ids[i]);
        ASSERT_TRUE(part);
        EXPECT_FALSE(first_invalid_utf8(*part)) << "after " << i << " bytes";
        joined += *part;
      }
      joined += stream.flush();
      EXPECT_EQ(joined, *tokenizer.decode(std::span(ids).first(end)));
      EXPECT_EQ(stream.flush(), "");
    }
  }
}

TEST(StreamDecoder, ReplacesBytesOnlyWhenNothingCanCompleteThem) {
  const Tokenizer tokenizer = make_tokenizer(byte_spec({}));
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(*stream.push(0xF0), "");
  EXPECT_EQ(*stream.push(0x9F), "");
  EXPECT_EQ(*stream.push('a'), "\uFFFDa");
  EXPECT_EQ(*stream.push(0xFF), "\uFFFD");
  EXPECT_EQ(*stream.push(0xC3), "");
  EXPECT_FALSE(stream.push(999));
  EXPECT_EQ(*stream.push(0xA9), "é");
  EXPECT_EQ(*stream.push(0xE4), "");
  EXPECT_EQ(stream.flush(), "\uFFFD");
}

TEST(StreamDecoder, HidesSpecialTokensOnRequest) {
  const Tokenizer tokenizer = make_tokenizer(trained_spec("abc", 259));
  const auto ids = tokenizer.encode("<|begin|>hi<|end|>", AddedTokens::kParse);
  StreamDecoder keep(tokenizer), skip(tokenizer, SpecialTokens::kSkip);
  std::string kept, skipped;
  for (int32_t id : *ids) {
    kept += *keep.push(id);
    skipped += *skip.push(id);
  }
  EXPECT_EQ(kept, "<|begin|>hi<|end|>");
  EXPECT_EQ(skipped, "hi");
}

TEST(Tokenizer, NamesWhatDoesNotFit) {
  const Tokenizer tokenizer = make_tokenizer(byte_spec({}));
  EXPECT_EQ(tokenizer.decode(Ids{256}).error().text, "token id 256 is outside the vocabulary; accepted: 0 to 255");
  EXPECT_EQ(tokenizer.bytes_of(-1).error().text, "token id -1 is outside the vocabulary; accepted: 0 to 255");
  EXPECT_FALSE(tokenizer.token_id("ab"));
  EXPECT_FALSE(tokenizer.token_id(""));

  const auto error_of = [](const TokenizerSpec& spec) {
    const auto made = Tokenizer::create(spec);
    return made ? std::string("accepted") : made.error().text;
  };
  TokenizerSpec spec = byte_spec({});
  spec.vocab.push_back({"ab", 7});
  EXPECT_EQ(error_of(spec), "id 7 is used by token 7 (\"\\u0007\") and token 7 (\"ab\")");
  spec.vocab.back() = {"ab", 2000000000};
  EXPECT_EQ(error_of(spec), "token 2000000000 (\"ab\"): id out of range; accepted: 0 to 4609 for 257 tokens");
  spec.vocab.back() = {"a", 256};
  EXPECT_EQ(error_of(spec), "token 256 (\"a\") is listed twice");
  spec.vocab.back() = {"", 256};
  EXPECT_EQ(error_of(spec), "token 256 of the vocabulary is empty");
  spec.vocab.pop_back();
  spec.merges = {{'a', 'b', 0}};
  EXPECT_EQ(error_of(spec), "merge of rank 0: token 97 (\"a\") and token 98 (\"b\") make no token of the vocabulary");
  spec.merges = {{'a', 1000, 3}};
  EXPECT_EQ(error_of(spec), "merge of rank 3: token id 1000 is outside the vocabulary; accepted: 0 to 255");
  spec = byte_spec({{"a", "b"}});
  spec.merges.push_back({'a', 'b', 1});
  EXPECT_EQ(error_of(spec), "the merge into token 256 (\"ab\") is listed twice");
  spec = byte_spec({});
  spec.added_tokens = {{"x", 300}, {"x", 301}};
  EXPECT_EQ(error_of(spec), "added token \"x\" is listed twice");
  spec.added_tokens = {{"", 300}};
  EXPECT_EQ(error_of(spec), "added token 300 has 0 bytes; accepted: 1 to 512");
  spec.added_tokens = {{"new", 97}};
  EXPECT_EQ(error_of(spec), "id 97 is used by token 97 (\"a\") and token 97 (\"new\")");
  spec.added_tokens = {{"a", 300}};
  EXPECT_EQ(error_of(spec), "added token 300 (\"a\") is in the vocabulary as id 97");
  spec.added_tokens.clear();
  spec.vocab.erase(spec.vocab.begin() + 'q');
  EXPECT_EQ(make_tokenizer(spec).encode("aqa", AddedTokens::kParse).error().text,
            "the vocabulary has no token for byte 113");
}

TEST(ByteLevel, WritesEveryByteAsOneCharacter) {
  EXPECT_EQ(to_byte_level(" a\n\xAD"), "ĠaĊŃ");
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    EXPECT_EQ(from_byte_level(to_byte_level(bytes)), bytes);
  }
  EXPECT_EQ(from_byte_level(" "), std::nullopt);
  EXPECT_EQ(from_byte_level("ń"), std::nullopt);  // U+0144, one past the alphabet
  EXPECT_EQ(from_byte_level("\xC4"), std::nullopt);
}

}  // namespace
}  // namespace fathom
