// Run state: a training run on disk and back. Tensors go into a snapshot under their Hugging Face names (NAME: master,
// NAME.exp_avg and NAME.exp_avg_sq: moments), so that any layout of ranks can load them; the rest is JSON: how far the
// run is, with which settings, over which data. A run that resumes continues with the same bits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "train/dataset.h"
#include "train/parameters.h"
#include "train/train_config.h"

namespace fathom {

/// How far a run is.
struct RunProgress {
  int64_t step = 0;     // optimizer steps done
  int64_t tokens = 0;   // tokens seen
  int64_t samples = 0;  // cursor of the dataset
};

/// What a run is besides its numbers.
struct RunIdentity {
  const TrainConfig& config;
  const Dataset& data;
  std::string_view kernels;  // name of the back end: another one may compute other bits
};

/// Writes a snapshot into config.checkpoint_directory. Errors: save_snapshot's.
Status save_run(const RunIdentity& run, const RunProgress& progress, const Parameters& parameters);

struct ResumedRun {
  RunProgress progress;
  std::vector<std::string> notes;  // for a person: what was loaded, passed over, or changed since
};

/// Loads the newest good snapshot of config.checkpoint_directory into `parameters`; nothing when there is none.
/// Settings of the schedule may have changed and are noted. Errors: no snapshot is good; a setting that decides the
/// shape of the model, the seed, the sequence length or the training data differs (the message names it); tensors that
/// do not fit.
Result<std::optional<ResumedRun>> resume_run(const RunIdentity& run, Parameters& parameters, ThreadPool& pool);

}  // namespace fathom
