// ExpertStore: the right bytes in any order of visits with any number of slots, and reads that fail.
#include "model/expert_store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/rng.h"
#include "shared_data.h"

namespace fathom {
namespace {

constexpr int64_t kBlock = DirectFile::kAlignment;
constexpr int64_t kExperts = 6;

/// Two layers of records, the second's longer than a piece of a read; every 8 bytes of a record say whose they are.
class Store : public ::testing::Test {
 protected:
  Store() : path_(directory_.path() / "experts") {
    int64_t at = kBlock;
    for (const int64_t record : {2 * kBlock, (int64_t{2} << 20) + kBlock}) {
      layers_.push_back({.offset = at, .record_bytes = record});
      at += kExperts * record;
    }
    std::string text(static_cast<size_t>(at), '\0');
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      for (int64_t e = 0; e < kExperts; ++e) {
        const ExpertLayer& place = layers_[layer];
        for (int64_t i = 0; i < place.record_bytes; i += 8) {
          const uint64_t word = word_of(static_cast<int64_t>(layer), e, i);
          std::memcpy(text.data() + place.offset + e * place.record_bytes + i, &word, 8);
        }
      }
    }
    EXPECT_TRUE(write_file(path_, text));
  }
  static uint64_t word_of(int64_t layer, int64_t expert, int64_t at) {
    return static_cast<uint64_t>(((layer + 1) * 100 + expert) << 32 | at);
  }
  std::unique_ptr<ExpertStore> open(int64_t num_slots) {
    auto store = ExpertStore::open(path_, layers_, kExperts);
    EXPECT_TRUE(store) << store.error().text;
    (*store)->allocate(num_slots);
    return std::move(*store);
  }
  static std::vector<ExpertUse> uses(std::initializer_list<int32_t> experts) {
    std::vector<ExpertUse> out;
    for (int32_t e : experts) out.push_back({.expert = e});
    return out;
  }
  /// A whole visit that looks at every byte; the experts in the order in which they came, up to an error.
  std::vector<int32_t> visit(ExpertStore& store, int64_t layer, std::span<const ExpertUse> wanted) {
    const auto order = store.begin(layer, wanted);
    std::vector<int32_t> seen;
    for (int64_t first = 0; first < std::ssize(order);) {
      const int64_t count = store.wait(first);
      if (count == 0) break;
      for (int64_t i = first; i < first + count; ++i) {
        const int32_t e = order[static_cast<size_t>(i)];
        const std::byte* record = store.record(layer, e);
        for (int64_t at = 0; at < layers_[static_cast<size_t>(layer)].record_bytes; at += 8) {
          uint64_t word = 0;
          std::memcpy(&word, record + at, 8);
          if (word == word_of(layer, e, at)) continue;
          ADD_FAILURE() << "layer " << layer << ", expert " << e << ", byte " << at;
          break;
        }
        seen.push_back(e);
      }
      store.end(count);
      first += count;
    }
    return seen;
  }
  static std::vector<int32_t> sorted(std::vector<int32_t> experts) {
    std::ranges::sort(experts);
    return experts;
  }

  testing::TemporaryDirectory directory_;
  Path path_;
  std::vector<ExpertLayer> layers_;
};

TEST_F(Store, GivesEveryExpertItsBytesWithAnyNumberOfSlots) {
  for (int64_t slots : {1, 2, 3, 5, 12, 20}) {
    const auto store = open(slots);
    const Rng rng(7, 1);
    for (uint64_t step = 0; step < 30; ++step) {
      for (int64_t layer : {0, 1}) {
        std::vector<ExpertUse> wanted, guess;
        for (int32_t e = 0; e < kExperts; ++e) {
          const uint64_t draw = step * 100 + static_cast<uint64_t>(layer * 10 + e);
          if (rng.below(draw, 3) == 0) wanted.push_back({.expert = e});
          if (rng.below(draw + 50, 2) == 0) guess.push_back({.expert = e});
        }
        const auto order = store->begin(layer, wanted);
        EXPECT_EQ(order.size(), wanted.size());
        // Interrupted visits and reads ahead, right and wrong, come between.
        if (step % 5 == 4) continue;
        if (step % 3 != 0) store->prefetch(1 - layer, guess);
        for (int64_t first = 0; first < std::ssize(order);) {
          const int64_t count = store->wait(first);
          ASSERT_GT(count, 0);
          for (int64_t i = first; i < first + count; ++i) {
            uint64_t word = 0;
            const int32_t e = order[static_cast<size_t>(i)];
            const int64_t last = layers_[static_cast<size_t>(layer)].record_bytes - 8;
            std::memcpy(&word, store->record(layer, e) + last, 8);
            ASSERT_EQ(word, word_of(layer, e, last)) << slots << " slots, step " << step;
          }
          store->end(count);
          first += count;
        }
      }
    }
    EXPECT_TRUE(store->take_status());
  }
}

TEST_F(Store, KnowsWhatItHas) {
  const auto store = open(4);
  EXPECT_EQ(sorted(visit(*store, 1, uses({0, 2, 5}))), (std::vector<int32_t>{0, 2, 5}));
  EXPECT_EQ(store->stats().hits, 0);
  EXPECT_EQ(store->stats().bytes_read, 3 * layers_[1].record_bytes);
  const auto again = visit(*store, 1, uses({1, 2, 5}));
  EXPECT_EQ(again.back(), 1) << "those in memory come first";
  EXPECT_EQ(store->stats().uses, 6);
  EXPECT_EQ(store->stats().hits, 2);
  EXPECT_EQ(store->stats().bytes_read, 4 * layers_[1].record_bytes);
}

TEST_F(Store, ReadsAheadWhatIsGuessedAndCountsIt) {
  const auto store = open(12);
  visit(*store, 0, uses({0}));
  store->prefetch(1, uses({1, 3, 4}));
  visit(*store, 1, uses({1, 4, 5}));
  const ExpertStats stats = store->stats();
  EXPECT_EQ(stats.prefetched, 3);
  EXPECT_EQ(stats.prefetched_used, 2);
  EXPECT_EQ(stats.uses, 4);
  EXPECT_LE(stats.hits + stats.arriving, 2);
}

TEST_F(Store, ReadsAheadTheLargestSharesIntoHalfOfTheSlots) {
  const auto store = open(4);
  visit(*store, 0, uses({0}));
  std::vector<ExpertUse> guess = uses({0, 1, 2, 3});
  guess[3].share = 3;
  guess[1].share = 2;
  store->prefetch(1, guess);
  EXPECT_EQ(store->stats().prefetched, 2);
  visit(*store, 1, uses({1, 3}));
  EXPECT_EQ(store->stats().prefetched_used, 2);
}

TEST_F(Store, AFailedReadNamesFileAndByteAndTheNextStepBeginsAfresh) {
  const auto store = open(3);
  visit(*store, 0, uses({0, 1}));
  const std::string whole = *read_file(path_);
  const int64_t cut = layers_[1].offset + layers_[1].record_bytes + kBlock;  // in expert 1 of layer 1
  ASSERT_EQ(::truncate(path_.c_str(), cut), 0);
  EXPECT_EQ(sorted(visit(*store, 1, uses({0}))), (std::vector<int32_t>{0})) << "before the end all is well";
  EXPECT_TRUE(store->take_status());
  const auto seen = visit(*store, 1, uses({0, 1, 2}));
  EXPECT_LE(seen.size(), 1u);
  EXPECT_TRUE(store->begin(0, uses({0})).empty()) << "until somebody has asked why";
  const Status status = store->take_status();
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().text.find(path_.string() + " at byte "), std::string::npos) << status.error().text;
  EXPECT_TRUE(store->take_status()) << "told once";
  EXPECT_EQ(sorted(visit(*store, 0, uses({0, 1, 5}))), (std::vector<int32_t>{0, 1, 5}));

  ASSERT_TRUE(::truncate(path_.c_str(), std::ssize(whole)) == 0);
  std::FILE* file = std::fopen(path_.c_str(), "r+b");
  ASSERT_EQ(std::fwrite(whole.data(), 1, whole.size(), file), whole.size());
  std::fclose(file);
  // Reads of the failed step may still be on their way; then it is told again, and that is all.
  std::vector<int32_t> healed;
  for (int i = 0; i < 1000 && healed.size() < 3; ++i) {
    healed = visit(*store, 1, uses({0, 1, 2}));
    (void)store->take_status().ok();
  }
  EXPECT_EQ(sorted(healed), (std::vector<int32_t>{0, 1, 2}));
}

TEST_F(Store, AFailedReadAheadMattersOnlyToWhoWantsTheExpert) {
  ASSERT_EQ(::truncate(path_.c_str(), layers_[1].offset + 6 * layers_[1].record_bytes), 0);
  const auto store = open(12);
  ASSERT_EQ(::truncate(path_.c_str(), layers_[1].offset + layers_[1].record_bytes), 0);
  visit(*store, 0, uses({0}));
  store->prefetch(1, uses({4}));
  EXPECT_EQ(visit(*store, 1, uses({0})), (std::vector<int32_t>{0}));
  EXPECT_TRUE(store->take_status());
  store->prefetch(1, uses({4}));
  visit(*store, 1, uses({4}));
  EXPECT_FALSE(store->take_status());
}

TEST_F(Store, RefusesAFileThatEndsBeforeItsRecords) {
  ASSERT_EQ(::truncate(path_.c_str(), kBlock * 7), 0);
  const auto store = ExpertStore::open(path_, layers_, kExperts);
  ASSERT_FALSE(store);
  EXPECT_NE(store.error().text.find(path_.string() + " has " + std::to_string(kBlock * 7)), std::string::npos);
}

}  // namespace
}  // namespace fathom
