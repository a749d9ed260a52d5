// Which back ends exist on this machine, by name.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/threads.h"
#include "kernels/kernels.h"

namespace fathom {

std::vector<std::string> available_kernels();
Result<std::unique_ptr<Kernels>> make_kernels(std::string_view name, ThreadPool& pool);

}  // namespace fathom
