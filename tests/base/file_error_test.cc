// What a person reads when the system refuses: the file, the reason, the way out.
#include "base/file_error.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace fathom {
namespace {

TEST(FileError, NamesTheFileTheReasonAndTheWayOut) {
  const Error full = file_error("write", "a/b.partial", ENOSPC);
  EXPECT_EQ(full.text, "cannot write a/b.partial: No space left on device; free some space and run it again");
  EXPECT_EQ(full.code, ErrorCode::kIo);
  for (const int code : {EDQUOT, EROFS, EACCES, EPERM, EIO, EFBIG, EMFILE}) {
    EXPECT_NE(file_error("write", "a", code).text.find("; "), std::string::npos) << code;
  }
  const Error missing = file_error("open", "a", ENOENT);
  EXPECT_EQ(missing.text, "cannot open a: No such file or directory");
  EXPECT_EQ(missing.code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace fathom
