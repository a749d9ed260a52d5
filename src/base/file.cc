#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file_error.h"

namespace fathom {
namespace {

struct FileDescriptor {
  int fd;
  ~FileDescriptor() {
    if (fd >= 0) ::close(fd);
  }
};

// O_NONBLOCK: without it a named pipe in the place of a file would wait for a writer. Regular files do not know it.
int open_to_read(const Path& path) { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }

Result<int64_t> regular_size(int fd, const Path& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return file_error("stat", path, errno);
  if (!S_ISREG(info.st_mode)) return io_error(path.string() + " is not a regular file");
  return int64_t{info.st_size};
}

}  // namespace

Result<std::string> read_file(const Path& path, int64_t max_bytes) {
  const FileDescriptor file{open_to_read(path)};
  if (file.fd < 0) return file_error("open", path, errno);
  const auto size = regular_size(file.fd, path);
  if (!size) return size.error();
  if (*size > max_bytes) {
    return invalid(path.string() + ": " + std::to_string(*size) + " bytes, more than the accepted " +
                   std::to_string(max_bytes));
  }
  std::string text(static_cast<size_t>(*size), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = ::read(file.fd, text.data() + done, text.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file_error("read", path, errno);
    if (got == 0) break;  // truncated meanwhile: return what there is
    done += static_cast<size_t>(got);
  }
  text.resize(done);
  return text;
}

Result<MappedFile> MappedFile::open(const Path& path) {
  const FileDescriptor file{open_to_read(path)};
  if (file.fd < 0) return file_error("open", path, errno);
  const auto size = regular_size(file.fd, path);
  if (!size) return size.error();
  MappedFile out;
  out.path_ = path;
  out.size_ = static_cast<size_t>(*size);
  if (out.size_ == 0) return out;
  void* data = ::mmap(nullptr, out.size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (data == MAP_FAILED) return file_error("map", path, errno);
  out.data_ =
      std::shared_ptr<const void>(data, [size = out.size_](const void* p) { ::munmap(const_cast<void*>(p), size); });
  return out;
}

Result<AtomicFile> AtomicFile::create(const Path& wanted, Links links) {
  // What is no file (a device, a pipe) cannot be written aside and renamed.
  std::error_code missing;
  const bool follow = links == Links::kFollow;
  const auto status =
      follow ? std::filesystem::status(wanted, missing) : std::filesystem::symlink_status(wanted, missing);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) &&
      !std::filesystem::is_symlink(status)) {
    return io_error(wanted.string() + " is not a regular file; name a file");
  }
  Path path = wanted;
  constexpr int kMaxLinks = 40;  // as the kernel's limit
  for (int i = 0; follow && std::filesystem::is_symlink(std::filesystem::symlink_status(path, missing)); ++i) {
    const Path target = std::filesystem::read_symlink(path, missing);
    if (missing || i == kMaxLinks) return io_error("cannot follow the link " + wanted.string());
    path = path.parent_path() / target;  // an absolute target stands alone
  }
  Path partial = path;
  partial += ".partial";
  const int fd = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0 && errno == ENOENT) {
    const std::string directory = path.has_parent_path() ? path.parent_path().string() : ".";
    return Error{ErrorCode::kNotFound,
                 "cannot create " + path.string() + ": there is no directory " + directory + "; make it first"};
  }
  if (fd < 0) return file_error("create", partial, errno);
  return AtomicFile(std::move(path), std::move(partial), fd);
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)), partial_(std::move(other.partial_)), fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(partial_.c_str());
}

Status AtomicFile::write(const void* data, size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t put = ::write(fd_, at, size);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return file_error("write", partial_, errno);
    at += put;
    size -= static_cast<size_t>(put);
  }
  return {};
}

Status AtomicFile::commit() {
  if (::fsync(fd_) != 0) return file_error("sync", partial_, errno);
  const bool closed = ::close(std::exchange(fd_, -1)) == 0;
  if (!closed || ::rename(partial_.c_str(), path_.c_str()) != 0) {
    Error error = closed ? file_error("rename to", path_, errno) : file_error("close", partial_, errno);
    ::unlink(partial_.c_str());
    return error;
  }
  return sync_directory(path_.has_parent_path() ? path_.parent_path() : Path("."));
}

Result<std::optional<FileLock>> FileLock::try_acquire(const Path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return file_error("create", path, errno);
  FileLock lock(fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return std::optional<FileLock>();
    return file_error("lock", path, errno);
  }
  struct stat held {
  }, named{};
  if (::fstat(fd, &held) != 0) return file_error("stat", path, errno);
  const bool is_same = ::stat(path.c_str(), &named) == 0 && held.st_ino == named.st_ino && held.st_dev == named.st_dev;
  return is_same ? std::optional<FileLock>(std::move(lock)) : std::nullopt;
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

Status write_file(const Path& path, std::string_view text) {
  auto file = AtomicFile::create(path);
  if (!file) return file.error();
  if (auto s = file->write(text); !s) return s;
  return file->commit();
}

Status sync_directory(const Path& path) {
  const FileDescriptor dir{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (dir.fd < 0) return file_error("open", path, errno);
  if (::fsync(dir.fd) != 0) return file_error("sync", path, errno);
  return {};
}

void release_pages(const void* data, int64_t num_bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(data), end = begin + static_cast<uintptr_t>(num_bytes);
  const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
  if (first >= last) return;
  auto* const bytes = const_cast<char*>(static_cast<const char*>(data));
  ::madvise(bytes + (first - begin), last - first, MADV_DONTNEED);
}

}  // namespace fathom
