// The engine over experts that are read from a file: the tokens of a model in memory, in batches and with drafts; and a
// step whose read fails is an error after which the engine goes on.
#include <gtest/gtest.h>

#include "../model/test_models.h"
#include "engine/engine.h"
#include "kernels/registry.h"
#include "model/prepare_weights.h"
#include "model/stream_experts.h"

namespace fathom {
namespace {

using TokensOfEach = std::vector<std::vector<int32_t>>;

class StreamedExperts : public ::testing::Test {
 protected:
  StreamedExperts() : pool_(2), kernels_(std::move(*make_kernels("cpu", pool_))) {}

  /// slots = 0: in memory.
  std::unique_ptr<Model> model(int64_t slots) {
    auto loaded = load_model(Path(FATHOM_SOURCE_DIR) / "tests/golden/v3");
    EXPECT_TRUE(loaded) << loaded.error().text;
    SilentProgress silent;
    const auto policy = parse_quant_policy("int8");
    if (slots > 0) {
      EXPECT_TRUE(stream_experts(**loaded, *policy, Precision::kBF16, *kernels_, directory_.path(), silent));
      (*loaded)->experts->allocate(slots);
    }
    EXPECT_TRUE(prepare_weights(**loaded, *policy, Precision::kBF16, *kernels_, silent));
    return std::move(*loaded);
  }

  static EngineOptions options(const Model& model, int64_t chunk) {
    EngineOptions out;
    out.precision = Precision::kBF16;
    out.prompt_chunk = chunk;
    out.max_cache_tokens = 1024;
    out.mtp_drafts = true;
    out.allowed_tokens.assign(static_cast<size_t>(model.config.vocab_size), true);
    return out;
  }
  static void submit_all(Engine& engine, const Model& model, SpeculationKind kind) {
    for (int64_t length : {1, 40, 11}) {
      Request request;
      request.prompt = testing::random_tokens(length, model.config.vocab_size, static_cast<uint64_t>(length));
      request.sampling.temperature = 0;
      request.max_new_tokens = 25;
      request.speculation.kind = kind;
      request.speculation.adaptive = false;
      const auto id = engine.submit(request);
      ASSERT_TRUE(id) << id.error().text;
    }
  }
  static void collect(const std::vector<TokenEvent>& events, TokensOfEach& tokens) {
    for (const TokenEvent& e : events) tokens[static_cast<size_t>(e.sequence_id)].push_back(e.token);
  }
  TokensOfEach generate(int64_t slots, int64_t chunk, SpeculationKind kind) {
    const auto m = model(slots);
    Engine engine(*m, *kernels_, options(*m, chunk));
    submit_all(engine, *m, kind);
    TokensOfEach tokens(3);
    while (engine.has_work()) {
      const auto events = engine.step();
      EXPECT_TRUE(events) << events.error().text;
      if (!events) break;
      collect(*events, tokens);
    }
    return tokens;
  }

  testing::TemporaryDirectory directory_;
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
};

TEST_F(StreamedExperts, GenerateTheTokensOfAModelInMemory) {
  for (const SpeculationKind kind : {SpeculationKind::kNone, SpeculationKind::kMtp}) {
    const TokensOfEach in_memory = generate(0, 512, kind);
    for (int64_t slots : {3, 5, 30}) {
      for (int64_t chunk : {4, 512}) EXPECT_EQ(generate(slots, chunk, kind), in_memory) << slots << ", " << chunk;
    }
  }
}

TEST_F(StreamedExperts, AReadThatFailsEndsTheStepAndNothingElse) {
  const TokensOfEach in_memory = generate(0, 512, SpeculationKind::kMtp);
  const auto m = model(3);
  Engine engine(*m, *kernels_, options(*m, 512));
  submit_all(engine, *m, SpeculationKind::kMtp);
  TokensOfEach tokens(3);
  for (int i = 0; i < 5; ++i) {
    const auto events = engine.step();
    ASSERT_TRUE(events);
    collect(*events, tokens);
  }
  const Path path = m->experts->file().path();
  const std::string whole = *read_file(path);
  std::filesystem::resize_file(path, 4096);
  for (int i = 0; i < 3; ++i) {
    const auto events = engine.step();
    ASSERT_FALSE(events) << "3 of 8 experts are not enough for three sequences";
    EXPECT_NE(events.error().text.find(path.string() + " at byte "), std::string::npos) << events.error().text;
  }
  std::FILE* file = std::fopen(path.c_str(), "r+b");
  ASSERT_EQ(std::fwrite(whole.data(), 1, whole.size(), file), whole.size());
  std::fclose(file);
  int64_t failures = 0;
  while (engine.has_work() && failures < 1000) {
    const auto events = engine.step();
    if (events) {
      collect(*events, tokens);
    } else {
      ++failures;  // of reads that were on their way
    }
  }
  EXPECT_EQ(tokens, in_memory);
}

}  // namespace
}  // namespace fathom
