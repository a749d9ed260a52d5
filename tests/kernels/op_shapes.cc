// The sizes that the operations are tested with.
#include <algorithm>
#include <array>
#include <utility>

#include "kernels/op_cases.h"

namespace fathom::op_cases {

OpShapes fixed_shapes() {
  return {.gemms = {{1, 1, 1},
                    {1, 17, 16},
                    {1, 129, 300},
                    {2, 5, 33},
                    {3, 31, 31},
                    {4, 32, 512},
                    {5, 7, 513},
                    {7, 130, 129},
                    {64, 64, 64},
                    {65, 33, 1030},
                    {129, 131, 37},
                    {1, 40, 1100}},
          .panels = {{1, 1, 1},
                     {1, 17, 31},
                     {1, 129, 300},
                     {2, 15, 32},
                     {3, 16, 33},
                     {4, 48, 544},
                     {5, 7, 513},
                     {7, 130, 129},
                     {13, 64, 64},
                     {65, 33, 1030},
                     {0, 5, 64},
                     {194, 31, 37},
                     {6, 16, 1088}},
          .grouped = {{{0, 0, 1, 6, 6, 75}, 37, 165}},  // more than one FP8 block of k
          .rows = {{1, 1}, {3, 17}, {5, 128}, {130, 193}, {0, 64}},
          .ropes = {{5, 1, 2}, {5, 3, 16}, {5, 2, 22}, {5, 4, 64}},
          .lengths = {1, 4095, 4097, 50000},
          .routers = {{5, 16, 4, 1, 1, false, false, false},
                      {33, 64, 6, 8, 3, false, false, false},
                      {40, 256, 8, 8, 4, true, true, true},
                      {3, 7, 7, 1, 1, true, false, true}},
          .prefills = {{1, 1, 0, 1, 4, 2, 3},
                       {70, 70, 0, 2, 16, 16, 16},
                       {67, 140, 63, 3, 20, 6, 18},
                       {130, 131, 0, 1, 32, 16, 48},
                       {5, 70, 64, 2, 16, 8, 16}},
          .decodes = {{1, 1, 4, 2, DType::kF32},
                      {3, 5, 32, 16, DType::kF32},
                      {2, 9, 40, 6, DType::kBF16},
                      {4, 16, 64, 16, DType::kBF16},
                      {3, 3, 19, 5, DType::kE4M3},
                      {2, 17, 256, 32, DType::kE4M3}}};
}

OpShapes random_shapes(uint64_t seed) {
  SequentialRng rng(seed, stream_of("shapes"));
  // Half of the sizes lie at an edge: nothing, one, a vector, a tile, a block and one more or less; a quarter are
  // primes.
  const auto size = [&](int64_t least, int64_t most) {
    static constexpr auto kEdges =
        std::to_array<int64_t>({0,  1,  2,  3,  4,  5,  8,   15,  16,  17,  31,  32,  33,  47,  48, 49,
                                63, 64, 65, 95, 96, 97, 127, 128, 129, 255, 256, 257, 511, 512, 513});
    static constexpr auto kPrimes =
        std::to_array<int64_t>({2, 3, 5, 7, 11, 13, 19, 23, 29, 37, 43, 53, 61, 71, 83, 101, 139, 211, 307, 521});
    for (;;) {
      const uint64_t kind = rng.below(4);
      const int64_t n = kind < 2 ? rng.pick(kEdges) : kind == 2 ? rng.pick(kPrimes) : rng.between(least, most);
      if (n >= least && n <= most) return n;
    }
  };
  OpShapes s;
  for (int i = 0; i < 8; ++i) {
    s.gemms.push_back({size(0, 70), size(1, 130), size(1, 530)});
    s.panels.push_back({size(0, 70), size(1, 130), size(1, 530)});
    s.rows.push_back({size(0, 40), size(1, 530)});
    s.ropes.push_back({size(0, 20), size(1, 9), 2 * size(1, 40)});
  }
  for (int i = 0; i < 3; ++i) {
    OpShapes::Grouped g{.offsets = {0}, .n = size(1, 70), .k = size(1, 300)};
    for (int64_t e = size(1, 9); e > 0; --e) g.offsets.push_back(g.offsets.back() + size(0, 33));
    s.grouped.push_back(std::move(g));
  }
  s.lengths = {size(1, 530), size(1, 530)};
  for (int i = 0; i < 4; ++i) {
    const int64_t groups = rng.between(1, 8), kept = rng.between(1, groups), members = size(1, 33);
    s.routers.push_back({.t = size(0, 33),
                         .e = groups * members,
                         .k = rng.between(1, std::min<int64_t>(kept * members, 16)),
                         .groups = groups,
                         .kept = kept,
                         .sigmoid = i % 2 == 0,
                         .biased = i == 0,
                         .norm = i < 2});
  }
  for (int i = 0; i < 5; ++i) {
    const int64_t first = i % 2 == 0 ? 0 : size(0, 130), t = size(1, 70);
    s.prefills.push_back({.t = t,
                          .s = first + t + size(0, 3),
                          .first = first,
                          .h = size(1, 4),
                          .nope = size(1, 40),
                          .rope = 2 * size(1, 16),
                          .value = size(1, 40)});
    s.decodes.push_back({.t = size(1, 4),
                         .h = size(1, 17),
                         .latent = size(1, 130),
                         .rope = 2 * size(1, 16),
                         .dtype = i < 2   ? DType::kF32
                                  : i < 4 ? DType::kBF16
                                          : DType::kE4M3});
  }
  return s;
}

}  // namespace fathom::op_cases
