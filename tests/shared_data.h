// The shared test data beside the checkout. A test that needs it and cannot find it is skipped by name; CI has it.
#pragma once

#include <gtest/gtest.h>

#include "base/file.h"

namespace fathom::testing {

inline Path shared_data() { return Path(FATHOM_SHARED_DIR) / "data"; }

/// A directory that is removed with everything in it at the end of the test.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "fathom-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const Path& path() const { return path_; }

 private:
  Path path_;
};

}  // namespace fathom::testing
