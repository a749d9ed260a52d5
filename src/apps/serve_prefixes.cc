#include "apps/serve_prefixes.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include "base/file_set.h"

namespace fathom::apps {
namespace {

/// Who has locked the file of that descriptor: " (process 123)", or nothing where the system does not tell.
std::string holder_of(int descriptor) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) return {};
  const std::string inode = ":" + std::to_string(status.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, kind, mode, access, pid, file;
    words >> number >> kind >> mode >> access >> pid >> file;
    if (kind == "FLOCK" && file.ends_with(inode) && pid != "0") return " (process " + pid + ")";
  }
  return {};
}

}  // namespace

Result<PrefixDirectory> PrefixDirectory::open(const std::string& directory) {
  const std::string name = "--prefix-cache-dir: " + directory;
  if (auto s = make_directories(directory); !s) return Error{s.error().code, "--prefix-cache-dir: " + s.error().text};
  // Now, and not when everything is lost that was to be kept.
  if (::access(directory.c_str(), W_OK | X_OK) != 0) {
    return io_error(name + " cannot be written: " + std::generic_category().message(errno) +
                    "; give a directory of this user's");
  }
  const int lock = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (lock < 0) return io_error(name + ": " + std::generic_category().message(errno));
  // A file system that knows no locks is taken as it is: AtomicFile still never shows half a file.
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    const std::string holder = holder_of(lock);
    ::close(lock);
    return io_error(name + " is in use by another server" + holder + "; give each server a directory of its own");
  }
  return PrefixDirectory(directory, lock);
}

PrefixDirectory::PrefixDirectory(PrefixDirectory&& other) noexcept
    : path_(std::move(other.path_)), lock_(std::exchange(other.lock_, -1)) {}

PrefixDirectory::~PrefixDirectory() {
  if (lock_ >= 0) ::close(lock_);
}

}  // namespace fathom::apps
