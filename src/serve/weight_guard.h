// WeightGuard: hashes of a model's weights as they lie in memory, taken soon after the model was loaded and compared
// when there is time: memory without error correction, and programs that write where they should not, are found out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"

namespace fathom::serve {

class WeightGuard {
 public:
  static constexpr int64_t kPieceBytes = int64_t{16} << 20;  // hashed at a time

  /// For every weight of `model`, which must outlive the guard (XXH3, 64 bits, by pieces). Reads none of them yet: a
  /// server answers its first request sooner.
  explicit WeightGuard(const Model& model);

  /// Hashes the next piece and keeps that, or compares it with what was kept: what has changed, in words. After the
  /// last piece the first is next.
  std::optional<std::string> check_next();
  /// Whether the next piece is the first one.
  bool at_start() const { return next_ == 0; }

  /// One number for all of them, as they were; hashes those that were not yet.
  uint64_t digest();
  /// Whether every piece was hashed.
  bool is_complete() const { return num_hashed_ == num_pieces(); }
  int64_t num_bytes() const { return num_bytes_; }
  int64_t num_pieces() const { return std::ssize(pieces_); }
  /// Passes that compared.
  int64_t num_passes() const { return num_passes_; }

 private:
  struct Piece {
    std::string tensor;
    int64_t offset;  // in the tensor
    std::span<const std::byte> bytes;
    std::optional<uint64_t> hash = std::nullopt;
  };
  void hash(Piece& piece);
  void add_rows(const std::string& name, const Tensor& tensor);
  void add(const std::string& tensor, const void* data, int64_t num_bytes);

  std::vector<Piece> pieces_;
  size_t next_ = 0;
  int64_t num_hashed_ = 0;
  int64_t num_bytes_ = 0;
  int64_t num_passes_ = 0;
};

}  // namespace fathom::serve
