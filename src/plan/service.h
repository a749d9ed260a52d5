// Service: the nodes and the price of a load, from what a node is measured to do: no model, no bound.
#pragma once

#include "base/figure.h"
#include "base/result.h"
#include "plan/settings.h"

namespace fathom {

/// Whether settings ask for it: a rate of a node is given.
bool has_service(const PlanSettings& settings);

/// Nodes for prompts and for answers, each the tokens of a day / 86400 / what a node does in a second, together, whole,
/// and their price for a day, and the price of a million tokens of each kind. What was not given is left out. Errors: a
/// load without the rate of its nodes; a rate or a price that is below 1e-6.
Result<FigureGroup> plan_service(const PlanSettings& settings);

}  // namespace fathom
