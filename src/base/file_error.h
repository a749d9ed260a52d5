// What the system has against a file, as the one line that a person gets.
#pragma once

#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace fathom {

/// "cannot WHAT PATH: REASON", and behind it the way out where the reason has one. `code` is an errno. kNotFound for
/// ENOENT, else kIo.
Error file_error(std::string_view what, const Path& path, int code);

}  // namespace fathom
