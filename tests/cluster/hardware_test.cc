// Hardware: every fact has a source, changes are told, latencies follow the switches.
#include "cluster/hardware.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fathom {
namespace {

TEST(Hardware, EveryFactOfEveryPresetHasASourceAndFits) {
  for (const std::string& name : hardware_names()) {
    const auto h = find_hardware(name);
    ASSERT_TRUE(h.ok());
    EXPECT_EQ(h->facts.size(), 9u);
    for (const Figure& fact : h->facts) {
      EXPECT_GT(fact.value, 0) << name << " " << fact.name;
      EXPECT_FALSE(fact.source.empty()) << name << " " << fact.name;
      EXPECT_FALSE(fact.unit.empty()) << name << " " << fact.name;
    }
    EXPECT_LE(h->scale_up_effective_gbps, h->scale_up_gbps);
    EXPECT_LE(h->nic_effective_gbps, h->nic_gbps);
    EXPECT_GT(h->fp8_tflops, h->bf16_tflops);
  }
  EXPECT_EQ(find_hardware("h800")->scale_up_gbps, 200);
  EXPECT_EQ(find_hardware("tpu").error().text, "unknown hardware \"tpu\"; known: h800, h100, h200, gb200-nvl72");
}

TEST(Hardware, AGivenFactReplacesThePresetAndSaysSo) {
  Hardware h = *find_hardware("h800");
  ASSERT_TRUE(h.set("nic_gbps", 100).ok());
  EXPECT_EQ(h.nic_gbps, 100);
  EXPECT_EQ(h.facts[6].value, 100);
  EXPECT_EQ(h.facts[6].source, "given");
  EXPECT_EQ(h.set("nic_gbps", std::nan("")).error().text, "nic_gbps is nan; accepted: 1e-6 or more, below 1e9");
  EXPECT_FALSE(h.set("nic_gbps", -1).ok());
  EXPECT_EQ(h.set("nic", 1).error().text.rfind("unknown fact \"nic\" of hardware; known: memory_gb, ", 0), 0u);
}

TEST(Hardware, LatencyCountsSwitches) {
  EXPECT_DOUBLE_EQ(latency_us(kLatencies[0], 1), 3.6);
  EXPECT_DOUBLE_EQ(latency_us(kLatencies[0], 3), 5.6);
  EXPECT_DOUBLE_EQ(latency_us(kLatencies[1], 3), 3.7);
  EXPECT_NEAR(latency_us(kLatencies[1], 5), 4.6, 1e-12);  // three layers
  EXPECT_NEAR(latency_us(kLatencies[0], 5), 7.6, 1e-12);
}

}  // namespace
}  // namespace fathom
