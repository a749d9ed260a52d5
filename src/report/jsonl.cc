#include "report/jsonl.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/check.h"
#include "base/file_error.h"

namespace fathom {
namespace {

// The length of the log without a torn last line: the offset after the last line feed.
Result<int64_t> whole_size(int fd, int64_t size, const Path& path) {
  char block[4096];
  for (int64_t end = size; end > 0;) {
    const int64_t begin = std::max<int64_t>(0, end - static_cast<int64_t>(sizeof(block)));
    const ssize_t got = ::pread(fd, block, static_cast<size_t>(end - begin), begin);
    if (got != end - begin) return file_error("read", path, errno);
    for (int64_t i = end - begin; i > 0; --i) {
      if (block[i - 1] == '\n') return begin + i;
    }
    end = begin;
  }
  return int64_t{0};
}

// Cuts off a torn last line of a file that is a log. Anything else is left alone: it was named by mistake.
Result<int64_t> repair(int fd, const Path& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return file_error("stat", path, errno);
  if (!S_ISREG(info.st_mode)) return io_error(path.string() + " is not a regular file");
  if (info.st_size == 0) return int64_t{0};
  char first = 0;
  if (::pread(fd, &first, 1, 0) != 1) return file_error("read", path, errno);
  if (first != '{')
    return invalid(path.string() + " is not a JSONL log: it does not start with \"{\"; name another file");
  const auto whole = whole_size(fd, info.st_size, path);
  if (whole && *whole < info.st_size && ::ftruncate(fd, *whole) != 0) return file_error("truncate", path, errno);
  return whole;
}

}  // namespace

Result<JsonlWriter> JsonlWriter::open(const Path& path) {
  constexpr int kFlags = O_RDWR | O_APPEND | O_CLOEXEC;
  int fd = ::open(path.c_str(), kFlags);
  const bool is_new = fd < 0 && errno == ENOENT;
  if (is_new) fd = ::open(path.c_str(), kFlags | O_CREAT, 0644);
  if (fd < 0) return file_error("open", path, errno);
  JsonlWriter writer(path, fd, 0);  // closes fd on every way out
  if (is_new) {                     // or sync() would keep the lines of a file without a name
    if (auto s = sync_directory(path.has_parent_path() ? path.parent_path() : Path(".")); !s) return s.error();
  }
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return invalid(path.string() + " is being written by another process; name another file");
    return file_error("lock", path, errno);
  }
  const auto size = repair(fd, path);
  if (!size) return size.error();
  writer.size_ = *size;
  return writer;
}

JsonlWriter::JsonlWriter(JsonlWriter&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

JsonlWriter::~JsonlWriter() {
  if (fd_ >= 0) ::close(fd_);
}

Status JsonlWriter::write(const Json& record) {
  check(record.is_object(), "a record of a JSONL log is an object");
  const std::string line = record.dump() + "\n";
  for (size_t done = 0; done < line.size();) {
    const ssize_t put = ::write(fd_, line.data() + done, line.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      Error error = file_error("write", path_, errno);
      if (::ftruncate(fd_, size_) != 0) error.text += " (and the torn line could not be cut off)";
      return error;
    }
    done += static_cast<size_t>(put);
  }
  size_ += static_cast<int64_t>(line.size());
  return {};
}

Status JsonlWriter::sync() {
  if (::fsync(fd_) != 0) return file_error("sync", path_, errno);
  return {};
}

Result<JsonlLog> read_jsonl(const Path& path, int64_t max_bytes) {
  const auto text = read_file(path, max_bytes);
  if (!text) return text.error();
  JsonlLog log;
  std::string_view rest = *text;
  for (int64_t line = 1; !rest.empty(); ++line) {
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) {
      log.torn = true;
      break;
    }
    const std::string where = path.string() + ":" + std::to_string(line);
    auto record = Json::parse(rest.substr(0, end), where);
    if (!record) return record.error();
    if (!record->is_object())
      return corrupt(where + ": a JSONL record is an object, not " + std::string(record->kind()));
    log.records.push_back(*std::move(record));
    rest.remove_prefix(end + 1);
  }
  return log;
}

}  // namespace fathom
