// The back ends by name, and which of them this machine can run.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/threads.h"
#include "kernels/kernels.h"

namespace fathom {

/// The names that make_kernels accepts on this machine, "ref" and "cpu" first, then the levels of the cpu back end.
std::vector<std::string> available_kernels();

/// "ref"; "cpu" (the best level of this CPU); or a level: "generic", "neon", "avx2", "avx512", "avx512bf16", "amx".
/// `pool` outlives the kernels. Errors: an unknown name, or a level that this build or this CPU does not have.
Result<std::unique_ptr<Kernels>> make_kernels(std::string_view name, ThreadPool& pool);

}  // namespace fathom
