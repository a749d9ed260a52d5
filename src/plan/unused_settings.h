// UnusedSettings: a setting that was given and that no answer depends on is a mistake, and is said so.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "plan/settings.h"

namespace fathom {

/// What a command line asks for beside its settings.
struct Asked {
  bool has_model = false;
  bool is_this_machine = false;
  bool has_report = false;   // it draws all kinds of fabric
  bool has_what_if = false;  // it answers a search and the layout of the settings
};

/// Error: the first of `given` ("serving.batch=64", ...) that nothing reads, and what would make it count. A section
/// counts where it is asked for: training with a pipeline or a search, serving with a group or a search, fabric with a
/// kind, failures with a rate, search and energy with a question that they are part of, hardware with a model. In a
/// section, a setting may need others (training.tokens needs training.mfu, energy.kg_per_kwh needs energy.pue), another
/// kind of search or network (fabric.q needs slimfly), or that no search replaces it (training.pipeline). Of a network
/// also what a file gives is judged. On this machine only the section machine counts, elsewhere all but that (wherever
/// its values come from).
Status check_used(const PlanSettings& settings, const std::vector<std::string>& given, const Asked& asked);

}  // namespace fathom
