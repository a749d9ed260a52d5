#include "base/file_set.h"

#include <vector>

#include "base/file_error.h"

namespace fathom {

Status write_files(std::span<const FileText> files) {
  std::vector<AtomicFile> aside;
  for (const FileText& file : files) {
    auto out = AtomicFile::create(file.path);
    if (!out) return out.error();
    if (auto s = out->write(file.text); !s) return s;
    aside.push_back(*std::move(out));
  }
  for (AtomicFile& file : aside) {
    if (auto s = file.commit(); !s) return s;
  }
  return {};
}

Status make_directories(const Path& path) {
  std::error_code code;
  if (path.empty() || std::filesystem::is_directory(path, code)) return {};
  const Path parent = path.has_filename() ? path.parent_path() : path.parent_path().parent_path();
  if (auto s = make_directories(parent); !s) return s;
  std::filesystem::create_directory(path, code);
  if (code) return file_error("create the directory", path, code.value());
  return sync_directory(parent.empty() ? Path(".") : parent);
}

}  // namespace fathom
