// Flows: traffic as a fluid. Every flow takes the largest rate that max-min fairness gives it on the links it crosses;
// when one ends, the others share what it leaves. Flows that see the same links are one class with a weight, which is
// exact.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace fathom {

/// Links and the classes that cross them. A class of `members` equal flows moves `bytes` in all; links of a symmetric
/// group may be merged into one by adding their capacities.
class FlowNetwork {
 public:
  /// The id of a new link. `name` is for errors and answers.
  int add_link(std::string name, double gbps);
  /// A class over `links` (ids); one that is given n times is crossed n times by every member.
  void add_class(double bytes, double members, std::span<const int> links);

  int num_links() const { return static_cast<int>(capacity_.size()); }
  int num_classes() const { return static_cast<int>(bytes_.size()); }
  const std::string& link_name(int link) const { return names_[static_cast<size_t>(link)]; }
  double gbps(int link) const { return capacity_[static_cast<size_t>(link)] / 1e9; }
  double bytes(int c) const { return bytes_[static_cast<size_t>(c)]; }  // of the whole class
  double members(int c) const { return members_[static_cast<size_t>(c)]; }
  std::span<const int> links(int c) const {
    const size_t from = first_[static_cast<size_t>(c)];
    return std::span(links_).subspan(from, first_[static_cast<size_t>(c) + 1] - from);
  }
  /// Bytes that cross each link.
  std::vector<double> loads() const;

  /// Whether it can be run: capacities and sizes are finite, capacities not negative, bytes and members above 0, every
  /// class has a link, and none a link without capacity. The error names link or class.
  Status check() const;

 private:
  friend class FlowSolver;
  std::vector<std::string> names_;
  std::vector<double> capacity_;         // bytes per second
  std::vector<double> bytes_, members_;  // per class
  std::vector<int> links_;               // of all classes, one after the other
  std::vector<size_t> first_ = {0};      // where a class's links begin
};

/// Rates of all classes at the start, bytes per second of the whole class: weighted max-min by progressive filling
/// (every class grows at the rate of its members until a link is full; Bertsekas and Gallager, Data Networks, 6.5.2).
/// Errors: check.
Result<std::vector<double>> max_min_rates(const FlowNetwork& network);

/// The most loaded link's bytes over its capacity, seconds: no schedule of rates is faster. For one collective whose
/// flows all start together it often is the time itself.
struct FlowBound {
  double seconds = 0;
  int link = -1;
};
Result<FlowBound> flow_bound(const FlowNetwork& network);

struct FlowRun {
  double seconds = 0;         // when the last class has ended
  std::vector<double> ended;  // [class], seconds
  int64_t num_solves = 0;     // how often rates were computed
  int64_t num_rates = 0;      // of classes that still moved, over all solves: what the run cost
};

/// What holds each class back at one moment of a run, the classes that have ended before `at_seconds` being gone: the
/// link that is full and gives it its rate; -1: it has ended. `ended`: FlowRun's, of any engine; ends within 1e-6 of
/// each other count as one.
std::vector<int> bottlenecks(const FlowNetwork& network, std::span<const double> ended, double at_seconds);

/// FlowRun::num_rates at most, then it gives up with kCancelled; none: never. A count and not a time, so that whether
/// there is an answer does not depend on what else the machine does.
using RateBudget = std::optional<int64_t>;

/// Runs all classes from 0 until each has moved its bytes. Classes whose ends lie within 1e-9 of each other end
/// together.
Result<FlowRun> run_flows(const FlowNetwork& network, const RateBudget& budget = {});

}  // namespace fathom
