// Choosing formats: which format each matrix of a model is quantised to, from the error that each would make.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "model/model.h"
#include "model/quant_policy.h"
#include "model/run.h"
#include "model/tensor_plan.h"

namespace fathom {

/// Mean squares of the inputs of a matrix, channel by channel, over the rows that it multiplied.
struct InputStatistics {
  std::vector<double> mean_square;  // [K]
  int64_t num_rows = 0;
};

/// Collects them from passes whose Run::observer it is.
class InputCollector final : public ProductObserver {
 public:
  void see(Tensor x, const Weight& w) override;
  /// By the name of the tensor. `model` is the one that was run.
  std::map<std::string, InputStatistics> by_name(const Model& model) const;

 private:
  std::map<const void*, InputStatistics> sums_;  // by the codes' memory; squares not yet divided
};

/// A format of a group: what it costs in a file and how much it errs.
struct FormatCost {
  WeightFormat format = WeightFormat::kStored;
  int64_t bytes = 0;
  double error = 0;
};

/// One matrix of a layer, or that matrix of all its routed experts, which get one format (as in a GGUF file, where they
/// are one tensor). Its error is
///   share * sum_nk m_k (w_nk - quantised w_nk)^2 / sum_nk m_k w_nk^2,
/// m_k the mean square of input channel k (1 without calibration), share 1, and of routed experts the sum of that,
/// share the part of the layer's rows that came to an expert (1 / E without). It is the relative squared error of what
/// the matrix gives, were channels independent; times what that does to the logits (FormatChoice).
struct FormatGroup {
  QuantPart part;
  int64_t num_tensors = 0;
  std::vector<FormatCost> costs;  // those that no other undercuts in both: ascending in bytes, descending in error
  size_t chosen = 0;

  const FormatCost& cost() const { return costs[chosen]; }
};

/// Errors add up: measure_formats takes them as relative squared errors of the logits, where each of the 2 L sublayers
/// is 1 / (2 L) of what the head sees; weigh_by_divergence makes them nats.
struct FormatChoice {
  std::vector<FormatGroup> groups;  // in the order of the plan
  int64_t num_layers = INT64_MAX;   // later ones are MTP modules
  bool predicts_kl = false;         // errors are nats per token
  int64_t fixed_bytes = 0;          // of what no policy quantises

  /// Of an MTP module: no answer depends on it.
  bool only_guesses(const FormatGroup& group) const { return group.part.layer >= num_layers; }
  int64_t bytes() const;
  /// Of what answers depend on.
  double error() const;
  /// The policy: a class has the format that most of its matrices have; then those are named that most layers have
  /// otherwise, then single ones.
  QuantPolicy policy() const;
};

/// Measures every format on every group of a model in rows. Of a large matrix four blocks of 128 rows are taken for the
/// whole. Errors: kCancelled; nothing to quantise.
Result<FormatChoice> measure_formats(const Model& model, const std::map<std::string, InputStatistics>& statistics,
                                     ThreadPool& pool, Progress& progress);

/// Nats per token of the calibration text between the model and itself in a policy's formats.
using MeasureDivergence = std::function<Result<double>(const QuantPolicy&)>;

/// Weighs errors by what they do: one kind of matrix after the other (a matrix of a class, in all layers) goes into its
/// smallest formats while all others stay as stored, and its errors are scaled so that they add up to the KL that
/// `measure` finds. What an MTP module guesses changes no answer: its own matrices count as the least of the others,
/// those of its layer as the same matrices elsewhere. Errors: measure's.
Status weigh_by_divergence(FormatChoice& choice, const MeasureDivergence& measure);

/// Chooses: every group in its smallest format, then step by step the change that takes away most error per byte, while
/// the whole stays within `target_bytes`. Error: the smallest formats do not fit.
Status choose_within(int64_t target_bytes, FormatChoice& choice);

/// The smallest choice, by bisection over bytes, that `measure` (KL in nats per token) finds below `max_kl`, in at most
/// `rounds` measurements; `most_bytes` (0: no limit) bounds it. Errors: none was found, with the closest; measure's.
Result<double> choose_below(double max_kl, int64_t most_bytes, int rounds, FormatChoice& choice,
                            const MeasureDivergence& measure);

}  // namespace fathom
