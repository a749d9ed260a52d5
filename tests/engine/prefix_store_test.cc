// Prefix pages in a file: found again by another engine to the same bits, and refused as a whole when anything is
// wrong.
#include "engine/prefix_store.h"

#include <gtest/gtest.h>

#include <fstream>

#include "../model/test_models.h"
#include "../shared_data.h"
#include "engine/engine.h"
#include "kernels/registry.h"

namespace fathom {
namespace {

using testing::random_tokens;

class PrefixStoreTest : public ::testing::Test {
 protected:
  PrefixStoreTest() : model_(testing::random_model(testing::awkward_config(), 1)), pool_(1) {
    kernels_ = *make_kernels("cpu", pool_);
    options_.max_cache_tokens = 1024;
    options_.allowed_tokens.assign(static_cast<size_t>(model_->config.vocab_size), true);
  }
  Engine engine() const { return Engine(*model_, *kernels_, options_); }
  std::vector<int32_t> prompt(int64_t length, uint64_t seed) const {
    return random_tokens(length, model_->config.vocab_size, seed);
  }
  /// Tokens and the bits of their log-probabilities.
  static std::vector<std::pair<int32_t, double>> answer(Engine& e, const std::vector<int32_t>& tokens) {
    const auto id =
        e.submit({.prompt = tokens, .sampling = {.temperature = 0}, .max_new_tokens = 5, .num_logprobs = 0});
    EXPECT_TRUE(id);
    std::vector<std::pair<int32_t, double>> out;
    while (e.has_work()) {
      const auto events = e.step();
      for (const TokenEvent& event : *events) out.emplace_back(event.token, event.logprobs->chosen.logprob);
    }
    e.remove(*id);
    return out;
  }

  std::unique_ptr<Model> model_;
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  EngineOptions options_;
  testing::TemporaryDirectory directory_;
  Path path() const { return directory_.path() / "pages"; }
};

/// With a cache of each dtype.
class PrefixStoreOf : public PrefixStoreTest, public ::testing::WithParamInterface<DType> {};
INSTANTIATE_TEST_SUITE_P(Caches, PrefixStoreOf, ::testing::Values(DType::kF32, DType::kE4M3),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

TEST_P(PrefixStoreOf, AnotherEngineFindsThePagesToTheSameBits) {
  options_.cache_dtype = GetParam();
  Engine first = engine();
  const auto long_one = prompt(200, 1);
  auto branch = long_one;
  branch.resize(140);
  branch[130] ^= 1;
  const auto expected = answer(first, long_one), expected_branch = answer(first, branch);
  answer(first, prompt(70, 2));
  ASSERT_TRUE(first.save_prefixes(path(), 7));

  Engine second = engine();
  const auto loaded = second.load_prefixes(path(), 7);
  ASSERT_TRUE(loaded) << loaded.error().text;
  EXPECT_EQ(*loaded, 3 + 1);
  EXPECT_EQ(second.stats().pages_in_use, 0);
  EXPECT_EQ(answer(second, long_one), expected);
  EXPECT_EQ(second.stats().prefix_hit_tokens, 192);
  EXPECT_EQ(answer(second, branch), expected_branch);
  EXPECT_EQ(second.stats().prefix_hit_tokens, 192 + 130);
  // A full cache gives them away like any other.
  for (uint64_t seed = 10; seed < 20; ++seed) answer(second, prompt(300, seed));
  EXPECT_EQ(answer(second, long_one), expected);
}

TEST_F(PrefixStoreTest, ASmallerCacheTakesWhatItHasRoomFor) {
  Engine first = engine();
  answer(first, prompt(300, 1));
  const auto recent = prompt(200, 2);
  const auto expected = answer(first, recent);
  ASSERT_TRUE(first.save_prefixes(path(), 7));
  options_.max_cache_tokens = 4 * 64;
  Engine small = engine();
  EXPECT_EQ(*small.load_prefixes(path(), 7), 4);
  EXPECT_EQ(answer(small, recent), expected);
  EXPECT_EQ(small.stats().prefix_hit_tokens, 192) << "the most recent ones come first";
}

TEST_F(PrefixStoreTest, EveryDamageIsNoticedAndNothingIsUsed) {
  Engine first = engine();
  answer(first, prompt(200, 1));
  ASSERT_TRUE(first.save_prefixes(path(), 7));
  const std::string whole = *read_file(path());
  const auto refused = [&](const std::string& bytes) {
    std::ofstream(path(), std::ios::binary) << bytes;
    Engine other = engine();
    const auto loaded = other.load_prefixes(path(), 7);
    EXPECT_EQ(other.stats().prefix_pages, loaded ? 3 : 0);
    return !loaded && loaded.error().text.find("pages") != std::string::npos;
  };
  const size_t step = std::max<size_t>(1, whole.size() / 101);
  for (size_t at = 0; at < whole.size(); at += step) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    EXPECT_TRUE(refused(damaged)) << "byte " << at;
    EXPECT_TRUE(refused(whole.substr(0, at))) << "cut at " << at;
  }
  EXPECT_TRUE(refused(whole + "x"));
  EXPECT_FALSE(refused(whole));
}

TEST_F(PrefixStoreTest, PagesOfAnotherModelAreRefused) {
  Engine first = engine();
  answer(first, prompt(200, 1));
  ASSERT_TRUE(first.save_prefixes(path(), 7));
  Engine other = engine();
  EXPECT_NE(other.load_prefixes(path(), 8).error().text.find("another model"), std::string::npos);
  EXPECT_EQ(other.load_prefixes(directory_.path() / "nothing", 7).error().code, ErrorCode::kNotFound);
  options_.precision = Precision::kBF16;
  Engine bf16 = engine();
  EXPECT_FALSE(bf16.load_prefixes(path(), 7));
  options_.precision = Precision::kF32;
  for (const DType dtype : {DType::kBF16, DType::kE4M3}) {
    options_.cache_dtype = dtype;
    Engine rounded = engine();
    EXPECT_NE(rounded.load_prefixes(path(), 7).error().text.find("another model"), std::string::npos);
  }
}

}  // namespace
}  // namespace fathom
