#include "report/jsonl.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace fathom {
namespace {

Error system_error(const char* what, const Path& path) {
  const int code = errno;
  Error error = io_error(std::string("cannot ") + what + " " + path.string() + ": " + std::strerror(code));
  if (code == ENOENT) error.code = ErrorCode::kNotFound;
  return error;
}

// The length of the log without a torn last line: the offset after the last line feed.
Result<int64_t> whole_size(int fd, int64_t size, const Path& path) {
  char block[4096];
  for (int64_t end = size; end > 0;) {
    const int64_t begin = std::max<int64_t>(0, end - static_cast<int64_t>(sizeof(block)));
    const ssize_t got = ::pread(fd, block, static_cast<size_t>(end - begin), begin);
    if (got != end - begin) return system_error("read", path);
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
  if (::fstat(fd, &info) != 0) return system_error("stat", path);
  if (!S_ISREG(info.st_mode)) return io_error(path.string() + " is not a regular file");
  if (info.st_size == 0) return int64_t{0};
  char first = 0;
  if (::pread(fd, &first, 1, 0) != 1) return system_error("read", path);
  if (first != '{')
    return invalid(path.string() + " is not a JSONL log: it does not start with \"{\"; name another file");
  const auto whole = whole_size(fd, info.st_size, path);
  if (whole && *whole < info.st_size && ::ftruncate(fd, *whole) != 0) return system_error("truncate", path);
  return whole;
}

}  // namespace

Result<JsonlWriter> JsonlWriter::open(const Path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return system_error("open", path);
  JsonlWriter writer(path, fd, 0);  // closes fd on every way out
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return invalid(path.string() + " is being written by another process; name another file");
    return system_error("lock", path);
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
      Error error = system_error("write", path_);
      if (::ftruncate(fd_, size_) != 0) error.text += " (and the torn line could not be cut off)";
      return error;
    }
    done += static_cast<size_t>(put);
  }
  size_ += static_cast<int64_t>(line.size());
  return {};
}

Status JsonlWriter::sync() {
  if (::fsync(fd_) != 0) return system_error("sync", path_);
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
