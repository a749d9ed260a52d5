// The latent KV cache: pages of 64 tokens, each holding latents and rope keys of every layer as LatentPages lays them
// out (kernels/kernels.h). Pages are made when first needed, counted by their users, recycled, and bounded in number;
// pages of prompt tokens stay known to the prefix index: full ones are shared, of the others the beginning is copied. A
// SequenceCache is the page table of one sequence.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "engine/prefix_index.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "tensor/storage.h"

namespace fathom {

/// Pages that hold num_tokens.
constexpr int64_t pages_for(int64_t num_tokens) {
  return (num_tokens + LatentPages::kPageTokens - 1) / LatentPages::kPageTokens;
}

/// What the cache stores unless it is told: what attention multiplies, so that nothing is rounded for the cache's sake.
constexpr DType default_cache_dtype(Precision precision) {
  return precision == Precision::kBF16 ? DType::kBF16 : DType::kF32;
}

class LatentCache {
 public:
  /// Room for `max_tokens` (rounded up to pages) over all sequences. dtype: F32, BF16 or E4M3, see LatentPages.
  /// The layers of MTP modules that draft follow the model's.
  LatentCache(const ModelConfig& config, DType dtype, int64_t max_tokens, int64_t num_mtp_layers = 0);

  /// A page with one user: a new one, one given back, or the known prefix page that was used least recently;
  /// kOutOfMemory when all pages are in use.
  Result<int32_t> take_page();
  /// One user more, of a page in use or of a retired page of the index.
  void share(int32_t page);
  /// One user less. Without users a page of the prefix index retires, another one is free.
  void give_back(int32_t page);
  int32_t num_users(int32_t page) const { return num_users_[static_cast<size_t>(page)]; }
  /// Its contents are others' as well: it must not be written any more.
  bool is_shared(int32_t page) const { return num_users(page) > 1 || index_.contains(page); }
  /// A page's memory: the layers' parts, layer_bytes() each.
  std::byte* data(int32_t page) const { return static_cast<std::byte*>(pages_[static_cast<size_t>(page)].data()); }

  PrefixIndex& index() { return index_; }
  const PrefixIndex& index() const { return index_; }

  int64_t num_layers() const { return num_layers_; }
  DType dtype() const { return dtype_; }
  int64_t layer_bytes() const {
    return LatentPages::kPageTokens * LatentPages::token_bytes(dtype_, kv_lora_rank_, qk_rope_head_dim_);
  }
  int64_t page_bytes() const { return num_layers_ * layer_bytes(); }
  int64_t max_pages() const { return max_pages_; }
  int64_t max_tokens() const { return max_pages_ * LatentPages::kPageTokens; }
  /// Pages that have a user.
  int64_t pages_in_use() const { return static_cast<int64_t>(pages_.size() - free_.size()) - index_.num_retired(); }
  int64_t available_pages() const { return max_pages_ - pages_in_use(); }
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
  std::vector<int32_t> num_users_;  // by page
  std::vector<int32_t> free_;
  PrefixIndex index_;
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
  /// Forgets everything from position num_tokens on and returns how many tokens are left: fewer than num_tokens when
  /// the cut would go through a page that others read, which must not be written again. A page whose beginning is
  /// published (publish_tail) is others' only as far as that: a cut through the beginning takes it back.
  int64_t truncate(int64_t num_tokens);

  /// The pages of the index that hold the beginning of `tokens`, in order; `hashes` are those of its full pages.
  std::vector<int32_t> find_prefix(std::span<const int32_t> tokens, std::span<const uint64_t> hashes) const;
  /// Begins the (empty) table with pages that find_prefix found just now.
  void attach(std::span<const int32_t> prefix_pages);
  /// Adds a page of its own that begins as `source` of the index does, whichever can be had: an unused one, one that
  /// evicts another, or, where there is no other, the source itself, which then leaves the index. One use of the source
  /// (LatentCache::share) is the caller's and ends here.
  void attach_copy(int32_t source);
  /// Lets others share the first hashes.size() pages, which hold `tokens`, computed in prompt form. Where the index
  /// has the same tokens already, its page takes the place of ours: the bits are the same.
  void publish(std::span<const int32_t> tokens, std::span<const uint64_t> hashes);
  /// Lets others copy the beginning of the page behind the published ones: it holds `tokens`, fewer than a page has,
  /// computed in prompt form and never written again; what follows them in the page is the sequence's own. `seed` is
  /// the hash of the page before (PrefixIndex::find_beginning). Where the index has such a beginning already, nothing
  /// happens.
  void publish_tail(uint64_t seed, std::span<const int32_t> tokens);
  /// Takes published pages back from the index, from the last one to the first that others use or follow: what is in
  /// them is not to be trusted.
  void unpublish();

  std::span<const int32_t> pages() const { return pages_; }
  /// One entry per layer, valid until the next call that changes the table.
  std::span<const LatentPages> layers() const { return views_; }

 private:
  void refresh();
  void forget_tail();

  LatentCache* cache_;
  std::vector<int32_t> pages_;
  size_t num_published_ = 0;  // of pages_, from the first
  int64_t num_tail_ = 0;      // tokens of the page behind them whose beginning is published; 0: none
  std::vector<std::vector<void*>> layer_pages_;
  std::vector<LatentPages> views_;
};

}  // namespace fathom
