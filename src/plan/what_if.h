// WhatIf: named changes of a model, a machine or the settings, and every figure that depends on them: before, after,
// ratio. Each is something that the formulas of plan know; what they do not know has no name here.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "plan/answers.h"
#include "plan/settings.h"

namespace fathom {

struct WhatIf {
  const char* name;
  const char* change;  // "serving.kv = fp8"
  const char* source;
};
const std::vector<WhatIf>& what_ifs();

/// The case after the change. Errors: an unknown name (all are listed); a change that this case cannot take.
Result<PlanCase> changed(std::string_view name, PlanCase plan_case);

/// A figure that the change moves, adds (no before) or takes away (no after).
struct ChangedFigure {
  std::string group;
  std::optional<Figure> before, after;

  /// after / before; none where one is absent or before is 0.
  std::optional<double> ratio() const;
};
std::vector<ChangedFigure> compare(const std::vector<FigureGroup>& before, const std::vector<FigureGroup>& after);

/// [{"group", "name", "unit", "before", "after", "ratio", "formula", "source"}].
Json to_json(const std::vector<ChangedFigure>& figures);

}  // namespace fathom
