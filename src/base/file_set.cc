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
  std::vector<Path> missing;  // the innermost first
  std::error_code code;
  for (Path at = path.lexically_normal(); !at.empty() && !std::filesystem::is_directory(at, code);) {
    if (at.has_filename()) missing.push_back(at);  // not the end of "a/"
    const Path above = at.parent_path();
    if (above == at) break;
    at = above;
  }
  for (auto at = missing.rbegin(); at != missing.rend(); ++at) {
    std::filesystem::create_directory(*at, code);
    if (code) return file_error("create the directory", path, code.value());
    if (auto s = sync_directory(at->has_parent_path() ? at->parent_path() : Path(".")); !s) return s;
  }
  return {};
}

}  // namespace fathom
