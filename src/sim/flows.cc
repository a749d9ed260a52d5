#include "sim/flows.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <queue>

namespace fathom {

int FlowNetwork::add_link(std::string name, double gbps) {
  names_.push_back(std::move(name));
  capacity_.push_back(gbps * 1e9);
  return num_links() - 1;
}

void FlowNetwork::add_class(double bytes, double members, std::span<const int> links) {
  bytes_.push_back(bytes);
  members_.push_back(members);
  links_.insert(links_.end(), links.begin(), links.end());
  first_.push_back(links_.size());
}

std::vector<double> FlowNetwork::loads() const {
  std::vector<double> load(capacity_.size(), 0);
  for (size_t c = 0; c < bytes_.size(); ++c) {
    for (size_t k = first_[c]; k < first_[c + 1]; ++k) load[static_cast<size_t>(links_[k])] += bytes_[c];
  }
  return load;
}

Status FlowNetwork::check() const {
  for (size_t l = 0; l < capacity_.size(); ++l) {
    if (!(capacity_[l] >= 0) || !std::isfinite(capacity_[l])) {
      return invalid("link " + names_[l] + ": its capacity is " + std::to_string(capacity_[l] / 1e9) +
                     " GB/s; accepted: 0 or more");
    }
  }
  for (size_t c = 0; c < bytes_.size(); ++c) {
    const std::string name = "traffic class " + std::to_string(c);
    if (!(bytes_[c] > 0) || !std::isfinite(bytes_[c]) || !(members_[c] > 0) || !std::isfinite(members_[c])) {
      return invalid(name + ": " + std::to_string(bytes_[c]) + " bytes of " + std::to_string(members_[c]) +
                     " flows; both must be above 0");
    }
    if (first_[c] == first_[c + 1]) return invalid(name + " crosses no link, so nothing limits it");
    for (size_t k = first_[c]; k < first_[c + 1]; ++k) {
      if (links_[k] < 0 || links_[k] >= num_links()) {
        return invalid(name + ": link " + std::to_string(links_[k]) + " of " + std::to_string(num_links()));
      }
      if (capacity_[static_cast<size_t>(links_[k])] == 0) {
        return invalid(name + " crosses link " + names_[static_cast<size_t>(links_[k])] + ", which has no capacity");
      }
    }
  }
  return {};
}

/// Rates of the classes that are still moving, again and again.
class FlowSolver {
 public:
  explicit FlowSolver(const FlowNetwork& n)
      : n_(n), moving_(n.bytes_.size(), 1), rate_(n.bytes_.size(), 0), held_by_(n.bytes_.size(), -1) {
    // The classes of every link, in one list.
    classes_from_.assign(n.capacity_.size() + 1, 0);
    for (int l : n.links_) ++classes_from_[static_cast<size_t>(l) + 1];
    for (size_t l = 0; l < n.capacity_.size(); ++l) classes_from_[l + 1] += classes_from_[l];
    classes_.resize(n.links_.size());
    auto next = classes_from_;
    for (size_t c = 0; c < n.bytes_.size(); ++c) {
      for (size_t k = n.first_[c]; k < n.first_[c + 1]; ++k) classes_[next[static_cast<size_t>(n.links_[k])]++] = c;
    }
  }

  const std::vector<double>& rates() const { return rate_; }
  const std::vector<int>& held_by() const { return held_by_; }  // [class] the link whose filling fixed its rate
  void stop(size_t c) { moving_[c] = 0; }
  bool is_moving(size_t c) const { return moving_[c] != 0; }

  /// Fills links in the order in which they saturate. The share that a link can still give per member only grows as
  /// others are fixed, so an outdated entry of the queue is put back with its new share.
  void solve() {
    const size_t num_links = n_.capacity_.size();
    std::vector<double> left = n_.capacity_, weight(num_links, 0);
    std::vector<char> open = moving_;
    size_t num_open = 0;
    for (size_t c = 0; c < open.size(); ++c) {
      rate_[c] = 0;
      if (!open[c]) continue;
      ++num_open;
      for (size_t k = n_.first_[c]; k < n_.first_[c + 1]; ++k)
        weight[static_cast<size_t>(n_.links_[k])] += n_.members_[c];
    }
    std::vector<size_t> num_on(num_links, 0);  // open classes of a link: counted, as weights only cancel up to rounding
    for (size_t l = 0; l < num_links; ++l) {
      for (size_t k = classes_from_[l]; k < classes_from_[l + 1]; ++k) num_on[l] += open[classes_[k]] != 0;
    }
    using Entry = std::pair<double, size_t>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    for (size_t l = 0; l < num_links; ++l) {
      if (num_on[l] > 0) queue.emplace(left[l] / weight[l], l);
    }
    while (num_open > 0 && !queue.empty()) {
      const auto [share, l] = queue.top();
      queue.pop();
      if (num_on[l] == 0) continue;
      const double now = std::max(left[l], 0.0) / weight[l];
      if (now > share * (1 + 1e-12)) {
        queue.emplace(now, l);
        continue;
      }
      for (size_t k = classes_from_[l]; k < classes_from_[l + 1]; ++k) {
        const size_t c = classes_[k];
        if (!open[c]) continue;
        open[c] = 0;
        --num_open;
        rate_[c] = now * n_.members_[c];
        held_by_[c] = static_cast<int>(l);
        for (size_t j = n_.first_[c]; j < n_.first_[c + 1]; ++j) {
          const auto m = static_cast<size_t>(n_.links_[j]);
          left[m] -= rate_[c];
          weight[m] -= n_.members_[c];
          --num_on[m];
        }
      }
    }
  }

  double bytes(size_t c) const { return n_.bytes_[c]; }

  FlowBound bound() const {
    const std::vector<double> load = n_.loads();
    FlowBound most;
    for (size_t l = 0; l < load.size(); ++l) {
      if (load[l] > 0 && load[l] / n_.capacity_[l] > most.seconds)
        most = {load[l] / n_.capacity_[l], static_cast<int>(l)};
    }
    return most;
  }

 private:
  const FlowNetwork& n_;
  std::vector<char> moving_;
  std::vector<double> rate_;
  std::vector<int> held_by_;
  std::vector<size_t> classes_from_, classes_;
};

Result<std::vector<double>> max_min_rates(const FlowNetwork& network) {
  if (auto s = network.check(); !s) return s.error();
  FlowSolver solver(network);
  solver.solve();
  return solver.rates();
}

Result<FlowBound> flow_bound(const FlowNetwork& network) {
  if (auto s = network.check(); !s) return s.error();
  return FlowSolver(network).bound();
}

std::vector<int> bottlenecks(const FlowNetwork& network, std::span<const double> ended, double at_seconds) {
  FlowSolver solver(network);
  for (size_t c = 0; c < ended.size(); ++c) {
    if (ended[c] < at_seconds * (1 - 1e-6)) solver.stop(c);
  }
  solver.solve();
  return solver.held_by();
}

Result<FlowRun> run_flows(const FlowNetwork& network, const RateBudget& budget) {
  if (auto s = network.check(); !s) return s.error();
  FlowSolver solver(network);
  const auto num_classes = static_cast<size_t>(network.num_classes());
  FlowRun run;
  run.ended.assign(num_classes, 0);
  std::vector<double> left(num_classes);
  for (size_t c = 0; c < num_classes; ++c) left[c] = solver.bytes(c);
  for (size_t num_left = num_classes; num_left > 0;) {
    run.num_rates += static_cast<int64_t>(num_left);
    if (budget && run.num_rates > *budget) {
      return cancelled("engine maxmin gave up after " + std::to_string(run.num_solves) + " solves for " +
                       std::to_string(num_classes) + " different flows");
    }
    solver.solve();
    ++run.num_solves;
    const auto& rate = solver.rates();
    double step = -1;
    for (size_t c = 0; c < num_classes; ++c) {
      if (!solver.is_moving(c)) continue;
      // Filling gives every class a share of a link with capacity; only rounding of many orders of magnitude could take
      // it.
      if (!(rate[c] > 0))
        return invalid("traffic class " + std::to_string(c) + " gets no rate: capacities differ too much");
      if (step < 0 || left[c] / rate[c] < step) step = left[c] / rate[c];
    }
    run.seconds += step;
    for (size_t c = 0; c < num_classes; ++c) {
      if (!solver.is_moving(c)) continue;
      const double time = left[c] / rate[c];
      left[c] -= rate[c] * step;
      if (time > step * (1 + 1e-9)) continue;
      solver.stop(c);
      run.ended[c] = run.seconds;
      --num_left;
    }
  }
  return run;
}

}  // namespace fathom
