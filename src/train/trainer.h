// Trainer: a whole training run on one process: data, objective, optimizer, schedule, router bias, log, validation,
// snapshots, export. Its numbers depend on the settings and the kernels alone: neither on threads nor on where the run
// was interrupted.
//
// Log: JSON lines, {"step", "tokens", "loss.main", "loss.mtp", "loss.balance", "lr", "grad_norm", "max_vio",
// "tokens_per_s"} per step, with "validation.loss" and "validation.bits_per_byte" where a validation follows the step;
// {"event": "resume", "step", "notes"} where a run resumed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/arena.h"
#include "base/progress.h"
#include "base/threads.h"
#include "kernels/kernels.h"
#include "report/jsonl.h"
#include "train/dataset.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/parameters.h"
#include "train/run_state.h"
#include "train/train_config.h"

namespace fathom {

/// What one optimizer step did.
struct StepReport {
  int64_t step = 0;    // steps done, this one included
  int64_t tokens = 0;  // tokens seen, this step's included
  SlotLoss loss;
  double learning_rate = 0;
  double gradient_norm = 0;  // before clipping
  double max_vio = 0;        // largest over layers of (largest expert count / mean count) - 1; 0 for dense models
  double tokens_per_s = 0;
};

struct ValidationReport {
  double loss = 0;                      // mean cross-entropy, nats per token
  std::optional<double> bits_per_byte;  // absent when the shards do not say how many bytes of text they hold
};

class Trainer {
 public:
  /// Opens the data and prepares the weights: resumed from the newest good snapshot of checkpoint.directory, else
  /// copied from model.from, else new. Nothing is written. `kernels` and `pool` must outlive the trainer. Errors name
  /// the setting or the file; an export directory that exists is refused here, not after hours.
  static Result<std::unique_ptr<Trainer>> create(const TrainConfig& config, Kernels& kernels, ThreadPool& pool);

  /// Trains to the last step, then validates, exports and writes the report. When progress asks to stop, the step is
  /// finished, a snapshot written, and kCancelled returned. Errors: those of step(); a file that cannot be written.
  Status run(Progress& progress);

  /// One optimizer step. Error: a loss or a gradient is not finite; the message names the step and where it was seen,
  /// and neither weights nor files have changed.
  Result<StepReport> step();

  /// Forward only, over the fixed windows of the validation shards, which must be configured.
  ValidationReport validate();

  /// Writes a snapshot to checkpoint.directory, which must be configured. Error: a weight is not finite; save_run's.
  Status save();

  const RunProgress& progress() const { return progress_; }
  const Parameters& parameters() const { return parameters_; }
  Parameters& parameters() { return parameters_; }
  /// What resuming had to say, line by line.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  Trainer(const TrainConfig& config, const ModelConfig& model, Dataset data, std::optional<Dataset> validation,
          Kernels& kernels, ThreadPool& pool);
  Status prepare_weights();
  Status check_outputs() const;
  Status start_from_checkpoint();
  Status open_log();
  Status record(const StepReport& report, const std::optional<ValidationReport>& validation);
  Status write_settings() const;
  Status finish();
  Run run_context();
  RunIdentity identity() const { return {.config = config_, .data = data_, .kernels = kernels_.name()}; }
  bool is_due(int64_t every) const { return every > 0 && progress_.step % every == 0; }

  TrainConfig config_;
  Dataset data_;
  std::optional<Dataset> validation_;
  Kernels& kernels_;
  ThreadPool& pool_;
  Parameters parameters_;
  Transformer model_;
  GradientTree tree_;
  Arena arena_;
  RunProgress progress_;
  std::vector<std::string> notes_;
  std::optional<JsonlWriter> log_;
  std::vector<Json> records_;
};

}  // namespace fathom
