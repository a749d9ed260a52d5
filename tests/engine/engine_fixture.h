// An engine with a small random model, and what tests do with it.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "../model/test_models.h"
#include "engine/engine.h"
#include "kernels/registry.h"

namespace fathom::testing {

struct Answer {
  std::vector<int32_t> tokens;
  FinishReason finish = FinishReason::kNone;
};

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() : model_(testing::random_model(testing::awkward_config(), 1)), pool_(1) {
    auto kernels = make_kernels("cpu", pool_);
    EXPECT_TRUE(kernels);
    kernels_ = std::move(*kernels);
    options_.max_cache_tokens = 1024;
    options_.allowed_tokens.assign(static_cast<size_t>(vocab_size()), true);
  }
  int64_t vocab_size() const { return model_->config.vocab_size; }
  Engine engine() const { return Engine(*model_, *kernels_, options_); }
  std::vector<int32_t> prompt(int64_t length, uint64_t seed = 3) const {
    return testing::random_tokens(length, vocab_size(), seed);
  }

  /// Steps until nothing is left; the answers by sequence.
  static std::map<int64_t, Answer> finish(Engine& engine) {
    std::map<int64_t, Answer> answers;
    while (engine.has_work()) {
      const auto events = engine.step();
      EXPECT_TRUE(events) << events.error().text;
      if (!events) break;
      for (const TokenEvent& e : *events) {
        EXPECT_EQ(answers[e.sequence_id].finish, FinishReason::kNone) << "a token after the end";
        answers[e.sequence_id].tokens.push_back(e.token);
        answers[e.sequence_id].finish = e.finish;
      }
    }
    return answers;
  }
  Answer answer_of_fresh_engine(const std::vector<int32_t>& tokens, const SamplingParams& sampling,
                                int64_t max_new_tokens) const {
    Engine fresh = engine();
    const auto id = fresh.submit(tokens, sampling, max_new_tokens);
    EXPECT_TRUE(id) << id.error().text;
    return finish(fresh)[*id];
  }

  std::unique_ptr<Model> model_;
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  EngineOptions options_;
  const SamplingParams greedy_{.temperature = 0};
};

}  // namespace fathom::testing
