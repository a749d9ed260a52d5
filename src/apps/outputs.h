// What a verb writes must be nothing that it reads or writes besides.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace fathom::apps {

/// A file that a verb writes, and the flag that names it. An empty path is none.
struct Output {
  std::string flag;
  std::string path;
};

/// Errors: an output that is one of `inputs` (files, or names of none), or an earlier output; by name where they do not
/// exist yet, through links where they do. The line names the flag and the path.
Status check_outputs(const std::vector<Output>& outputs, const std::vector<std::string>& inputs);

}  // namespace fathom::apps
