// Attention in BF16 on every level: against ref within the derived bound, at the edges of blocks, pages and parts, and
// with numbers that are not finite; and a cache in E4M3.
#include <gtest/gtest.h>

#include <array>

#include "kernels/levels.h"
#include "kernels/op_cases.h"

namespace fathom {
namespace {

using op_cases::Block;
using op_cases::Operands;

using testing::levels;
using testing::make;

double largest(const Block& b) {
  double most = 0;
  for (int64_t i = 0; i < b.numel(); ++i) most = std::fmax(most, std::fabs(b.real(i)));
  return most;
}

// What may be between a level and ref, which rounds the same q, k, v and nothing else. Times 1 + d:
//   a score is off by e <= scale * sum_bound(depth, sum |q k|), so its probability by at most 2 e (e < 0.1);
//   exp and the walk of the maximum (a product of factors, one per block): 4 roundings of 2^-24 and 3 per block;
//   rounding a probability to BF16: 2^-8, for the product with v only;
//   the sums over keys: (keys + 2) 2^-24 each, numerator and denominator.
// The output is a quotient of two such sums, so it moves by at most their d together times sum_s p_s |v_s|.
double probability_bound(double score_error, int64_t keys) {
  return 2 * 2 * score_error + 2 * static_cast<double>(keys + 2 + 4 + 3 * (keys / 64 + 1)) * 0x1p-24;
}
constexpr double kRoundedProbability = 0x1p-8 * (1 + 0x1p-6);

struct PrefillShape {
  int64_t tokens, first, heads, nope, rope, value;
};

MlaPrefillArgs prefill_args(const Operands& o, const PrefillShape& s, const char* kv, const char* out) {
  return {.q = o.at("q"),
          .kv = o.at(kv),
          .k_rope = o.at("kr"),
          .qk_nope_head_dim = s.nope,
          .first_position = s.first,
          .softmax_scale = 1 / std::sqrt(static_cast<double>(s.nope + s.rope)),
          .out = o.at(out),
          .lse = o.at(std::string(out) + ".lse"),
          .precision = Precision::kBF16};
}

void prefill_operands(Operands& o, const PrefillShape& s) {
  const int64_t keys = s.first + s.tokens;
  o.input("q", {s.tokens, s.heads, s.nope + s.rope}), o.input("kv", {keys, s.heads, s.nope + s.value});
  o.input("kr", {keys, s.rope});
  for (const char* out : {"exact", "spread", "out", "clean"}) {
    o.output(out, {s.tokens, s.heads, s.value}), o.output(std::string(out) + ".lse", {s.tokens, s.heads});
  }
}

TEST(AttentionBf16, PrefillIsWithinTheDerivedBoundOfRef) {
  ThreadPool pool(2);
  for (const PrefillShape& s : {PrefillShape{3, 0, 2, 32, 16, 32},
                                {65, 0, 2, 20, 6, 18},
                                {34, 93, 1, 128, 64, 128},
                                {130, 7, 1, 16, 16, 33},
                                {1, 1024, 3, 8, 2, 5}}) {
    Operands o;
    prefill_operands(o, s);
    const auto ref = make("ref", pool);
    ref->mla_prefill(prefill_args(o, s, "kv", "exact"));
    // sum_s p_s |v_s|, by the same scores over the magnitudes of v.
    Block& magnitudes = o.blocks["kv.abs"] = o.blocks["kv"];
    for (int64_t i = 0; i < magnitudes.numel(); ++i) {
      if (i % (s.nope + s.value) >= s.nope) magnitudes.set(i, std::fabs(magnitudes.real(i)));
    }
    ref->mla_prefill(prefill_args(o, s, "kv.abs", "spread"));
    double most = 0;  // of sum |q|
    for (int64_t i = 0; i < s.tokens * s.heads; ++i) {
      double sum = 0;
      for (int64_t d = 0; d < s.nope + s.rope; ++d) sum += std::fabs(o.blocks["q"].real(i * (s.nope + s.rope) + d));
      most = std::fmax(most, sum);
    }
    const double largest_key = std::fmax(largest(o.blocks["kv"]), largest(o.blocks["kr"]));
    const double score_error =
        sum_bound(s.nope + s.rope, 1.02 * most * largest_key) / std::sqrt(static_cast<double>(s.nope + s.rope));
    const double walk = probability_bound(score_error, s.first + s.tokens);
    for (const std::string& level : levels()) {
      make(level, pool)->mla_prefill(prefill_args(o, s, "kv", "out"));
      for (int64_t i = 0; i < o.blocks["out"].numel(); ++i) {
        const double bound = (kRoundedProbability + walk) * 1.01 * o.blocks["spread"].real(i) + 1e-30;
        ASSERT_LE(std::fabs(o.blocks["out"].real(i) - o.blocks["exact"].real(i)), bound)
            << level << " " << s.tokens << " after " << s.first << " at " << i;
      }
      for (int64_t i = 0; i < o.blocks["out.lse"].numel(); ++i) {
        const double exact = o.blocks["exact.lse"].real(i);
        ASSERT_LE(std::fabs(o.blocks["out.lse"].real(i) - exact), walk + std::fabs(exact) * 0x1p-23)
            << level << " " << i;
      }
    }
  }
}

/// One sequence's cache in memory that belongs to the operands, and rows of queries.
struct Cache {
  Cache(Operands& operands, DType stored, int64_t pages, int64_t num_heads, int64_t width, int64_t rope_width)
      : o(operands), dtype(stored), heads(num_heads), latent(width), rope(rope_width) {
    o.weight("pages", dtype, pages * 64, latent + rope, 1);
    for (int64_t p = 0; p < pages; ++p) {
      addresses.push_back(o.blocks["pages"].data() + p * 64 * (latent + rope) * size_of(dtype));
    }
  }
  void decode(Kernels& k, std::span<const int64_t> positions, int64_t first_row, const Tensor& out) {
    const auto count = static_cast<int64_t>(positions.size());
    const std::vector<LatentPages> caches(positions.size(), LatentPages{addresses, dtype, latent, rope});
    k.mla_decode({.q_latent = o.at("q").rows(first_row, count),
                  .q_rope = o.at("qr").rows(first_row, count),
                  .sequences = caches,
                  .positions = positions,
                  .softmax_scale = scale,
                  .out = out,
                  .precision = Precision::kBF16});
  }
  Operands& o;
  DType dtype;
  int64_t heads, latent, rope;
  double scale = 0.15;
  std::vector<void*> addresses;
};

const std::vector<int64_t> kPositions = {0, 1, 63, 64, 65, 1023, 1024, 1025, 2100};

void decode_operands(Operands& o, const Cache& c) {
  const auto rows = static_cast<int64_t>(kPositions.size());
  o.input("q", {rows, c.heads, c.latent}), o.input("qr", {rows, c.heads, c.rope});
  for (const char* out : {"exact", "out", "other"}) o.output(out, {rows, c.heads, c.latent});
}

TEST(AttentionBf16, DecodeIsWithinTheDerivedBoundOfRefAtEveryEdge) {
  ThreadPool pool(2);
  struct Shape {
    DType dtype;
    int64_t heads, latent, rope;
  };
  for (const Shape& s :
       {Shape{DType::kBF16, 3, 48, 16}, {DType::kBF16, 33, 19, 6}, {DType::kF32, 2, 32, 16}, {DType::kF32, 17, 7, 3}}) {
    Operands o;
    Cache cache(o, s.dtype, 33, s.heads, s.latent, s.rope);
    decode_operands(o, cache);
    make("ref", pool)
        ->mla_decode(
            {o.at("q"), o.at("qr"),
             std::vector<LatentPages>(kPositions.size(), LatentPages{cache.addresses, s.dtype, s.latent, s.rope}),
             kPositions, cache.scale, o.at("exact"), Precision::kBF16});
    double most = 0;
    const auto rows = static_cast<int64_t>(kPositions.size());
    for (int64_t i = 0; i < rows * s.heads; ++i) {
      double sum = 0;
      for (int64_t d = 0; d < s.latent; ++d) sum += std::fabs(o.blocks["q"].real(i * s.latent + d));
      for (int64_t d = 0; d < s.rope; ++d) sum += std::fabs(o.blocks["qr"].real(i * s.rope + d));
      most = std::fmax(most, sum);
    }
    const double largest_key = largest(o.blocks["pages"]);
    const double walk =
        probability_bound(cache.scale * sum_bound(s.latent + s.rope, 1.02 * most * largest_key), kPositions.back() + 1);
    for (const std::string& level : levels()) {
      cache.decode(*make(level, pool), kPositions, 0, o.at("out"));
      // A mean of |v| is at most the largest |v|.
      const double bound = (kRoundedProbability + walk) * 1.01 * largest_key;
      double worst = 0;
      for (int64_t i = 0; i < o.blocks["out"].numel(); ++i) {
        const double difference = std::fabs(o.blocks["out"].real(i) - o.blocks["exact"].real(i));
        ASSERT_LE(difference, bound) << level << " " << name_of(s.dtype) << " " << s.heads << " at " << i;
        worst = std::fmax(worst, difference);
      }
      EXPECT_GT(worst, 0) << "BF16 asked for, FP32 computed";
    }
  }
}

TEST(AttentionBf16, DecodeDoesNotDependOnBatchThreadsOrParts) {
  for (const std::string& level : levels()) {
    ThreadPool one(1);
    const auto alone = make(level, one);
    Operands o;
    Cache cache(o, DType::kBF16, 33, 18, 32, 16);
    decode_operands(o, cache);
    for (size_t t = 0; t < kPositions.size(); ++t) {
      const auto row = static_cast<int64_t>(t);
      cache.decode(*alone, std::span(kPositions).subspan(t, 1), row, o.at("out").rows(row, 1));
    }
    for (int threads : {1, 2, 3, 8}) {
      ThreadPool pool(threads);
      cache.decode(*make(level, pool), kPositions, 0, o.at("other"));
      EXPECT_TRUE(o.blocks["out"].bytes_equal(o.blocks["other"])) << level << " " << threads << " threads";
    }
  }
}

TEST(AttentionBf16, WhatLiesBeyondARowsPositionDoesNotReachIt) {
  ThreadPool pool(2);
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    for (const DType dtype : {DType::kBF16, DType::kF32}) {
      Operands o;
      Cache cache(o, dtype, 33, 5, 32, 32);
      decode_operands(o, cache);
      cache.decode(*kernels, kPositions, 0, o.at("out"));
      // A NaN in the key at 64: rows at 64 and beyond are NaN throughout, the others as before.
      o.blocks["pages"].set(64 * 64 + 3, std::nan(""));
      cache.decode(*kernels, kPositions, 0, o.at("other"));
      for (int64_t i = 0; i < o.blocks["out"].numel(); ++i) {
        const double before = o.blocks["out"].real(i), after = o.blocks["other"].real(i);
        if (kPositions[static_cast<size_t>(i / (5 * 32))] < 64) {
          ASSERT_EQ(before, after) << level << " " << i;
        } else {
          ASSERT_TRUE(std::isnan(after)) << level << " " << i;
        }
      }
    }
  }
}

TEST(AttentionBf16, LaterKeysAndValuesThatAreNotFiniteDoNotReachEarlierQueries) {
  ThreadPool pool(2);
  const PrefillShape s{150, 5, 2, 16, 16, 40};
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      for (const int64_t at : {0, 17, 16 + 3, 16 + 39}) {  // in k and in v
        Operands o;
        prefill_operands(o, s);
        kernels->mla_prefill(prefill_args(o, s, "kv", "clean"));
        constexpr int64_t kKey = 90;
        const int64_t width = s.nope + s.value;
        o.blocks["kv"].set((kKey * s.heads + 1) * width + at, bad);
        kernels->mla_prefill(prefill_args(o, s, "kv", "out"));
        for (int64_t i = 0; i < o.blocks["out"].numel(); ++i) {
          const int64_t row = i / s.value, position = s.first + row / s.heads;
          const bool is_touched = position >= kKey && row % s.heads == 1 && (at < s.nope || i % s.value == at - s.nope);
          const double clean = o.blocks["clean"].real(i), got = o.blocks["out"].real(i);
          if (!is_touched) {
            ASSERT_EQ(clean, got) << level << " " << bad << " in " << at << ": " << i;
          } else if (std::isnan(bad) || at >= s.nope) {
            ASSERT_FALSE(std::isfinite(got)) << level << " " << bad << " in " << at << ": " << i;
          }
        }
      }
    }
  }
}

TEST(AttentionBf16, ANaNQueryStaysAlone) {
  ThreadPool pool(2);
  const PrefillShape s{70, 0, 1, 16, 16, 16};
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    Operands o;
    prefill_operands(o, s);
    kernels->mla_prefill(prefill_args(o, s, "kv", "clean"));
    o.blocks["q"].set(40 * 32 + 9, std::nan(""));
    kernels->mla_prefill(prefill_args(o, s, "kv", "out"));
    for (int64_t i = 0; i < o.blocks["out"].numel(); ++i) {
      if (i / s.value == 40) {
        ASSERT_TRUE(std::isnan(o.blocks["out"].real(i))) << level;
      } else {
        ASSERT_EQ(o.blocks["out"].real(i), o.blocks["clean"].real(i)) << level << " " << i;
      }
    }
  }
}

// Scores of -inf in all of the first block: the block counts for nothing, as in exact arithmetic.
TEST(AttentionBf16, ABlockOfMinusInfinityCountsForNothing) {
  ThreadPool pool(1);
  const PrefillShape s{100, 0, 1, 16, 16, 16};
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    Operands o;
    prefill_operands(o, s);
    Block& q = o.blocks["q"];
    for (int64_t i = 0; i < q.numel(); ++i) q.set(i, i % 32 == 0 ? 1e30 : 0);
    for (int64_t key = 0; key < 100; ++key) o.blocks["kv"].set(key * 32, key < 64 ? -1e30 : 0);
    kernels->mla_prefill(prefill_args(o, s, "kv", "out"));
    make("ref", pool)->mla_prefill(prefill_args(o, s, "kv", "exact"));
    for (int64_t i = 64 * s.value; i < o.blocks["out"].numel(); ++i) {
      ASSERT_LE(std::fabs(o.blocks["out"].real(i) - o.blocks["exact"].real(i)), 0x1p-7 * 5) << level << " " << i;
    }
  }
}

/// A cache in E4M3, and one in `plain` that holds the numbers read back from it.
struct TwoCaches {
  static constexpr int64_t kKeys = 2112;
  TwoCaches(Kernels& k, DType plain, int64_t width, int64_t rope_width, double magnitude)
      : latent(width), rope(rope_width) {
    o.input("c", {kKeys, latent}, magnitude), o.input("r", {kKeys, rope});
    o.output("c.read", {kKeys, latent}), o.output("r.read", {kKeys, rope});
    for (int64_t i = 0; i < kKeys; ++i) positions.push_back(i);
    fp8 = cache_of("fp8", DType::kE4M3, fp8_addresses);
    other = cache_of("other", plain, other_addresses);
    k.append_latents(o.at("c"), o.at("r"), positions, fp8);
    k.gather_latents(fp8, o.at("c.read"), o.at("r.read"));
    k.append_latents(o.at("c.read"), o.at("r.read"), positions, other);
  }
  LatentPages cache_of(const std::string& name, DType dtype, std::vector<void*>& addresses) {
    const int64_t page_bytes = 64 * LatentPages::token_bytes(dtype, latent, rope);
    o.block(name, DType::kU8, {kKeys / 64, page_bytes});
    for (int64_t p = 0; p < kKeys / 64; ++p) addresses.push_back(o.blocks[name].data() + p * page_bytes);
    return {addresses, dtype, latent, rope};
  }
  Operands o;
  int64_t latent, rope;
  std::vector<int64_t> positions;
  std::vector<void*> fp8_addresses, other_addresses;
  LatentPages fp8, other;
};

TEST(LatentPagesE4M3, AreReadAsTheNumbersTheyHold) {
  ThreadPool pool(2);
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    for (const auto& [heads, latent, rope] : {std::array<int64_t, 3>{5, 256, 32}, {17, 147, 5}, {3, 16, 2}}) {
      for (const Precision precision : {Precision::kBF16, Precision::kF32}) {
        const DType plain = precision == Precision::kBF16 ? DType::kBF16 : DType::kF32;
        TwoCaches c(*kernels, plain, latent, rope, 1);
        const auto rows = static_cast<int64_t>(kPositions.size());
        c.o.input("q", {rows, heads, latent}), c.o.input("qr", {rows, heads, rope});
        c.o.output("fp8.out", {rows, heads, latent}), c.o.output("other.out", {rows, heads, latent});
        const auto decode = [&](const LatentPages& cache, const char* out) {
          const std::vector<LatentPages> caches(kPositions.size(), cache);
          kernels->mla_decode({c.o.at("q"), c.o.at("qr"), caches, kPositions, 0.1, c.o.at(out), precision});
        };
        decode(c.fp8, "fp8.out");
        decode(c.other, "other.out");
        EXPECT_TRUE(c.o.blocks["fp8.out"].bytes_equal(c.o.blocks["other.out"]))
            << level << " " << latent << "+" << rope;
      }
    }
  }
}

// Four bits of precision in the normal range of a tile, steps of 2^-9 times its scale below it; the scale is at most
// twice what maps the largest number to 448. Rope keys are BF16.
TEST(LatentPagesE4M3, AreAsCloseAsTheirBits) {
  ThreadPool pool(1);
  for (const double magnitude : {1e-3, 1.0, 1e4}) {
    TwoCaches c(*make("cpu", pool), DType::kF32, 300, 16, magnitude);
    double worst = 0;
    for (int64_t t = 0; t < TwoCaches::kKeys; ++t) {
      for (int64_t begin = 0; begin < 300; begin += 128) {
        double most = 1e-4;
        const int64_t end = std::min<int64_t>(300, begin + 128);
        for (int64_t i = begin; i < end; ++i) most = std::fmax(most, std::fabs(c.o.blocks["c"].real(t * 300 + i)));
        for (int64_t i = begin; i < end; ++i) {
          const double x = c.o.blocks["c"].real(t * 300 + i), read = c.o.blocks["c.read"].real(t * 300 + i);
          ASSERT_LE(std::fabs(read - x), std::fmax(0x1p-4 * std::fabs(x), 0x1p-10 * 2 * most / 448)) << t << " " << i;
          worst = std::fmax(worst, std::fabs(read - x) / std::fabs(x));
        }
      }
      for (int64_t i = t * 16; i < (t + 1) * 16; ++i) {
        const auto key = static_cast<float>(c.o.blocks["r"].real(i));
        ASSERT_EQ(c.o.blocks["r.read"].real(i), to_float(to_bf16(key)));
      }
    }
    EXPECT_GT(worst, 0x1p-5) << "more bits than E4M3 has";
  }
}

TEST(LatentPagesE4M3, KeepWhatIsNotFinite) {
  ThreadPool pool(1);
  std::vector<std::string> names = levels();
  names.emplace_back("ref");
  for (const std::string& level : names) {
    const auto kernels = make(level, pool);
    TwoCaches c(*kernels, DType::kF32, 200, 4, 1);
    Block &latents = c.o.blocks["c"], &read = c.o.blocks["c.read"];
    const std::vector<double> before = [&] {
      std::vector<double> all;
      for (int64_t i = 0; i < 4 * 200; ++i) all.push_back(read.real(i));
      return all;
    }();
    latents.set(200 + 130, std::nan(""));  // token 1, its second tile
    latents.set(2 * 200 + 5, -HUGE_VAL);   // token 2, its first tile
    kernels->append_latents(c.o.at("c").rows(0, 4), c.o.at("r").rows(0, 4), std::span(c.positions).first(4), c.fp8);
    kernels->gather_latents(c.fp8, c.o.at("c.read"), c.o.at("r.read"));
    for (int64_t i = 0; i < 4 * 200; ++i) {
      const bool is_lost = i == 200 + 130 || (i >= 2 * 200 && i < 2 * 200 + 128);
      ASSERT_EQ(std::isnan(read.real(i)), is_lost) << level << " " << i;
      if (!is_lost) {
        ASSERT_EQ(read.real(i), before[static_cast<size_t>(i)]) << level << " " << i;
      }
    }
  }
}

TEST(LatentPagesE4M3, AnInfinityIsSeenByThoseWhoseKeyItIs) {
  ThreadPool pool(1);
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    for (const Precision precision : {Precision::kBF16, Precision::kF32}) {
      TwoCaches c(*kernels, DType::kF32, 256, 8, 1);
      const std::vector<int64_t> positions = {69, 70, 130};
      c.o.input("q", {3, 2, 256}), c.o.input("qr", {3, 2, 8});
      c.o.output("before", {3, 2, 256}), c.o.output("after", {3, 2, 256});
      const auto decode = [&](const char* out) {
        const std::vector<LatentPages> caches(3, c.fp8);
        kernels->mla_decode({c.o.at("q"), c.o.at("qr"), caches, positions, 0.1, c.o.at(out), precision});
      };
      decode("before");
      c.o.blocks["c"].set(70 * 256 + 200, HUGE_VAL);
      kernels->append_latents(c.o.at("c").rows(70, 1), c.o.at("r").rows(70, 1), std::span(c.positions).subspan(70, 1),
                              c.fp8);
      decode("after");
      for (int64_t i = 0; i < 3 * 2 * 256; ++i) {
        if (i < 2 * 256) {
          ASSERT_EQ(c.o.blocks["after"].real(i), c.o.blocks["before"].real(i)) << level << " " << i;
        } else {
          ASSERT_TRUE(std::isnan(c.o.blocks["after"].real(i))) << level << " " << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace fathom
