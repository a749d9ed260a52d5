#include "engine/latent_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace fathom {

LatentCache::LatentCache(const ModelConfig& config, DType dtype, int64_t max_tokens, int64_t num_mtp_layers)
    : num_layers_(config.num_hidden_layers + num_mtp_layers),
      kv_lora_rank_(config.kv_lora_rank),
      qk_rope_head_dim_(config.qk_rope_head_dim),
      dtype_(dtype),
      max_pages_(pages_for(max_tokens)) {
  check(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kE4M3, "a cache is F32, BF16 or E4M3");
}

Result<int32_t> LatentCache::take_page() {
  int32_t page = PrefixIndex::kNoPage;
  if (!free_.empty()) {
    page = free_.back();
    free_.pop_back();
  } else if (static_cast<int64_t>(pages_.size()) < max_pages_) {
    page = static_cast<int32_t>(pages_.size());
    pages_.emplace_back(page_bytes());
    num_users_.push_back(0);
  } else {
    page = index_.evict();
  }
  if (page == PrefixIndex::kNoPage) {
    return Error{ErrorCode::kOutOfMemory, "the KV cache is full: " + std::to_string(max_tokens()) + " tokens in use"};
  }
  num_users_[static_cast<size_t>(page)] = 1;
  return page;
}

void LatentCache::share(int32_t page) {
  if (num_users_[static_cast<size_t>(page)]++ == 0) index_.revive(page);
}

void LatentCache::give_back(int32_t page) {
  int32_t& users = num_users_[static_cast<size_t>(page)];
  check(users > 0, "a page is given back by a user");
  if (--users > 0) return;
  if (index_.contains(page)) {
    index_.retire(page);
  } else {
    free_.push_back(page);
  }
}

SequenceCache::SequenceCache(LatentCache& cache)
    : cache_(&cache), layer_pages_(static_cast<size_t>(cache.num_layers())) {
  refresh();
}

SequenceCache::~SequenceCache() {
  for (; !pages_.empty(); pages_.pop_back()) cache_->give_back(pages_.back());
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

int64_t SequenceCache::truncate(int64_t num_tokens) {
  const bool cuts_a_page = num_tokens % LatentPages::kPageTokens != 0;
  auto wanted = static_cast<size_t>(pages_for(num_tokens));
  if (cuts_a_page && wanted == num_published_ + 1 && num_tail_ > 0) {
    if (num_tokens % LatentPages::kPageTokens < num_tail_) forget_tail();
  } else if (cuts_a_page && wanted <= pages_.size() && cache_->is_shared(pages_[wanted - 1])) {
    num_tokens = static_cast<int64_t>(--wanted) * LatentPages::kPageTokens;
  }
  if (wanted < pages_.size()) {
    for (; pages_.size() > wanted; pages_.pop_back()) cache_->give_back(pages_.back());
    if (wanted <= num_published_) num_tail_ = 0;  // its page has gone; the index keeps what it knows of it
    num_published_ = std::min(num_published_, wanted);
    refresh();
  }
  return num_tokens;
}

std::vector<int32_t> SequenceCache::find_prefix(std::span<const int32_t> tokens,
                                                std::span<const uint64_t> hashes) const {
  constexpr auto kSize = static_cast<size_t>(LatentPages::kPageTokens);
  std::vector<int32_t> found;
  int32_t before = PrefixIndex::kNoPage;
  for (size_t i = 0; i < hashes.size(); ++i) {
    before = cache_->index().find(before, hashes[i], tokens.subspan(i * kSize, kSize));
    if (before == PrefixIndex::kNoPage) break;
    found.push_back(before);
  }
  return found;
}

void SequenceCache::attach(std::span<const int32_t> prefix_pages) {
  check(pages_.empty(), "a prefix is attached to an empty table");
  for (int32_t page : prefix_pages) {
    cache_->share(page);
    pages_.push_back(page);
  }
  num_published_ = pages_.size();
  num_tail_ = 0;
  refresh();
}

void SequenceCache::attach_copy(int32_t source) {
  if (const auto own = cache_->take_page()) {
    std::memcpy(cache_->data(*own), cache_->data(source), static_cast<size_t>(cache_->page_bytes()));
    cache_->give_back(source);
    pages_.push_back(*own);
  } else {  // nobody else uses it, so nothing that is in use follows it; and a retired page that did could be evicted
    check(cache_->num_users(source) == 1 && cache_->index().forget(source), "there is a page for the copy");
    pages_.push_back(source);
  }
  refresh();
}

void SequenceCache::publish(std::span<const int32_t> tokens, std::span<const uint64_t> hashes) {
  constexpr auto kSize = static_cast<size_t>(LatentPages::kPageTokens);
  check(hashes.size() <= pages_.size() && tokens.size() >= hashes.size() * kSize, "pages to publish are filled");
  bool replaced = false;
  if (num_published_ < hashes.size()) forget_tail();  // its page is full by now
  for (; num_published_ < hashes.size(); ++num_published_) {
    const int32_t before = num_published_ == 0 ? PrefixIndex::kNoPage : pages_[num_published_ - 1];
    const auto page_tokens = tokens.subspan(num_published_ * kSize, kSize);
    const int32_t known = cache_->index().find(before, hashes[num_published_], page_tokens);
    int32_t& own = pages_[num_published_];
    if (known == PrefixIndex::kNoPage) {
      cache_->index().insert(before, hashes[num_published_], page_tokens, own);
      continue;
    }
    cache_->share(known);
    cache_->give_back(own);
    own = known;
    replaced = true;
  }
  if (replaced) refresh();
}

void SequenceCache::publish_tail(uint64_t seed, std::span<const int32_t> tokens) {
  check(num_published_ < pages_.size() && !tokens.empty() && std::ssize(tokens) < LatentPages::kPageTokens,
        "a tail is the beginning of the page behind the published ones");
  if (num_tail_ == std::ssize(tokens)) return;
  forget_tail();
  PrefixIndex& index = cache_->index();
  const int32_t before = num_published_ == 0 ? PrefixIndex::kNoPage : pages_[num_published_ - 1];
  if (index.find_beginning(before, seed, tokens).num_tokens == std::ssize(tokens)) return;
  index.insert(before, page_hash(seed, tokens), tokens, pages_[num_published_]);
  num_tail_ = std::ssize(tokens);
}

void SequenceCache::forget_tail() {
  if (std::exchange(num_tail_, 0) == 0) return;
  check(cache_->index().forget(pages_[num_published_]), "nothing follows a page that is not full");
}

void SequenceCache::unpublish() {
  forget_tail();
  while (num_published_ > 0) {
    const int32_t last = pages_[num_published_ - 1];
    if (cache_->num_users(last) > 1 || !cache_->index().forget(last)) break;
    --num_published_;
  }
}

void SequenceCache::refresh() {
  views_.clear();
  for (size_t layer = 0; layer < layer_pages_.size(); ++layer) {
    layer_pages_[layer].clear();
    for (int32_t page : pages_) {
      layer_pages_[layer].push_back(cache_->data(page) + static_cast<int64_t>(layer) * cache_->layer_bytes());
    }
    views_.push_back(cache_->view(layer_pages_[layer]));
  }
}

}  // namespace fathom
