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
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

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

class PrefixStore {
 public:
  /// Pages of page_bytes in the files IDENTITY-HASH.page of the directory; other files in it are left alone, but for
  /// what a killed writer of ours left. Files of other identities count to max_bytes and go like any. One process at a
  /// time should have the directory. Errors: it cannot be read or made.
  static Result<std::unique_ptr<PrefixStore>> open(PrefixStoreOptions options, int64_t page_bytes);
  /// Writes what is waiting.
  ~PrefixStore();
  PrefixStore(const PrefixStore&) = delete;
  PrefixStore& operator=(const PrefixStore&) = delete;

  /// Whether a page of that hash (page_hash) is there or about to be.
  bool contains(uint64_t hash) const;
  /// Copies a page and has it written. `prefix`: all tokens up to the end of the page. One that is there already is
  /// only marked as used; one for which the writer has no room is dropped.
  void save(uint64_t hash, std::span<const int32_t> prefix, const std::byte* page);
  /// Fills `page`. false: it is not there, not whole or of another prefix; then it is no more.
  bool load(uint64_t hash, std::span<const int32_t> prefix, std::byte* page);
  /// A page that must not be found again.
  void remove(uint64_t hash);
  /// The pages of this identity must not be found again, and no others are written: what computed them is not to be
  /// trusted.
  void discard();
  PrefixStoreStats stats() const;

 private:
  struct File {
    int64_t bytes = 0;
    std::list<std::string>::iterator place;  // in by_use_
  };
  struct Pending {
    uint64_t hash = 0;
    std::string bytes;  // of the file
  };
  PrefixStore(PrefixStoreOptions options, int64_t page_bytes);
  std::string name_of(uint64_t hash) const;
  bool is_own(const std::string& name) const;
  void add(const std::string& name, int64_t bytes);
  void touch(File& file);
  void erase(const std::string& name);
  void make_room(int64_t bytes);
  void write();
  bool unpack(std::string_view bytes, uint64_t hash, std::span<const int32_t> prefix, std::byte* page) const;

  const PrefixStoreOptions options_;
  const int64_t page_bytes_;
  mutable std::mutex mutex_;  // over everything below
  std::condition_variable changed_;
  std::list<std::string> by_use_;  // names of files, least recently used first
  std::unordered_map<std::string, File> files_;
  int64_t num_own_ = 0;          // of files_, of this identity
  std::deque<Pending> pending_;  // the first one is being written
  int64_t pending_bytes_ = 0;
  PrefixStoreStats stats_;
  bool has_failed_ = false, discarded_ = false, stopping_ = false;
  std::thread writer_;
};

}  // namespace fathom
