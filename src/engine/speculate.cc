#include "engine/speculate.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace fathom {

Result<SpeculationKind> parse_speculation(std::string_view name) {
  for (const SpeculationKind kind : {SpeculationKind::kNone, SpeculationKind::kMtp, SpeculationKind::kLookup}) {
    if (name == name_of(kind)) return kind;
  }
  return invalid("speculation \"" + std::string(name) + "\" is unknown; accepted: none, mtp, lookup");
}

std::string_view name_of(SpeculationKind kind) {
  switch (kind) {
    case SpeculationKind::kNone: return "none";
    case SpeculationKind::kMtp: return "mtp";
    case SpeculationKind::kLookup: return "lookup";
  }
  return "none";
}

int64_t default_num_draft(SpeculationKind kind) {
  switch (kind) {
    case SpeculationKind::kNone: return 0;
    case SpeculationKind::kMtp: return 1;
    case SpeculationKind::kLookup: return 4;
  }
  return 0;
}

Status check_speculation(const SpeculationParams& params, int64_t num_mtp_modules) {
  if (params.num_draft < 0 || params.num_draft > kMaxDraft) {
    return invalid("num_draft " + std::to_string(params.num_draft) + " is out of range; accepted: 1 to " +
                   std::to_string(kMaxDraft) + ", or 0 for the default");
  }
  if (params.kind == SpeculationKind::kMtp && num_mtp_modules == 0) {
    return invalid("speculation mtp needs a model with an MTP module, and this one has none; accepted: none, lookup");
  }
  return {};
}

std::vector<int32_t> lookup_draft(std::span<const int32_t> tokens, const LookupOptions& options) {
  const auto size = static_cast<int64_t>(tokens.size());
  const auto at = [&](int64_t i) { return tokens[static_cast<size_t>(i)]; };
  int64_t best = 0, source = 0;
  // `end` is where an earlier occurrence of the suffix would end; what follows it begins there.
  const int64_t first = std::max<int64_t>(1, size - options.max_window);
  for (int64_t end = size - 1; end >= first && best < options.max_match; --end) {
    const int64_t longest = std::min(options.max_match, end);
    int64_t match = 0;
    while (match < longest && at(end - 1 - match) == at(size - 1 - match)) ++match;
    if (match > best) {
      best = match;
      source = end;
    }
  }
  std::vector<int32_t> draft;
  if (best < std::max<int64_t>(1, options.min_match)) return draft;
  for (int64_t j = 0; j < options.num_draft; ++j) {
    const int64_t from = source + j;
    draft.push_back(from < size ? at(from) : draft[static_cast<size_t>(from - size)]);
  }
  return draft;
}

int64_t verify_draft(std::span<const int32_t> draft, const std::function<Draw(int64_t row)>& draw) {
  for (size_t j = 0;; ++j) {
    const Draw drawn = draw(static_cast<int64_t>(j));
    const bool accepted = j < draft.size() && drawn.token == draft[j];
    if (drawn.ends || !accepted) return static_cast<int64_t>(accepted ? j + 1 : j);
  }
}

void SpeculationStats::add(int64_t num_draft, int64_t num_accepted) {
  if (num_draft <= 0) return;
  ++steps;
  proposed += num_draft;
  accepted += num_accepted;
  const auto wanted = static_cast<size_t>(num_draft);
  if (position_proposed.size() < wanted) {
    position_proposed.resize(wanted);
    position_accepted.resize(wanted);
  }
  for (size_t j = 0; j < wanted; ++j) {
    ++position_proposed[j];
    if (static_cast<int64_t>(j) < num_accepted) ++position_accepted[j];
  }
}

void SpeculationStats::add_time(double plain_steps, int64_t num_accepted) {
  ++timed_steps;
  timed_tokens += 1 + num_accepted;
  timed_cost += plain_steps;
}

SpeculationStats& SpeculationStats::operator+=(const SpeculationStats& other) {
  timed_steps += other.timed_steps;
  timed_tokens += other.timed_tokens;
  timed_cost += other.timed_cost;
  steps += other.steps;
  proposed += other.proposed;
  accepted += other.accepted;
  const size_t positions = std::max(position_proposed.size(), other.position_proposed.size());
  position_proposed.resize(positions);
  position_accepted.resize(positions);
  for (size_t j = 0; j < other.position_proposed.size(); ++j) {
    position_proposed[j] += other.position_proposed[j];
    position_accepted[j] += other.position_accepted[j];
  }
  return *this;
}

double SpeculationStats::acceptance() const {
  return proposed == 0 ? 0 : static_cast<double>(accepted) / static_cast<double>(proposed);
}

double SpeculationStats::tokens_per_step() const {
  return steps == 0 ? 1 : 1 + static_cast<double>(accepted) / static_cast<double>(steps);
}

double SpeculationStats::measured_speedup() const {
  return timed_cost > 0 ? static_cast<double>(timed_tokens) / timed_cost : 0;
}

void PlainStepCost::record(int64_t num_sequences, double seconds) {
  if (!(std::isfinite(seconds) && seconds > 0)) return;
  Figure& f = figures_[num_sequences];
  if (f.seconds.size() == kRemembered) f.seconds.erase(f.seconds.begin());
  f.seconds.push_back(seconds);
  f.age = 0;
}

void PlainStepCost::age(int64_t num_sequences) { ++figures_[num_sequences].age; }

bool PlainStepCost::is_known(int64_t num_sequences) const {
  const auto found = figures_.find(num_sequences);
  return found != figures_.end() && std::ssize(found->second.seconds) >= kWarmup && found->second.age < kRefresh;
}

double PlainStepCost::seconds(int64_t num_sequences) const {
  const auto found = figures_.find(num_sequences);
  if (found == figures_.end() || found->second.seconds.empty()) return 0;
  std::vector<double> sorted = found->second.seconds;
  const auto middle = sorted.begin() + std::ssize(sorted) / 2;
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

void DraftLedger::drafted(double extra_cost, int64_t num_draft, int64_t num_accepted, int64_t max_draft, bool begins) {
  const auto tokens = static_cast<double>(std::max<int64_t>(1, num_draft));
  const double most = begins ? kMaxBeginCost : kMaxGuessCost * tokens;
  const double cost = std::isnan(extra_cost) ? 0 : std::clamp(extra_cost, 0.0, most);
  lost_ = std::max(-kMaxCredit, lost_ + cost - static_cast<double>(num_accepted));
  if (begins) {
    begin_cost_ = has_begun_ ? std::max(cost, begin_cost_ + (cost - begin_cost_) / 4) : cost;
    has_begun_ = true;
  } else {
    const double each = cost / tokens;
    guess_cost_ = has_guessed_ ? guess_cost_ + (each - guess_cost_) / 4 : each;
    has_guessed_ = true;
  }
  num_draft_ = std::min(max_draft, num_accepted >= num_draft ? 2 * num_draft : num_accepted + 1);
}

}  // namespace fathom
