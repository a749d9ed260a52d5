// Fat trees of all kinds: counts against trees that are wired link by link, and what cannot be built.
#include "cluster/fat_tree.h"

#include <gtest/gtest.h>

#include "cluster/mpft.h"
#include "cluster/mrft.h"

namespace fathom {
namespace {

std::string error_of(const Result<Fabric>& f) { return f ? "" : f.error().text; }

// A two-layer tree wired by hand: every leaf deals its uplinks to the spines in turn. Counts ports.
struct Wired {
  int64_t switches = 0, links = 0, most_ports = 0;
};
Wired wire(int64_t radix, int64_t leaves) {
  Wired w;
  w.switches = leaves;
  std::vector<int64_t> spine_ports;
  int64_t next = 0;
  const int64_t spines = (leaves * (radix / 2) + radix - 1) / radix;
  spine_ports.resize(static_cast<size_t>(spines));
  for (int64_t leaf = 0; leaf < leaves; ++leaf) {
    for (int64_t up = 0; up < radix / 2; ++up) {
      ++spine_ports[static_cast<size_t>(next++ % spines)];
      ++w.links;
    }
  }
  w.switches += spines;
  for (int64_t ports : spine_ports) w.most_ports = std::max(w.most_ports, ports);
  return w;
}

TEST(FatTree, TwoLayersAreWhatOneCanWire) {
  for (int64_t radix : {4, 8, 64}) {
    for (int64_t leaves = 2; leaves <= radix; ++leaves) {
      const auto f = fat_tree2(radix, leaves * (radix / 2));
      ASSERT_TRUE(f.ok());
      const Wired w = wire(radix, leaves);
      EXPECT_EQ(f->switches, w.switches) << radix << " " << leaves;
      EXPECT_EQ(f->switch_links(), w.links);
      EXPECT_LE(w.most_ports, radix);
    }
  }
  EXPECT_EQ(fat_tree2(64, 32)->switches, 1);
  EXPECT_EQ(fat_tree2(64, 32)->switch_links(), 0);
  EXPECT_EQ(fat_tree2(64, 33)->switches, 3);
}

TEST(FatTree, FullTreesFollowTheFormulas) {
  for (int64_t k : {4, 8, 64, 128}) {
    const auto two = fat_tree2(k), three = fat_tree3(k);
    EXPECT_EQ(two->endpoints, k * k / 2);
    EXPECT_EQ(two->switches, 3 * k / 2);
    EXPECT_EQ(two->switch_links(), k * k / 2);
    EXPECT_EQ(three->endpoints, k * k * k / 4);
    EXPECT_EQ(three->switches, 5 * k * k / 4);
    EXPECT_EQ(three->switch_links(), k * k * k / 2);
  }
  EXPECT_EQ(fat_tree3(64, 16384)->switches, 1280);
  EXPECT_EQ(fat_tree3(64, 16384)->switch_links(), 32768);
}

TEST(FatTree, PlanesMultiplyTheTree) {
  EXPECT_EQ(mpft(64, 8)->endpoints, 16384);
  EXPECT_EQ(mpft(64, 8)->switches, 768);
  EXPECT_EQ(mpft(64, 1)->endpoints, 2048);
  EXPECT_EQ(mpft(64, 4)->endpoints, 8192);
  EXPECT_EQ(mpft(128, 8)->endpoints, 65536);
  // The bill of 2,048 GPUs is the same for planes and rails.
  for (const auto& f : {mpft(64, 8, 2048), mrft(64, 8, 2048)}) {
    EXPECT_EQ(f->switches, 96);
    EXPECT_EQ(f->switch_links(), 2048);
  }
  EXPECT_EQ(mpft(64, 8, 256)->switches, 8);  // a plane under one leaf has no spine
  EXPECT_EQ(mrft(64, 8, 256)->switches, 12);
}

TEST(FatTree, ErrorsOfferWhatCanBeBuilt) {
  EXPECT_EQ(error_of(fat_tree2(63)), "FT2: a switch of 63 ports; accepted: even numbers from 4 to 1024");
  EXPECT_EQ(error_of(fat_tree2(64, 2049)),
            "FT2: 2049 endpoints; accepted: 1 to 2048 with 64 ports (more: FT3, or MPFT with several planes)");
  EXPECT_EQ(error_of(fat_tree2(64, -5)),
            "FT2: -5 endpoints; accepted: 1 to 2048 with 64 ports (more: FT3, or MPFT with several planes)");
  EXPECT_EQ(error_of(fat_tree3(64, 512)),
            "FT3: 512 endpoints; accepted: 1 to 65536; one pod holds 1024: FT2 has them in two layers");
  EXPECT_EQ(error_of(mpft(64, 9)), "MPFT: 9 planes; accepted: 1 to 8, one per NIC of a node");
  EXPECT_EQ(error_of(mpft(64, 8, 100)), "MPFT: 100 endpoints on 8 planes; each plane has equally many: 96 or 104");
  EXPECT_EQ(error_of(mpft(64, 4, 16384)),
            "MPFT: 16384 endpoints; accepted: 1 to 8192 with 4 planes of 64-port switches (8 planes: 16384)");
  EXPECT_EQ(error_of(mrft(64, 8, 4096)),
            "MRFT: 4096 endpoints; two layers of 64-port switches hold 1 to 2048; MPFT with 8 planes holds 16384");
  EXPECT_EQ(error_of(mrft(4, 8)),
            "MRFT: 8 rails need at least as many spine ports as rails; accepted: radix 8 or more");
}

}  // namespace
}  // namespace fathom
