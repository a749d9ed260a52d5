// BpeTrainer against a slow reading of its definition, and the tokenizers that it makes.
#include "text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <map>

#include "base/json.h"
#include "text/tokenizer_json.h"
#include "tokenizer_cases.h"

namespace fathom {
namespace {

BpeTrainer make_trainer(BpeTrainerOptions options) {
  auto trainer = BpeTrainer::create(std::move(options));
  EXPECT_TRUE(trainer) << trainer.error().text;
  return std::move(*trainer);
}

TokenizerSpec train(const BpeTrainer& trainer) {
  SilentProgress silent;
  auto spec = trainer.train(silent);
  EXPECT_TRUE(spec) << spec.error().text;
  return *spec;
}

std::vector<std::string> merged_tokens(const TokenizerSpec& spec, size_t num_special) {
  std::vector<std::string> tokens;
  for (size_t i = 256 + num_special; i < spec.vocab.size(); ++i) tokens.push_back(spec.vocab[i].bytes);
  return tokens;
}

TEST(BpeTrainer, LearnsTheMostFrequentPairsFirst) {
  // Words: "low" 5, " lower" 2, " newest" 6, " widest" 3.
  std::string text;
  for (const auto& [word, count] : {std::pair("low.", 5), {" lower.", 2}, {" newest.", 6}, {" widest.", 3}}) {
    for (int i = 0; i < count; ++i) text += word;
  }
  const TokenizerSpec spec = trained_spec(text, 3 + 256 + 4);
  // "es" and "st" occur 9 times each: the pair with the smaller left id wins ("e" before "s"), and then "est" has
  // all 9.
  EXPECT_EQ(spec.vocab[259].bytes, "es");
  EXPECT_EQ(spec.vocab[260].bytes, "est");
}

TEST(BpeTrainer, PutsSpecialTokensThenBytesFirst) {
  const TokenizerSpec spec = trained_spec("", 300);
  ASSERT_EQ(spec.vocab.size(), 259u);  // no text, no merges
  EXPECT_EQ(spec.vocab[0].bytes, "<|begin|>");
  EXPECT_EQ(spec.vocab[2].bytes, "<|pad|>");
  EXPECT_EQ(spec.vocab[3].bytes, "!");
  EXPECT_EQ(spec.added_tokens.size(), 3u);
  const Tokenizer tokenizer = make_tokenizer(spec);
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_TRUE(tokenizer.token_id(std::string(1, static_cast<char>(byte)))) << byte;
  }
}

// The definition read literally: count everything again at every step.
std::vector<Merge> slow_train(const std::map<std::string, int64_t>& words, const TokenizerSpec& start,
                              int32_t vocab_size, int64_t min_frequency) {
  std::map<std::string, int32_t> ids;
  for (const VocabEntry& entry : start.vocab) {
    if (entry.bytes.size() == 1) ids[entry.bytes] = entry.id;
  }
  std::vector<std::string> names(static_cast<size_t>(vocab_size));
  for (const auto& [bytes, id] : ids) names[static_cast<size_t>(id)] = bytes;
  auto next_id = static_cast<int32_t>(start.vocab.size());
  std::vector<std::pair<std::vector<int32_t>, int64_t>> state;
  for (const auto& [word, count] : words) {
    state.emplace_back(std::vector<int32_t>{}, count);
    for (char byte : word) state.back().first.push_back(ids.at(std::string(1, byte)));
  }
  std::vector<Merge> merges;
  while (next_id < vocab_size) {
    std::map<std::pair<int32_t, int32_t>, int64_t> counts;
    for (const auto& [symbols, count] : state) {
      for (size_t i = 1; i < symbols.size(); ++i) counts[{symbols[i - 1], symbols[i]}] += count;
    }
    auto best = counts.end();
    for (auto it = counts.begin(); it != counts.end(); ++it) {
      if (best == counts.end() || it->second > best->second) best = it;
    }
    if (best == counts.end() || best->second < min_frequency) break;
    const auto [left, right] = best->first;
    const std::string bytes = names[static_cast<size_t>(left)] + names[static_cast<size_t>(right)];
    const auto [entry, is_new] = ids.emplace(bytes, next_id);
    if (is_new) names[static_cast<size_t>(next_id++)] = bytes;
    merges.push_back({left, right, static_cast<int32_t>(merges.size())});
    for (auto& [symbols, count] : state) {
      for (size_t i = 1; i < symbols.size(); ++i) {
        if (symbols[i - 1] != left || symbols[i] != right) continue;
        symbols[i - 1] = entry->second;
        symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
  }
  return merges;
}

TEST(BpeTrainer, AgreesWithASlowReadingOfTheDefinition) {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    SequentialRng rng(seed, stream_of("slow train"));
    BpeTrainerOptions options;
    options.vocab_size = static_cast<int32_t>(256 + rng.between(0, 60));
    options.min_frequency = rng.between(1, 3);
    options.split_patterns = {"[abc]+"};
    auto trainer = make_trainer(options);
    std::map<std::string, int64_t> words;
    for (int64_t left = rng.between(0, 40); left > 0; --left) {
      std::string word;
      for (int64_t n = rng.between(1, 12); n > 0; --n) word.push_back("aabc"[rng.below(4)]);
      ++words[word];
      ++words["."];
      ASSERT_TRUE(trainer.add(word + "."));
    }
    const TokenizerSpec spec = train(trainer);
    const TokenizerSpec start = train(make_trainer({.vocab_size = 256, .split_patterns = {"[abc]+"}}));
    EXPECT_EQ(spec.merges, slow_train(words, start, options.vocab_size, options.min_frequency));
  }
}

TEST(BpeTrainer, DependsOnlyOnTheWords) {
  std::vector<std::string> texts;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SequentialRng rng(seed, stream_of("determinism"));
    texts.push_back(random_text(rng, 200) + "\n");
  }
  const BpeTrainerOptions options{.vocab_size = 500, .special_tokens = {"<s>"}};
  auto forward = make_trainer(options), backward = make_trainer(options);
  for (size_t i = 0; i < texts.size(); ++i) {
    ASSERT_TRUE(forward.add(texts[i]));
    ASSERT_TRUE(backward.add(texts[texts.size() - 1 - i]));
  }
  const TokenizerSpec spec = train(forward);
  EXPECT_EQ(spec.vocab.size(), 500u);
  EXPECT_EQ(train(backward), spec);
  EXPECT_EQ(train(forward), spec);
  EXPECT_EQ(to_tokenizer_json(train(backward)), to_tokenizer_json(spec));
}

TEST(BpeTrainer, NeverMakesASpecialTokenFromPlainText) {
  BpeTrainerOptions options{.vocab_size = 300, .special_tokens = {"abc"}, .min_frequency = 1, .split_patterns = {}};
  auto trainer = make_trainer(options);
  // The special token cuts: only "ab", "bc" and words around it are seen.
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(trainer.add("abcab"));
  TokenizerSpec spec = train(trainer);
  EXPECT_EQ(merged_tokens(spec, 1), std::vector<std::string>{"ab"});
  for (const Merge& merge : spec.merges) {
    EXPECT_NE(spec.vocab[static_cast<size_t>(merge.left)].bytes + spec.vocab[static_cast<size_t>(merge.right)].bytes,
              "abc");
  }
  EXPECT_EQ(make_tokenizer(spec).encode("abc", AddedTokens::kIgnore)->size(), 2u);
  EXPECT_EQ(*make_tokenizer(spec).encode("abc", AddedTokens::kParse), std::vector<int32_t>{0});
}

TEST(BpeTrainer, NamesBadOptionsAndBadText) {
  const auto error_of = [](BpeTrainerOptions options) {
    const auto trainer = BpeTrainer::create(std::move(options));
    return trainer ? std::string("accepted") : trainer.error().text;
  };
  EXPECT_EQ(error_of({.vocab_size = 257, .special_tokens = {"<s>", "</s>"}}),
            "vocab_size is 257; accepted: 258 (special tokens and bytes) to 16777216");
  EXPECT_EQ(error_of({.vocab_size = 300, .min_frequency = 0}), "min_frequency is 0; accepted: 1 or more");
  EXPECT_EQ(error_of({.vocab_size = 300, .special_tokens = {"<s>", "<s>"}}), "added token \"<s>\" is listed twice");
  EXPECT_EQ(error_of({.vocab_size = 300, .special_tokens = {"x"}}),
            "special token \"x\" is a single byte; accepted: longer ones");
  EXPECT_TRUE(error_of({.vocab_size = 300, .split_patterns = {"("}}).starts_with("split pattern \"(\": "));
  auto trainer = make_trainer({.vocab_size = 300});
  EXPECT_EQ(trainer.add("ab\xFF").error().text, "the text is not valid UTF-8 at byte offset 2");
}

TEST(BpeTrainer, StopsOnRequest) {
  struct Stop final : Progress {
    void update(std::string_view, int64_t, int64_t, std::string_view) override {}
    bool stop_requested() const override { return true; }
  } stop;
  auto trainer = make_trainer({.vocab_size = 300});
  ASSERT_TRUE(trainer.add("abab"));
  const auto spec = trainer.train(stop);
  ASSERT_FALSE(spec);
  EXPECT_EQ(spec.error().code, ErrorCode::kCancelled);
}

TEST(BpeTrainer, LearnsEnglish) {
  const Path file = Path(FATHOM_SHARED_DIR) / "data/text/standardebooks-19.txt.xz";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "needs " << file.string();
  const std::string text = read_xz(file);
  ASSERT_GT(text.size(), 1000000u);
  const auto begin = std::chrono::steady_clock::now();
  auto trainer = make_trainer({.vocab_size = 4096, .special_tokens = {"<|endoftext|>"}});
  ASSERT_TRUE(trainer.add(text));
  const TokenizerSpec spec = train(trainer);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  RecordProperty("train_seconds", std::to_string(seconds));
  RecordProperty("text_bytes", std::to_string(text.size()));
  EXPECT_EQ(spec.vocab.size(), 4096u);
  const Tokenizer tokenizer = make_tokenizer(spec);
  EXPECT_TRUE(tokenizer.token_id(" the"));
  const auto ids = tokenizer.encode(text, AddedTokens::kParse);
  ASSERT_TRUE(ids) << ids.error().text;
  EXPECT_EQ(*tokenizer.decode(*ids), text);
  EXPECT_GT(static_cast<double>(text.size()) / static_cast<double>(ids->size()), 3.0);
}

// Without the characters whose class depends on the Unicode version of PCRE2 or of node: only old blocks, and U+180E.
std::string old_characters(std::string_view text) {
  std::string kept;
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    const char32_t c = step.code_point;
    const bool old = c < 0x800 || c == 0x180E || (c >= 0x3041 && c <= 0x3096) || (c >= 0x4E00 && c <= 0x9FA5) ||
                     (c >= 0xAC00 && c <= 0xD7A3) || (c >= 0x1F300 && c <= 0x1F5FF) || (c >= 0x1F980 && c <= 0x1F9BF) ||
                     (c >= 0x20000 && c <= 0x2A6D6);
    if (old) kept.append(text.substr(0, static_cast<size_t>(step.length)));
    text.remove_prefix(static_cast<size_t>(step.length));
  }
  return kept;
}

// tests/npm/check_tokenizer.mjs compares these files with a Hugging Face implementation.
TEST(NpmFixture, WritesATokenizerAndItsIds) {
  const char* folder = std::getenv("FATHOM_FIXTURE_DIR");
  if (folder == nullptr) GTEST_SKIP() << "needs FATHOM_FIXTURE_DIR, an existing folder to write to";
  std::string text;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SequentialRng rng(seed, stream_of("fixture"));
    text += sample_text() + random_text(rng, 100);
  }
  const TokenizerSpec spec = trained_spec(text, 1024);
  const Tokenizer tokenizer = make_tokenizer(spec);
  Json cases = Json::array();
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    SequentialRng rng(seed, stream_of("cases"));
    std::string input = seed == 0 ? sample_text() : old_characters(random_text(rng, 80));
    if (seed % 7 == 0) input = "<|begin|>" + input + "<|end|>";
    const auto ids = tokenizer.encode(input, AddedTokens::kParse);
    ASSERT_TRUE(ids) << ids.error().text;
    Json list = Json::array(), one;
    for (int32_t id : *ids) list.push(id);
    cases.push(one.set("text", std::move(input)).set("ids", std::move(list)));
  }
  ASSERT_TRUE(write_file(Path(folder) / "tokenizer.json", to_tokenizer_json(spec)));
  ASSERT_TRUE(write_file(Path(folder) / "cases.json", cases.dump()));
}

}  // namespace
}  // namespace fathom
