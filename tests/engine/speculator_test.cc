// Speculation in the engine: every output is plain decoding's, bit for bit, whatever is guessed, with whom it shares
// the batch and where it ends; and the account that decides who drafts, in simulated time.
#include "engine/speculator.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>

#include "../model/test_models.h"
#include "engine/engine.h"
#include "kernels/registry.h"

namespace fathom {
namespace {

struct Answer {
  std::vector<int32_t> tokens;
  std::vector<uint64_t> logprob_bits;  // of the tokens and of the two best at each place
  FinishReason finish = FinishReason::kNone;

  bool operator==(const Answer&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Answer& answer) {
  out << "finish " << static_cast<int>(answer.finish) << ", tokens";
  for (int32_t t : answer.tokens) out << " " << t;
  return out;
}

struct Serving {
  int threads = 1;
  int64_t chunk = 512;
  int64_t cache_tokens = 4096;
  Precision precision = Precision::kF32;
  GenerationForm generation = GenerationForm::kAbsorbed;
  std::vector<int32_t> stop_tokens = {};
  std::vector<int32_t> allowed = {3, 17, 40};  // few, so that many guesses are right and many wrong
};

struct Served {
  std::vector<Answer> answers;
  EngineStats stats;
  std::vector<SpeculationStats> speculation;
};

ModelConfig config_with_mtp() {
  ModelConfig config = testing::awkward_config();
  config.num_nextn_predict_layers = 1;
  config.max_position_embeddings = 1000;
  return config;
}

SpeculationParams always(SpeculationKind kind, int64_t num_draft) {
  return {.kind = kind, .num_draft = num_draft, .adaptive = false};
}

class SpeculationTest : public ::testing::Test {
 protected:
  SpeculationTest() : model_(testing::random_model(config_with_mtp(), 21)) {}

  std::vector<int32_t> random(int64_t count, uint64_t seed) const {
    return testing::random_tokens(count, model_->config.vocab_size, seed);
  }

  EngineOptions options(const Serving& setup) const {
    EngineOptions options;
    options.precision = setup.precision;
    options.generation = setup.generation;
    options.prompt_chunk = setup.chunk;
    options.max_cache_tokens = setup.cache_tokens;
    options.stop_tokens = setup.stop_tokens;
    options.mtp_drafts = true;
    options.allowed_tokens.assign(static_cast<size_t>(model_->config.vocab_size), setup.allowed.empty());
    for (int32_t t : setup.allowed) options.allowed_tokens[static_cast<size_t>(t)] = true;
    return options;
  }

  /// All requests at once, to their ends; then their pages are given back.
  Served serve(const std::vector<Request>& requests, const Serving& setup) const {
    ThreadPool pool(setup.threads);
    const auto kernels = make_kernels("cpu", pool);
    EXPECT_TRUE(kernels);
    Engine engine(*model_, **kernels, options(setup));
    Served served;
    served.answers.resize(requests.size());
    for (const Request& r : requests) {
      const auto id = engine.submit(r);
      EXPECT_TRUE(id) << id.error().text;
    }
    int64_t most_tokens = 0;
    for (const Request& r : requests) most_tokens += static_cast<int64_t>(r.prompt.size());
    while (engine.has_work()) {
      const auto events = engine.step();
      EXPECT_TRUE(events) << events.error().text;
      if (!events) break;
      for (const TokenEvent& e : *events) {
        Answer& answer = served.answers[static_cast<size_t>(e.sequence_id)];
        EXPECT_EQ(answer.finish, FinishReason::kNone) << "nothing comes after the end";
        answer.tokens.push_back(e.token);
        answer.finish = e.finish;
        if (e.logprobs) {
          answer.logprob_bits.push_back(std::bit_cast<uint64_t>(e.logprobs->chosen.logprob));
          for (const TokenLogprob& t : e.logprobs->top) {
            answer.logprob_bits.push_back(std::bit_cast<uint64_t>(t.logprob));
          }
        }
      }
      most_tokens += static_cast<int64_t>(events->size());
      EXPECT_LE(engine.stats().pages_in_use,
                most_tokens / LatentPages::kPageTokens + static_cast<int64_t>(requests.size()))
          << "pages of rejected guesses are given back";
    }
    served.stats = engine.stats();
    for (size_t i = 0; i < requests.size(); ++i) {
      served.speculation.push_back(engine.speculation_stats(static_cast<int64_t>(i)));
      engine.remove(static_cast<int64_t>(i));
    }
    EXPECT_EQ(engine.stats().pages_in_use, 0);
    return served;
  }

  /// Each alone, without speculation.
  std::vector<Answer> plain(const std::vector<Request>& requests, Serving serving) const {
    serving.threads = 1;
    serving.chunk = 4096;
    serving.cache_tokens = 4096;
    std::vector<Answer> answers;
    for (Request r : requests) {
      r.speculation = {};
      answers.push_back(serve({r}, serving).answers[0]);
    }
    return answers;
  }
  /// Greedy and sampled, with everything that looks at the context: a guess must be verified in the context of the
  /// guesses before it.
  std::vector<Request> mixed_requests() const {
    std::vector<SamplingParams> samplings(6);
    samplings[0].temperature = 0;
    samplings[1] = {.temperature = 1, .seed = 7};
    samplings[2] = {.temperature = 0, .frequency_penalty = 1.5};
    samplings[3] = {.temperature = 2, .top_k = 2, .repetition_penalty = 1.7, .presence_penalty = 0.5, .seed = 8};
    samplings[4] = {.temperature = 0, .dry_multiplier = 2, .dry_allowed_length = 1};
    samplings[5] = {.temperature = 1, .top_p = 0.9, .seed = 9};
    samplings[5].logit_bias.push_back({.token = 17, .bias = 1});
    const SpeculationParams kinds[] = {always(SpeculationKind::kMtp, 1), always(SpeculationKind::kLookup, 4),
                                       always(SpeculationKind::kMtp, 3), always(SpeculationKind::kNone, 0)};
    const int64_t lengths[] = {1, 70, 63, 20, 128, 5};
    std::vector<Request> requests;
    for (size_t i = 0; i < 12; ++i) {
      Request r;
      r.prompt = random(lengths[i % 6], i);
      r.sampling = samplings[i % 6];
      r.max_new_tokens = 40 - static_cast<int64_t>(i);
      r.num_logprobs = 2;
      r.speculation = kinds[(i + i / 6) % 4];
      requests.push_back(r);
    }
    return requests;
  }

  std::unique_ptr<Model> model_;
};

TEST_F(SpeculationTest, GivesTheBitsOfPlainDecoding) {
  const std::vector<Request> requests = mixed_requests();
  for (const Precision precision : {Precision::kF32, Precision::kBF16}) {
    const Serving base{.precision = precision};
    const auto wanted = plain(requests, base);
    for (const auto& [threads, chunk] : std::vector<std::pair<int, int64_t>>{{1, 4096}, {3, 64}, {2, 13}}) {
      Serving setup = base;
      setup.threads = threads;
      setup.chunk = chunk;
      const Served served = serve(requests, setup);
      for (size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(served.answers[i], wanted[i]) << "request " << i << ", " << threads << " threads, chunk " << chunk;
      }
      const SpeculationStats& s = served.stats.speculation;
      if (chunk == 13) continue;  // little room for guesses
      EXPECT_GT(s.accepted, 30) << "of " << s.proposed;
      EXPECT_GT(s.proposed - s.accepted, 30) << "of " << s.proposed;
    }
  }
}

TEST_F(SpeculationTest, GivesTheBitsOfPlainDecodingInTheNaiveForm) {
  const std::vector<Request> requests = mixed_requests();
  const Serving setup{.threads = 2, .generation = GenerationForm::kNaive};
  EXPECT_EQ(serve(requests, setup).answers, plain(requests, setup));
}

TEST_F(SpeculationTest, GivesTheBitsOfPlainDecodingWhenPreempted) {
  std::vector<Request> requests = mixed_requests();
  for (Request& r : requests) r.max_new_tokens += 110;  // more than there is room for, together
  const Serving setup{.threads = 2, .chunk = 32, .cache_tokens = 320};
  const Served served = serve(requests, setup);
  EXPECT_GT(served.stats.preemptions, 0);
  EXPECT_GT(served.stats.speculation.accepted, 0);
  EXPECT_EQ(served.answers, plain(requests, setup));
}

TEST_F(SpeculationTest, EndsWherePlainDecodingEnds) {
  for (const auto& params : {always(SpeculationKind::kMtp, 4), always(SpeculationKind::kLookup, 8)}) {
    // At every length, so inside and at both ends of accepted guesses.
    std::vector<Request> requests;
    for (int64_t limit = 1; limit <= 16; ++limit) {
      Request r;
      r.prompt = random(50, 3);
      r.sampling = {.temperature = 1, .seed = 5};
      r.max_new_tokens = limit;
      r.speculation = params;
      requests.push_back(r);
    }
    const Serving setup{};
    EXPECT_EQ(serve(requests, setup).answers, plain(requests, setup));
    // At a token of the end, wherever the seed puts it.
    for (size_t i = 0; i < requests.size(); ++i) {
      requests[i].sampling.seed = i;
      requests[i].max_new_tokens = 30;
    }
    const Serving stopping{.stop_tokens = {40}};
    const Served served = serve(requests, stopping);
    EXPECT_EQ(served.answers, plain(requests, stopping));
    EXPECT_TRUE(std::any_of(served.answers.begin(), served.answers.end(), [](const Answer& a) {
      return a.finish == FinishReason::kStopToken && a.tokens.size() > 3;
    }));
  }
}

TEST_F(SpeculationTest, FillsTheContextToTheLastToken) {
  model_->config.max_position_embeddings = 90;
  Request r;
  r.prompt = random(60, 4);
  r.sampling.temperature = 0;
  r.max_new_tokens = 1000;
  r.speculation = always(SpeculationKind::kMtp, 8);
  const Served served = serve({r}, {});
  EXPECT_EQ(served.answers[0].finish, FinishReason::kContextFull);
  EXPECT_EQ(served.answers[0].tokens.size(), 30u);
  EXPECT_EQ(served.answers, plain({r}, {}));
}

TEST_F(SpeculationTest, LookupNeverGuessesWhatCannotBeSampled) {
  Request r;
  for (int i = 0; i < 10; ++i) r.prompt.insert(r.prompt.end(), {5, 3, 17, 6, 7});
  r.prompt.insert(r.prompt.end(), {5, 3, 17});
  r.sampling.temperature = 0;
  r.max_new_tokens = 1;
  r.speculation = always(SpeculationKind::kLookup, 4);
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  const Transformer transformer(model_->config, model_->weights);
  std::vector<bool> allowed(71);
  allowed[3] = allowed[17] = allowed[6] = true;
  Speculator speculator(transformer, **kernels, Precision::kF32, GenerationForm::kAbsorbed, allowed);
  LatentCache cache(model_->config, DType::kF32, 256, 1);
  Sequence s(0, cache);
  s.tokens = r.prompt;
  s.max_length = 1000;
  s.speculation.params = r.speculation;
  s.prompt_length = s.num_computed = static_cast<int64_t>(s.tokens.size()) - 1;
  s.is_running = true;
  speculator.wish(s);
  EXPECT_EQ(s.speculation.wish, 1) << "6, and then 7 cannot be";
  EXPECT_EQ(s.speculation.draft, std::vector<int32_t>{6});
  s.max_length = static_cast<int64_t>(s.tokens.size()) + 1;
  speculator.wish(s);
  EXPECT_EQ(s.speculation.wish, 0) << "one token is wanted, and the model itself gives it";
}

TEST_F(SpeculationTest, AResumedSequenceGetsTheAnswerOfAFreshOne) {
  for (const auto& params : {always(SpeculationKind::kMtp, 2), always(SpeculationKind::kLookup, 4)}) {
    ThreadPool pool(1);
    const auto kernels = make_kernels("cpu", pool);
    ASSERT_TRUE(kernels);
    Engine engine(*model_, **kernels, options({}));
    Request r;
    r.prompt = random(90, 6);
    r.sampling = {.temperature = 1, .seed = 3};
    r.max_new_tokens = 25;
    r.num_logprobs = 2;
    r.speculation = params;
    const auto id = engine.submit(r);
    ASSERT_TRUE(id);
    const auto finish = [&] {
      std::vector<int32_t> tokens;
      while (engine.has_work()) {
        const auto events = engine.step();
        for (const TokenEvent& e : *events) tokens.push_back(e.token);
      }
      return tokens;
    };
    const auto first = finish();
    std::vector<int32_t> longer = r.prompt;
    longer.insert(longer.end(), first.begin(), first.end());
    const auto question = random(10, 7);
    longer.insert(longer.end(), question.begin(), question.end());
    ASSERT_TRUE(engine.resume(*id, longer, 25));
    const auto second = finish();
    r.prompt = longer;
    r.speculation = {};
    EXPECT_EQ(second, serve({r}, {}).answers[0].tokens);
    EXPECT_GT(engine.speculation_stats(*id).accepted, 0);
  }
}

TEST_F(SpeculationTest, PrefixesAreSharedWhoeverDrafts) {
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  ASSERT_TRUE(kernels);
  Engine engine(*model_, **kernels, options({}));
  Request r;
  r.prompt = random(200, 8);
  r.sampling.temperature = 0;
  r.max_new_tokens = 12;
  std::vector<std::vector<int32_t>> answers;
  std::vector<int64_t> hits;
  for (const auto& params : {always(SpeculationKind::kNone, 0), always(SpeculationKind::kMtp, 2),
                             always(SpeculationKind::kMtp, 2), always(SpeculationKind::kLookup, 2)}) {
    r.speculation = params;
    ASSERT_TRUE(engine.submit(r));
    answers.emplace_back();
    while (engine.has_work()) {
      const auto events = engine.step();
      for (const TokenEvent& e : *events) answers.back().push_back(e.token);
    }
    hits.push_back(engine.stats().prefix_hit_tokens);
  }
  EXPECT_EQ(hits, (std::vector<int64_t>{0, 192, 384, 576})) << "the module asks for none of its rows there";
  for (const auto& a : answers) EXPECT_EQ(a, answers[0]);
}

TEST_F(SpeculationTest, LongPromptsAreFollowedInTime) {
  Request r;
  r.prompt = random(900, 9);
  r.sampling.temperature = 0;
  r.max_new_tokens = 8;
  r.num_logprobs = 2;
  r.speculation = always(SpeculationKind::kMtp, 1);
  EXPECT_EQ(serve({r}, {}).answers, plain({r}, {}));
}

TEST_F(SpeculationTest, RefusesWhatTheEngineWasNotMadeFor) {
  ThreadPool pool(1);
  const auto kernels = make_kernels("cpu", pool);
  ASSERT_TRUE(kernels);
  EngineOptions o = options({});
  o.mtp_drafts = false;
  Engine engine(*model_, **kernels, o);
  Request r;
  r.prompt = {1, 2, 3};
  r.speculation = {.kind = SpeculationKind::kMtp};
  const auto refused = engine.submit(r);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("mtp"), std::string::npos);
  r.speculation = {.kind = SpeculationKind::kLookup, .num_draft = 17};
  EXPECT_FALSE(engine.submit(r));
  r.speculation.num_draft = 16;
  EXPECT_TRUE(engine.submit(r));
}

// What the module of a trained model is for. A module that is fed off by one, or follows wrongly, guesses at chance.
TEST(TrainedModel, ItsModuleIsOftenRight) {
  const auto model = load_model(Path(FATHOM_SOURCE_DIR) / "models/demo");
  ASSERT_TRUE(model) << model.error().text;
  ThreadPool pool(2);
  const auto kernels = make_kernels("cpu", pool);
  ASSERT_TRUE(kernels);
  EngineOptions o;
  o.precision = Precision::kBF16;
  o.mtp_drafts = true;
  o.allowed_tokens.assign(static_cast<size_t>((*model)->config.vocab_size), true);
  std::vector<std::vector<int32_t>> answers;
  for (const auto& params : {always(SpeculationKind::kNone, 0), always(SpeculationKind::kMtp, 2)}) {
    Engine engine(**model, **kernels, o);
    for (int32_t i = 0; i < 4; ++i) {
      Request r;
      r.prompt = {0, 300 + i, 310 + i};
      r.sampling.temperature = 0;
      r.max_new_tokens = 48;
      r.speculation = params;
      ASSERT_TRUE(engine.submit(r));
    }
    answers.emplace_back();
    std::map<int64_t, std::vector<int32_t>> by_sequence;
    while (engine.has_work()) {
      const auto events = engine.step();
      ASSERT_TRUE(events);
      for (const TokenEvent& e : *events) by_sequence[e.sequence_id].push_back(e.token);
    }
    for (const auto& [id, tokens] : by_sequence)
      answers.back().insert(answers.back().end(), tokens.begin(), tokens.end());
    if (params.kind == SpeculationKind::kNone) continue;
    const SpeculationStats& s = engine.stats().speculation;
    ASSERT_EQ(s.position_proposed.size(), 2u);
    const double first = static_cast<double>(s.position_accepted[0]) / static_cast<double>(s.position_proposed[0]);
    RecordProperty("first_guess_right", std::to_string(first));
    EXPECT_GT(first, 0.3);
    EXPECT_GT(s.position_accepted[1], 0);
  }
  EXPECT_EQ(answers[1], answers[0]);
}

// The policy, in simulated time.
class PolicyTest : public ::testing::Test {
 protected:
  PolicyTest()
      : model_(testing::random_model(testing::awkward_config(), 1)),
        transformer_(model_->config, model_->weights),
        pool_(1),
        kernels_(std::move(*make_kernels("cpu", pool_))),
        allowed_(71, true),
        cache_(model_->config, DType::kF32, 64),
        speculator_(transformer_, *kernels_, Precision::kF32, GenerationForm::kAbsorbed, allowed_) {}

  /// A sequence that always finds something to look up.
  void add(bool adaptive = true) {
    sequences_.push_back(std::make_unique<Sequence>(static_cast<int64_t>(sequences_.size()), cache_));
    Sequence& s = *sequences_.back();
    s.tokens.assign(20, 5);
    s.prompt_length = 10;
    s.num_computed = 19;
    s.is_running = true;
    s.max_length = 1'000'000;
    s.speculation.begin({.kind = SpeculationKind::kLookup, .num_draft = 1, .adaptive = adaptive});
  }
  /// Plain steps until the engine may lose a trial.
  void earn_a_trial() {
    const auto steps =
        static_cast<int>(std::ceil(DraftLedger::first_cost(SpeculationKind::kLookup) / DraftLedger::kLossRate));
    for (int i = 0; i < steps; ++i) EXPECT_EQ(step(0, true), std::ssize(sequences_)) << i;
  }

  int64_t wish_of(Sequence& sequence) {
    speculator_.wish(sequence);
    return sequence.speculation.wish;
  }
  /// A step of all sequences; with a draft it takes 1 + extra seconds per sequence that has one. Returns the tokens.
  int64_t step(double extra, bool is_right, bool with_prompt = false) {
    StepPlan plan;
    const size_t num_generating = sequences_.size();
    for (size_t i = 0; i < num_generating; ++i) {
      const int64_t wish = wish_of(*sequences_[i]);
      plan.items.push_back({.sequence = i,
                            .first_position = 19,
                            .count = 1,
                            .form = MlaForm::kAbsorbed,
                            .samples = true,
                            .num_draft = wish});
    }
    if (with_prompt) {
      sequences_.push_back(std::make_unique<Sequence>(-1, cache_));
      plan.items.push_back({.sequence = num_generating, .first_position = 0, .count = 3});
    }
    speculator_.draft(plan, sequences_);
    double seconds = 1;
    int64_t tokens = 0;
    for (size_t i = 0; i < num_generating; ++i) {
      const StepItem& item = plan.items[i];
      EXPECT_EQ(static_cast<int64_t>(sequences_[i]->speculation.draft.size()), item.num_draft);
      seconds += item.num_draft > 0 ? extra : 0;
      drafts_ += item.num_draft;
      const int64_t accepted = is_right ? item.num_draft : 0;
      speculator_.verified(*sequences_[i], item, accepted, 1 + accepted, {});
      tokens += 1 + accepted;
    }
    speculator_.account(seconds);
    time_ += seconds;
    sequences_.resize(num_generating);
    return tokens;
  }

  std::unique_ptr<Model> model_;
  Transformer transformer_;
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  std::vector<bool> allowed_;
  LatentCache cache_;
  Speculator speculator_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  double time_ = 0;
  int64_t drafts_ = 0;
};

TEST_F(PolicyTest, MeasuresPlainStepsFirst) {
  add();
  earn_a_trial();
  EXPECT_EQ(step(0.1, true), 2);
  add();  // steps of two have not been measured
  for (int64_t i = 0; i < PlainStepCost::kWarmup; ++i) EXPECT_EQ(step(0, true), 2);
  EXPECT_EQ(step(0.1, true), 4) << "the newcomer drafts at once where drafting has paid";
}

TEST_F(PolicyTest, AStepWithPromptsIsNotCompared) {
  add();
  earn_a_trial();
  EXPECT_EQ(step(0, true, true), 1);
  EXPECT_EQ(step(0, true), 2);
  sequences_[0]->speculation.params.adaptive = false;
  EXPECT_EQ(step(0, true, true), 2) << "who always drafts does so there too";
}

TEST_F(PolicyTest, GoesOnWhereItPays) {
  add();
  int64_t tokens = 0;
  earn_a_trial();
  time_ = 0;
  for (int i = 0; i < 500; ++i) tokens += step(0.5, true);
  EXPECT_GT(static_cast<double>(tokens) / time_, 0.97 * 2 / 1.5);
}

TEST_F(PolicyTest, StopsWhereItDoesNot) {
  add();
  int64_t tokens = 0;
  for (int i = 0; i < 2000; ++i) {
    tokens += step(0.5, false);
    ASSERT_LE(time_, 1.02 * static_cast<double>(tokens)) << "at no moment more than 2 % slower";
  }
  EXPECT_GT(drafts_, 10) << "it goes on looking";
}

TEST_F(PolicyTest, ManyShortRequestsLoseNoMoreThanALongOne) {
  int64_t tokens = 0;
  for (int request = 0; request < 100; ++request) {
    sequences_.clear();
    add();
    for (int i = 0; i < 20; ++i) {
      tokens += step(0.5, false);
      ASSERT_LE(time_, 1.02 * static_cast<double>(tokens));
    }
  }
  EXPECT_GT(drafts_, 10) << "they look, one for all";
}

// What one draft may cost is not spent by all sequences of a step at once.
TEST_F(PolicyTest, ManyInAStepLoseNoMoreThanOne) {
  for (int i = 0; i < 16; ++i) add();
  for (int i = 0; i < 400; ++i) {
    step(0.06, false);  // 0.96 tokens of 16 for each draft
    ASSERT_LE(time_, 1.02 * (i + 1)) << "step " << i;
  }
  EXPECT_GT(drafts_, 50) << "they look";
}

TEST_F(PolicyTest, WhoGainsGoesOnBesideOthersWhoLose) {
  add();
  earn_a_trial();
  for (int i = 0; i < 50; ++i) step(0.5, true);
  EXPECT_LT(sequences_[0]->speculation.ledger.lost(), 0);
  const auto winner = std::move(sequences_[0]);
  sequences_.clear();
  add();
  for (int i = 0; i < 2000; ++i) step(0.9, false);
  EXPECT_EQ(wish_of(*sequences_[0]), 0) << "it has learned that it loses";
  EXPECT_EQ(wish_of(*winner), 1);
}

// The whole way of an MTP module's drafts through the account: what it costs to begin is charged, and counted upon.
TEST(MtpPolicy, IsAtNoMomentMoreThanTwoPercentSlowerThanPlain) {
  ModelConfig config = testing::awkward_config();
  config.num_nextn_predict_layers = 1;
  config.max_position_embeddings = 4000;
  const auto model = testing::random_model(config, 1);
  const Transformer transformer(config, model->weights);
  ThreadPool pool(1);
  const auto kernels = std::move(*make_kernels("cpu", pool));
  const std::vector<bool> allowed(71, true);
  LatentCache cache(config, DType::kF32, 4096, 1);
  Speculator speculator(transformer, *kernels, Precision::kF32, GenerationForm::kAbsorbed, allowed);
  std::vector<std::unique_ptr<Sequence>> sequences;
  sequences.push_back(std::make_unique<Sequence>(0, cache));
  Sequence& s = *sequences[0];
  s.tokens.assign(20, 5);
  s.prompt_length = 19;
  s.num_computed = 19;
  s.is_running = true;
  s.max_length = 4000;
  ASSERT_TRUE(s.cache.reserve(4000));
  s.speculation.begin({.kind = SpeculationKind::kMtp});
  const std::vector<float> states(20 * 44, 0.5f);
  const auto hidden = [&](int64_t rows) {
    return Tensor::contiguous(const_cast<float*>(states.data()), DType::kF32, {rows, 44});
  };
  MtpDrafter::keep(s, 0, hidden(19));
  double time = 0;
  int64_t begun = 0;
  for (int64_t tokens = 1; tokens <= 3000; ++tokens) {
    speculator.wish(s);
    StepPlan plan;
    plan.items.push_back({.sequence = 0,
                          .first_position = s.num_computed,
                          .count = 1,
                          .form = MlaForm::kAbsorbed,
                          .samples = true,
                          .num_draft = s.speculation.wish});
    // The rows that wait before the step say what it costs; the account is not told.
    const int64_t waiting = MtpDrafter::num_kept(s, 44);
    speculator.draft(plan, sequences);
    const StepItem& item = plan.items[0];
    double extra = 0;
    if (item.num_draft > 0) {
      extra = waiting > 8 ? 7 : 0.7;
      begun += waiting > 8;
    }
    speculator.verified(s, item, 0, 1, hidden(1 + item.num_draft));
    s.tokens.push_back(5);
    ++s.num_computed;
    speculator.account(1 + extra);
    time += 1 + extra;
    ASSERT_LE(time, 1.02 * static_cast<double>(tokens)) << "token " << tokens << ", begun " << begun;
  }
  EXPECT_GE(begun, 3) << "it goes on looking";
}

}  // namespace
}  // namespace fathom
