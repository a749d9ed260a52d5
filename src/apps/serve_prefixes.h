// PrefixDirectory: where a server keeps its prefix cache from an orderly end to the next start. One server at a time
// has it; its file is only ever replaced by another whole one.
#pragma once

#include <cstdint>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "engine/engine.h"

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

  /// Takes the pages of an earlier run (Engine::load_prefixes). A file that cannot be used stays as it is until another
  /// one is saved. What to say about it.
  std::string load(Engine& engine, uint64_t identity) const;
  /// Replaces the file, unless there is no page to keep. What to say about it.
  std::string save(const Engine& engine, uint64_t identity) const;

 private:
  PrefixDirectory(Path file, int lock) : file_(std::move(file)), lock_(lock) {}
  Path file_;
  int lock_ = -1;  // a descriptor
};

}  // namespace fathom::apps
