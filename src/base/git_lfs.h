// Git LFS: what a clone without it has in place of large files, a few lines that name them.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace fathom {

/// Whether a file with these bytes is such a pointer (specification of Git LFS, version 1).
bool is_git_lfs_pointer(std::string_view bytes);

/// The error of opening one, for the file `where`: what it is and how the file itself is got.
Error git_lfs_pointer_error(std::string_view where);

}  // namespace fathom
