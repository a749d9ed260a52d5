// Prefix pages in a directory: found again by another engine to the same bits; when anything is wrong with a file, its
// page is not there.
#include "engine/prefix_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <thread>

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

  /// One that has opened the store; destroyed it has written everything.
  std::unique_ptr<Engine> with_store(uint64_t identity = 7) {
    auto e = std::make_unique<Engine>(*model_, *kernels_, options_);
    const Status opened =
        e->open_prefix_store({.directory = store_,
                              .identity = identity,
                              .max_bytes = max_bytes_,
                              .on_error = [this](const std::string& text) { errors_.push_back(text); }});
    EXPECT_TRUE(opened) << opened.error().text;
    return e;
  }
  std::vector<Path> files() const {
    std::vector<Path> found;
    for (const auto& entry : std::filesystem::directory_iterator(store_)) found.push_back(entry.path());
    std::ranges::sort(found);
    return found;
  }

  std::unique_ptr<Model> model_;
  ThreadPool pool_;
  std::unique_ptr<Kernels> kernels_;
  EngineOptions options_;
  testing::TemporaryDirectory directory_;
  Path store_ = directory_.path() / "made" / "here";
  int64_t max_bytes_ = int64_t{1} << 30;
  std::vector<std::string> errors_;  // by the writer, read when it has ended
};

/// With a cache of each dtype.
class PrefixStoreOf : public PrefixStoreTest, public ::testing::WithParamInterface<DType> {};
INSTANTIATE_TEST_SUITE_P(Caches, PrefixStoreOf, ::testing::Values(DType::kF32, DType::kE4M3),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

TEST_P(PrefixStoreOf, AnotherEngineFindsThePagesToTheSameBits) {
  options_.cache_dtype = GetParam();
  const auto long_one = prompt(200, 1);
  auto branch = long_one;
  branch.resize(140);
  branch[130] ^= 1;
  auto first = with_store();
  const auto expected = answer(*first, long_one), expected_branch = answer(*first, branch);
  answer(*first, prompt(70, 2));
  EXPECT_EQ(first->stats().store.pages, 3 + 1) << "full pages, written or about to be";
  first.reset();
  EXPECT_EQ(files().size(), 4u);

  auto second = with_store();
  EXPECT_EQ(second->stats().store.pages, 4);
  EXPECT_EQ(answer(*second, long_one), expected);
  EXPECT_EQ(second->stats().prefix_hit_tokens, 192);
  EXPECT_EQ(second->stats().store.read, 3);
  EXPECT_EQ(answer(*second, branch), expected_branch);
  EXPECT_EQ(second->stats().prefix_hit_tokens, 192 + 130) << "those are in memory by now";
  EXPECT_EQ(second->stats().store.read, 3);
}

// A cache of four pages, prompts of three, and a store that has room for all of them.
TEST_P(PrefixStoreOf, WhatMemoryHadNoRoomForIsFoundAgain) {
  options_.cache_dtype = GetParam();
  options_.max_cache_tokens = 4 * 64;
  auto e = with_store();
  std::vector<std::vector<std::pair<int32_t, double>>> expected;
  for (uint64_t seed = 0; seed < 6; ++seed) expected.push_back(answer(*e, prompt(200, seed)));
  for (int turn = 0; turn < 2; ++turn) {
    const int64_t before = e->stats().prefix_hit_tokens;
    for (uint64_t seed = 0; seed < 6; ++seed) EXPECT_EQ(answer(*e, prompt(200, seed)), expected[seed]) << seed;
    EXPECT_GE(e->stats().prefix_hit_tokens - before, 6 * 192) << "what is still to be written is found too";
    while (e->stats().store.written < 6 * 3) std::this_thread::yield();
  }
  EXPECT_GE(e->stats().store.read, 5 * 3);
  EXPECT_EQ(e->stats().pages_in_use, 0);
}

TEST_F(PrefixStoreTest, ManyPagesAreReadInSeveralStepsForSeveralRequests) {
  options_.max_cache_tokens = 64 * 256;
  model_->config.max_position_embeddings = 64 * 256;
  const auto huge = prompt(64 * 90 + 10, 3), other = prompt(64 * 5, 4);
  auto first = with_store();
  const auto expected = answer(*first, huge), expected_other = answer(*first, other);
  first.reset();
  auto e = with_store();
  std::map<int64_t, std::vector<std::pair<int32_t, double>>> got;
  for (const auto& tokens : {huge, other, other}) {
    ASSERT_TRUE(e->submit({.prompt = tokens, .sampling = {.temperature = 0}, .max_new_tokens = 5, .num_logprobs = 0}));
  }
  int64_t steps = 0;
  for (; e->has_work(); ++steps) {
    const auto events = e->step();
    for (const TokenEvent& event : *events)
      got[event.sequence_id].emplace_back(event.token, event.logprobs->chosen.logprob);
  }
  EXPECT_EQ(got[0], expected);
  EXPECT_EQ(got[1], expected_other);
  EXPECT_EQ(got[2], expected_other);
  EXPECT_EQ(e->stats().store.read, 90 + 4);
  EXPECT_LE(steps, 8);
}

TEST_F(PrefixStoreTest, EveryDamageIsNoticedAndItsPageComputedAgain) {
  const auto tokens = prompt(200, 1);
  auto first = with_store();
  const auto expected = answer(*first, tokens);
  first.reset();
  for (const Path& file : files()) {
    const std::string whole = *read_file(file);
    const auto noticed = [&](const std::string& bytes) {
      std::ofstream(file, std::ios::binary) << bytes;
      auto e = with_store();
      EXPECT_EQ(answer(*e, tokens), expected);
      const int64_t damaged = e->stats().store.damaged;
      e.reset();
      EXPECT_EQ(*read_file(file), whole) << "the page has been written again";
      return damaged == 1;
    };
    const size_t step = std::max<size_t>(1, whole.size() / 23);
    for (size_t at = 0; at < whole.size(); at += step) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 4);
      EXPECT_TRUE(noticed(damaged)) << file << ", byte " << at;
      EXPECT_TRUE(noticed(whole.substr(0, at))) << file << ", cut at " << at;
    }
    EXPECT_TRUE(noticed(whole + "x"));
    EXPECT_FALSE(noticed(whole));
  }
  // A right file under the name of another page.
  const auto all = files();
  std::filesystem::copy_file(all[0], all[1], std::filesystem::copy_options::overwrite_existing);
  auto e = with_store();
  EXPECT_EQ(answer(*e, tokens), expected);
  EXPECT_EQ(e->stats().store.damaged, 1);
}

TEST_F(PrefixStoreTest, PagesOfAnotherModelAreNotFound) {
  const auto tokens = prompt(200, 1);
  auto first = with_store();
  answer(*first, tokens);
  first.reset();
  EXPECT_EQ(with_store(8)->stats().store.pages, 0);
  options_.precision = Precision::kBF16;
  EXPECT_EQ(with_store()->stats().store.pages, 0);
  options_.precision = Precision::kF32;
  for (const DType dtype : {DType::kBF16, DType::kE4M3}) {
    options_.cache_dtype = dtype;
    EXPECT_EQ(with_store()->stats().store.pages, 0);
  }
  options_.cache_dtype = {};
  EXPECT_EQ(with_store()->stats().store.pages, 3) << "and are still there";
}

TEST_F(PrefixStoreTest, TheDirectoryKeepsItsSizeAndOthersFiles) {
  auto e = with_store();
  answer(*e, prompt(200, 1));
  e.reset();
  const auto size_of_one = static_cast<int64_t>(std::filesystem::file_size(files().back()));
  const Path note = store_ / "note.txt";
  std::ofstream(note) << "somebody's";
  max_bytes_ = 4 * size_of_one;
  e = with_store(8);  // another model: the pages of the first go, the oldest before the others
  answer(*e, prompt(200, 2));
  e.reset();
  int64_t bytes = 0;
  for (const Path& file : files())
    bytes += file.extension() == ".page" ? static_cast<int64_t>(std::filesystem::file_size(file)) : 0;
  EXPECT_LE(bytes, max_bytes_);
  EXPECT_EQ(with_store(8)->stats().store.pages, 3);
  EXPECT_EQ(*read_file(note), "somebody's");
}

// Pages are found one behind the other, so at the limit the last ones must go first.
TEST_F(PrefixStoreTest, WhatIsLeftAtTheLimitCanBeFound) {
  const auto tokens = prompt(380, 1);  // five pages
  auto e = with_store();
  const auto expected = answer(*e, tokens);
  e.reset();
  const auto size_of_one = static_cast<int64_t>(std::filesystem::file_size(files().back()));
  max_bytes_ = 3 * size_of_one;
  for (const bool killed : {false, true}) {
    if (killed) {  // as written: no orderly end has noted the order of use
      max_bytes_ = int64_t{1} << 30;
      std::filesystem::remove_all(store_);
      e = with_store();
      answer(*e, tokens);
      while (e->stats().store.written < 5) std::this_thread::yield();
      const Path copy = directory_.path() / "killed";
      std::filesystem::create_directory(copy);
      for (const Path& file : files()) {
        std::filesystem::copy_file(file, copy / file.filename());
        std::filesystem::last_write_time(copy / file.filename(), std::filesystem::last_write_time(file));
      }
      e.reset();
      std::filesystem::remove_all(store_);
      std::filesystem::rename(copy, store_);
      max_bytes_ = 3 * size_of_one;
    }
    e = with_store();
    const int64_t pages = e->stats().store.pages;
    EXPECT_GE(pages, 2);
    EXPECT_EQ(answer(*e, tokens), expected);
    EXPECT_EQ(e->stats().prefix_hit_tokens, 64 * pages) << killed;
    e.reset();
  }
}

TEST_F(PrefixStoreTest, WhatMemoryFindsIsUsedHereToo) {
  auto e = with_store();
  const auto hot = prompt(200, 1);
  const auto expected = answer(*e, hot);
  e.reset();
  max_bytes_ = 8 * static_cast<int64_t>(std::filesystem::file_size(files().back()));
  std::filesystem::remove_all(store_);
  e = with_store();
  answer(*e, hot);
  for (uint64_t seed = 10; seed < 16; ++seed) {
    answer(*e, prompt(150, seed));
    EXPECT_EQ(answer(*e, hot), expected);
  }
  EXPECT_EQ(e->stats().store.read, 0);
  e.reset();
  e = with_store();
  EXPECT_EQ(answer(*e, hot), expected);
  EXPECT_EQ(e->stats().prefix_hit_tokens, 192);
}

TEST_F(PrefixStoreTest, AnotherConfigOrMoreLayersAreAnotherModel) {
  const auto tokens = prompt(200, 1);
  auto e = with_store();
  answer(*e, tokens);
  e.reset();
  const ModelConfig config = model_->config;
  model_->config.rms_norm_eps *= 2;
  EXPECT_EQ(with_store()->stats().store.pages, 0);
  model_->config = config;
  model_->config.rope_theta *= 2;
  EXPECT_EQ(with_store()->stats().store.pages, 0);
  model_->config = config;
  EXPECT_EQ(with_store()->stats().store.pages, 3);
}

TEST_F(PrefixStoreTest, LinksAreReplacedAndNeverFollowed) {
  const auto tokens = prompt(200, 1);
  auto e = with_store();
  const auto expected = answer(*e, tokens);
  e.reset();
  const Path victim = directory_.path() / "victim", absent = directory_.path() / "absent";
  std::ofstream(victim) << "somebody's";
  const auto pages = files();
  std::filesystem::remove(pages[0]);
  std::filesystem::create_symlink(victim, pages[0]);
  std::filesystem::remove(pages[1]);
  std::filesystem::create_symlink(absent, pages[1]);
  e = with_store();
  EXPECT_EQ(answer(*e, tokens), expected);
  e.reset();
  for (const Path& page : pages) EXPECT_FALSE(std::filesystem::is_symlink(page));
  EXPECT_EQ(*read_file(victim), "somebody's");
  EXPECT_FALSE(std::filesystem::exists(absent));
  // While it is open: a page is found to be gone, and written again.
  e = with_store();
  for (const Path& page : pages) {
    std::filesystem::remove(page);
    std::filesystem::create_symlink(victim, page);
  }
  EXPECT_EQ(answer(*e, tokens), expected);
  e.reset();
  for (const Path& page : pages) EXPECT_TRUE(std::filesystem::is_regular_file(std::filesystem::symlink_status(page)));
  EXPECT_EQ(*read_file(victim), "somebody's");
}

TEST_F(PrefixStoreTest, AFileOfAbsurdSizePushesOutNobody) {
  const auto tokens = prompt(200, 1);
  auto e = with_store();
  const auto expected = answer(*e, tokens);
  e.reset();
  const std::string own = files()[0].filename().string().substr(0, 17);
  for (const std::string& name :
       {own + "0123456789abcdef.page", std::string("0123456789abcdef-0123456789abcdef.page")}) {
    std::ofstream(store_ / name) << "x";
    std::filesystem::resize_file(store_ / name, uintmax_t{1} << 34);
  }
  e = with_store();
  EXPECT_EQ(e->stats().store.pages, 3);
  EXPECT_EQ(answer(*e, tokens), expected);
  EXPECT_EQ(e->stats().prefix_hit_tokens, 192);
  EXPECT_FALSE(std::filesystem::exists(store_ / "0123456789abcdef-0123456789abcdef.page"));
  max_bytes_ = 100;
  Engine none = engine();
  const Status refused = none.open_prefix_store({.directory = store_, .max_bytes = max_bytes_});
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().text.find("no room for a page"), std::string::npos);
}

TEST_F(PrefixStoreTest, WhatAKilledWriterLeftIsRemoved) {
  auto e = with_store();
  answer(*e, prompt(70, 1));
  e.reset();
  const Path half = files()[0].string() + ".partial";
  std::ofstream(half) << "half a page";
  e = with_store();
  EXPECT_FALSE(std::filesystem::exists(half));
  EXPECT_EQ(e->stats().store.pages, 1);
}

TEST_F(PrefixStoreTest, ADirectoryThatTakesNothingCostsThePagesOnly) {
  const auto tokens = prompt(200, 1);
  Engine plain = engine();
  const auto expected = answer(plain, tokens);
  auto e = with_store();
  std::filesystem::remove_all(store_);  // as root no mode of it stops us
  EXPECT_EQ(answer(*e, tokens), expected);
  EXPECT_EQ(answer(*e, prompt(200, 2)), answer(plain, prompt(200, 2)));
  while (e->stats().store.dropped < 6) std::this_thread::yield();
  EXPECT_EQ(e->stats().store.written, 0);
  e.reset();
  ASSERT_EQ(errors_.size(), 1u) << "said once";
  EXPECT_NE(errors_[0].find(store_.string()), std::string::npos) << errors_[0];
  std::ofstream(directory_.path() / "file") << "x";
  Engine none = engine();
  EXPECT_FALSE(none.open_prefix_store({.directory = directory_.path() / "file" / "below"}));
}

TEST_F(PrefixStoreTest, PagesThatANanIsInAreRemovedAndDiscardingRemovesAll) {
  options_.allowed_tokens[70] = false;
  float* row = model_->weights.embedding.value.codes.ptr<float>() + 70 * model_->config.hidden_size;
  std::fill(row, row + model_->config.hidden_size, std::numeric_limits<float>::quiet_NaN());
  auto healthy = prompt(150, 1), ill = prompt(150, 2);
  std::ranges::replace(healthy, 70, 1);
  std::ranges::replace(ill, 70, 1);
  ill[20] = 70;
  auto e = with_store();
  answer(*e, healthy);
  ASSERT_TRUE(e->submit({.prompt = ill, .max_new_tokens = 5}));
  while (e->has_work()) ASSERT_TRUE(e->step());
  ASSERT_EQ(e->stats().numeric_errors, 1);
  EXPECT_EQ(e->stats().store.pages, 2);
  e->discard_prefix_store();
  EXPECT_EQ(e->stats().store.pages, 0);
  answer(*e, prompt(64, 5));
  e.reset();
  EXPECT_TRUE(files().empty());
}

}  // namespace
}  // namespace fathom
