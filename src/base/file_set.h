// Files that belong together, and the directories they lie in: none of them appears unless all could be written.
#pragma once

#include <span>
#include <string>

#include "base/file.h"
#include "base/result.h"

namespace fathom {

struct FileText {
  Path path;
  std::string text;
};

/// All files are written aside before the first gets its name (AtomicFile). Error: no room, no permission; then older
/// files stay as they were. Only a disk that fails at the sync or the renaming can leave some new and some old, each of
/// them whole.
Status write_files(std::span<const FileText> files);

/// The directory and those above it that are missing. Each is in its parent on the disk when this returns, so that a
/// power cut does not take away what is written there next. No error when it is there.
Status make_directories(const Path& path);

}  // namespace fathom
