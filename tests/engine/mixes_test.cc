// Batch invariance as a whole: random mixes of requests that share prefixes, arrive, are cancelled, miss deadlines,
// wait for room, are preempted and guess their next tokens give every request the tokens and the bits it gets alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "../effort.h"
#include "../model/test_models.h"
#include "../shared_data.h"
#include "engine/engine.h"
#include "kernels/registry.h"

namespace fathom {
namespace {

/// What a request got: tokens, and the bits of their log-probabilities, which are those of the logits.
struct Got {
  std::vector<int32_t> tokens;
  std::vector<uint64_t> bits;
  FinishReason finish = FinishReason::kNone;

  void add(const Logprobs& logprobs) {
    bits.push_back(std::bit_cast<uint64_t>(logprobs.chosen.logprob));
    for (const TokenLogprob& t : logprobs.top) bits.push_back(std::bit_cast<uint64_t>(t.logprob));
  }
  void add(const TokenEvent& event) {
    for (const Logprobs& l : event.prompt_logprobs) add(l);
    if (event.token != TokenEvent::kNoToken) tokens.push_back(event.token);
    if (event.logprobs) add(*event.logprobs);
    finish = event.finish;
  }
  bool begins(const Got& whole) const {
    return tokens.size() <= whole.tokens.size() && bits.size() <= whole.bits.size() &&
           std::equal(tokens.begin(), tokens.end(), whole.tokens.begin()) &&
           std::equal(bits.begin(), bits.end(), whole.bits.begin());
  }
  bool operator==(const Got&) const = default;
};

class Mixes : public ::testing::TestWithParam<DType> {
 protected:
  Mixes() : model_(testing::random_model(config(), 1)), pool_(1), kernels_(std::move(*make_kernels("cpu", pool_))) {
    for (uint64_t i = 0; i < 2; ++i)
      prefixes_.push_back(testing::random_tokens(200, model_->config.vocab_size, 50 + i));
    for (int i = 0; i < 48; ++i) {
      requests_.push_back(random_request());
      alone_.push_back(alone(requests_.back()));
    }
  }
  static ModelConfig config() {
    ModelConfig config = testing::awkward_config();
    config.num_hidden_layers = 2;
    config.num_nextn_predict_layers = 1;
    return config;
  }
  EngineOptions options() const {
    EngineOptions options;
    options.cache_dtype = GetParam();
    options.max_cache_tokens = 4096;
    options.prompt_chunk = 4096;
    options.allowed_tokens.assign(static_cast<size_t>(model_->config.vocab_size), true);
    options.stop_tokens = {7};
    options.mtp_drafts = true;
    return options;
  }

  Request random_request() {
    Request request;
    const auto& prefix = prefixes_[rng_.below(prefixes_.size())];
    const int64_t shared = rng_.below(4) == 0 ? 0 : rng_.between(64, 160);
    request.prompt.assign(prefix.begin(), prefix.begin() + shared);
    for (int64_t n = rng_.between(shared == 0 ? 1 : 0, 20); n > 0 || request.prompt.empty(); --n) {
      request.prompt.push_back(static_cast<int32_t>(rng_.below(static_cast<uint64_t>(model_->config.vocab_size))));
    }
    request.max_new_tokens = rng_.below(2) == 0 ? rng_.between(60, 190) : rng_.between(1, 12);
    request.num_logprobs = rng_.between(0, 2);
    request.prompt_logprobs = rng_.below(8) == 0;
    SamplingParams& sampling = request.sampling;
    sampling.temperature = rng_.below(3) == 0 ? 0 : 0.5 + rng_.uniform();
    sampling.seed = rng_.below(1000);
    if (rng_.below(3) == 0) sampling.top_p = 0.9;
    if (rng_.below(3) == 0) sampling.presence_penalty = 0.7;
    if (rng_.below(3) == 0) sampling.frequency_penalty = 0.2;
    if (rng_.below(3) == 0) sampling.repetition_penalty = 1.1;
    if (rng_.below(3) == 0) {
      sampling.dry_multiplier = 0.8;
      sampling.dry_sequence_breakers = {3, 4};
    }
    if (rng_.below(3) == 0) sampling.logit_bias = {{5, 2.0}, {6, -100}};
    if (rng_.below(4) != 0) sampling.logit_bias.push_back({7, -100});  // most answers do not stop early
    return request;
  }

  Got alone(const Request& request) const {
    Engine engine(*model_, *kernels_, options());
    Got got;
    EXPECT_TRUE(engine.submit(request));
    while (engine.has_work()) {
      const auto events = engine.step();
      EXPECT_TRUE(events);
      for (const TokenEvent& event : *events) got.add(event);
    }
    return got;
  }

  struct Member {
    size_t request = 0;
    int64_t first_step = 0, cancelled_at = -1, priority = 0, deadline = -1;
    int64_t id = -1;
    SpeculationParams speculation;
    Got got;
  };

  /// One mix; false (and a failure that names it) when a request got something else than alone.
  bool run_mix(uint64_t mix) {
    rng_ = SequentialRng(mix, stream_of("mix"));
    EngineOptions options = this->options();
    constexpr int64_t kChunks[] = {1, 5, 17, 64, 200, 4096};
    options.prompt_chunk = kChunks[rng_.below(std::size(kChunks))];
    options.max_running = rng_.below(3) > 0 ? 256 : rng_.between(1, 4);
    options.prefix_cache = rng_.below(5) != 0;
    options.max_cache_tokens = rng_.below(4) == 0 ? 4096 : rng_.between(6, 8) * 64;  // the longest request has 6 pages
    std::vector<Member> members(static_cast<size_t>(rng_.between(3, 9)));
    for (Member& m : members) {
      m.request = rng_.below(requests_.size());
      m.first_step = rng_.below(2) == 0 ? 0 : rng_.between(0, 60);
      if (rng_.below(8) == 0) m.cancelled_at = m.first_step + rng_.between(0, 60);
      if (rng_.below(8) == 0) m.deadline = m.first_step + rng_.between(0, 60);
      if (rng_.below(4) == 0) m.priority = rng_.between(-1, 1);
      constexpr SpeculationKind kKinds[] = {SpeculationKind::kNone, SpeculationKind::kMtp, SpeculationKind::kLookup};
      m.speculation = {.kind = kKinds[rng_.below(3)], .num_draft = rng_.between(1, 6), .adaptive = rng_.below(4) == 0};
    }
    Engine engine(*model_, *kernels_, options);
    // Every fourth one with the pages that those before it left in a directory.
    if (options.prefix_cache && mix % 4 == 3) {
      EXPECT_TRUE(engine.open_prefix_store({.directory = directory_.path(), .identity = 1}));
    }
    const Clock::time_point start{};
    const auto at = [&](int64_t step) { return start + std::chrono::milliseconds(step); };
    bool all_joined = false;
    for (int64_t step = 0; !all_joined || engine.has_work(); ++step) {
      if (step > 20'000) {
        ADD_FAILURE() << "mix " << mix << " does not end";
        return false;
      }
      all_joined = true;
      for (Member& m : members) {
        if (m.first_step == step) {
          Request request = requests_[m.request];
          request.priority = m.priority;
          request.speculation = m.speculation;
          if (m.deadline >= 0) request.deadline = at(m.deadline);
          const auto id = engine.submit(request);
          EXPECT_TRUE(id) << id.error().text;
          m.id = *id;
        }
        if (m.cancelled_at == step) engine.remove(m.id);
        all_joined &= m.first_step <= step;
      }
      const auto events = engine.step(at(step));
      EXPECT_TRUE(events) << events.error().text;
      if (!events) return false;
      for (const TokenEvent& event : *events) {
        const auto member = std::ranges::find(members, event.sequence_id, &Member::id);
        EXPECT_FALSE(member->cancelled_at >= 0 && step >= member->cancelled_at) << "an event after the cancellation";
        member->got.add(event);
      }
    }
    const EngineStats stats = engine.stats();
    preemptions_ += stats.preemptions;
    hits_ += stats.prefix_hit_tokens;
    restored_ += stats.store.read;
    accepted_ += stats.speculation.accepted;
    rejected_ += stats.speculation.proposed - stats.speculation.accepted;
    for (const Member& m : members) {
      const Got& wanted = alone_[m.request];
      const bool ended_early = m.got.finish == FinishReason::kDeadline || m.got.finish == FinishReason::kNone;
      EXPECT_TRUE(m.got.finish != FinishReason::kNone || m.cancelled_at >= 0);
      EXPECT_TRUE(m.got.finish != FinishReason::kDeadline || m.deadline >= 0);
      if (ended_early ? m.got.begins(wanted) : m.got == wanted) continue;
      ADD_FAILURE() << "mix " << mix << ", request " << m.request << ": got " << m.got.tokens.size() << " tokens of "
                    << wanted.tokens.size() << ", other bits or tokens than alone";
      return false;
    }
    for (const Member& m : members) engine.remove(m.id);
    EXPECT_EQ(engine.stats().pages_in_use, 0) << "mix " << mix;
    return true;
  }

  std::unique_ptr<Model> model_;
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  SequentialRng rng_{1, stream_of("mixes")};
  std::vector<std::vector<int32_t>> prefixes_;
  std::vector<Request> requests_;
  std::vector<Got> alone_;
  testing::TemporaryDirectory directory_;
  int64_t preemptions_ = 0, hits_ = 0, restored_ = 0, accepted_ = 0, rejected_ = 0;
};

TEST_P(Mixes, GiveEveryRequestWhatItGetsAlone) {
  const char* wanted = std::getenv("FATHOM_MIXES");
  const bool is_whole = GetParam() == DType::kF32;  // the cache's dtype is below what the engine does
  uint64_t num_mixes = is_whole ? 200 : 60;
  if (testing::effort() == testing::Effort::kGreat) num_mixes = is_whole ? 1'000 : 250;
  if (testing::effort() == testing::Effort::kLittle) num_mixes = is_whole ? 40 : 24;
  if (wanted != nullptr) num_mixes = std::strtoull(wanted, nullptr, 10);
  for (uint64_t mix = 0; mix < num_mixes; ++mix) {
    if (!run_mix(mix)) break;
  }
  EXPECT_GT(preemptions_, static_cast<int64_t>(num_mixes) / 4) << "too much room to show anything";
  EXPECT_GT(hits_, static_cast<int64_t>(num_mixes) * 64) << "too little in common to show anything";
  EXPECT_GT(restored_, static_cast<int64_t>(num_mixes) / 4) << "too few pages from the directory to show anything";
  EXPECT_GT(accepted_, static_cast<int64_t>(num_mixes) / 4) << "a random model seldom guesses right";
  EXPECT_GT(rejected_, static_cast<int64_t>(num_mixes));
}

INSTANTIATE_TEST_SUITE_P(Caches, Mixes, ::testing::Values(DType::kF32, DType::kE4M3),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

}  // namespace
}  // namespace fathom
