#include <algorithm>
#include <iterator>

#include "cluster/fat_tree.h"
#include "cluster/mpft.h"
#include "cluster/mrft.h"
#include "plan/paper_rows.h"
#include "sim/simulate.h"

namespace fathom::paper {
namespace {

// The answer's figure of that name; `s` has one job.
Result<double> answer_of(const Scenario& s, const char* name) {
  const auto done = simulate(s, FlowEngine::kMaxMin);
  if (!done) return done.error();
  if (const Figure* found = find_figure(done->jobs.front().figures, name)) return found->value;
  return invalid(std::string("the simulator has no figure \"") + name + "\"");
}

constexpr int64_t kNode = 8;

// Ports that a switch has for whole nodes: a leaf takes all NICs of a node, or those of one plane or rail.
int64_t ports_of(const PaperInput& in, std::string_view fabric) {
  const int64_t nics = fabric == "ft2" ? kNode : kNode / in.planes;
  return in.radix / (2 * nics) * (2 * nics);
}

// `gpus`, or as many in whole nodes as there is room for.
int64_t fitting(const Result<Fabric>& fullest, int64_t gpus) {
  return fullest ? std::min(gpus, fullest->endpoints / kNode * kNode) : gpus;  // what is refused is so when it is built
}
int64_t fitting(const PaperInput& in, std::string_view fabric, int64_t gpus) {
  const int64_t ports = ports_of(in, fabric);
  return fitting(fabric == "ft2"    ? fat_tree2(ports)
                 : fabric == "mpft" ? mpft(ports, in.planes)
                                    : mrft(ports, in.planes),
                 gpus);
}

// GPUs that both fabrics of a comparison have.
int64_t fitting_both(const PaperInput& in, int64_t gpus) { return fitting(in, "mpft", fitting(in, "mrft", gpus)); }

Scenario testbed(const PaperInput& in, const char* fabric, int64_t gpus) {
  Scenario s;
  s.network.fabric = fabric;
  s.network.gpus = gpus;
  s.network.radix = ports_of(in, fabric);
  s.network.planes = in.planes;
  s.network.nic_gbps = in.nic_effective_gbps;
  s.network.nvlink_gbps = in.nvlink_gbps;
  s.network.port_gbps = in.nic_gbps;
  s.network.latency = "InfiniBand";
  return s;
}

Status add_latencies(const PaperInput& in, Figures& out) {
  const int64_t gpus = fitting(in, "mpft", 2048), last_node = gpus - kNode;
  const struct {
    const char* name;
    const char* latency;
    int64_t to;
    double published;
  } rows[] = {{"64 B, RoCE, same leaf", "RoCE", 8, 3.6},
              {"64 B, RoCE, cross leaf", "RoCE", last_node, 5.6},
              {"64 B, InfiniBand, same leaf", "InfiniBand", 8, 2.8},
              {"64 B, InfiniBand, cross leaf", "InfiniBand", last_node, 3.7},
              {"64 B, NVLink", "InfiniBand", 1, 3.33}};
  for (const auto& row : rows) {
    Scenario s = testbed(in, "mpft", gpus);
    s.network.latency = row.latency;
    s.job.op = "send";
    s.job.bytes = 64;
    s.job.to = row.to;
    const auto us = answer_of(s, "time");
    if (!us) return us.error();
    out.push_back({"table 5",
                   row.published,
                   {row.name, *us, "us", "latency of the switches on the way + 64 B / NIC or NVLink", kPaper},
                   Agreement::kWithin,
                   0.001,
                   "the latency is an input of the simulator; the way and its switches are ours"});
  }
  return {};
}

// Figures 5 and 6: the paper prints no values; it says that both fabrics are as fast.
Status add_parity(const PaperInput& in, Figures& out) {
  const auto ratio = [&](int64_t gpus, double bytes, const char* figure) -> Result<double> {
    double value[2] = {};
    const char* fabrics[] = {"mpft", "mrft"};
    for (size_t i = 0; i < 2; ++i) {
      Scenario s = testbed(in, fabrics[i], gpus);
      s.job.op = "all-to-all";
      s.job.bytes = bytes;
      const auto one = answer_of(s, figure);
      if (!one) return one.error();
      value[i] = *one;
    }
    return value[0] / value[1];
  };
  const std::string why =
      "with PXN both carry traffic of one rail alone; values are not in the text, only that they agree";
  for (int64_t published : {32, 64, 128}) {
    const int64_t gpus = fitting_both(in, published);
    const auto same = ratio(gpus, 16.0 * (1 << 30), "algbw");
    if (!same) return same.error();
    out.push_back({"figure 5",
                   1,
                   {"MPFT over MRFT, " + std::to_string(gpus) + " GPUs", *same, "",
                    "algbw on MPFT / on MRFT, simulated, 16 GiB a rank", kPaper},
                   Agreement::kWithin,
                   0.015,
                   why});
  }
  const int64_t gpus = fitting(in, "mpft", 128);
  Scenario s = testbed(in, "mpft", gpus);
  s.job.op = "all-to-all";
  s.job.bytes = 16.0 * (1 << 30);
  const auto busbw = answer_of(s, "busbw");
  if (!busbw) return busbw.error();
  out.push_back(
      {"figure 5",
       40,
       {"all-to-all, " + std::to_string(gpus) + " GPUs, busbw", *busbw, "GB/s", "simulated, 16 GiB a rank", kPaper},
       Agreement::kAtLeast,
       0,
       "published: a NIC's effective rate (section 4.3), our input; what stays in a node does not cross it"});
  for (const auto& [bytes, text] : {std::pair{1024.0, "64 B a peer"}, {16.0 * (1 << 30), "16 GiB"}}) {
    const auto same = ratio(16, bytes, "time");
    if (!same) return same.error();
    out.push_back(
        {"figure 6",
         1,
         {"MPFT over MRFT, 16 GPUs, " + std::string(text), *same, "", "time on MPFT / on MRFT, simulated", kPaper},
         Agreement::kWithin,
         0.015,
         why});
  }
  return {};
}

// Figure 8: bars without values, read by a third party. TP 8, 4, 2 leaves 1, 2, 4 NICs a group of data-parallel ranks.
Status add_routing(const PaperInput& in, Figures& out) {
  const struct {
    int64_t tensor, nics;
    double ecmp, adaptive;
  } rows[] = {{8, 1, 45, 57}, {4, 2, 83, 103}, {2, 4, 97, 190}};
  const int64_t gpus = fitting(in, "ft2", 128), nodes = gpus / kNode;
  const int64_t stride = std::min<int64_t>(4, nodes / 2);  // 4 nodes fill a leaf of 64 ports
  const std::string formula = "all-gather in rings over every " + std::to_string(stride) + "th node of " +
                              std::to_string(nodes) + ", switches of " + std::to_string(in.radix) +
                              " ports, simulated; busbw";
  for (const auto& row : rows) {
    Scenario s = testbed(in, "ft2", gpus);
    s.network.nic_gbps = in.nic_gbps;
    s.network.pxn = false;
    s.network.latency = "none";
    s.job.op = "all-gather";
    s.job.bytes = 1e9;
    s.job.ring_gpus = row.nics;
    s.job.ring_stride = stride;
    double gbps[3] = {};
    const char* routings[] = {"adaptive", "static", "ecmp"};
    for (size_t i = 0; i < std::size(routings); ++i) {
      s.network.routing = routings[i];
      const auto one = answer_of(s, "busbw");
      if (!one) return one.error();
      gbps[i] = *one;
    }
    const std::string tp = ", TP" + std::to_string(row.tensor);
    out.push_back({"figure 8",
                   row.adaptive,
                   {"adaptive routing" + tp, gbps[0], "GB/s", formula, kPaper},
                   Agreement::kEstimate,
                   0.15,
                   "published: read from the bars by a third party; ours is the ceiling, the line rate of " +
                       std::to_string(row.nics) + (row.nics == 1 ? " NIC" : " NICs") +
                       (row.adaptive > 50 * static_cast<double>(row.nics) ? ", which the reading exceeds" : "")});
    out.push_back({"figure 8",
                   1,
                   {"static over adaptive" + tp, gbps[1] / gbps[0], "", formula, kPaper},
                   Agreement::kExact,
                   0,
                   "the bars are equal; a ring is a shift, which static routing sends without a conflict"});
    out.push_back({"figure 8",
                   row.ecmp / row.adaptive,
                   {"ECMP over adaptive" + tp, gbps[2] / gbps[0], "", formula + ", one queue pair", kPaper},
                   Agreement::kOrder,
                   0,
                   "only the order is compared: queue pairs, nodes and their places are not published; ours is the "
                   "slowest hop of one queue pair a neighbour, all of them across leaves of 64 ports"});
  }
  return {};
}

// The cluster that was built: just over 2,048 GPUs, on planes or rails.
Status add_built(const PaperInput& in, Figures& out) {
  const auto as_built = [&](const auto& make) {
    return make(in.radix, in.planes, fitting(make(in.radix, in.planes, 0), 2048));
  };
  for (const auto& [name, fabric] : {std::pair{"MPFT", as_built(mpft)}, {"MRFT", as_built(mrft)}}) {
    if (!fabric) return fabric.error();
    const std::string of = " of " + figure_text(static_cast<double>(fabric->endpoints)) + " GPUs, " + name;
    const struct {
      const char* what;
      double published;
      int64_t ours;
    } rows[] = {{"switches", 96, fabric->switches}, {"links", 2048, fabric->switch_links()}};
    for (const auto& row : rows) {
      out.push_back({"table 3, FT2",
                     row.published,
                     {row.what + of, static_cast<double>(row.ours), "", fabric->formula, kPaper},
                     Agreement::kExact,
                     0,
                     "what a tree of two layers and as many endpoints takes: planes and rails cost no more"});
    }
  }
  return {};
}

}  // namespace

Status add_measured_fabrics(const PaperInput& in, Figures& out) {
  if (auto s = add_built(in, out); !s) return s;
  if (auto s = add_latencies(in, out); !s) return s;
  if (auto s = add_parity(in, out); !s) return s;
  return add_routing(in, out);
}

}  // namespace fathom::paper
