// Reads the golden files of tools/reference: a tiny model, its config, and every activation and gradient in double.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "model/model.h"

namespace fathom::testing {

class Golden {
 public:
  explicit Golden(const std::string& name) : dir_(Path(FATHOM_SOURCE_DIR) / "tests/golden" / name) {
    auto file = SafetensorsFile::open(dir_ / "golden.safetensors");
    EXPECT_TRUE(file) << file.error().text;
    files_.push_back(*file);
  }
  const Path& dir() const { return dir_; }
  bool has(const std::string& name) const { return files_[0].find(name) != nullptr; }

  /// F64 or F32 values as double.
  std::vector<double> values(const std::string& name) const {
    const auto t = files_[0].tensor(name);
    EXPECT_TRUE(t) << t.error().text;
    std::vector<double> out(static_cast<size_t>(t->numel()));
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = t->dtype == DType::kF64 ? t->ptr<const double>()[i] : double{t->ptr<const float>()[i]};
    }
    return out;
  }
  double scalar(const std::string& name) const { return values(name)[0]; }
  std::vector<int32_t> ids(const std::string& name) const {
    const auto t = files_[0].tensor(name);
    EXPECT_TRUE(t) << t.error().text;
    return {t->ptr<const int32_t>(), t->ptr<const int32_t>() + t->numel()};
  }
  std::vector<int64_t> offsets() const {
    const auto v = ids("document_offsets");
    return {v.begin(), v.end()};
  }

 private:
  Path dir_;
  std::vector<SafetensorsFile> files_;
};

/// An activation (F32 or F64, contiguous or not in rows) as double.
inline std::vector<double> to_doubles(Tensor t) {
  while (t.rank > 2) t = t.join_last();
  std::vector<double> out;
  const int64_t rows = t.rank == 2 ? t.extent(0) : 1, columns = t.extent(t.rank - 1);
  const int64_t stride = t.rank == 2 ? t.stride(0) : 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      out.push_back(t.dtype == DType::kF64 ? t.ptr<const double>()[r * stride + c]
                                           : double{t.ptr<const float>()[r * stride + c]});
    }
  }
  return out;
}

}  // namespace fathom::testing
