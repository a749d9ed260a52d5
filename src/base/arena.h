// Arena: memory of one lifetime (a step, a micro-batch). Bump allocation out of large chunks; mark/rewind gives nested
// lifetimes; the chunks are kept, so a step that was once run allocates nothing again. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace fathom {

class Arena {
 public:
  static constexpr size_t kAlignment = 64;

  /// A place in the arena to come back to.
  struct Mark {
    size_t chunk = 0;
    size_t used = 0;
  };

  explicit Arena(size_t first_chunk_bytes = size_t{1} << 20) : next_chunk_bytes_(first_chunk_bytes) {}

  /// Uninitialised storage for `bytes`, aligned to 64 bytes, valid until a rewind past it.
  void* allocate(size_t bytes);

  template <class T>
  T* allocate_array(int64_t count) {
    return static_cast<T*>(allocate(static_cast<size_t>(count) * sizeof(T)));
  }

  Mark mark() const { return {current_, used_}; }
  void rewind(Mark mark) {
    current_ = mark.chunk;
    used_ = mark.used;
  }
  void reset() { rewind({}); }

  /// Bytes held from the system.
  size_t capacity_bytes() const;

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  struct Chunk {
    std::unique_ptr<std::byte, Free> data;
    size_t bytes = 0;
  };

  std::vector<Chunk> chunks_;
  size_t current_ = 0;
  size_t used_ = 0;
  size_t next_chunk_bytes_;
};

/// Rewinds an arena at the end of a scope.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.rewind(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace fathom
