#include "base/direct_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "base/file_error.h"

namespace fathom {
namespace {

/// A descriptor for direct reads of the file, or -1 where the file system has none: some refuse the flag, some the
/// first read.
int open_direct(const Path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (fd < 0) return -1;
  void* block = std::aligned_alloc(DirectFile::kAlignment, DirectFile::kAlignment);
  const bool reads = block != nullptr && ::pread(fd, block, DirectFile::kAlignment, 0) >= 0;
  std::free(block);
  if (reads) return fd;
  ::close(fd);
  return -1;
}

std::string at_offset(const Path& path, int64_t offset) { return path.string() + " at byte " + std::to_string(offset); }

}  // namespace

Result<std::unique_ptr<DirectFile>> DirectFile::open(const Path& path) {
  // O_NONBLOCK: a named pipe in the place of the file must not be waited for.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return file_error("open", path, errno);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return io_error(path.string() + " is not a regular file");
  }
  return std::unique_ptr<DirectFile>(new DirectFile(path, fd, open_direct(path), int64_t{info.st_size}));
}

DirectFile::~DirectFile() {
  ::close(fd_);
  if (direct_fd_ >= 0) ::close(direct_fd_);
}

Status DirectFile::read(int64_t offset, std::span<std::byte> into) const {
  const auto is_aligned = [](uint64_t value) { return value % kAlignment == 0; };
  check(is_aligned(static_cast<uint64_t>(offset)) && is_aligned(into.size()) &&
            is_aligned(reinterpret_cast<uintptr_t>(into.data())),
        "direct reads are aligned");
  const int fd = is_direct() ? direct_fd_ : fd_;
  size_t done = 0;
  while (done < into.size()) {
    const int64_t at = offset + static_cast<int64_t>(done);
    const ssize_t got = ::pread(fd, into.data() + done, into.size() - done, at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("cannot read " + at_offset(path_, at) + ": " + std::strerror(errno));
    // A direct read that stops inside a block can only have met the end of the file.
    if (got == 0 || (is_direct() && got % kAlignment != 0)) {
      return io_error(at_offset(path_, at + got) + ": the file ends there; it was cut short while in use");
    }
    done += static_cast<size_t>(got);
  }
  if (!is_direct()) ::posix_fadvise(fd_, offset, static_cast<off_t>(into.size()), POSIX_FADV_DONTNEED);
  return {};
}

}  // namespace fathom
