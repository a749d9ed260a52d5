#include "model/choose_formats.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>

#include "model/config_reader.h"
#include "model/stored_groups.h"
#include "numerics/convert.h"
#include "numerics/decode.h"
#include "numerics/fp8.h"
#include "numerics/panels.h"

namespace fathom {
namespace {

constexpr std::array<WeightFormat, 6> kCandidates = {WeightFormat::kMxfp4, WeightFormat::kInt4, WeightFormat::kIq4Nl,
                                                     WeightFormat::kInt8,  WeightFormat::kFp8,  WeightFormat::kBF16};
constexpr int64_t kSampledBlocks = 4;  // of kScaleBlock rows

/// Memory of `n` rows in a format.
struct Rows {
  Rows(WeightFormat format, int64_t n, int64_t k) : weight(rows_of(format, n, k)) {
    codes = Storage::uninitialized(n * bytes_of(weight.codes.dtype, weight.codes.stride(0)));
    weight.codes.data = codes.data();
    if (weight.scales.rank == 0) return;
    scales = Storage::uninitialized(weight.scales.num_bytes());
    weight.scales.data = scales.data();
  }
  Weight weight;
  Storage codes, scales;
};

/// Bytes of a matrix in its checkpoint, or of a model without one in memory.
int64_t stored_bytes(const Model& model, const TensorSpec& spec, const Weight& value) {
  if (model.checkpoints.empty()) return weight_bytes(value);
  int64_t bytes = 0;
  for (const std::string& name : {spec.name, scale_name(spec.name)}) {
    const StoredTensor* stored = model.checkpoints.front().find(name);
    if (stored != nullptr) bytes += static_cast<int64_t>(stored->bytes.size());
  }
  return bytes;
}

struct Squares {
  double error = 0;
  double norm = 0;
};

/// Weighted squares of rows [first, first + count) and of what a format makes of them; infinite where it cannot.
Squares squares_of(const Weight& w, int64_t first, int64_t count, WeightFormat format, const double* channels) {
  const int64_t k = w.in_features();
  const Rows rows(format, count, k);
  Squares out;
  if (!convert_rows(w, first, rows.weight)) return {INFINITY, 1};
  std::vector<float> exact(static_cast<size_t>(k)), made(static_cast<size_t>(k));
  for (int64_t n = 0; n < count; ++n) {
    decode_row(w, first + n, exact.data());
    decode_row(rows.weight, n, made.data());
    for (size_t i = 0; i < exact.size(); ++i) {
      const double v = exact[i], d = v - double{made[i]}, m = channels == nullptr ? 1 : channels[i];
      out.error += m * d * d;
      out.norm += m * v * v;
    }
  }
  return out;
}

/// The first rows of the blocks that stand for a matrix: all of them, or some at even distances.
std::vector<int64_t> sampled_blocks(int64_t n) {
  const int64_t blocks = num_scale_blocks(n), taken = std::min(blocks, kSampledBlocks);
  std::vector<int64_t> out;
  for (int64_t i = 0; i < taken; ++i) out.push_back(i * blocks / taken * kScaleBlock);
  return out;
}

/// The relative squared error of each candidate.
std::array<double, kCandidates.size()> errors_of(const Weight& w, const InputStatistics* statistics, ThreadPool& pool) {
  const std::vector<int64_t> blocks = sampled_blocks(w.out_features());
  const auto num_blocks = static_cast<int64_t>(blocks.size());
  const double* channels = statistics != nullptr ? statistics->mean_square.data() : nullptr;
  std::vector<Squares> parts(blocks.size() * kCandidates.size());
  pool.parallel_for(static_cast<int64_t>(parts.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = blocks[static_cast<size_t>(i % num_blocks)];
      parts[static_cast<size_t>(i)] = squares_of(w, first, std::min(kScaleBlock, w.out_features() - first),
                                                 kCandidates[static_cast<size_t>(i / num_blocks)], channels);
    }
  });
  std::array<double, kCandidates.size()> errors{};
  for (size_t f = 0; f < errors.size(); ++f) {
    Squares sum;
    for (size_t b = 0; b < blocks.size(); ++b) {
      sum.error += parts[f * blocks.size() + b].error;
      sum.norm += parts[f * blocks.size() + b].norm;
    }
    errors[f] = sum.norm == 0 ? 0 : sum.error / sum.norm;  // of numbers that are none: not finite
  }
  return errors;
}

/// Drops what cannot hold the numbers, and what another format undercuts in bytes and error.
std::vector<FormatCost> undominated(std::vector<FormatCost> costs) {
  std::erase_if(costs, [](const FormatCost& cost) { return !std::isfinite(cost.error); });
  std::sort(costs.begin(), costs.end(), [](const FormatCost& a, const FormatCost& b) {
    return std::tie(a.bytes, a.error, a.format) < std::tie(b.bytes, b.error, b.format);
  });
  std::vector<FormatCost> out;
  for (const FormatCost& cost : costs) {
    if (out.empty() || cost.error < out.back().error) out.push_back(cost);
  }
  return out;
}

/// Rows that the experts of each layer saw.
std::map<int64_t, int64_t> expert_rows(const Model& model, const std::map<std::string, InputStatistics>& statistics) {
  std::map<int64_t, int64_t> rows;
  for (const TensorSpec& spec : expected_tensors(model.config)) {
    if (spec.tensor_class != TensorClass::kRoutedExpert || !spec.name.ends_with("gate_proj.weight")) continue;
    if (const auto found = statistics.find(spec.name); found != statistics.end())
      rows[spec.layer] += found->second.num_rows;
  }
  return rows;
}

}  // namespace

void InputCollector::see(Tensor x, const Weight& w) {
  const int64_t rows = x.extent(0), width = x.extent(1);
  if (rows == 0) return;
  InputStatistics& sums = sums_[w.codes.data];
  sums.mean_square.resize(static_cast<size_t>(width));
  sums.num_rows += rows;
  for (int64_t t = 0; t < rows; ++t) {
    const float* row = x.ptr<const float>() + t * x.stride(0);
    for (int64_t k = 0; k < width; ++k) sums.mean_square[static_cast<size_t>(k)] += double{row[k]} * double{row[k]};
  }
}

std::map<std::string, InputStatistics> InputCollector::by_name(const Model& model) const {
  std::map<std::string, InputStatistics> out;
  ModelWeights weights = model.weights;  // views; visiting takes them writable
  const auto add = [&](const std::string& name, const Weight& value) {
    const auto found = sums_.find(value.codes.data);
    if (found == sums_.end()) return;
    InputStatistics mean = found->second;
    for (double& v : mean.mean_square) v /= static_cast<double>(mean.num_rows);
    out[name] = std::move(mean);
  };
  visit_weights(model.config, weights, [&](const TensorSpec& spec, Weight& value, Tensor*) { add(spec.name, value); });
  return out;
}

int64_t FormatChoice::bytes() const {
  int64_t sum = fixed_bytes;
  for (const FormatGroup& group : groups) sum += group.cost().bytes;
  return sum;
}

double FormatChoice::error() const {
  double sum = 0;
  for (const FormatGroup& group : groups) {
    if (!only_guesses(group)) sum += group.cost().error;
  }
  return sum;
}

QuantPolicy FormatChoice::policy() const {
  // How often each format occurs in a class, and in a matrix of all layers.
  std::map<QuantPart, std::map<WeightFormat, int>> counts;
  for (const FormatGroup& group : groups) {
    for (const std::string& matrix : {std::string(), group.part.matrix}) {
      ++counts[{group.part.tensor_class, -1, matrix}][group.cost().format];
    }
  }
  std::map<QuantPart, WeightFormat> most;
  for (const auto& [part, formats] : counts) {
    most[part] = std::max_element(formats.begin(), formats.end(), [](const auto& a, const auto& b) {
                   return a.second < b.second;
                 })->first;
  }
  std::string text;
  const auto name = [&text](const QuantPart& part, WeightFormat format) {
    text += (text.empty() ? "" : ",") + part.text() + "=" + std::string(name_of(format));
  };
  for (const auto& [part, format] : most) {
    const bool is_class = part.matrix.empty();
    if (is_class || format != most.at({part.tensor_class, -1, ""})) name(part, format);
  }
  for (const FormatGroup& group : groups) {
    if (group.cost().format == most.at({group.part.tensor_class, -1, group.part.matrix})) continue;
    name(group.part, group.cost().format);
  }
  const auto policy = parse_quant_policy(text);
  check(policy.ok(), "a policy is written as it is read");
  return *policy;
}

Result<FormatChoice> measure_formats(const Model& model, const std::map<std::string, InputStatistics>& statistics,
                                     ThreadPool& pool, Progress& progress) {
  struct Sums {
    FormatGroup group;
    int64_t stored_bytes = 0;
    std::array<int64_t, kCandidates.size()> bytes{};
    std::array<double, kCandidates.size()> errors{};
  };
  std::vector<Sums> all;
  std::map<QuantPart, size_t> place;
  const std::map<int64_t, int64_t> rows_of_layer = expert_rows(model, statistics);
  FormatChoice choice;
  choice.num_layers = model.config.num_hidden_layers;
  const double sublayer = 1 / static_cast<double>(2 * model.config.num_hidden_layers);
  Status status;
  int64_t done = 0, total = 0;
  ModelWeights weights = model.weights;  // views; visiting takes them writable
  visit_weights(model.config, weights,
                [&](const TensorSpec&, Weight& value, Tensor*) { total += weight_bytes(value); });
  visit_weights(model.config, weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    if (!status) return;
    if (progress.stop_requested()) {
      status = cancelled("stopped while measuring formats");
      return;
    }
    done += weight_bytes(value);
    if (!may_be_quantised(spec)) return;
    const QuantPart part = quant_part_of(spec);
    const auto [found, is_new] = place.try_emplace(part, all.size());
    if (is_new) all.push_back({.group = {.part = part, .costs = {}}});
    Sums& sums = all[found->second];
    ++sums.group.num_tensors;
    sums.stored_bytes += stored_bytes(model, spec, value);
    const auto own = statistics.find(spec.name);
    const InputStatistics* channels = own == statistics.end() ? nullptr : &own->second;
    double share = spec.tensor_class == TensorClass::kHead ? 1 : sublayer;
    if (spec.tensor_class == TensorClass::kRoutedExpert) {
      const auto rows = rows_of_layer.find(spec.layer);
      const bool is_known = rows != rows_of_layer.end() && rows->second > 0;
      share *= !is_known             ? 1 / static_cast<double>(model.config.n_routed_experts)
               : channels == nullptr ? 0
                                     : static_cast<double>(channels->num_rows) / static_cast<double>(rows->second);
    }
    const auto errors = errors_of(value, channels, pool);
    for (size_t f = 0; f < kCandidates.size(); ++f) {
      sums.bytes[f] += weight_bytes(rows_of(kCandidates[f], spec.shape[0], spec.shape[1]));
      // An expert that no row came to errs for nobody, but must fit its format.
      sums.errors[f] += share > 0 || !std::isfinite(errors[f]) ? std::max(share, 1e-9) * errors[f] : 0;
    }
    progress.update("measuring formats", done / 1000000, total / 1000000, spec.name);
  });
  if (!status) return status.error();
  if (all.empty()) return invalid("the model has no matrix to quantise");
  int64_t stored = 0;
  for (Sums& sums : all) {
    std::vector<FormatCost> costs = {{WeightFormat::kStored, sums.stored_bytes, 0}};
    for (size_t f = 0; f < kCandidates.size(); ++f) costs.push_back({kCandidates[f], sums.bytes[f], sums.errors[f]});
    sums.group.costs = undominated(std::move(costs));
    stored += sums.stored_bytes;
    choice.groups.push_back(std::move(sums.group));
  }
  int64_t everything = model.checkpoints.empty() ? total : 0;
  for (const Checkpoint& checkpoint : model.checkpoints) everything += checkpoint.total_bytes();
  choice.fixed_bytes = everything - stored;
  return choice;
}

Status weigh_by_divergence(FormatChoice& choice, const MeasureDivergence& measure) {
  const auto kind_of = [](const FormatGroup& group) {
    return QuantPart{group.part.tensor_class, -1, group.part.matrix};
  };
  std::map<QuantPart, double> weights;
  double least = INFINITY;
  for (const FormatGroup& first : choice.groups) {
    const QuantPart kind = kind_of(first);
    if (kind.tensor_class == TensorClass::kMtp || weights.contains(kind)) continue;
    double error = 0;
    for (FormatGroup& group : choice.groups) {
      const bool is_probed = kind_of(group) == kind;
      group.chosen = is_probed ? 0 : group.costs.size() - 1;
      if (is_probed && !choice.only_guesses(group)) error += group.cost().error;
    }
    weights[kind] = 0;
    if (error == 0) continue;
    const auto kl = measure(choice.policy());
    if (!kl) return kl.error();
    weights[kind] = std::max(0.0, *kl) / error;
    if (weights[kind] > 0) least = std::min(least, weights[kind]);
  }
  if (!std::isfinite(least)) return {};  // nothing that was tried changed an answer
  for (FormatGroup& group : choice.groups) {
    const auto found = weights.find(kind_of(group));
    const double weight = found == weights.end() ? least : std::max(least, found->second);
    for (FormatCost& cost : group.costs) cost.error *= weight;
  }
  choice.predicts_kl = true;
  return {};
}

Status choose_within(int64_t target_bytes, FormatChoice& choice) {
  for (FormatGroup& group : choice.groups) group.chosen = 0;
  int64_t left = target_bytes - choice.bytes();
  if (left < 0) {
    return invalid("the smallest formats make " + std::to_string(choice.bytes()) + " bytes, more than the " +
                   std::to_string(target_bytes) + " asked for (" + std::to_string(choice.fixed_bytes) +
                   " of them are embedding, router, norms and kv_b_proj, which stay as stored)");
  }
  while (true) {
    FormatGroup* best = nullptr;
    size_t best_format = 0;
    double best_gain = 0;
    for (FormatGroup& group : choice.groups) {
      for (size_t f = group.chosen + 1; f < group.costs.size(); ++f) {
        const int64_t more = group.costs[f].bytes - group.cost().bytes;
        if (more > left) break;
        const double gain = (group.cost().error - group.costs[f].error) / static_cast<double>(more);
        if (gain <= best_gain) continue;
        best = &group;
        best_format = f;
        best_gain = gain;
      }
    }
    if (best == nullptr) return {};
    left -= best->costs[best_format].bytes - best->cost().bytes;
    best->chosen = best_format;
  }
}

Result<double> choose_below(double max_kl, int64_t most_bytes, int rounds, FormatChoice& choice,
                            const MeasureDivergence& measure) {
  int64_t low = 0, high = choice.fixed_bytes;
  for (FormatGroup& group : choice.groups) high += group.costs.back().bytes;
  const bool is_bounded = most_bytes > 0 && most_bytes < high;
  if (is_bounded) high = most_bytes;
  if (auto s = choose_within(high, choice); !s) return s.error();
  for (FormatGroup& group : choice.groups) group.chosen = 0;
  low = choice.bytes();
  FormatChoice best, closest;
  double best_kl = 0, closest_kl = INFINITY;
  int round = 0;
  for (; round < rounds && low <= high; ++round) {
    // The smallest first; with a limit, the largest allowed next: if that fails, all smaller ones are likely to.
    const int64_t target = round == 0 ? low : round == 1 && is_bounded ? high : low + (high - low) / 2;
    if (auto s = choose_within(target, choice); !s) return s.error();
    const auto kl = measure(choice.policy());
    if (!kl) return kl.error();
    if (*kl < closest_kl) {
      closest_kl = *kl;
      closest = choice;
    }
    if (*kl <= max_kl) {
      best = choice;
      best_kl = *kl;
      high = choice.bytes() - 1;
      if (round == 0) break;
    } else {
      low = target + 1;
    }
  }
  if (best.groups.empty()) {
    return invalid("no choice of formats with a KL of at most " + number_text(max_kl) + " was found in " +
                   std::to_string(round) + " measurements; the closest has " + number_text(closest_kl) + " at " +
                   std::to_string(closest.groups.empty() ? low : closest.bytes()) + " bytes");
  }
  choice = std::move(best);
  return best_kl;
}

}  // namespace fathom
