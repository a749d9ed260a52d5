// Fault injection for tests/apps/faults_test.py: preloaded into the program (LD_PRELOAD), it counts the calls that
// change files below one folder and makes the n-th of them fail, end short, or end the process. The program knows
// nothing of it.
//   INJECT_UNDER  the folder, absolute
//   INJECT_LOG    a file elsewhere that gets a line per counted call: its name and its path
//   INJECT_AT     n >= 1; 0: nothing fails
//   INJECT_FAULT  enospc, edquot (from the n-th call on, whatever takes room), eio, erofs (the n-th call), short (a
//   write
//                 takes half), kill (SIGKILL before the call; of a write half is done), term (SIGTERM to itself, then
//                 the call)
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

/// What a call does to a disk: which faults can meet it.
enum class Kind { kWrite, kMake, kSync, kRename, kClose, kCut };

std::atomic<long> g_count{0};

const char* setting(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool is_below(const std::string& path) {
  static const std::string under = setting("INJECT_UNDER");
  return !under.empty() && path.compare(0, under.size(), under) == 0 &&
         (path.size() == under.size() || path[under.size()] == '/');
}

std::string path_of(int fd) {
  char path[PATH_MAX];
  char name[64];
  std::snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
  const ssize_t size = ::readlink(name, path, sizeof(path));
  return size > 0 ? std::string(path, static_cast<size_t>(size)) : std::string();
}

std::string absolute(int directory, const char* path) {
  if (path[0] == '/') return path;
  char here[PATH_MAX];
  const std::string base = directory != AT_FDCWD ? path_of(directory) : ::getcwd(here, sizeof(here)) ? here : "";
  return base + "/" + path;
}

void log_call(const char* name, const std::string& path) {
  static const char* const file = setting("INJECT_LOG");
  if (*file == '\0') return;
  const long fd = ::syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return;
  const std::string line = std::string(name) + " " + path + "\n";
  (void)::syscall(SYS_write, fd, line.data(), line.size());
  (void)::syscall(SYS_close, fd);
}

bool takes_room(Kind kind) { return kind == Kind::kWrite || kind == Kind::kMake || kind == Kind::kSync; }

struct Fault {
  int code = 0;  // errno; 0: none
  bool is_short = false, kills = false;
};

/// Counts a call and says what happens to it.
Fault meet(const char* name, Kind kind, const std::string& path) {
  if (!is_below(path)) return {};
  static const long at = std::atol(setting("INJECT_AT"));
  static const std::string fault = setting("INJECT_FAULT");
  const long now = ++g_count;
  log_call(name, path);
  if (at <= 0 || now < at) return {};
  if (fault == "enospc" || fault == "edquot") {
    if (!takes_room(kind)) return {};
    return {.code = fault == "enospc" ? ENOSPC : EDQUOT};
  }
  if (now > at) return {};
  if (fault == "eio") return {.code = EIO};
  if (fault == "erofs") return {.code = kind == Kind::kMake || kind == Kind::kRename || kind == Kind::kCut ? EROFS : 0};
  if (fault == "term") ::raise(SIGTERM);
  return {.is_short = fault == "short" && kind == Kind::kWrite, .kills = fault == "kill"};
}

int fail(int code) {
  errno = code;
  return -1;
}

[[noreturn]] void die() {
  ::kill(::getpid(), SIGKILL);
  for (;;) ::pause();
}

bool is_written(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) != 0; }

int open_at(int directory, const char* path, int flags, mode_t mode) {
  if (is_written(flags)) {
    const Fault fault = meet("open", Kind::kMake, absolute(directory, path));
    if (fault.kills) die();
    if (fault.code != 0) return fail(fault.code);
  }
  return static_cast<int>(::syscall(SYS_openat, directory, path, flags, mode));
}

mode_t mode_of(int flags, va_list rest) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? static_cast<mode_t>(va_arg(rest, unsigned)) : 0;
}

/// Half of a write, at least a byte of more than one.
size_t half(size_t size) { return size > 1 ? size / 2 : size; }

template <class Call>
ssize_t write_some(const char* name, int fd, size_t size, const Call& call) {
  const Fault fault = meet(name, Kind::kWrite, path_of(fd));
  if (fault.kills) {
    (void)call(half(size));
    die();
  }
  if (fault.code != 0) return fail(fault.code);
  return call(fault.is_short ? half(size) : size);
}

template <class Call>
int one(const char* name, Kind kind, const std::string& path, const Call& call) {
  const Fault fault = meet(name, kind, path);
  if (fault.kills) die();
  return fault.code != 0 ? fail(fault.code) : static_cast<int>(call());
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(AT_FDCWD, path, flags, mode);
}
int openat(int directory, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(directory, path, flags, mode);
}
int openat64(int directory, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return open_at(directory, path, flags, mode);
}

ssize_t write(int fd, const void* data, size_t size) {
  return write_some("write", fd, size, [&](size_t n) { return ::syscall(SYS_write, fd, data, n); });
}
ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  return write_some("pwrite", fd, size, [&](size_t n) { return ::syscall(SYS_pwrite64, fd, data, n, offset); });
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) { return pwrite(fd, data, size, offset); }
ssize_t writev(int fd, const iovec* parts, int count) {
  const auto call = [&](size_t n) {
    iovec first{.iov_base = parts[0].iov_base, .iov_len = n};
    return n < parts[0].iov_len ? ::syscall(SYS_writev, fd, &first, 1) : ::syscall(SYS_writev, fd, parts, count);
  };
  return count < 1 ? 0 : write_some("writev", fd, parts[0].iov_len, call);
}

int fsync(int fd) {
  return one("fsync", Kind::kSync, path_of(fd), [&] { return ::syscall(SYS_fsync, fd); });
}
int fdatasync(int fd) {
  return one("fdatasync", Kind::kSync, path_of(fd), [&] { return ::syscall(SYS_fdatasync, fd); });
}
int ftruncate(int fd, off_t size) {
  return one("ftruncate", Kind::kCut, path_of(fd), [&] { return ::syscall(SYS_ftruncate, fd, size); });
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }
int fallocate(int fd, int mode, off_t offset, off_t size) {
  return one("fallocate", Kind::kWrite, path_of(fd), [&] { return ::syscall(SYS_fallocate, fd, mode, offset, size); });
}
int fallocate64(int fd, int mode, off64_t offset, off64_t size) { return fallocate(fd, mode, offset, size); }

int rename(const char* from, const char* to) {
  return one("rename", Kind::kRename, absolute(AT_FDCWD, to), [&] { return ::syscall(SYS_rename, from, to); });
}
int renameat(int from_directory, const char* from, int to_directory, const char* to) {
  return one("rename", Kind::kRename, absolute(to_directory, to),
             [&] { return ::syscall(SYS_renameat2, from_directory, from, to_directory, to, 0); });
}
int mkdir(const char* path, mode_t mode) {
  return one("mkdir", Kind::kMake, absolute(AT_FDCWD, path),
             [&] { return ::syscall(SYS_mkdirat, AT_FDCWD, path, mode); });
}
int mkdirat(int directory, const char* path, mode_t mode) {
  return one("mkdir", Kind::kMake, absolute(directory, path),
             [&] { return ::syscall(SYS_mkdirat, directory, path, mode); });
}

/// The descriptor is gone, whatever the call says: so it is on Linux.
int close(int fd) {
  const int flags = static_cast<int>(::syscall(SYS_fcntl, fd, F_GETFL));
  if (flags < 0 || !is_written(flags & ~O_CREAT)) return static_cast<int>(::syscall(SYS_close, fd));
  const Fault fault = meet("close", Kind::kClose, path_of(fd));
  if (fault.kills) die();
  const long closed = ::syscall(SYS_close, fd);
  return fault.code != 0 ? fail(fault.code) : static_cast<int>(closed);
}

}  // extern "C"
