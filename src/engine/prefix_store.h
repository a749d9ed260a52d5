// The prefix store: full pages of the prefix index in a directory, a file each, so that they are found again when
// memory had no room for them, and after a restart, also after a SIGKILL. Pages are written behind the work by a thread
// of its own; what a file holds is compared with what is looked for, and anything wrong with it makes it a page that is
// not there.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <unordered_map>

#include "base/file.h"
#include "base/result.h"

namespace fathom {

struct PrefixStoreOptions {
  Path directory;
  uint64_t identity = 0;                                  // of all that a page's bits depend on beside its tokens
  int64_t max_bytes = int64_t{10} << 30;                  // of all files; the ones used least recently go
  std::function<void(const std::string&)> on_error = {};  // the first page that cannot be written; from any thread
};

struct PrefixStoreStats {
  int64_t pages = 0;  // that can be found, those that are still to be written too
  int64_t bytes = 0;  // of all files, those of other identities too
  int64_t read = 0;   // pages from files since the start
  int64_t written = 0;
  int64_t dropped = 0;  // not written: the disk is too slow, full or broken
  int64_t damaged = 0;  // files removed because something was wrong with them
};

/// One thread calls it, and nobody waits for the disk in it but load() and save()'s look whether a file is there.
class PrefixStore {
 public:
  /// Pages of page_bytes in the files IDENTITY-HASH.page of the directory; other files in it are left alone, but for
  /// what a killed writer of ours left, and links are never followed. Files of other identities count to max_bytes and
  /// go first. One process at a time should have the directory. Errors: it cannot be read or made; max_bytes have no
  /// room for a page.
  static Result<std::unique_ptr<PrefixStore>> open(PrefixStoreOptions options, int64_t page_bytes);
  /// Writes what is waiting, and notes in the files' times in which order they were used.
  ~PrefixStore();
  PrefixStore(const PrefixStore&) = delete;
  PrefixStore& operator=(const PrefixStore&) = delete;

  /// Whether a page of that hash (page_hash) is there or about to be.
  bool contains(uint64_t hash) const;
  /// Copies a page and has it written, unless it is there or the writer has no room for it. `prefix`: all tokens up to
  /// the end of the page.
  void save(uint64_t hash, std::span<const int32_t> prefix, const std::byte* page);
  /// A sequence uses these pages, in the order of its tokens, here or in memory: they go after those that were not used
  /// since, the last ones first, since a page is found only behind those before it.
  void use(std::span<const uint64_t> hashes);
  /// Fills `page`. false: it is not there, not whole or of another prefix; then it is no more.
  bool load(uint64_t hash, std::span<const int32_t> prefix, std::byte* page);
  /// A page that must not be found again.
  void remove(uint64_t hash);
  /// The pages of this identity must not be found again, and no others are written: what computed them is not to be
  /// trusted.
  void discard();
  PrefixStoreStats stats() const;

 private:
  /// The order in which files go: by last use (0: before the start), then the later ones of a prefix, then by name.
  using Order = std::tuple<int64_t, int64_t, std::string>;
  struct File {
    int64_t bytes = 0;
    int64_t used = 0, place = 0;  // place: minus the number of pages before it; before the start: by time
    bool is_written = true;
  };
  struct Pending {
    uint64_t hash = 0;
    std::string bytes;          // of the file
    bool is_cancelled = false;  // removed while it was being written
  };
  PrefixStore(PrefixStoreOptions options, int64_t page_bytes);
  std::string name_of(uint64_t hash) const;
  bool is_own(const std::string& name) const;
  void add(const std::string& name, File file);
  void erase(const std::string& name);
  void place(const std::string& name, int64_t used, int64_t place);
  void make_room(int64_t bytes, std::string& complaint);
  void cancel(Pending& page);
  Status write_page(const Pending& page, int64_t depth) const;
  void write();
  bool unpack(std::string_view bytes, uint64_t hash, std::span<const int32_t> prefix, std::byte* page) const;

  const PrefixStoreOptions options_;
  const int64_t page_bytes_;
  mutable std::mutex mutex_;  // over everything below
  std::condition_variable changed_;
  std::unordered_map<std::string, File> files_;
  std::set<Order> order_;  // of files_
  int64_t num_own_ = 0;    // of files_, of this identity
  int64_t num_uses_ = 0;
  std::deque<Pending> pending_;  // the first one is being written
  int64_t pending_bytes_ = 0;
  PrefixStoreStats stats_;
  bool has_failed_ = false, discarded_ = false, stopping_ = false;
  std::thread writer_;
};

}  // namespace fathom
