// The prefix index: which pages of the latent cache hold which 64 prompt tokens after which others (or fewer, at the
// end of a prompt), so that another request with the same beginning need not compute them. It knows page numbers and
// tokens, never the latents.
#pragma once

#include <cstdint>
#include <list>
#include <span>
#include <unordered_map>
#include <vector>

namespace fathom {

/// The hash of a page's tokens and of everything before them: XXH3 of the tokens, seeded with the hash of the page
/// before, or with a seed that stands for the model and the cache's dtype.
uint64_t page_hash(uint64_t before, std::span<const int32_t> tokens);
/// The hashes of all full pages of `tokens`, in order.
std::vector<uint64_t> page_hashes(uint64_t seed, std::span<const int32_t> tokens, int64_t page_tokens);

/// A tree of pages: an entry is (the page before, 64 tokens) -> page; one with fewer tokens is never followed. Equal
/// hashes are told apart by the tokens; as the page before was found the same way, a match is a match of the whole
/// prefix. A page nobody uses stays, in the order of its last use, until evict() gives it away. Who uses a page uses
/// those before it as well and must retire them from the last to the first: so a page goes before the page it follows.
class PrefixIndex {
 public:
  static constexpr int32_t kNoPage = -1;

  /// The page that holds `tokens` after page `before` (kNoPage: at the beginning), or kNoPage.
  int32_t find(int32_t before, uint64_t hash, std::span<const int32_t> tokens) const;
  /// A page that begins as `tokens` does, and for how many tokens.
  struct Beginning {
    int32_t page = kNoPage;
    int64_t num_tokens = 0;
  };
  /// The longest beginning among the kMostCompared latest pages after `before`, whose hash is `seed` (kNoPage: the seed
  /// of page_hashes).
  Beginning find_beginning(int32_t before, uint64_t seed, std::span<const int32_t> tokens) const;
  static constexpr size_t kMostCompared = 32;
  /// `page`, which is in use, holds `tokens` after `before`, a full page. Neither the page nor such an entry is in the
  /// index.
  void insert(int32_t before, uint64_t hash, std::span<const int32_t> tokens, int32_t page);
  bool contains(int32_t page) const { return entries_.contains(page); }

  /// Nobody uses the page any more.
  void retire(int32_t page);
  /// A retired page is used again.
  void revive(int32_t page);
  bool is_retired(int32_t page) const;
  /// Forgets a page in use if none follows it; false otherwise.
  bool forget(int32_t page);
  /// Forgets the retired page that was used least recently; kNoPage when there is none.
  int32_t evict();

  /// What is known of a page of the index.
  struct PageOf {
    int32_t before;
    uint64_t hash;
    std::span<const int32_t> tokens;
  };
  PageOf at(int32_t page) const;
  /// All pages, each behind the one it follows; beyond that those in use, then the retired ones, latest use first.
  std::vector<int32_t> pages() const;

  int64_t num_pages() const { return static_cast<int64_t>(entries_.size()); }
  int64_t num_retired() const { return static_cast<int64_t>(retired_.size()); }

 private:
  struct Entry {
    int32_t before = kNoPage;
    uint64_t hash = 0;
    std::vector<int32_t> tokens;
    std::vector<int32_t> following;      // oldest first
    std::list<int32_t>::iterator place;  // in retired_, if is_retired
    bool is_retired = false;
  };
  void erase(int32_t page);
  std::vector<int32_t>& following(int32_t before) { return before == kNoPage ? first_ : entries_.at(before).following; }

  std::unordered_map<int32_t, Entry> entries_;  // by page
  std::vector<int32_t> first_;                  // pages at the beginning, oldest first
  std::unordered_multimap<uint64_t, int32_t> page_of_hash_;
  std::list<int32_t> retired_;  // least recently used first
};

}  // namespace fathom
