// The determinism contract on whole models: a sequence's tokens and the bits of its logits are a function of the model,
// the precision and the instruction set; not of threads, prompt chunks, the rest of the batch or what the cache had.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "../effort.h"
#include "../model/test_models.h"
#include "engine/engine.h"
#include "model/prepare_weights.h"
#include "numerics/blocks.h"
#include "numerics/compare.h"
#include "trace.h"

namespace fathom {
namespace {

using testing::Trace;
using testing::trace;
using testing::trace_alone;
using testing::TracedRequest;
using testing::TraceOptions;

struct Case {
  const char* name;
  Precision precision;
  std::function<Result<std::unique_ptr<Model>>()> load;
  bool is_large = false;  // the fastest instruction set stands for all
  bool shared_data = false;
  std::optional<DType> cache_dtype = {};
  const char* quant = "";  // of the weights, as --quant says it

  bool is_wide() const { return std::string_view(name).starts_with("Wide"); }
};

Result<std::unique_ptr<Model>> load_golden(const char* name) {
  return load_model(Path(FATHOM_SOURCE_DIR) / "tests/golden" / name);
}
Result<std::unique_ptr<Model>> awkward(DType matrices) {
  return testing::random_model(testing::awkward_config(), 11, matrices);
}

/// Wide enough that even a single row is worth several threads.
Result<std::unique_ptr<Model>> wide(DType matrices) {
  ModelConfig config = testing::awkward_config();
  config.vocab_size = 1013;
  config.hidden_size = 522;
  config.num_hidden_layers = 2;
  config.intermediate_size = 777;
  config.moe_intermediate_size = 131;
  config.num_attention_heads = 13;
  config.q_lora_rank = 150;
  config.kv_lora_rank = 141;
  config.qk_nope_head_dim = 35;
  config.v_head_dim = 37;
  return testing::random_model(config, 12, matrices);
}

/// Every matrix that a product packs in a type of a Q4_K_M file or near it, as a GGUF file has them.
Result<std::unique_ptr<Model>> k_types() {
  ModelConfig config = testing::awkward_config();
  config.hidden_size = config.intermediate_size = config.moe_intermediate_size = config.q_lora_rank = 256;
  config.num_attention_heads = 2;
  config.v_head_dim = 128;
  auto model = testing::random_model(config, 13, DType::kBF16);
  uint64_t seed = 0;
  visit_weights(config, model->weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    if (!may_be_quantised(spec)) return;
    const GroupFormat formats[] = {GroupFormat::kQ4K, GroupFormat::kQ6K, GroupFormat::kQ5K, GroupFormat::kQ5_0,
                                   GroupFormat::kIq4Xs};
    const std::string matrix = quant_part_of(spec).text();  // all experts of a layer have one, as in a file
    const GroupFormat format = formats[stream_of(matrix) % std::size(formats)];
    const int64_t n = spec.shape[0], k = spec.shape[1];
    const std::string blocks =
        testing::random_blocks(format, static_cast<size_t>(n * k / (groups_of_block(format) * kGroupSize)), ++seed);
    model->storage.emplace_back(static_cast<int64_t>(blocks.size()));
    std::memcpy(model->storage.back().data(), blocks.data(), blocks.size());
    value = blocks_of(format, n, k, static_cast<const std::byte*>(model->storage.back().data()));
  });
  return model;
}

std::vector<Case> cases() {
  return {
      {"V3F32", Precision::kF32, [] { return load_golden("v3"); }},
      {"V3Bf16", Precision::kBF16, [] { return load_golden("v3"); }},
      {"V2LiteF32", Precision::kF32, [] { return load_golden("v2lite"); }},
      {"AwkwardF32", Precision::kF32, [] { return awkward(DType::kF32); }},
      {"AwkwardBf16WeightsF32", Precision::kF32, [] { return awkward(DType::kBF16); }},
      {"AwkwardBf16", Precision::kBF16, [] { return awkward(DType::kBF16); }},
      {"WideF32", Precision::kF32, [] { return wide(DType::kF32); }, true},
      {"WideBf16", Precision::kBF16, [] { return wide(DType::kBF16); }, true},
      {"OracleBf16", Precision::kBF16, [] { return testing::load_oracle("bf16"); }, true, true},
      {"OracleFp8WeightsF32", Precision::kF32, [] { return testing::load_oracle("fp8"); }, true, true},
      {"OracleFp8", Precision::kFp8, [] { return testing::load_oracle("fp8"); }, true, true},
      {"V3Fp8CacheBf16", Precision::kBF16, [] { return load_golden("v3"); }, false, false, DType::kE4M3},
      {"V3Fp8CacheF32", Precision::kF32, [] { return load_golden("v3"); }, true, false, DType::kE4M3},
      {"WideFp8CacheBf16", Precision::kBF16, [] { return wide(DType::kBF16); }, true, false, DType::kE4M3},
      {"V3Bf16CacheF32", Precision::kF32, [] { return load_golden("v3"); }, true, false, DType::kBF16},
      // Q8_0, Q4_0, IQ4_NL and MXFP4 of a GGUF file are these weights (tests/model/gguf_weights_test.cc).
      {.name = "AwkwardInt8",
       .precision = Precision::kBF16,
       .load = [] { return awkward(DType::kBF16); },
       .quant = "int8"},
      {.name = "AwkwardInt4",
       .precision = Precision::kBF16,
       .load = [] { return awkward(DType::kBF16); },
       .quant = "int4"},
      {.name = "AwkwardIq4Nl",
       .precision = Precision::kBF16,
       .load = [] { return awkward(DType::kBF16); },
       .quant = "iq4_nl"},
      {.name = "AwkwardMxfp4",
       .precision = Precision::kBF16,
       .load = [] { return awkward(DType::kBF16); },
       .quant = "mxfp4"},
      {.name = "AwkwardFp8",
       .precision = Precision::kBF16,
       .load = [] { return awkward(DType::kBF16); },
       .quant = "fp8"},
      {.name = "AwkwardFp8Activations",
       .precision = Precision::kFp8,
       .load = [] { return awkward(DType::kBF16); },
       .quant = "fp8"},
      {.name = "KTypes", .precision = Precision::kBF16, .load = k_types, .quant = "none"},
      {.name = "AwkwardMixedF32",
       .precision = Precision::kF32,
       .load = [] { return awkward(DType::kF32); },
       .quant = "int8,experts=int4"},
  };
}

class Determinism : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().shared_data && !std::filesystem::exists(testing::oracle_dir())) {
      GTEST_SKIP() << "needs " << testing::oracle_dir();
    }
    const std::string_view test = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    if (is_brief() && GetParam().is_wide() && !test.starts_with("ThreadsDoNotMatter")) {
      GTEST_SKIP() << "made for many threads; the usual round runs it";
    }
    auto model = GetParam().load();
    ASSERT_TRUE(model) << model.error().text;
    model_ = std::move(*model);
    if (GetParam().quant[0] != 0) {
      ThreadPool pool(1);
      const auto kernels = make_kernels("cpu", pool);
      SilentProgress silent;
      const auto policy = parse_quant_policy(GetParam().quant);
      ASSERT_TRUE(policy && prepare_weights(*model_, *policy, GetParam().precision, **kernels, silent));
    }
    options_.precision = GetParam().precision;
    options_.cache_dtype = GetParam().cache_dtype;
  }
  TracedRequest request(int64_t prompt_length, int64_t new_tokens, uint64_t seed = 3) const {
    return {.prompt = testing::random_tokens(prompt_length, model_->config.vocab_size, seed), .new_tokens = new_tokens};
  }
  /// A sanitizer sees every level in the tests of the kernels, and many threads in those of threads.
  static bool is_brief() { return testing::effort() == testing::Effort::kLittle; }
  /// The instruction sets of this machine.
  static std::vector<std::string> levels() {
    auto names = available_kernels();
    std::erase(names, "ref");
    std::erase(names, "cpu");
    if (GetParam().is_large || is_brief()) names.erase(names.begin(), names.end() - 1);
    return names;
  }

  static std::vector<std::string> with_ref(std::vector<std::string> names) {
    names.push_back("ref");
    return names;
  }

  std::unique_ptr<Model> model_;
  TraceOptions options_;
};

/// What is promised across forms and instruction sets holds where no operand is rounded.
class DeterminismFp32 : public Determinism {};
/// Training has no cache: its forward is the prompt's where the cache does not round what the pass has.
class DeterminismOfTraining : public Determinism {};

// 70 prompt tokens and 62 generated ones: pages of 64 fill up in the prompt and in the answer.
TEST_P(Determinism, ThreadsDoNotMatter) {
  const TracedRequest one = request(70, 62);
  for (const std::string& level : levels()) {
    options_.kernels = level;
    options_.threads = 1;
    const Trace alone = trace_alone(*model_, options_, one);
    for (int threads : {2, 3, 8}) {
      options_.threads = threads;
      EXPECT_EQ(trace_alone(*model_, options_, one), alone) << level << ", " << threads << " threads";
    }
  }
}

TEST_P(Determinism, PromptChunksDoNotMatter) {
  const TracedRequest one = request(150, 6);
  for (const std::string& level : levels()) {
    options_.kernels = level;
    options_.chunk = 4096;
    const Trace whole = trace_alone(*model_, options_, one);
    for (int64_t chunk : {1, 7, 64}) {
      options_.chunk = chunk;
      EXPECT_EQ(trace_alone(*model_, options_, one), whole) << level << ", chunks of " << chunk;
    }
  }
}

TEST_P(Determinism, TheRestOfTheBatchDoesNotMatter) {
  std::vector<TracedRequest> requests;
  const int64_t lengths[] = {1, 3, 64, 90, 17, 65, 33};
  const int64_t first_steps[] = {0, 0, 0, 2, 3, 3, 9};  // some generate while others are in their prompts
  for (size_t i = 0; i < std::size(lengths); ++i) {
    requests.push_back(request(lengths[i], 12 - static_cast<int64_t>(i), i));
    requests.back().first_step = first_steps[i];
  }
  for (const std::string& level : levels()) {
    options_.kernels = level;
    std::vector<Trace> alone;
    options_.chunk = 4096;
    options_.threads = 1;
    for (const TracedRequest& r : requests) alone.push_back(trace_alone(*model_, options_, r));
    options_.threads = 2;
    for (int64_t chunk : {11, 100, 4096}) {
      options_.chunk = chunk;
      const auto together = trace(*model_, options_, requests);
      for (size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(together[i], alone[i]) << level << ", sequence " << i << ", chunks of " << chunk;
      }
    }
  }
}

TEST_P(Determinism, AReusedPrefixDoesNotMatter) {
  TracedRequest one = request(100, 6);
  const Trace fresh = trace_alone(*model_, options_, one);
  for (size_t shared : {1u, 63u, 64u, 65u, 99u, 100u}) {
    one.earlier.assign(one.prompt.begin(), one.prompt.begin() + static_cast<std::ptrdiff_t>(shared));
    // The earlier prompt goes on differently, so that stale rows lie behind what is shared.
    for (int i = 0; i < 30; ++i) one.earlier.push_back((one.prompt[shared % 100] + 1 + i) % 3);
    EXPECT_EQ(trace_alone(*model_, options_, one), fresh) << shared << " tokens shared";
  }
}

TEST_P(Determinism, NaiveGenerationIsPrefillOfOneMoreToken) {
  options_.generation = GenerationForm::kNaive;
  TracedRequest one = request(61, 9);
  const Trace generated = trace_alone(*model_, options_, one);
  for (size_t i = 0; i < generated.tokens.size(); ++i) {
    TracedRequest longer = one;
    longer.new_tokens = 1;
    longer.prompt.insert(longer.prompt.end(), generated.tokens.begin(),
                         generated.tokens.begin() + static_cast<std::ptrdiff_t>(i));
    const Trace prefilled = trace_alone(*model_, options_, longer);
    EXPECT_TRUE(bit_equal(prefilled.logits[0], generated.logits[i])) << "after " << i << " generated tokens";
  }
}

TEST_P(DeterminismFp32, AbsorbedAndNaiveGenerationAgree) {
  for (const std::string& level : with_ref(levels())) {
    options_.kernels = level;
    options_.generation = GenerationForm::kNaive;
    const Trace naive = trace_alone(*model_, options_, request(66, 20));
    options_.generation = GenerationForm::kAbsorbed;
    const Trace absorbed = trace_alone(*model_, options_, request(66, 20));
    ASSERT_EQ(absorbed.tokens, naive.tokens) << level;
    for (size_t i = 0; i < naive.logits.size(); ++i) {
      EXPECT_LT(relative_l2(absorbed.logits[i], naive.logits[i]), 1e-5) << level << ", generated token " << i;
    }
    EXPECT_TRUE(bit_equal(absorbed.logits[0], naive.logits[0])) << "the prompt is naive either way";
  }
}

TEST_P(DeterminismFp32, InstructionSetsAgreeBitForBit) {
  const TracedRequest one = request(70, 20);
  options_.kernels = "generic";
  const Trace generic = trace_alone(*model_, options_, one);
  for (const std::string& level : available_kernels()) {
    if (level == "ref") continue;
    options_.kernels = level;
    EXPECT_EQ(trace_alone(*model_, options_, one), generic) << level;
  }
  // The oracle sums in double: close, not equal.
  options_.kernels = "ref";
  const Trace ref = trace_alone(*model_, options_, one);
  EXPECT_LT(relative_l2(generic.logits[0], ref.logits[0]), 1e-5);
}

// The training pass and the prompt through the cache, chunk by chunk: every hidden row, not only the sampled ones.
TEST_P(DeterminismOfTraining, TrainingForwardIsPrefill) {
  const int64_t length = 135;
  const auto tokens = testing::random_tokens(length, model_->config.vocab_size, 5);
  const std::vector<int64_t> offsets{0, 40, 41, length};
  for (const std::string& level : with_ref(levels())) {
    ThreadPool pool(2);
    const auto kernels = make_kernels(level, pool);
    ASSERT_TRUE(kernels);
    const Transformer transformer(model_->config, model_->weights);
    Arena training_arena;
    const DocumentLayout layout(offsets);
    TransformerSaved saved;
    const Tensor trained =
        transformer.forward({.k = **kernels, .arena = training_arena, .precision = GetParam().precision},
                            {.tokens = tokens, .positions = layout.positions, .segments = layout.segments}, &saved);
    LatentCache cache(model_->config, default_cache_dtype(GetParam().precision), 4096);
    for (size_t d = 0; d + 1 < offsets.size(); ++d) {
      SequenceCache pages(cache);
      ASSERT_TRUE(pages.reserve(offsets[d + 1] - offsets[d]));
      for (int64_t begin = offsets[d]; begin < offsets[d + 1]; begin += 13) {
        const int64_t count = std::min<int64_t>(13, offsets[d + 1] - begin);
        const auto at = static_cast<size_t>(begin), size = static_cast<size_t>(count);
        const Segment segment{.row = 0, .count = count, .first_position = begin - offsets[d], .pages = pages.layers()};
        Arena arena;
        const Tensor hidden = transformer.forward({.k = **kernels, .arena = arena, .precision = GetParam().precision},
                                                  {.tokens = std::span(tokens).subspan(at, size),
                                                   .positions = std::span(layout.positions).subspan(at, size),
                                                   .segments = {&segment, 1}});
        const auto numbers = static_cast<size_t>(hidden.numel());
        EXPECT_TRUE(bit_equal({hidden.ptr<float>(), numbers}, {trained.rows(begin, count).ptr<float>(), numbers}))
            << level << ", document " << d << ", tokens from " << begin - offsets[d];
      }
    }
  }
}

TEST_P(Determinism, TheEngineGeneratesTheTokensOfItsParts) {
  std::vector<TracedRequest> requests;
  for (int64_t length : {1, 70, 20}) requests.push_back(request(length, 30, static_cast<uint64_t>(length)));
  ThreadPool pool(2);
  const auto kernels = make_kernels("cpu", pool);
  ASSERT_TRUE(kernels);
  EngineOptions engine_options;
  engine_options.precision = GetParam().precision;
  engine_options.cache_dtype = GetParam().cache_dtype;
  engine_options.prompt_chunk = 16;
  engine_options.max_cache_tokens = 1024;
  engine_options.allowed_tokens.assign(static_cast<size_t>(model_->config.vocab_size), true);
  Engine engine(*model_, **kernels, engine_options);
  std::vector<std::vector<int32_t>> generated(requests.size());
  for (const TracedRequest& r : requests) {
    ASSERT_TRUE(engine.submit(r.prompt, {.temperature = 0}, r.new_tokens));
  }
  while (engine.has_work()) {
    const auto events = engine.step();
    ASSERT_TRUE(events) << events.error().text;
    for (const TokenEvent& e : *events) generated[static_cast<size_t>(e.sequence_id)].push_back(e.token);
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(generated[i], trace_alone(*model_, options_, requests[i]).tokens) << "sequence " << i;
  }
}

/// Without quantised weights too, which no training has.
std::vector<Case> cases_without_cache_dtype(std::optional<Precision> precision) {
  std::vector<Case> chosen;
  for (const Case& c : cases()) {
    if (c.precision == precision.value_or(c.precision) && !c.cache_dtype && c.quant[0] == 0) chosen.push_back(c);
  }
  return chosen;
}

INSTANTIATE_TEST_SUITE_P(Models, DeterminismFp32, ::testing::ValuesIn(cases_without_cache_dtype(Precision::kF32)),
                         [](const auto& instance) { return std::string(instance.param.name); });
INSTANTIATE_TEST_SUITE_P(Models, DeterminismOfTraining, ::testing::ValuesIn(cases_without_cache_dtype({})),
                         [](const auto& instance) { return std::string(instance.param.name); });
INSTANTIATE_TEST_SUITE_P(Models, Determinism, ::testing::ValuesIn(cases()),
                         [](const auto& instance) { return std::string(instance.param.name); });

}  // namespace
}  // namespace fathom
