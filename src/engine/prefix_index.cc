#include "engine/prefix_index.h"

#include <xxhash.h>

#include <algorithm>
#include <unordered_set>

#include "base/check.h"

namespace fathom {

uint64_t page_hash(uint64_t before, std::span<const int32_t> tokens) {
  return XXH3_64bits_withSeed(tokens.data(), tokens.size_bytes(), before);
}

std::vector<uint64_t> page_hashes(uint64_t seed, std::span<const int32_t> tokens, int64_t page_tokens) {
  const auto size = static_cast<size_t>(page_tokens);
  std::vector<uint64_t> hashes;
  for (size_t first = 0; first + size <= tokens.size(); first += size) {
    seed = page_hash(seed, tokens.subspan(first, size));
    hashes.push_back(seed);
  }
  return hashes;
}

int32_t PrefixIndex::find(int32_t before, uint64_t hash, std::span<const int32_t> tokens) const {
  const auto [first, last] = page_of_hash_.equal_range(hash);
  for (auto it = first; it != last; ++it) {
    const Entry& entry = entries_.at(it->second);
    if (entry.before == before && std::ranges::equal(entry.tokens, tokens)) return it->second;
  }
  return kNoPage;
}

PrefixIndex::Beginning PrefixIndex::find_beginning(int32_t before, uint64_t seed,
                                                   std::span<const int32_t> tokens) const {
  const std::vector<int32_t>& pages = before == kNoPage ? first_ : entries_.at(before).following;
  Beginning best;
  const size_t count = std::min(pages.size(), kMostCompared);
  for (size_t i = 0; i < count; ++i) {
    const int32_t page = pages[pages.size() - 1 - i];
    const Entry& entry = entries_.at(page);
    const auto same = std::ranges::mismatch(entry.tokens, tokens).in1 - entry.tokens.begin();
    // The same tokens under another seed are another model's or another form's.
    if (same > best.num_tokens && page_hash(seed, entry.tokens) == entry.hash) best = {page, same};
  }
  return best;
}

void PrefixIndex::insert(int32_t before, uint64_t hash, std::span<const int32_t> tokens, int32_t page) {
  check(!contains(page), "a page is in the prefix index once");
  if (before != kNoPage) {
    const auto parent = entries_.find(before);
    check(parent != entries_.end() && !parent->second.is_retired, "the page before is in the index and in use");
  }
  following(before).push_back(page);
  entries_.emplace(
      page,
      Entry{.before = before, .hash = hash, .tokens = {tokens.begin(), tokens.end()}, .following = {}, .place = {}});
  page_of_hash_.emplace(hash, page);
}

void PrefixIndex::retire(int32_t page) {
  Entry& entry = entries_.at(page);
  check(!entry.is_retired, "a page retires once");
  entry.place = retired_.insert(retired_.end(), page);
  entry.is_retired = true;
}

void PrefixIndex::revive(int32_t page) {
  Entry& entry = entries_.at(page);
  check(entry.is_retired, "only a retired page is revived");
  retired_.erase(entry.place);
  entry.is_retired = false;
}

bool PrefixIndex::is_retired(int32_t page) const {
  const auto it = entries_.find(page);
  return it != entries_.end() && it->second.is_retired;
}

bool PrefixIndex::forget(int32_t page) {
  const Entry& entry = entries_.at(page);
  check(!entry.is_retired, "a page that is forgotten is in use");
  if (!entry.following.empty()) return false;
  erase(page);
  return true;
}

int32_t PrefixIndex::evict() {
  if (retired_.empty()) return kNoPage;
  const int32_t page = retired_.front();
  check(entries_.at(page).following.empty(), "pages retire from the last to the first");
  retired_.pop_front();
  erase(page);
  return page;
}

PrefixIndex::PageOf PrefixIndex::at(int32_t page) const {
  const Entry& entry = entries_.at(page);
  return {.before = entry.before, .hash = entry.hash, .tokens = entry.tokens};
}

std::vector<int32_t> PrefixIndex::pages() const {
  std::vector<int32_t> in_use;
  for (const auto& [page, entry] : entries_) {
    if (!entry.is_retired) in_use.push_back(page);
  }
  std::ranges::sort(in_use);  // the map's order is nobody's
  in_use.insert(in_use.end(), retired_.rbegin(), retired_.rend());
  std::vector<int32_t> ordered;
  std::unordered_set<int32_t> placed;
  for (const int32_t page : in_use) {
    std::vector<int32_t> chain;
    for (int32_t p = page; p != kNoPage && !placed.contains(p); p = entries_.at(p).before) chain.push_back(p);
    for (; !chain.empty(); chain.pop_back()) {
      placed.insert(chain.back());
      ordered.push_back(chain.back());
    }
  }
  return ordered;
}

void PrefixIndex::erase(int32_t page) {
  const auto it = entries_.find(page);
  std::erase(following(it->second.before), page);
  const auto [first, last] = page_of_hash_.equal_range(it->second.hash);
  page_of_hash_.erase(std::find_if(first, last, [page](const auto& pair) { return pair.second == page; }));
  entries_.erase(it);
}

}  // namespace fathom
