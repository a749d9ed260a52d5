// Files: bounded reads, memory maps, and writes that are either whole or absent (write aside, fsync, rename).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace fathom {

using Path = std::filesystem::path;

/// The whole file; an error if it is larger than `max_bytes`, missing or unreadable.
Result<std::string> read_file(const Path& path, int64_t max_bytes = int64_t{1} << 30);

/// Gives the whole pages inside [data, data + num_bytes) back to the system: of a file's mapping they are read again
/// when they are needed again; what other memory held is lost.
void release_pages(const void* data, int64_t num_bytes);

/// A read-only memory map of a regular file (symbolic links are followed). Cheap to copy; unmapped with the last copy.
class MappedFile {
 public:
  static Result<MappedFile> open(const Path& path);
  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(data_.get()), size_}; }
  const Path& path() const { return path_; }

 private:
  Path path_;
  std::shared_ptr<const void> data_;
  size_t size_ = 0;
};

/// A file that appears under its name only when commit() succeeds: bytes go to `path`.partial, then fsync, then rename.
/// Destroyed without a commit it leaves nothing behind, and an older file of that name stays as it was.
class AtomicFile {
 public:
  /// A symbolic link is followed and the file behind it replaced, or, with kReplace, the link itself: where others may
  /// put links. Error: `path` is there and no regular file, or its directory cannot be written.
  enum class Links { kFollow, kReplace };
  static Result<AtomicFile> create(const Path& path, Links links = Links::kFollow);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Status write(const void* data, size_t size);
  Status write(std::string_view text) { return write(text.data(), text.size()); }
  Status commit();

 private:
  AtomicFile(Path path, Path partial, int fd) : path_(std::move(path)), partial_(std::move(partial)), fd_(fd) {}
  Path path_;
  Path partial_;
  int fd_ = -1;
};

/// A lock that one holder in the system has at a time: flock on a file that is created for it and stays. It ends with
/// its holder, also with a process that is killed.
class FileLock {
 public:
  /// Nothing when somebody else holds it, or when the file of that name was replaced or removed while we took it.
  static Result<std::optional<FileLock>> try_acquire(const Path& path);
  FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_ = -1;
};

/// AtomicFile in one call.
Status write_file(const Path& path, std::string_view text);

/// fsync of a directory, so that renames inside it survive a power cut.
Status sync_directory(const Path& path);

}  // namespace fathom
