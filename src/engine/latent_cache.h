// The latent KV cache: pages of 64 tokens, each holding [C latent, R rope key] of every layer. Pages are made when
// first needed, recycled, and bounded in number; a SequenceCache is the page table of one sequence.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "tensor/storage.h"

namespace fathom {

class LatentCache {
 public:
  /// Room for `max_tokens` (rounded up to pages) over all sequences. dtype: F32, or BF16 when the model runs in BF16.
  LatentCache(const ModelConfig& config, DType dtype, int64_t max_tokens);

  /// A page's memory, [layers, 64, C + R]; kOutOfMemory when all pages are in use.
  Result<void*> take_page();
  void give_back(void* page) { free_.push_back(page); }

  int64_t num_layers() const { return num_layers_; }
  DType dtype() const { return dtype_; }
  int64_t layer_bytes() const {
    return LatentPages::kPageTokens * (kv_lora_rank_ + qk_rope_head_dim_) * size_of(dtype_);
  }
  int64_t max_tokens() const { return max_pages_ * LatentPages::kPageTokens; }
  int64_t pages_in_use() const { return static_cast<int64_t>(pages_.size() - free_.size()); }
  /// Pages as one layer of one sequence sees them.
  LatentPages view(std::span<void* const> pages) const {
    return {.pages = pages, .dtype = dtype_, .kv_lora_rank = kv_lora_rank_, .qk_rope_head_dim = qk_rope_head_dim_};
  }

 private:
  int64_t num_layers_;
  int64_t kv_lora_rank_;
  int64_t qk_rope_head_dim_;
  DType dtype_;
  int64_t max_pages_;
  std::vector<Storage> pages_;
  std::vector<void*> free_;
};

/// The pages of one sequence. Gives them back when it dies; the cache must outlive it.
class SequenceCache {
 public:
  explicit SequenceCache(LatentCache& cache);
  SequenceCache(SequenceCache&&) = default;
  SequenceCache& operator=(SequenceCache&&) = delete;
  ~SequenceCache();

  /// Makes room for positions 0 .. num_tokens - 1. Errors: kOutOfMemory; then nothing has changed.
  Status reserve(int64_t num_tokens);
  /// Forgets everything from position num_tokens on.
  void truncate(int64_t num_tokens);
  /// One entry per layer, valid until the next reserve or truncate.
  std::span<const LatentPages> layers() const { return views_; }

 private:
  void refresh();

  LatentCache* cache_;
  std::vector<void*> pages_;
  std::vector<std::vector<void*>> layer_pages_;
  std::vector<LatentPages> views_;
};

}  // namespace fathom
