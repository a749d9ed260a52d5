#include "text/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "base/check.h"
#include "base/json.h"
#include "text/byte_level.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace fathom {
namespace {

constexpr int32_t kMaxVocabSize = 1 << 24;

uint64_t key_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

// A distinct word: a stretch of the shared symbol array that shrinks as its symbols are joined.
struct Word {
  size_t begin;
  size_t length;
  int64_t count;
};

// A pair's total count, and the words that have (or once had) it.
struct Pair {
  int64_t count = 0;
  std::vector<uint32_t> words;
};

// A queue entry is right about its pair or too high: counts only fall, except for pairs that are queued again.
struct Candidate {
  int64_t count;
  uint64_t pair;
};
bool worse(const Candidate& a, const Candidate& b) { return a.count != b.count ? a.count < b.count : a.pair > b.pair; }

// The state of one training run.
class Learner {
 public:
  explicit Learner(const std::unordered_map<std::string, int64_t>& words, const std::array<int32_t, 256>& byte_ids) {
    for (const auto& [text, count] : words) {
      words_.push_back({symbols_.size(), text.size(), count});
      for (char byte : text) symbols_.push_back(byte_ids[static_cast<uint8_t>(byte)]);
    }
    for (uint32_t w = 0; w < words_.size(); ++w) {
      const Word& word = words_[w];
      for (size_t i = 1; i < word.length; ++i) {
        change(symbols_[word.begin + i - 1], symbols_[word.begin + i], word.count, w);
      }
    }
    changed_.clear();
    for (const auto& [pair, info] : pairs_) queue_.push_back({info.count, pair});
    std::make_heap(queue_.begin(), queue_.end(), worse);
  }

  /// The most frequent pair; its count is 0 when there is none. It stays queued until joined or dropped.
  Candidate best() {
    while (!queue_.empty()) {
      const Candidate top = queue_.front();
      const auto found = pairs_.find(top.pair);
      const int64_t count = found == pairs_.end() ? 0 : found->second.count;
      if (count == top.count) return top;
      drop();
      if (count > 0) push({count, top.pair});
    }
    return {0, 0};
  }

  /// Forgets the pair that best() returned.
  void drop() {
    std::pop_heap(queue_.begin(), queue_.end(), worse);
    queue_.pop_back();
  }

  /// Replaces the pair that best() returned by `joined` in every word, from left to right.
  void join(uint64_t pair, int32_t joined) {
    drop();
    const auto left = static_cast<int32_t>(pair >> 32);
    const auto right = static_cast<int32_t>(pair & 0xFFFFFFFFu);
    const std::vector<uint32_t> places = std::move(pairs_[pair].words);
    changed_.clear();
    for (uint32_t w : places) join_in_word(w, left, right, joined);
    pairs_.erase(pair);
    // A pair may be listed more than once; equal entries in the queue do no harm, but cost time.
    std::sort(changed_.begin(), changed_.end());
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (uint64_t key : changed_) {
      const auto found = pairs_.find(key);
      if (found != pairs_.end() && found->second.count > 0) push({found->second.count, key});
    }
  }

 private:
  void push(Candidate candidate) {
    queue_.push_back(candidate);
    std::push_heap(queue_.begin(), queue_.end(), worse);
  }

  // Adds `count` (of word w) to a pair; one that grows is listed in changed_.
  void change(int32_t left, int32_t right, int64_t count, uint32_t w) {
    const uint64_t key = key_of(left, right);
    Pair& pair = pairs_[key];
    pair.count += count;
    if (count < 0) return;
    if (pair.words.empty() || pair.words.back() != w) pair.words.push_back(w);
    changed_.push_back(key);
  }

  void join_in_word(uint32_t w, int32_t left, int32_t right, int32_t joined) {
    Word& word = words_[w];
    int32_t* const symbols = symbols_.data() + word.begin;
    size_t out = 0;  // symbols[0, out) are done
    for (size_t i = 0; i < word.length; ++i) {
      if (i + 1 == word.length || symbols[i] != left || symbols[i + 1] != right) {
        symbols[out++] = symbols[i];
        continue;
      }
      if (out > 0) {
        change(symbols[out - 1], left, -word.count, w);
        change(symbols[out - 1], joined, word.count, w);
      }
      if (i + 2 < word.length) {
        change(right, symbols[i + 2], -word.count, w);
        change(joined, symbols[i + 2], word.count, w);
      }
      symbols[out++] = joined;
      ++i;
    }
    word.length = out;
  }

  std::vector<int32_t> symbols_;
  std::vector<Word> words_;
  std::unordered_map<uint64_t, Pair> pairs_;
  std::vector<Candidate> queue_;
  std::vector<uint64_t> changed_;
};

}  // namespace

Result<BpeTrainer> BpeTrainer::create(BpeTrainerOptions options) {
  const int64_t smallest = 256 + static_cast<int64_t>(options.special_tokens.size());
  if (options.vocab_size < smallest || options.vocab_size > kMaxVocabSize) {
    return invalid("vocab_size is " + std::to_string(options.vocab_size) + "; accepted: " + std::to_string(smallest) +
                   " (special tokens and bytes) to " + std::to_string(kMaxVocabSize));
  }
  if (options.min_frequency < 1) {
    return invalid("min_frequency is " + std::to_string(options.min_frequency) + "; accepted: 1 or more");
  }
  std::vector<AddedToken> special;
  for (const std::string& content : options.special_tokens) {
    if (content.size() == 1)
      return invalid("special token " + Json(content).dump() + " is a single byte; accepted: longer ones");
    special.push_back({content, static_cast<int32_t>(special.size())});
  }
  auto matcher = AddedTokenMatcher::create(special);
  if (!matcher) return matcher.error();
  auto pretokenizer = Pretokenizer::create(options.split_patterns);
  if (!pretokenizer) return pretokenizer.error();
  return BpeTrainer(std::move(options), std::move(*pretokenizer), std::move(*matcher));
}

Status BpeTrainer::add(std::string_view text) {
  if (const auto bad = first_invalid_utf8(text)) {
    return invalid("the text is not valid UTF-8 at byte offset " + std::to_string(*bad));
  }
  // Cut everything before counting anything, so that an error leaves the counts as they were.
  std::vector<std::vector<std::string_view>> cuts;
  for (const TextSegment& segment : special_.split(text)) {
    if (segment.id >= 0) continue;
    auto pieces = pretokenizer_.split(segment.text);
    if (!pieces) return pieces.error();
    cuts.push_back(std::move(*pieces));
  }
  // Counting views first hashes each occurrence once and copies only the distinct words.
  std::unordered_map<std::string_view, int64_t> counts;
  for (const auto& pieces : cuts) {
    for (std::string_view piece : pieces) ++counts[piece];
  }
  for (const auto& [word, count] : counts) words_[std::string(word)] += count;
  return {};
}

Result<TokenizerSpec> BpeTrainer::train(Progress& progress) const {
  TokenizerSpec spec;
  spec.split_patterns = options_.split_patterns;
  int32_t next_id = 0;
  std::unordered_map<std::string, int32_t> ids;  // of the vocabulary that merges may make
  std::unordered_set<std::string_view> special(options_.special_tokens.begin(), options_.special_tokens.end());
  for (const std::string& content : options_.special_tokens) {
    spec.added_tokens.push_back({content, next_id});
    VocabEntry entry = vocab_entry(content, next_id++);
    if (entry.bytes != content) entry = {content, entry.id, true};
    spec.vocab.push_back(std::move(entry));
  }
  // Bytes in the order of their characters, as in DeepSeek's and GPT-2's vocabularies: "!" comes first.
  std::array<int, 256> order{};
  for (int byte = 0; byte < 256; ++byte) order[static_cast<size_t>(byte)] = byte;
  const auto& alphabet = byte_level_alphabet();
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return alphabet[static_cast<size_t>(a)] < alphabet[static_cast<size_t>(b)]; });
  std::array<int32_t, 256> byte_ids{};
  for (int byte : order) {
    byte_ids[static_cast<size_t>(byte)] = next_id;
    spec.vocab.push_back({std::string(1, static_cast<char>(static_cast<uint8_t>(byte))), next_id++, false});
  }

  Learner learner(words_, byte_ids);
  while (next_id < options_.vocab_size) {
    if (progress.stop_requested()) return cancelled("tokenizer training was stopped");
    const Candidate best = learner.best();
    if (best.count < options_.min_frequency) break;
    const auto left = static_cast<int32_t>(best.pair >> 32);
    const auto right = static_cast<int32_t>(best.pair & 0xFFFFFFFFu);
    const std::string bytes =
        spec.vocab[static_cast<size_t>(left)].bytes + spec.vocab[static_cast<size_t>(right)].bytes;
    if (special.contains(bytes)) {  // plain text must never become a special token
      learner.drop();
      continue;
    }
    // Another pair may have made these bytes before ("a"+"bc" after "ab"+"c"): same token, one more way to reach it.
    const auto [entry, is_new] = ids.emplace(bytes, next_id);
    if (is_new) spec.vocab.push_back({bytes, next_id++, false});
    spec.merges.push_back({left, right, static_cast<int32_t>(spec.merges.size())});
    learner.join(best.pair, entry->second);
    if (is_new && next_id % 256 == 0) progress.update("tokens", next_id, options_.vocab_size, "");
  }
  check(spec.vocab.size() == static_cast<size_t>(next_id), "the vocabulary is dense");
  return spec;
}

}  // namespace fathom
