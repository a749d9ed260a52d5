// DirectFile: reads of a large file past the page cache, for data that has a cache of its own: the system's would keep
// a second copy and push out what is needed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/file.h"
#include "base/result.h"

namespace fathom {

class DirectFile {
 public:
  /// What offsets, lengths and addresses of direct reads are multiples of.
  static constexpr int64_t kAlignment = 4096;

  /// Opens a regular file. Where its file system refuses direct reads, reads go through the page cache, and what they
  /// left there is given back at once.
  static Result<std::unique_ptr<DirectFile>> open(const Path& path);
  ~DirectFile();
  DirectFile(const DirectFile&) = delete;
  DirectFile& operator=(const DirectFile&) = delete;

  const Path& path() const { return path_; }
  /// When it was opened.
  int64_t num_bytes() const { return num_bytes_; }
  bool is_direct() const { return direct_fd_ >= 0; }

  /// Fills `into` from `offset`; all three of offset, address and length are multiples of kAlignment. Thread-safe.
  /// Errors name the file and the offset: what the system says, or that the file ends before.
  Status read(int64_t offset, std::span<std::byte> into) const;

 private:
  DirectFile(Path path, int fd, int direct_fd, int64_t num_bytes)
      : path_(std::move(path)), fd_(fd), direct_fd_(direct_fd), num_bytes_(num_bytes) {}
  Path path_;
  int fd_ = -1;
  int direct_fd_ = -1;
  int64_t num_bytes_ = 0;
};

}  // namespace fathom
