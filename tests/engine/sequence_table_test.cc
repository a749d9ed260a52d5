// A recorded trace of requests through the scheduler, the sequence table and the prefix cache in virtual time, without
// a model: what is left of the engine when the numbers are taken away.
#include "engine/sequence_table.h"

#include <gtest/gtest.h>

#include <map>

#include "../text/tokenizer_cases.h"
#include "base/json.h"
#include "shared_data.h"

namespace fathom {
namespace {

struct Traced {
  int64_t arrival_us = 0;
  std::vector<int32_t> prompt;
  int64_t answer_tokens = 0;
  int64_t priority = 0;
};

/// The first requests of Mooncake's conversation trace, an eighth as long: its prefix blocks of 512 tokens become our
/// pages of 64. The tokens of a block are its id.
std::vector<Traced> mooncake(size_t num_requests) {
  const std::string text = read_xz(testing::shared_data() / "traces/mooncake-conversation_trace.jsonl.xz");
  std::vector<Traced> requests;
  for (size_t begin = 0; begin < text.size() && requests.size() < num_requests;) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const auto line = Json::parse(text.substr(begin, end - begin), "trace");
    begin = end + 1;
    if (!line) break;
    Traced request;
    request.arrival_us = line->find("timestamp")->as_int() * 1000;
    request.answer_tokens = std::max<int64_t>(1, line->find("output_length")->as_int() / 8);
    const int64_t length = std::max<int64_t>(1, line->find("input_length")->as_int() / 8);
    const auto& blocks = line->find("hash_ids")->items();
    for (int64_t i = 0; i < length; ++i) {
      const auto block = std::min(static_cast<size_t>(i / 64), blocks.size() - 1);
      request.prompt.push_back(static_cast<int32_t>(blocks[block].as_int()));
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

/// A cache whose pages hold next to nothing.
ModelConfig no_model() {
  ModelConfig config;
  config.num_hidden_layers = 1;
  config.kv_lora_rank = 1;
  config.qk_rope_head_dim = 1;
  return config;
}

struct Replayed {
  std::vector<int64_t> first_token_us, last_token_us;  // by request, after its arrival
  int64_t steps = 0;
  EngineStats stats;
};

/// Runs all requests to their end. A step takes 10 ms and 20 us for each of its tokens.
Replayed replay(const std::vector<Traced>& requests, SequenceTableOptions options, int64_t max_cache_tokens) {
  LatentCache cache(no_model(), DType::kF32, max_cache_tokens);
  SequenceTable table(cache, options);
  Replayed result;
  result.first_token_us.assign(requests.size(), -1);
  result.last_token_us.assign(requests.size(), -1);
  int64_t now_us = 0;
  size_t arrived = 0, finished = 0;
  std::map<int64_t, int64_t> last_begun;  // by priority: the arrival of the youngest request that has begun
  std::vector<bool> began(requests.size());
  int64_t num_overtaken = 0;
  while (finished < requests.size() && result.steps < 1'000'000) {
    for (; arrived < requests.size() && requests[arrived].arrival_us <= now_us; ++arrived) {
      auto sequence = std::make_unique<Sequence>(static_cast<int64_t>(arrived), cache);
      sequence->priority = requests[arrived].priority;
      table.set_prompt(*sequence, requests[arrived].prompt);
      sequence->max_length = sequence->prompt_length + requests[arrived].answer_tokens;
      table.add(std::move(sequence));
    }
    if (table.sequences().empty()) {
      now_us = requests[arrived].arrival_us;
      continue;
    }
    const StepPlan plan = table.begin_step();  // aborts when a page is missing
    ++result.steps;
    int64_t tokens = 0;
    for (const StepItem& item : plan.items) tokens += item.count;
    EXPECT_LE(tokens, options.token_budget);
    EXPECT_LE(std::ssize(plan.items), options.max_running);
    EXPECT_LE(cache.pages_in_use(), cache.max_pages());
    if (tokens == 0) {
      ADD_FAILURE() << "a step without work";
      break;
    }
    for (size_t i : plan.admitted) {  // in order of arrival, whoever is not back from a preemption
      const Sequence& s = *table.sequences()[i];
      if (began[static_cast<size_t>(s.id)]) continue;
      began[static_cast<size_t>(s.id)] = true;
      num_overtaken += s.arrival < last_begun[s.priority];
      last_begun[s.priority] = std::max(last_begun[s.priority], s.arrival);
    }
    now_us += 10'000 + 20 * tokens;
    std::vector<int64_t> done;
    for (const StepItem& item : plan.items) {
      Sequence& s = *table.sequences()[item.sequence];
      table.end_item(item);
      if (!item.samples) continue;
      s.tokens.push_back(-1 - static_cast<int32_t>(s.id));
      const auto r = static_cast<size_t>(s.id);
      if (result.first_token_us[r] < 0) result.first_token_us[r] = now_us - requests[r].arrival_us;
      result.last_token_us[r] = now_us - requests[r].arrival_us;
      EXPECT_EQ(std::ssize(s.cache.pages()), pages_for(s.num_computed));
      if (std::ssize(s.tokens) == s.max_length) done.push_back(s.id);
    }
    for (int64_t id : done) table.remove(id);
    finished += done.size();
  }
  table.add_to(result.stats);
  EXPECT_EQ(finished, requests.size()) << "somebody starved";
  // Only who waits for a prefix that is being computed may be overtaken.
  if (!options.prefix_cache) {
    EXPECT_EQ(num_overtaken, 0);
  }
  return result;
}

double mean(const std::vector<int64_t>& values) {
  double sum = 0;
  for (int64_t v : values) sum += static_cast<double>(v);
  return sum / static_cast<double>(values.size());
}

class Replay : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(testing::shared_data() / "traces")) {
      GTEST_SKIP() << "needs " << testing::shared_data() / "traces";
    }
    requests_ = mooncake(300);
    ASSERT_EQ(requests_.size(), 300u);
    for (const Traced& r : requests_) {
      longest_ = std::max(longest_, std::ssize(r.prompt) + r.answer_tokens);
      prompt_tokens_ += std::ssize(r.prompt);
    }
  }
  std::vector<Traced> requests_;
  int64_t longest_ = 0, prompt_tokens_ = 0;
};

TEST_F(Replay, EverybodyIsServedWithinTheBudgetAndThePages) {
  const Replayed roomy = replay(requests_, {.token_budget = 512}, 1'000'000);
  EXPECT_EQ(roomy.stats.preemptions, 0);
  EXPECT_EQ(roomy.stats.prompt_tokens, prompt_tokens_);
  EXPECT_EQ(roomy.stats.pages_in_use, 0);
  // Room for the longest request and not much more: others wait, and some are preempted.
  const Replayed tight = replay(requests_, {.token_budget = 512}, longest_ + 64);
  EXPECT_EQ(tight.stats.pages_in_use, 0);
  EXPECT_GT(mean(tight.first_token_us), mean(roomy.first_token_us));
}

TEST_F(Replay, PrefixesAreFoundWhereTheTraceRepeatsThem) {
  // By hand: how many tokens stand in whole pages that an earlier request had at the same place after the same ones.
  std::map<std::vector<int32_t>, bool> seen;
  int64_t repeated = 0;
  for (const Traced& r : requests_) {
    std::vector<int32_t> blocks;
    bool known = true;
    for (int64_t end = 64; end <= std::ssize(r.prompt); end += 64) {
      blocks.push_back(r.prompt[static_cast<size_t>(end - 1)]);
      known &= seen.contains(blocks);
      seen[blocks] = true;
      if (known && end < std::ssize(r.prompt)) repeated += 64;
    }
  }
  ASSERT_GT(repeated, 0);
  const Replayed cached = replay(requests_, {.token_budget = 512}, 10'000'000);
  EXPECT_EQ(cached.stats.prefix_hit_tokens, repeated) << "with room for everything nothing is computed twice";
  const Replayed plain = replay(requests_, {.token_budget = 512, .prefix_cache = false}, 10'000'000);
  EXPECT_EQ(plain.stats.prefix_hit_tokens, 0);
  EXPECT_LT(mean(cached.first_token_us), mean(plain.first_token_us));
  EXPECT_LT(replay(requests_, {.token_budget = 512}, longest_ + 64).stats.prefix_hit_tokens, repeated);
}

TEST_F(Replay, HigherPriorityIsServedSooner) {
  for (size_t i = 0; i < requests_.size(); ++i) requests_[i].priority = i % 2 == 0 ? 1 : 0;
  const Replayed result = replay(requests_, {.token_budget = 256, .max_running = 8}, 2 * longest_);
  std::vector<int64_t> high, low;
  for (size_t i = 0; i < requests_.size(); ++i) (i % 2 == 0 ? high : low).push_back(result.first_token_us[i]);
  EXPECT_LT(2 * mean(high), mean(low));
}

TEST_F(Replay, AHugePromptDoesNotHoldUpShortOnes) {
  // One prompt of 200 steps' worth, and twenty short ones that arrive just after it: they are done when it is a tenth
  // done; and it is served at half speed at least.
  std::vector<Traced> mixed{{.prompt = std::vector<int32_t>(200 * 256, 1), .answer_tokens = 1}};
  for (int32_t i = 0; i < 20; ++i) {
    mixed.push_back({.arrival_us = 1, .prompt = std::vector<int32_t>(100, 10 + i), .answer_tokens = 2});
  }
  const Replayed result = replay(mixed, {.token_budget = 256}, 100'000);
  for (size_t i = 1; i < mixed.size(); ++i) EXPECT_LT(10 * result.last_token_us[i], result.first_token_us[0]);
  EXPECT_LE(result.steps, 400);
}

}  // namespace
}  // namespace fathom
