// Simulate: the planner's questions about networks with known answers.
#include "sim/simulate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <tuple>

#include "../effort.h"
#include "scenario_cases.h"

namespace fathom {
namespace {

double figure(const Simulation& s, const std::string& name, size_t job = 0) {
  for (const Figure& f : s.jobs[job].figures) {
    if (f.name == name) return f.value;
  }
  for (const Figure& f : s.work) {
    if (f.name == name) return f.value;
  }
  ADD_FAILURE() << "no figure " << name;
  return std::nan("");
}

double busbw(const Scenario& s, FlowEngine engine = FlowEngine::kAuto) { return figure(run(s, engine), "busbw"); }

// Questions 6 and 7: the figures of network-planning 3.1, and parity of planes and rails.
TEST(Simulate, AllToAllOfPlanesAndRails) {
  for (const auto& [gpus, expected] : {std::pair{32, 51.67},
                                       {64, 45.00},
                                       {128, 42.33},
                                       {256, 41.13},
                                       {512, 40.56},
                                       {1024, 40.28},
                                       {2048, 40.14},
                                       {16384, 40.02}}) {
    Scenario s = all_to_all(gpus);
    EXPECT_NEAR(busbw(s), expected, 0.005) << gpus;
    EXPECT_NEAR(busbw(s, FlowEngine::kBound), expected, 0.005) << gpus;
    if (gpus > 2048) continue;  // two layers hold no more rails
    s.network.fabric = "mrft";
    EXPECT_NEAR(busbw(s) / expected, 1, 0.015) << gpus;
  }
  Scenario tree = all_to_all(16384);
  tree.network.fabric = "ft3";
  EXPECT_NEAR(busbw(tree), 40.02, 0.005);
  for (int64_t planes : {1, 2, 4}) {
    Scenario s = all_to_all(2048);
    s.network.planes = planes;
    EXPECT_NEAR(busbw(s), 40.14, 0.005) << planes;
  }
}

// 268 million flows are a handful of classes and one solve: that is what makes it take milliseconds.
TEST(Simulate, TheLargestAllToAllIsAFewClasses) {
  const Simulation s = run(all_to_all(16384));
  EXPECT_EQ(s.engine, FlowEngine::kMaxMin);
  EXPECT_EQ(figure(s, "flows"), 16384.0 * 16383);
  EXPECT_LE(figure(s, "different flows"), 8);
  EXPECT_LE(figure(s, "solves"), 4);
  ASSERT_GE(s.links.size(), 3u);
  EXPECT_EQ(s.links[0].name.rfind("NIC ", 0), 0u);
  EXPECT_NEAR(s.links[0].seconds, s.jobs[0].seconds, 1e-9);
  EXPECT_EQ(s.links[0].alike, 16384);
}

// Windows take turns, but the links that limit have carried the bytes of all of them.
TEST(Simulate, LinksCarryWhatAllWindowsPutOnThem) {
  Scenario s = all_to_all(128);
  const Simulation whole = run(s);
  s.job.window = 4;
  const Simulation in_windows = run(s);
  ASSERT_EQ(whole.links.size(), in_windows.links.size());
  for (size_t i = 0; i < whole.links.size(); ++i) {
    EXPECT_NEAR(whole.links[i].bytes, in_windows.links[i].bytes, 1e-6 * whole.links[i].bytes) << whole.links[i].name;
  }
}

// Question 22, and the asymmetric cases of network-planning 3.2.
TEST(Simulate, FailuresCostWhatTheOracleSays) {
  const auto lost = [](Scenario s) { return figure(run(s), "bandwidth against healthy"); };
  Scenario plane = all_to_all(128);
  plane.fail.plane = 0;
  EXPECT_NEAR(lost(plane), -13, 0.6);  // evenly over seven: exactly 7/8
  plane.fail.spread = false;
  EXPECT_NEAR(lost(plane), -50, 0.1);
  Scenario nic = all_to_all(256);
  nic.fail.nic = 3;
  EXPECT_NEAR(lost(nic), -13, 0.6);
  nic.fail.spread = false;
  EXPECT_NEAR(lost(nic), -50, 0.1);
  for (const auto& [gpus, uplinks, expected] :
       {std::tuple{1024, 24, 16.65}, {2048, 16, 28.56}, {2048, 24, 14.28}, {16384, 16, 25.40}, {16384, 24, 12.70}}) {
    Scenario s = all_to_all(gpus);
    s.fail.uplinks = uplinks;
    EXPECT_NEAR(busbw(s), expected, 0.005) << gpus << " " << uplinks;
  }
  Scenario leaf = all_to_all(2048);
  leaf.fail.uplinks = 16;
  EXPECT_NEAR(lost(leaf), -29, 0.5);
  EXPECT_EQ(run(leaf).links[0].name.rfind("leaf ", 0), 0u);
}

// A dead leaf in every tree: its nodes have 7 of 8 NICs and everybody waits for them; one plane cannot lose it.
TEST(Simulate, ALeafThatIsDead) {
  for (const char* fabric : {"mpft", "mrft"}) {
    Scenario s = all_to_all(1024);
    s.network.fabric = fabric;
    s.fail.leaf = 3;
    const Simulation spread = run(s);
    EXPECT_NEAR(figure(spread, "bandwidth against healthy"), -12.5, 0.01) << fabric;
    EXPECT_NE(
        spread.cluster.find(std::string("leaf 0 of ") + (s.network.fabric == "mrft" ? "rail" : "plane") + " 3 dead"),
        std::string::npos)
        << spread.cluster;
    const auto cluster = cluster_of(s);
    EXPECT_EQ(spread.loads.busy_bytes(*cluster, {LinkKind::kNicOut, 5, 3, -1}), 0) << fabric;
    EXPECT_GT(spread.loads.busy_bytes(*cluster, {LinkKind::kNicOut, 32, 3, -1}), 0) << fabric;
    s.fail.spread = false;
    EXPECT_NEAR(figure(run(s), "bandwidth against healthy"), -50, 0.1) << fabric;
  }
  for (const auto& [fabric, gpus, left] : {std::tuple{"ft2", 512, "480"}, {"ft3", 4096, "4064"}}) {
    Scenario s = all_to_all(gpus);
    s.network.fabric = fabric;
    s.fail.leaf = 0;
    const auto refused = simulate(s, FlowEngine::kAuto);
    ASSERT_FALSE(refused.ok()) << fabric;
    EXPECT_NE(refused.error().text.find("cuts off; what is left is network.gpus = " + std::string(left)),
              std::string::npos)
        << refused.error().text;
    s.network.gpus = std::stoi(left);  // the way out
    s.fail.leaf = -1;
    EXPECT_GT(busbw(s), 40) << fabric;
  }
}

// Question 8: DeepEP's published dispatch; question 10: what node-limited routing saves.
TEST(Simulate, DispatchMatchesDeepEp) {
  Scenario s;
  s.network.nic_gbps = 43.5;
  s.network.nvlink_gbps = 126;
  s.job.op = "dispatch";
  s.job.bytes = 7392;
  for (const auto& [gpus, expected] : {std::pair{16, 43.05}, {32, 58.02}, {64, 50.58}, {128, 45.34}}) {
    s.network.gpus = gpus;
    EXPECT_NEAR(figure(run(s), "logical bandwidth") / expected, 1, 0.05) << gpus;
  }
  s.network.gpus = 16;
  EXPECT_EQ(run(s).links[0].name.rfind("NVLink", 0), 0u);
  s.network.gpus = 64;
  EXPECT_EQ(run(s).links[0].name.rfind("NIC", 0), 0u);
  const double limited = figure(run(s), "nodes per token");
  s.job.max_nodes = 8;
  EXPECT_NEAR(limited, 3.63, 0.03);
  EXPECT_NEAR(figure(run(s), "nodes per token"), 5.29, 0.02);  // 5.25 if an expert could be drawn twice
  // Combine goes the same ways backwards.
  s.job.op = "combine";
  const double combine = run(s).jobs[0].seconds;
  ASSERT_EQ(run(s).jobs[0].notes.size(), 1u);
  EXPECT_NE(run(s).jobs[0].notes[0].find("job.efficiency"), std::string::npos);
  s.job.op = "dispatch";
  EXPECT_NEAR(combine / run(s).jobs[0].seconds, 1, 1e-9);
  EXPECT_TRUE(run(s).jobs[0].notes.empty());
  // Its kernels are slower on the same links.
  s.job.op = "combine";
  s.job.bytes = 14336;
  s.job.max_nodes = 4;
  s.job.efficiency = 0.94;
  for (const auto& [gpus, expected] : {std::pair{16, 41.6}, {32, 56.96}, {64, 48.54}, {128, 42.47}}) {
    s.network.gpus = gpus;
    EXPECT_NEAR(figure(run(s), "logical bandwidth") / expected, 1, 0.05) << gpus;
  }
  EXPECT_TRUE(run(s).jobs[0].notes.empty());
}

// Question 9: with the line through the published latencies.
TEST(Simulate, LowLatencyKernels) {
  Scenario s;
  s.job.op = "dispatch";
  s.job.direct = true;
  s.job.tokens = 128;
  s.job.max_nodes = 32;
  for (const auto& [gpus, dispatch, combine] :
       {std::tuple{16, 118, 195}, {32, 155, 273}, {64, 173, 314}, {128, 192, 369}, {256, 194, 360}}) {
    s.network.gpus = gpus;
    s.network.nic_gbps = 46.3;
    s.job.op = "dispatch";
    s.job.efficiency = 1;
    s.job.alpha_us = 34.6;
    s.job.bytes = 7392;
    EXPECT_NEAR(figure(run(s), "time") / dispatch, 1, 0.06) << gpus;
    s.job.op = "combine";
    s.job.efficiency = 0.862;  // 39.9 of 46.3 GB/s
    s.job.alpha_us = 5.7;
    s.job.bytes = 14336;
    EXPECT_NEAR(figure(run(s), "time") / combine, 1, 0.06) << gpus;
  }
}

// Question 20: rings of which every hop leaves its leaf, hashed by ECMP, against adaptive and static routing.
TEST(Simulate, EcmpRingsAreAsSlowAsTheirWorstHop) {
  Scenario s;
  s.network.fabric = "ft2";
  s.network.gpus = 512;
  s.network.gpus_per_node = 1;
  s.network.nic_gbps = 50;
  s.job.op = "all-gather";
  s.job.bytes = 1e9;
  s.job.ring_stride = 32;
  for (const char* routing : {"adaptive", "static"}) {
    s.network.routing = routing;
    EXPECT_NEAR(busbw(s), 50, 1e-6) << routing;
  }
  s.network.routing = "ecmp";
  for (const auto& [queue_pairs, expected] : {std::pair{1, 0.20}, {2, 0.29}, {4, 0.36}, {8, 0.44}, {16, 0.55}}) {
    s.job.queue_pairs = queue_pairs;
    std::vector<double> shares, of_uplinks;
    for (int64_t seed = 0; seed < 21; ++seed) {
      s.network.seed = seed;
      const Simulation answer = run(s, FlowEngine::kBound);
      shares.push_back(figure(answer, "busbw") / 50);
      double nic = 0, uplink = 0;
      for (const auto& [key, load] : answer.loads.by_group) {
        if (key.kind == LinkKind::kNicOut) nic = load.bytes;
        if (key.kind == LinkKind::kLeafUp) uplink = std::max(uplink, load.bytes);
      }
      of_uplinks.push_back(nic / uplink);
    }
    std::sort(shares.begin(), shares.end());
    std::sort(of_uplinks.begin(), of_uplinks.end());
    // The expected medians are of uplinks alone. Hashed downlinks are a second draw, so it is these or a little less.
    // Messages on the fullest uplink are a whole number, whose median over 21 draws is known within one.
    EXPECT_NEAR(queue_pairs / of_uplinks[10], std::round(queue_pairs / expected), 1 + 1e-9) << queue_pairs;
    EXPECT_LE(shares[10], expected + 0.01) << queue_pairs;
    EXPECT_GE(shares[10], expected - 0.05) << queue_pairs;
  }
}

// A plane of 8 leaves with 32 NICs of 43.5 GB/s and 32 uplinks of 50 GB/s to 4 spines, counted by hand: the seconds per
// byte that each window of `window` peers needs, every message hashed to an uplink and, below its spine, a downlink. A
// node's peers follow each other at distances `stride` apart, from `first` on.
std::vector<double> hashed_windows(int window, int stride, int first, std::mt19937& random) {
  constexpr int kNics = 256, kLeaf = 32, kSpines = 4;
  std::vector<double> seconds;
  for (int peers = 0, i = 0; peers < kNics - 1;) {
    std::vector<int> up(kNics, 0), down(kNics, 0);
    int in_flight = 0;
    for (; in_flight < window && peers < kNics - 1; ++i) {
      const int distance = (first + i * stride) % kNics;
      if (distance == 0) continue;
      ++in_flight, ++peers;
      for (int u = 0; u < kNics; ++u) {
        const int from = u / kLeaf, to = (u + distance) % kNics / kLeaf;
        if (from == to) continue;
        const int port = static_cast<int>(random() % kLeaf);
        ++up[from * kLeaf + port];
        ++down[to * kLeaf + port % kSpines + kSpines * static_cast<int>(random() % (kLeaf / kSpines))];
      }
    }
    const int most = std::max(*std::max_element(up.begin(), up.end()), *std::max_element(down.begin(), down.end()));
    seconds.push_back(std::max(most / 50.0, in_flight / 43.5));
  }
  return seconds;
}

TEST(Simulate, AWindowMakesEcmpWorse) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "thousands of windows; the usual round runs it";
  Scenario s = all_to_all(256);
  s.network.fabric = "ft2";
  s.network.gpus_per_node = 1;
  s.network.nic_gbps = 43.5;
  s.network.routing = "ecmp";
  std::mt19937 random(1);
  double last = 0;
  for (const auto& [window, reference] :
       {std::pair{1, 0.29}, {2, 0.36}, {4, 0.45}, {8, 0.59}, {16, 0.71}, {32, 0.78}, {64, 0.91}}) {
    s.job.window = window;
    // The same procedure by other code and other hashes.
    constexpr int kSeeds = 4, kDraws = 10;
    double share = 0, counted = 0;
    for (int64_t seed = 1; seed <= kSeeds; ++seed) {
      s.network.seed = seed;
      share += busbw(s, FlowEngine::kBound) / 43.5 / kSeeds;
    }
    for (int draw = 0; draw < kDraws; ++draw) {
      const auto seconds = hashed_windows(window, 1, 1, random);
      counted += 255 / 43.5 / std::accumulate(seconds.begin(), seconds.end(), 0.0) / kDraws;
    }
    EXPECT_NEAR(share / counted, 1, 0.02) << window;
    // The reference's: the mean rate of 12 windows of peers 37 apart. Its figures are such a mean.
    std::vector<double> rates;
    while (rates.size() < 300) {
      const int first = 1 + static_cast<int>(random() % 255);
      rates.push_back(window / 43.5 / hashed_windows(window, 37, first, random)[0]);
    }
    const double mean = std::accumulate(rates.begin(), rates.end(), 0.0) / static_cast<double>(rates.size());
    double variance = 0;
    for (double rate : rates) variance += (rate - mean) * (rate - mean) / static_cast<double>(rates.size() - 1);
    EXPECT_NEAR(mean, reference, 3 * std::sqrt(variance / 12) + 0.005) << window;
    EXPECT_GT(share, last);
    // DeepEP issue 82: RoCE without adaptive routing had 29.9 of InfiniBand's 58 GB/s.
    if (window == 4) {
      EXPECT_LT(share, 29.9 / 58);
    } else if (window == 8) {
      EXPECT_GT(share, 29.9 / 58);
    }
    last = share;
  }
  s.network.routing = "adaptive";
  EXPECT_NEAR(busbw(s, FlowEngine::kBound) / 43.5, 1, 1e-9);
}

// What limits is named: a window where no link is needed all the time, and the link where one is.
TEST(Simulate, TheLimitIsTheWindowOrTheLink) {
  if (testing::effort() == testing::Effort::kLittle) GTEST_SKIP() << "65,280 rates; the usual round runs it";
  Scenario s = all_to_all(256);
  s.network.fabric = "ft2";
  s.network.gpus_per_node = 1;
  s.network.nic_gbps = 43.5;
  const auto limit = [&](FlowEngine engine = FlowEngine::kBound) { return run(s, engine).jobs[0].limit; };
  EXPECT_EQ(limit().resource.rfind("NIC ", 0), 0u) << limit().text;
  s.job.window = 8;  // adaptive: the NIC is full in every window
  EXPECT_EQ(limit().resource.rfind("NIC ", 0), 0u) << limit().text;
  s.network.routing = "ecmp";
  EXPECT_EQ(limit().resource, "window");
  EXPECT_EQ(limit(FlowEngine::kMaxMin).resource, "window");
  EXPECT_EQ(limit().text.rfind("window of 8 peers: the fullest link is ", 0), 0u) << limit().text;
  const double share = figure(run(s, FlowEngine::kBound), "of them the limiting link's");
  EXPECT_GT(share, 50);
  EXPECT_LT(share, 80);
  s.job.window = 255;  // all at once: an uplink sums so many flows that hashes even out
  EXPECT_EQ(limit().resource.rfind("NIC ", 0), 0u) << limit().text;
  s.network.port_gbps = 40;
  EXPECT_EQ(limit().resource.rfind("leaf ", 0), 0u) << limit().text;
  s.network.port_gbps = 50;
  // Small messages: a latency per window, or one.
  s.job.window = 0;
  s.job.bytes = 1e4;
  s.network.routing = "adaptive";
  s.network.latency = "RoCE";
  EXPECT_EQ(limit().resource, "latency");
  s.job.window = 8;
  EXPECT_EQ(limit().resource, "window");
  s.job.alpha_us = 1e6;
  EXPECT_EQ(limit().resource, "software");
}

// Gigabits in a place for gigabytes.
TEST(Simulate, ANicFarAboveItsPortIsNoted) {
  Scenario s = all_to_all(128);
  EXPECT_TRUE(run(s).notes.empty());
  s.network.nic_gbps = 400;
  ASSERT_EQ(run(s).notes.size(), 1u);
  EXPECT_NE(run(s).notes[0].find("3,200 Gb/s"), std::string::npos) << run(s).notes[0];
}

// Each job has the limit of the links that it crosses itself.
TEST(Simulate, WhatChangesNothingIsNoted) {
  const auto notes_of = [](const Scenario& s) {
    const auto answer = simulate(s, FlowEngine::kAuto);
    EXPECT_TRUE(answer.ok()) << (answer ? "" : answer.error().text);
    return answer ? answer->notes : std::vector<std::string>{};
  };
  Scenario s = all_to_all(128);
  EXPECT_TRUE(notes_of(s).empty());
  s.network.fabric = "ft2";
  s.network.planes = 4;
  EXPECT_EQ(notes_of(s),
            std::vector<std::string>{"network.planes = 4 changes nothing: ft2 has none; mpft and mrft have"});
  s = all_to_all(128);
  s.fail = {.plane = 1, .leaf = 1, .nic = 1};
  EXPECT_EQ(notes_of(s), (std::vector<std::string>{"fail.leaf = 1 changes nothing: it is dead with fail.plane",
                                                   "fail.nic = 1 changes nothing: it is dead with fail.plane"}));
  s.fail = {.leaf = 1, .nic = 1};
  EXPECT_EQ(notes_of(s), std::vector<std::string>{"fail.nic = 1 changes nothing: it is dead with fail.leaf"});
  s.fail = {.plane = 0, .leaf = 1, .nic = 2};
  EXPECT_TRUE(notes_of(s).empty());
  s = all_to_all(64);
  s.failures = {.gpu_mtbf_h = 5e4, .link_mtbf_h = 1e6, .checkpoint_min = 1};
  EXPECT_EQ(notes_of(s),
            std::vector<std::string>{"failures.link_mtbf_h changes nothing: 64 GPUs need no link between switches"});
  s = all_to_all(128);
  s.network.seed = 5;
  s.job.queue_pairs = 8;
  s.job.weight = 2;
  EXPECT_EQ(notes_of(s), (std::vector<std::string>{"network.seed = 5 changes nothing: it is of ECMP's hash",
                                                   "job.queue_pairs = 8 changes nothing: ECMP alone hashes them",
                                                   "job.weight = 2 changes nothing: no other job shares its links"}));
  s.network.routing = "ecmp";
  s.also[0].op = "all-gather";
  s.also[0].bytes = 1e6;
  EXPECT_TRUE(notes_of(s).empty());
}

TEST(Simulate, EveryJobHasItsOwnLimit) {
  Scenario s = all_to_all(128);
  s.also[0].op = "send";
  s.also[0].bytes = 1e9;
  s.also[0].from = 8;
  s.also[0].to = 9;
  s.also[2].op = "all-gather";  // also2 is left out
  s.also[2].bytes = 1e9;
  const Simulation answer = run(s);
  ASSERT_EQ(answer.jobs.size(), 3u);
  EXPECT_EQ(answer.jobs[0].name + answer.jobs[1].name + answer.jobs[2].name, "jobalsoalso3");
  EXPECT_EQ(answer.jobs[0].limit.resource.rfind("NIC ", 0), 0u) << answer.jobs[0].limit.text;
  EXPECT_EQ(answer.jobs[1].limit.resource.rfind("NVLink ", 0), 0u) << answer.jobs[1].limit.text;
  EXPECT_NE(answer.jobs[0].limit.text.find(", which all its jobs together need for "), std::string::npos)
      << answer.jobs[0].limit.text;
}

TEST(Simulate, CountsAndPricesOfTheFabric) {
  const auto value = [](const Scenario& s, const std::string& name) {
    for (const Figure& f : run(s).fabric) {
      if (f.name == name) return f.value;
    }
    return std::nan("");
  };
  Scenario s = all_to_all(2048);
  EXPECT_EQ(value(s, "switches"), 96);
  EXPECT_EQ(value(s, "links leaf-spine"), 2048);
  s.network.fabric = "mrft";
  EXPECT_EQ(value(s, "switches"), 96);
  s.network.gpus = 16384;
  s.network.fabric = "mpft";
  EXPECT_EQ(value(s, "endpoints"), 16384);
  EXPECT_NEAR(value(s, "price per endpoint"), 4390, 0.008 * 4390);
  s.prices = {0, 0, 1, 2};
  EXPECT_EQ(value(s, "price per endpoint"), 3);  // one link between switches and one to its leaf
  s.network.fabric = "dragonfly";
  s.network.gpus_per_node = 4;
  s.network.gpus = 1056;
  s.network.gpus_per_switch = 4;
  EXPECT_EQ(value(s, "links global"), 33 * 32 / 2);
}

// Question 21.
TEST(Simulate, SmallMessages) {
  Scenario s;
  s.network.gpus = 2048;
  s.job.op = "send";
  s.job.bytes = 64;
  const auto us = [&](const char* link, int64_t to) {
    s.network.latency = link;
    s.job.to = to;
    return figure(run(s), "time");
  };
  EXPECT_NEAR(us("InfiniBand", 8), 2.8, 0.01);
  EXPECT_NEAR(us("InfiniBand", 2040), 3.7, 0.01);
  EXPECT_NEAR(us("RoCE", 8), 3.6, 0.01);
  EXPECT_NEAR(us("RoCE", 2040), 5.6, 0.01);
  EXPECT_NEAR(us("RoCE", 1), 3.33, 0.01);
}

TEST(Simulate, RingsInANodeAndAcrossNodes) {
  Scenario s;
  s.network.gpus = 64;
  s.job.op = "all-reduce";
  s.job.bytes = 1e9;
  EXPECT_NEAR(busbw(s), 160 * 8 / 7.0, 1e-6);  // 8 NICs have 320; 7 of 8 rings pass each GPU's NVLink
  s.network.nvlink_gbps = 400;
  EXPECT_NEAR(busbw(s), 320, 1e-6);
  s.job.ring_gpus = 2;  // tensor parallel 4: two NICs a ring
  EXPECT_NEAR(busbw(s), 80, 1e-6);
  s.network.gpus = 8;
  s.job.ring_gpus = 0;
  EXPECT_NEAR(busbw(s), 400, 1e-6);
}

TEST(Simulate, ALaneThatWeighsMoreEndsSooner) {
  Scenario s;
  s.network.gpus = 128;
  s.job.op = s.also[0].op = "all-to-all";
  s.job.bytes = s.also[0].bytes = 1e9;
  const Simulation even = run(s);
  EXPECT_NEAR(even.jobs[0].seconds, even.jobs[1].seconds, 1e-9);
  s.job.weight = 4;
  const Simulation lanes = run(s);
  // The first has 4/5 of every NIC until it ends; together they need what they needed.
  EXPECT_NEAR(lanes.jobs[0].seconds / even.jobs[0].seconds, 5 / 8.0, 1e-6);
  EXPECT_NEAR(lanes.jobs[1].seconds / even.jobs[1].seconds, 1, 1e-6);
}

// Table 3's other networks at their full size: an all-to-all that the links can carry runs at the NIC's rate.
TEST(Simulate, SlimFlyAndDragonfly) {
  Scenario s = all_to_all(23328);
  s.network.fabric = "slimfly";
  s.network.gpus_per_switch = 16;
  const Simulation fly = run(s);
  EXPECT_NEAR(figure(fly, "busbw"), 40.01, 0.005);
  EXPECT_EQ(figure(fly, "flows"), [] {
    // Pairs on one switch and on neighbours have one way; others as many as they have common neighbours.
    const auto cluster = Cluster::make({.kind = FabricKind::kSlimFly, .gpus = 23328, .gpus_per_switch = 16});
    double flows = 23328.0 * 15;
    for (int from : {0, 27 * 27}) {
      for (int to = 0; to < 2 * 27 * 27; ++to) {
        if (to != from) flows += 27 * 27 * 256 * static_cast<double>(cluster->graph()->routes(from, to).size());
      }
    }
    return flows;
  }());
  s.network.port_gbps = 20;
  EXPECT_LT(busbw(s), 36);
  EXPECT_EQ(run(s).links[0].name.rfind("local link", 0), 0u);
  EXPECT_NEAR(busbw(s, FlowEngine::kBound) / busbw(s), 1, 1e-4);
  s = all_to_all(1056);
  s.network.fabric = "dragonfly";
  s.network.gpus_per_node = s.network.gpus_per_switch = 4;
  EXPECT_NEAR(busbw(s), 40.11, 0.005);
  EXPECT_EQ(figure(run(s), "flows"), 1056.0 * 1055);
  // A link between groups carries all that 8 switches with 4 GPUs each send to as many.
  double bytes = 0;
  for (const LinkAnswer& link : run(s).links) {
    if (link.name.rfind("global link", 0) == 0) bytes = link.bytes;
  }
  EXPECT_NEAR(bytes, 32 * 32 * 1e9 / 1056, 1);
  s = all_to_all(72);
  s.network.fabric = "dragonfly";
  s.network.gpus_per_node = s.network.gpus_per_switch = 2;
  s.network.port_gbps = 20;
  s.fail.uplinks = 1;
  EXPECT_LT(figure(run(s), "bandwidth against healthy"), -5);
}

// Kim et al. 2008, 4.2: every GPU of a group sends to the next group. Minimally that is one cable for the a p = a h of
// them. Valiant's ways put 2 a h / (g - 2) on each cable but the direct one, and on the fullest local link.
TEST(Simulate, ValiantTakesTheWorstLoadOfADragonfly) {
  for (int h : {2, 3}) {
    const int in_group = 2 * h * h;
    Scenario s;
    s.network.fabric = "dragonfly";
    s.network.gpus = in_group * (in_group + 1);  // g = a h + 1
    s.network.gpus_per_node = 1;
    s.network.gpus_per_switch = h;
    s.network.nic_gbps = s.network.port_gbps = 50;
    s.job.op = "all-gather";
    s.job.bytes = 1e9;
    s.job.ring_stride = in_group;
    EXPECT_NEAR(busbw(s) / 50, 1.0 / in_group, 1e-9);
    s.network.routing = "valiant";
    for (FlowEngine engine : {FlowEngine::kMaxMin, FlowEngine::kBound}) {
      EXPECT_NEAR(busbw(s, engine) / 50, (in_group - 1) / (2.0 * in_group), 1e-9);
    }
    EXPECT_EQ(figure(run(s), "flows"), static_cast<double>(s.network.gpus) * (in_group - 1));  // over each third group
  }
  // A uniform load it halves: each message crosses two cables between groups instead of one.
  Scenario s = all_to_all(72);
  s.network.fabric = "dragonfly";
  s.network.gpus_per_node = s.network.gpus_per_switch = 2;
  s.network.port_gbps = 20;
  const auto most_global = [](const Simulation& answer) {
    for (const LinkAnswer& link : answer.links) {
      if (link.kind == "global link") return link.bytes;
    }
    return 0.0;
  };
  const Simulation minimal = run(s);
  s.network.routing = "valiant";
  const Simulation valiant = run(s);
  EXPECT_NEAR(most_global(valiant) / most_global(minimal), 2, 1e-9);
  EXPECT_NEAR(busbw(s, FlowEngine::kBound) / busbw(s), 1, 1e-4);
  EXPECT_LT(minimal.jobs[0].seconds, valiant.jobs[0].seconds);
}

// Three layers: a ring whose every hop crosses a core.
TEST(Simulate, ThreeLayersByPort) {
  Scenario s;
  s.network.fabric = "ft3";
  s.network.gpus = 4096;
  s.network.gpus_per_node = 1;
  s.network.nic_gbps = 50;
  s.job.op = "all-gather";
  s.job.bytes = 1e9;
  s.job.ring_stride = 1024;
  for (const char* routing : {"adaptive", "static"}) {
    s.network.routing = routing;
    EXPECT_NEAR(busbw(s), 50, 1e-6) << routing;
  }
  s.network.routing = "ecmp";
  EXPECT_LE(busbw(s), 12.5);
  EXPECT_GE(busbw(s), 6);
}

// More flows than there may be classes: the bound only sums them. A plane's leaf hashes 32 * 224 pairs of NICs, of 8
// messages each, to 32 uplinks: the fullest of all 4,096 links has 3 to 4.5 standard deviations more than the mean.
TEST(Simulate, TheBoundOfHashesOnAWholeCluster) {
  Scenario s = all_to_all(2048);
  s.network.nic_gbps = 50;
  EXPECT_NEAR(busbw(s, FlowEngine::kBound), 50.2, 0.05);
  s.network.routing = "ecmp";
  const Simulation hashed = run(s, FlowEngine::kBound);
  EXPECT_LT(figure(hashed, "busbw"), 50 * 2047 / (8 * (224 + 3 * std::sqrt(224.0))));
  EXPECT_GT(figure(hashed, "busbw"), 50 * 2047 / (8 * (224 + 4.5 * std::sqrt(224.0))));
  EXPECT_EQ(figure(hashed, "flows"), 2048.0 * 2047);
  EXPECT_EQ(hashed.jobs[0].limit.resource.rfind("leaf ", 0), 0u) << hashed.jobs[0].limit.text;
  s.network.routing = "static";
  EXPECT_NEAR(busbw(s, FlowEngine::kBound), 50.2, 0.05);
}

std::string error_of(const Scenario& s, FlowEngine engine = FlowEngine::kAuto) {
  const auto result = simulate(s, engine);
  return result ? "" : result.error().text;
}

// Each is a million flows before it is refused.
TEST(Simulate, RefusesMoreFlowsThanItCanHold) {
  if (testing::effort() == testing::Effort::kLittle)
    GTEST_SKIP() << "a million flows four times; the usual round runs it";
  Scenario s;
  s = all_to_all(16384);
  s.network.routing = "ecmp";
  EXPECT_EQ(error_of(s, FlowEngine::kMaxMin),
            "more than 1200000 flows that are not alike; accepted: engine bound, fewer GPUs, or adaptive routing of a "
            "uniform load");
  s.network.fabric = "ft3";
  s.network.gpus = 17520;
  EXPECT_EQ(error_of(s, FlowEngine::kBound).rfind("more than 268435456 flows that are not alike, too many to sum", 0),
            0u);
  s.network.gpus = 1 << 20;
  s.network.radix = 1024;
  s.job.op = "all-gather";
  EXPECT_EQ(error_of(s, FlowEngine::kMaxMin),
            "more than 1200000 flows that are not alike; accepted: engine bound or fewer GPUs");
  s.network.routing = "adaptive";  // a class for each place below a leaf
  EXPECT_EQ(error_of(s), "");
  // With adaptive routing the way out is what makes this job's flows differ.
  s = all_to_all(2048);
  s.job.op = "dispatch";
  s.job.direct = true;
  s.job.experts = 2048;
  s.job.skew = 0.5;
  const std::string skewed = error_of(s, FlowEngine::kMaxMin);
  EXPECT_NE(skewed.find("or experts that are all as popular (skew = 0)"), std::string::npos) << skewed;
  s.job.skew = 0;
  s.job.ranks = 1024;
  EXPECT_EQ(error_of(s), "");
  s.also[0].op = "all-gather";
  s.also[0].bytes = 1e9;
  EXPECT_EQ(error_of(s), "");
}

TEST(Simulate, RefusesWhatItCannotAnswer) {
  Scenario s = all_to_all(0);
  EXPECT_EQ(error_of(s), "network.gpus is missing: how many GPUs the cluster has, as network.gpus = 2048");
  s = all_to_all(128);
  s.job.op = "none";
  EXPECT_EQ(error_of(s),
            "job.op is \"none\", which takes out also, also2 and so on; accepted: what the GPUs do, as job.op = "
            "\"all-to-all\"");
  s.job.op = "";
  EXPECT_EQ(error_of(s), "job.op is missing: what the GPUs do, as job.op = \"all-to-all\"");
  s = all_to_all(128);
  s.job.bytes = 0;
  EXPECT_EQ(error_of(s), "job.bytes is missing: how much the all-to-all moves, as 1e9");
  s.job.bytes = 1e-320;
  EXPECT_EQ(error_of(s), "job.bytes is 9.9999e-321; accepted: 1 or more");
  s = all_to_all(128);
  s.job.ranks = 48;
  EXPECT_EQ(error_of(s), "groups of 48 ranks on 128 GPUs; accepted: whole nodes of 8 that divide them");
  s = all_to_all(128);
  s.also[0] = s.job;
  EXPECT_EQ(error_of(s, FlowEngine::kBound),
            "engine bound knows one job's time only, and also.op is given; accepted: maxmin, simgrid");
  s.job.window = 2;
  EXPECT_EQ(error_of(s).rfind("job.window is 2 beside also.op", 0), 0u);
  s = all_to_all(30616);
  s.network.fabric = "slimfly";
  EXPECT_EQ(error_of(s),
            "3827 nodes, none alike, are too many for an all-to-all; accepted: 2190 at most, or whole nodes on every "
            "switch (network.gpus_per_switch = 21, network.gpus_per_node = 8)");
  s.network.gpus = 23320;
  s.network.gpus_per_switch = 16;
  EXPECT_NE(error_of(s).find("or all switches full (network.gpus = 23328)"), std::string::npos);
  s.network.gpus = 23328;
  s.fail.uplinks = 1;
  EXPECT_NE(error_of(s).find("2190 at most, or nothing broken"), std::string::npos);
  s.fail.uplinks = 0;
  s.job.window = 2;
  EXPECT_NE(error_of(s).find("or a uniform load without a window"), std::string::npos);
  s = all_to_all(128);
  s.job.op = "send";
  s.job.to = 128;
  EXPECT_EQ(error_of(s), "a message from GPU 0 to GPU 128; accepted: two different ones of 0 to 127");
  s = all_to_all(128);
  s.also[1].bytes = 5;  // a section without an op is a mistake, not an absence
  EXPECT_EQ(error_of(s), "also2.op is missing: what the GPUs do, as also2.op = \"all-to-all\"");
  s.also[1].op = "none";
  EXPECT_EQ(error_of(s), "");
  s = all_to_all(120);
  s.job.op = "dispatch";
  EXPECT_EQ(error_of(s).rfind("256 experts on 120 GPUs", 0), 0u);
  EXPECT_EQ(parse_engine("ns3").error().text, "unknown engine \"ns3\"; accepted: auto, bound, maxmin, simgrid");
}

}  // namespace
}  // namespace fathom
