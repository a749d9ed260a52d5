// PrefixDirectory: where a server keeps the pages of its prefix cache (engine/prefix_store.h). One server at a time has
// it.
#pragma once

#include <string>
#include <utility>

#include "base/file.h"
#include "base/result.h"

namespace fathom::apps {

class PrefixDirectory {
 public:
  /// Makes the directory if there is none and locks it until the end of the object (flock, so that a killed server
  /// leaves no lock). Errors name --prefix-cache-dir: no directory, not to be written, another process has it (with its
  /// number where the system tells).
  static Result<PrefixDirectory> open(const std::string& directory);
  PrefixDirectory(PrefixDirectory&& other) noexcept;
  PrefixDirectory& operator=(PrefixDirectory&&) = delete;
  ~PrefixDirectory();

  const Path& path() const { return path_; }

 private:
  PrefixDirectory(Path path, int lock) : path_(std::move(path)), lock_(lock) {}
  Path path_;
  int lock_ = -1;  // a descriptor
};

}  // namespace fathom::apps
