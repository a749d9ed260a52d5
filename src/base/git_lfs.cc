#include "base/git_lfs.h"

namespace fathom {

bool is_git_lfs_pointer(std::string_view bytes) {
  return bytes.starts_with("version https://git-lfs.github.com/spec/");
}

Error git_lfs_pointer_error(std::string_view where) {
  return corrupt(std::string(where) +
                 ": a Git LFS pointer, not the file itself; run git lfs install and git lfs pull in its directory");
}

}  // namespace fathom
