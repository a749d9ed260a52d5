// Pages of the latent cache: bounded, recycled, shared only when published and never written then, and readable across
// their borders.
#include "engine/latent_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "../model/test_models.h"
#include "kernels/registry.h"

namespace fathom {
namespace {

ModelConfig config() { return testing::awkward_config(); }  // 3 layers, C = 19, R = 6

TEST(LatentCache, RoundsItsRoomUpToPages) {
  EXPECT_EQ(LatentCache(config(), DType::kF32, 1).max_tokens(), 64);
  EXPECT_EQ(LatentCache(config(), DType::kF32, 64).max_tokens(), 64);
  EXPECT_EQ(LatentCache(config(), DType::kF32, 65).max_tokens(), 128);
  EXPECT_EQ(LatentCache(config(), DType::kF32, 0).max_tokens(), 0);
}

TEST(LatentCache, HoldsLatentAndRopeKeyOfEveryLayer) {
  const LatentCache wide(config(), DType::kF32, 64), narrow(config(), DType::kBF16, 64);
  const LatentCache fp8(config(), DType::kE4M3, 64);
  EXPECT_EQ(wide.num_layers(), 3);
  EXPECT_EQ(wide.layer_bytes(), 64 * (19 + 6) * 4);
  EXPECT_EQ(narrow.layer_bytes(), 64 * (19 + 6) * 2);
  EXPECT_EQ(fp8.layer_bytes(), 64 * (19 + 6 * 2 + 1)) << "codes, rope keys in BF16, one scale";
}

TEST(LatentCache, GivesEachPageOnceAndThenSaysItIsFull) {
  LatentCache cache(config(), DType::kF32, 3 * 64);
  std::set<int32_t> pages;
  for (int i = 0; i < 3; ++i) {
    const auto page = cache.take_page();
    ASSERT_TRUE(page);
    std::memset(cache.data(*page), 0xAB,
                static_cast<size_t>(cache.num_layers() * cache.layer_bytes()));  // all of it is ours
    pages.insert(*page);
  }
  EXPECT_EQ(pages.size(), 3u);
  const auto none = cache.take_page();
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code, ErrorCode::kOutOfMemory);
  EXPECT_NE(none.error().text.find("192"), std::string::npos) << none.error().text;
  cache.give_back(*pages.begin());
  const auto again = cache.take_page();
  ASSERT_TRUE(again);
  EXPECT_EQ(*again, *pages.begin());
}

TEST(SequenceCache, ReservesWholePagesForEveryLayer) {
  LatentCache cache(config(), DType::kF32, 1024);
  SequenceCache sequence(cache);
  ASSERT_EQ(sequence.layers().size(), 3u);
  EXPECT_TRUE(sequence.layers()[0].pages.empty());
  for (const auto& [tokens, pages] : {std::pair{1, 1u}, {64, 1u}, {65, 2u}, {40, 2u}, {129, 3u}}) {
    ASSERT_TRUE(sequence.reserve(tokens));
    for (size_t layer = 0; layer < 3; ++layer) {
      const LatentPages& view = sequence.layers()[layer];
      ASSERT_EQ(view.pages.size(), pages) << tokens << " tokens";
      EXPECT_EQ(view.kv_lora_rank, 19);
      EXPECT_EQ(view.qk_rope_head_dim, 6);
      EXPECT_EQ(view.dtype, DType::kF32);
      for (size_t p = 0; p < pages; ++p) {
        EXPECT_EQ(static_cast<std::byte*>(view.pages[p]) - static_cast<std::byte*>(sequence.layers()[0].pages[p]),
                  static_cast<int64_t>(layer) * cache.layer_bytes());
      }
    }
  }
}

TEST(SequenceCache, KeepsItsPagesWhenItGrowsAndWhenItMoves) {
  LatentCache cache(config(), DType::kF32, 1024);
  SequenceCache sequence(cache);
  ASSERT_TRUE(sequence.reserve(64));
  void* first = sequence.layers()[0].pages[0];
  ASSERT_TRUE(sequence.reserve(200));
  EXPECT_EQ(sequence.layers()[0].pages[0], first);
  const SequenceCache moved(std::move(sequence));
  EXPECT_EQ(moved.layers()[0].pages[0], first);
  EXPECT_EQ(moved.layers()[2].pages.size(), 4u);
}

TEST(SequenceCache, GivesPagesBackWhenCutAndWhenItDies) {
  LatentCache cache(config(), DType::kF32, 4 * 64);
  const auto free_pages = [&cache] {
    std::vector<int32_t> taken;
    while (const auto page = cache.take_page()) taken.push_back(*page);
    for (int32_t page : taken) cache.give_back(page);
    return taken.size();
  };
  {
    SequenceCache sequence(cache);
    ASSERT_TRUE(sequence.reserve(4 * 64));
    EXPECT_EQ(free_pages(), 0u);
    EXPECT_EQ(sequence.truncate(4 * 64), 256);
    EXPECT_EQ(free_pages(), 0u);
    EXPECT_EQ(sequence.truncate(65), 65);
    EXPECT_EQ(free_pages(), 2u);
    EXPECT_EQ(sequence.layers()[1].pages.size(), 2u);
    EXPECT_EQ(sequence.truncate(64), 64);
    EXPECT_EQ(free_pages(), 3u);
    EXPECT_EQ(sequence.truncate(1000), 1000);  // nothing to cut
    EXPECT_EQ(free_pages(), 3u);
    EXPECT_EQ(sequence.truncate(0), 0);
    EXPECT_EQ(free_pages(), 4u);
    EXPECT_TRUE(sequence.layers()[0].pages.empty());
    ASSERT_TRUE(sequence.reserve(100));
    const SequenceCache moved(std::move(sequence));
    EXPECT_EQ(free_pages(), 2u);
  }
  EXPECT_EQ(free_pages(), 4u) << "moved-from and moved-to give a page back once";
}

TEST(SequenceCache, IsUnchangedWhenThereIsNoRoom) {
  LatentCache cache(config(), DType::kF32, 4 * 64);
  SequenceCache first(cache), second(cache);
  ASSERT_TRUE(first.reserve(64));
  ASSERT_TRUE(second.reserve(64));
  ASSERT_FALSE(second.reserve(4 * 64));
  EXPECT_EQ(second.layers()[0].pages.size(), 1u);
  ASSERT_TRUE(first.reserve(2 * 64)) << "what the failed reserve took is free again";
  ASSERT_TRUE(second.reserve(2 * 64)) << "a smaller wish can be granted";
  EXPECT_EQ(second.layers()[0].pages.size(), 2u);
  EXPECT_NE(first.layers()[0].pages[1], second.layers()[0].pages[1]);
}

/// The tokens 0, 1, .. times `step`, and what publish() and find_prefix() want to know of them.
struct Prompt {
  Prompt(int64_t length, int32_t step, size_t different_from = 1000) : tokens(static_cast<size_t>(length)) {
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i) * step + (i >= different_from);
    hashes = page_hashes(7, tokens, 64);
  }
  std::vector<int32_t> tokens;
  std::vector<uint64_t> hashes;
};

TEST(SequenceCache, FindsThePagesThatWerePublishedUpToTheFirstDifference) {
  LatentCache cache(config(), DType::kF32, 1024);
  SequenceCache first(cache), second(cache);
  const Prompt prompt(200, 3);
  ASSERT_TRUE(first.reserve(200));
  EXPECT_TRUE(second.find_prefix(prompt.tokens, prompt.hashes).empty()) << "nothing is published";
  first.publish(prompt.tokens, std::span(prompt.hashes).first(2));
  first.publish(prompt.tokens, prompt.hashes);
  const std::vector<int32_t> pages(first.pages().begin(), first.pages().begin() + 3);
  EXPECT_EQ(second.find_prefix(prompt.tokens, prompt.hashes), pages);
  for (const auto& [difference, found] : {std::pair{0u, 0u}, {63u, 0u}, {64u, 1u}, {191u, 2u}, {192u, 3u}}) {
    const Prompt other(200, 3, difference);
    EXPECT_EQ(second.find_prefix(other.tokens, other.hashes).size(), found) << "different from " << difference;
  }
  const Prompt shorter(140, 3);
  EXPECT_EQ(second.find_prefix(shorter.tokens, shorter.hashes).size(), 2u);
  second.attach(pages);
  EXPECT_EQ(cache.pages_in_use(), 4) << "three shared ones and the last of the first";
  ASSERT_TRUE(second.reserve(193));
  EXPECT_EQ(cache.pages_in_use(), 5);
  EXPECT_EQ(second.layers()[1].pages[2], first.layers()[1].pages[2]);
  EXPECT_NE(second.layers()[1].pages[3], first.layers()[1].pages[3]);
}

TEST(SequenceCache, ASecondCopyOfAPageGivesWayToTheFirst) {
  LatentCache cache(config(), DType::kF32, 1024);
  SequenceCache first(cache), second(cache);
  const Prompt prompt(128, 5);
  ASSERT_TRUE(first.reserve(128));
  ASSERT_TRUE(second.reserve(130));
  first.publish(prompt.tokens, prompt.hashes);
  EXPECT_EQ(cache.pages_in_use(), 5);
  second.publish(prompt.tokens, prompt.hashes);
  EXPECT_EQ(cache.pages_in_use(), 3);
  EXPECT_EQ(second.pages()[0], first.pages()[0]);
  EXPECT_EQ(second.layers()[2].pages[1], first.layers()[2].pages[1]);
}

TEST(SequenceCache, IsNotCutThroughAPageThatOthersRead) {
  LatentCache cache(config(), DType::kF32, 1024);
  SequenceCache sequence(cache);
  const Prompt prompt(200, 3);
  ASSERT_TRUE(sequence.reserve(200));
  sequence.publish(prompt.tokens, prompt.hashes);  // three pages; the fourth is its own
  EXPECT_EQ(sequence.truncate(195), 195);
  EXPECT_EQ(sequence.truncate(192), 192);
  EXPECT_EQ(sequence.truncate(130), 128);
  EXPECT_EQ(sequence.pages().size(), 2u);
  EXPECT_EQ(sequence.truncate(1), 0);
  EXPECT_TRUE(sequence.pages().empty());
}

TEST(LatentCache, KeepsPublishedPagesUntilOthersNeedTheRoomAndThenDropsTheOldestEndFirst) {
  LatentCache cache(config(), DType::kF32, 4 * 64);
  const Prompt old(128, 3), young(64, 5);
  for (const Prompt* prompt : {&old, &young}) {
    SequenceCache sequence(cache);
    ASSERT_TRUE(sequence.reserve(static_cast<int64_t>(prompt->tokens.size())));
    sequence.publish(prompt->tokens, prompt->hashes);
  }
  EXPECT_EQ(cache.pages_in_use(), 0);
  EXPECT_EQ(cache.available_pages(), 4);
  SequenceCache probe(cache), other(cache);
  const auto known = [&](const Prompt& prompt) { return probe.find_prefix(prompt.tokens, prompt.hashes).size(); };
  ASSERT_TRUE(other.reserve(64));  // the page that was never used
  EXPECT_EQ(known(old), 2u);
  ASSERT_TRUE(other.reserve(128));
  EXPECT_EQ(known(old), 1u) << "the second page goes before the first";
  ASSERT_TRUE(other.reserve(192));
  EXPECT_EQ(known(old), 0u);
  EXPECT_EQ(known(young), 1u);
  probe.attach(probe.find_prefix(young.tokens, young.hashes));
  EXPECT_FALSE(other.reserve(256)) << "a page in use is nobody else's";
  EXPECT_EQ(known(young), 1u);
}

TEST(SequenceCache, TakesBackWhatItPublishedUnlessOthersHaveIt) {
  LatentCache cache(config(), DType::kF32, 1024);
  SequenceCache probe(cache), sequence(cache);
  const Prompt prompt(192, 3);
  ASSERT_TRUE(sequence.reserve(192));
  sequence.publish(prompt.tokens, prompt.hashes);
  probe.attach(probe.find_prefix(std::span(prompt.tokens).first(64), std::span(prompt.hashes).first(1)));
  sequence.unpublish();
  EXPECT_EQ(probe.find_prefix(prompt.tokens, prompt.hashes).size(), 1u);
  sequence.publish(prompt.tokens, prompt.hashes);
  EXPECT_EQ(probe.find_prefix(prompt.tokens, prompt.hashes).size(), 3u);
}

float latent_number(float base, int64_t t, int64_t c) {
  return static_cast<float>((t + c + static_cast<int64_t>(base)) % 16) - 4;
}

TEST(SequenceCache, ReadsBackWhatWasWrittenAcrossPages) {
  for (const std::string& name : available_kernels()) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kE4M3}) {
      ThreadPool pool(1);
      const auto kernels = make_kernels(name, pool);
      ASSERT_TRUE(kernels);
      LatentCache cache(config(), dtype, 1024);
      SequenceCache sequence(cache), neighbour(cache);
      // Pages of the two interleave in the order of taking them.
      for (int64_t tokens = 64; tokens <= 192; tokens += 64) {
        ASSERT_TRUE(sequence.reserve(tokens));
        ASSERT_TRUE(neighbour.reserve(tokens));
      }
      Arena arena;
      const auto fill = [&](SequenceCache& target, size_t layer, float base) {
        const Tensor latent = Tensor::allocate(arena, DType::kF32, {150, 19});
        const Tensor rope = Tensor::allocate(arena, DType::kF32, {150, 6});
        std::vector<int64_t> positions;
        for (int64_t t = 0; t < 150; ++t) {
          positions.push_back(t);
          // Small integers: exact in BF16, and those of a latent in E4M3.
          for (int64_t c = 0; c < 19; ++c) latent.ptr<float>()[t * 19 + c] = latent_number(base, t, c);
          for (int64_t r = 0; r < 6; ++r) rope.ptr<float>()[t * 6 + r] = -base - static_cast<float>((t * r) % 64);
        }
        (*kernels)->append_latents(latent, rope, positions, target.layers()[layer]);
      };
      for (size_t layer = 0; layer < 3; ++layer) {
        fill(sequence, layer, static_cast<float>(layer));
        fill(neighbour, layer, 40 + static_cast<float>(layer));
      }
      for (size_t layer = 0; layer < 3; ++layer) {
        const Tensor latent = Tensor::allocate(arena, DType::kF32, {150, 19});
        const Tensor rope = Tensor::allocate(arena, DType::kF32, {150, 6});
        (*kernels)->gather_latents(sequence.layers()[layer], latent, rope);
        int64_t wrong = 0;
        const auto base = static_cast<float>(layer);
        for (int64_t t = 0; t < 150; ++t) {
          for (int64_t c = 0; c < 19; ++c) {
            wrong += latent.ptr<float>()[t * 19 + c] != latent_number(base, t, c);
          }
          for (int64_t r = 0; r < 6; ++r) {
            wrong += rope.ptr<float>()[t * 6 + r] != -base - static_cast<float>((t * r) % 64);
          }
        }
        EXPECT_EQ(wrong, 0) << name << " " << name_of(dtype) << " layer " << layer;
      }
    }
  }
}

}  // namespace
}  // namespace fathom
