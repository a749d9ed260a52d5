#include "train/muon.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/rng.h"
#include "kernels/registry.h"
#include "tensor/storage.h"

namespace fathom {
namespace {

class Muon : public ::testing::Test {
 protected:
  Tensor random(int64_t rows, int64_t columns, std::string_view name) {
    Tensor t;
    storage_.push_back(Storage::for_tensor(DType::kF32, {rows, columns}, &t));
    const Rng rng(5, stream_of(name));
    for (int64_t i = 0; i < t.numel(); ++i)
      t.ptr<float>()[i] = static_cast<float>(rng.normal(static_cast<uint64_t>(i)));
    return t;
  }
  Tensor zeros(DType dtype, int64_t rows, int64_t columns) {
    Tensor t;
    storage_.push_back(Storage::for_tensor(dtype, {rows, columns}, &t));
    return t;
  }
  std::unique_ptr<Kernels> kernels(ThreadPool& pool) { return std::move(*make_kernels("cpu", pool)); }

  std::vector<Storage> storage_;
  Arena arena_;
};

TEST_F(Muon, OrthogonalisedMatricesHaveSingularValuesNearOne) {
  ThreadPool pool(2);
  const auto k = kernels(pool);
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{24, 40}, {40, 24}, {32, 32}}) {
    const int64_t count = 3;
    const Tensor x = random(count * rows, columns, "x" + std::to_string(rows));
    orthogonalise(*k, pool, arena_, x, count);
    for (int64_t m = 0; m < count; ++m) {
      // For a random direction v: |X v| (or |X^T v|) lies between the smallest and largest singular value times |v|;
      // Newton-Schulz leaves them in [0.7, 1.2] for all but the smallest of a square random matrix.
      const auto view = x.rows(m * rows, rows).view<const float, 2>();
      double frobenius = 0;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) frobenius += double{view(i, j)} * double{view(i, j)};
      }
      const double mean_square = frobenius / static_cast<double>(std::min(rows, columns));
      EXPECT_GT(mean_square, 0.55) << rows << "x" << columns;
      EXPECT_LT(mean_square, 1.45) << rows << "x" << columns;
      if (rows == columns) continue;
      // The shorter side's vectors are near orthogonal.
      const bool wide = rows < columns;
      for (int64_t a = 0; a < std::min(rows, columns); ++a) {
        for (int64_t b = 0; b < a; ++b) {
          double dot = 0;
          for (int64_t i = 0; i < std::max(rows, columns); ++i) {
            dot += wide ? double{view(a, i)} * double{view(b, i)} : double{view(i, a)} * double{view(i, b)};
          }
          EXPECT_LT(std::fabs(dot), 0.35);
        }
      }
    }
  }
}

TEST_F(Muon, ZeroStaysZero) {
  ThreadPool pool(1);
  const auto k = kernels(pool);
  const Tensor x = zeros(DType::kF32, 8, 16);
  orthogonalise(*k, pool, arena_, x, 1);
  for (int64_t i = 0; i < x.numel(); ++i) EXPECT_EQ(x.ptr<float>()[i], 0.0f);
}

TEST_F(Muon, StepsAreBitEqualOverThreadsAndGrouping) {
  const auto run = [&](int threads, bool together) {
    ThreadPool pool(threads);
    const auto k = kernels(pool);
    std::vector<MuonMatrix> matrices;
    for (int i = 0; i < 3; ++i) {
      const std::string name = std::to_string(i);
      matrices.push_back({.master = random(20, 36, "w" + name),
                          .grad = random(20, 36, "g" + name),
                          .momentum = zeros(DType::kBF16, 20, 36)});
    }
    for (int step = 0; step < 2; ++step) {
      if (together) {
        muon_step(*k, pool, arena_, {}, matrices, 0.01, 0.5);
      } else {
        for (const MuonMatrix& m : matrices) muon_step(*k, pool, arena_, {}, {&m, 1}, 0.01, 0.5);
      }
    }
    std::vector<float> out;
    for (const MuonMatrix& m : matrices) out.insert(out.end(), m.master.ptr<float>(), m.master.ptr<float>() + 720);
    return out;
  };
  const auto want = run(1, true);
  EXPECT_EQ(run(2, true), want);
  EXPECT_EQ(run(3, false), want);
}

}  // namespace
}  // namespace fathom
