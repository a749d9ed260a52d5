#include "serve/weight_guard.h"

#include <xxhash.h>

#include <algorithm>

#include "numerics/panels.h"

namespace fathom::serve {
namespace {

uint64_t hash_of(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

}  // namespace

WeightGuard::WeightGuard(const Model& model) {
  ModelWeights views = model.weights;  // of the same memory
  visit_weights(model.config, views, [this](const TensorSpec& spec, Weight& weight, Tensor*) {
    if (weight.layout != WeightLayout::kRows) {
      add(spec.name, weight.codes.data, code_bytes(weight));
    } else {
      add_rows(spec.name, weight.codes);
    }
    if (weight.scales) add_rows(spec.name + " (scales)", weight.scales);
  });
}

/// A tensor whose rows may have gaps between them.
void WeightGuard::add_rows(const std::string& name, const Tensor& tensor) {
  if (tensor.is_contiguous()) return add(name, tensor.data, tensor.num_bytes());
  for (int64_t row = 0; row < tensor.extent(0); ++row) {
    const Tensor one = tensor.rows(row, 1);
    add(name, one.data, one.num_bytes());
  }
}

void WeightGuard::add(const std::string& tensor, const void* data, int64_t num_bytes) {
  if (data == nullptr) return;
  const auto* bytes = static_cast<const std::byte*>(data);
  for (int64_t offset = 0; offset < num_bytes; offset += kPieceBytes) {
    const std::span<const std::byte> piece(bytes + offset,
                                           static_cast<size_t>(std::min(kPieceBytes, num_bytes - offset)));
    pieces_.push_back({.tensor = tensor, .offset = offset, .bytes = piece});
  }
  num_bytes_ += num_bytes;
}

void WeightGuard::hash(Piece& piece) {
  piece.hash = hash_of(piece.bytes);
  ++num_hashed_;
}

uint64_t WeightGuard::digest() {
  uint64_t digest = 0;
  for (Piece& piece : pieces_) {
    if (!piece.hash) hash(piece);
    digest = XXH3_64bits_withSeed(&*piece.hash, sizeof(*piece.hash), digest);
  }
  return digest;
}

std::optional<std::string> WeightGuard::check_next() {
  if (pieces_.empty()) return std::nullopt;
  Piece& piece = pieces_[next_];
  next_ = (next_ + 1) % pieces_.size();
  if (!piece.hash) {
    hash(piece);
    return std::nullopt;
  }
  if (next_ == 0) ++num_passes_;
  if (hash_of(piece.bytes) == piece.hash) return std::nullopt;
  return "the weights have changed in memory: " + piece.tensor + ", bytes " + std::to_string(piece.offset) + " to " +
         std::to_string(piece.offset + std::ssize(piece.bytes)) + ", since the model was loaded";
}

}  // namespace fathom::serve
