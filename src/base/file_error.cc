#include "base/file_error.h"

#include <cerrno>
#include <system_error>

namespace fathom {
namespace {

const char* way_out(int code) {
  switch (code) {
    case ENOSPC:
    case EDQUOT: return "; free some space and run it again";
    case EROFS: return "; name a place that can be written";
    case EACCES:
    case EPERM: return "; give this user access or name another place";
    case EIO: return "; the device has failed it: see the system's log, and name another place";
    case EFBIG: return "; raise the limit of a file's size (ulimit -f) or name another file system";
    case EMFILE:
    case ENFILE: return "; raise the limit of open files (ulimit -n)";
    default: return "";
  }
}

}  // namespace

Error file_error(std::string_view what, const Path& path, int code) {
  return {code == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot " + std::string(what) + " " + path.string() +
                                                                      ": " + std::generic_category().message(code) +
                                                                      way_out(code)};
}

}  // namespace fathom
