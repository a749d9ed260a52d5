// SimGridEngine: the same classes of flows on SimGrid 3.32, a simulator of others with a validated network model.
#pragma once

#include "sim/flows.h"

namespace fathom {

/// The file that holds SimGrid: Debian 12's package libsimgrid3.32. It is loaded when it is asked for; nothing is
/// linked with it, because the development package needs another Boost than this program.
inline constexpr const char* kSimGridLibrary = "libsimgrid.so.3.32";

/// Classes that are given to SimGrid at most: about 2 KB each.
inline constexpr int kMostSimGridClasses = 100'000;

/// run_flows by SimGrid: num_solves and num_rates are 0. Sizes are whole bytes there, so all are multiplied by one
/// power of two and the times divided by it: small messages stay exact. It runs in a child process, as SimGrid keeps
/// one simulation per process and ends the process on errors of its own. Ends of classes are checked: no link has
/// carried more than its capacity up to any of them (within 1e-4; SimGrid shares to 1e-5). Errors: check; more than
/// kMostSimGridClasses; sizes too far apart for whole bytes; SimGrid is not installed, with its package; what it said
/// when it failed; kCancelled on an interrupt; a link above its capacity, named. The process must have no other
/// threads.
Result<FlowRun> run_simgrid(const FlowNetwork& network);

/// Whether that library can be loaded, found out in a child process as well. The process must have no other threads.
bool has_simgrid();

}  // namespace fathom
