#include "engine/latent_cache.h"

namespace fathom {
namespace {

int64_t pages_for(int64_t num_tokens) { return (num_tokens + LatentPages::kPageTokens - 1) / LatentPages::kPageTokens; }

}  // namespace

LatentCache::LatentCache(const ModelConfig& config, DType dtype, int64_t max_tokens)
    : num_layers_(config.num_hidden_layers),
      kv_lora_rank_(config.kv_lora_rank),
      qk_rope_head_dim_(config.qk_rope_head_dim),
      dtype_(dtype),
      max_pages_(pages_for(max_tokens)) {}

Result<void*> LatentCache::take_page() {
  if (!free_.empty()) {
    void* page = free_.back();
    free_.pop_back();
    return page;
  }
  if (static_cast<int64_t>(pages_.size()) == max_pages_) {
    return Error{ErrorCode::kOutOfMemory, "the KV cache is full: " + std::to_string(max_tokens()) + " tokens in use"};
  }
  pages_.emplace_back(num_layers_ * layer_bytes());
  return pages_.back().data();
}

SequenceCache::SequenceCache(LatentCache& cache)
    : cache_(&cache), layer_pages_(static_cast<size_t>(cache.num_layers())) {
  refresh();
}

SequenceCache::~SequenceCache() {
  for (void* page : pages_) cache_->give_back(page);
}

Status SequenceCache::reserve(int64_t num_tokens) {
  const auto wanted = static_cast<size_t>(pages_for(num_tokens));
  if (wanted <= pages_.size()) return {};
  const size_t held = pages_.size();
  while (pages_.size() < wanted) {
    const auto page = cache_->take_page();
    if (!page) {  // all or nothing: pages without views would be neither usable nor free
      for (; pages_.size() > held; pages_.pop_back()) cache_->give_back(pages_.back());
      return page.error();
    }
    pages_.push_back(*page);
  }
  refresh();
  return {};
}

void SequenceCache::truncate(int64_t num_tokens) {
  const auto wanted = static_cast<size_t>(pages_for(num_tokens));
  if (wanted >= pages_.size()) return;
  for (size_t i = wanted; i < pages_.size(); ++i) cache_->give_back(pages_[i]);
  pages_.resize(wanted);
  refresh();
}

void SequenceCache::refresh() {
  views_.clear();
  for (size_t layer = 0; layer < layer_pages_.size(); ++layer) {
    layer_pages_[layer].clear();
    for (void* page : pages_) {
      layer_pages_[layer].push_back(static_cast<std::byte*>(page) +
                                    static_cast<int64_t>(layer) * cache_->layer_bytes());
    }
    views_.push_back(cache_->view(layer_pages_[layer]));
  }
}

}  // namespace fathom
