// UnusedSettings: a setting that was given and that no answer depends on is a mistake, and is said so.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "plan/settings.h"

namespace fathom {

/// Error: the first of `given` ("serving.batch=64", ...) that nothing reads, because its section is not asked for, and
/// what asks for it: training needs a pipeline or a search, serving a group or a search, fabric a kind, failures a
/// rate, search and energy a question that they are part of, hardware a model. On this machine only the section machine
/// counts, elsewhere all but that (wherever its values come from).
Status check_used(const PlanSettings& settings, const std::vector<std::string>& given, bool has_model,
                  bool is_this_machine);

}  // namespace fathom
