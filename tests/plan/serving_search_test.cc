// ServingSearch: the front of V3 on H800, a load's nodes, and what is refused.
#include "plan/serving_search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

#include "cluster/hardware.h"
#include "plan/counted_v3.h"
#include "plan/expert_traffic.h"
#include "plan/paper.h"

namespace fathom {
namespace {

PlanSettings v3_service() {
  PlanSettings s;
  s.search.kind = "serving";
  s.search.gpus = {2048};
  return s;
}

/// Prompts of isl and answers of osl tokens, qps of them a second, at half of the peak and within 50 ms a token.
PlanSettings loaded_service(double isl, double osl, double qps) {
  PlanSettings s = v3_service();
  s.search.isl = isl;
  s.search.osl = osl;
  s.search.qps = qps;
  s.search.utilisation = 0.5;
  s.search.max_tpot_ms = 50;
  s.serving.gpu_hour_dollars = 2;
  return s;
}

Result<ServingSearch> found(const PlanSettings& s, const char* hardware = "h800") {
  return search_serving(v3(), *find_hardware(hardware), s);
}

TEST(ServingSearch, TheFrontHasNothingThatIsBeatenInBoth) {
  const auto search = found(v3_service());
  ASSERT_TRUE(search.ok()) << search.error().text;
  ASSERT_GT(search->front.size(), 3u);
  for (size_t i = 1; i < search->front.size(); ++i) {
    EXPECT_LT(search->front[i].per_user(), search->front[i - 1].per_user());
    EXPECT_GT(search->front[i].per_gpu(), search->front[i - 1].per_gpu());
  }
  EXPECT_EQ(search->best.per_gpu(), search->front.back().per_gpu());
  for (const DecodePoint& p : search->front) {
    EXPECT_TRUE(p.step.holds(static_cast<double>(p.batch)));
    EXPECT_EQ((256 + p.redundant_experts) % p.gpus, 0);
  }
}

// The pool of the host: what the cache has of a prompt is read back from there, which takes its time, and more
// sequences decode at once, as far as its link keeps up.
TEST(ServingSearch, APoolInTheHostTakesTimeAndGivesRoom) {
  PlanSettings s = loaded_service(4000, 1000, 20);
  s.search.cache_hits = 0.5;
  const auto in_hbm = found(s);
  s.serving.host_gbps = 63;
  const auto on_pcie = found(s);
  s.serving.host_gbps = 0.5;
  const auto slow = found(s);
  ASSERT_TRUE(in_hbm.ok() && on_pcie.ok() && slow.ok());
  EXPECT_NEAR(on_pcie->prefill.ttft_ms - in_hbm->prefill.ttft_ms, 4000 * 0.5 * 70272 / 63e6, 1e-9);
  EXPECT_EQ(on_pcie->prefill.tokens_per_s_per_gpu, in_hbm->prefill.tokens_per_s_per_gpu);
  EXPECT_EQ(slow->prefill.limit, "host link");
  EXPECT_NEAR(slow->prefill.tokens_per_s_per_gpu, 0.5e9 / 70272, 1e-6);  // half hits, half new: a token each

  // Where HBM is short: 8 sequences beside the weights.
  Hardware small = *find_hardware("gb200-nvl72");
  ASSERT_TRUE(small.set("memory_gb", 34).ok());
  PlanSettings decode = v3_service();
  decode.search.gpus = {72};
  decode.serving.context = 8192;
  const auto without = search_serving(v3(), small, decode);
  decode.serving.host_gbps = 450;
  decode.serving.host_gb = 480;
  const auto with = search_serving(v3(), small, decode);
  ASSERT_TRUE(without.ok() && with.ok());
  EXPECT_GT(with->best.batch, without->best.batch);
  EXPECT_GT(with->best.per_gpu(), 1.01 * without->best.per_gpu());
  EXPECT_GT(with->best.step.host_sequences, 0);
}

// Prefill sends its numbers in the formats that were given, and shares the port that was said to be shared.
TEST(ServingSearch, PrefillUsesTheFormatsOfTheExchange) {
  Hardware slow = *find_hardware("h800");
  ASSERT_TRUE(slow.set("nic_effective_gbps", 5).ok());
  PlanSettings s = loaded_service(4000, 1000, 1);
  s.search.max_tpot_ms = 0;
  s.search.gpus = {32};
  const auto rate = [&] {
    const auto search = search_serving(v3(), slow, s);
    EXPECT_TRUE(search.ok()) << (search ? "" : search.error().text);
    return search ? search->prefill.tokens_per_s_per_gpu : 0;
  };
  const auto base = search_serving(v3(), slow, s);
  ASSERT_TRUE(base.ok()) << base.error().text;
  EXPECT_EQ(base->prefill.limit, "scale-out network");
  const double fp8 = 1 + 1 / 32.0, before = rate();
  s.serving.combine = "fp8";
  EXPECT_NEAR(rate() / before, (fp8 + 2) / (2 * fp8), 1e-12);
  s.serving.dispatch = "bf16";
  EXPECT_NEAR(rate() / before, 1, 1e-12);
  s.serving.dispatch = "fp8";
  s.serving.combine = "logfmt8";
  EXPECT_NEAR(rate() / before, (fp8 + 2) / (fp8 + 1.5 * fp8), 1e-12);
  s.serving.codec_overhead = 0;
  EXPECT_NEAR(rate() / before, (fp8 + 2) / (2 * fp8), 1e-12);
  // Not a copy less crosses the NIC of the receiver, and the answer says so.
  s.serving.in_network = true;
  EXPECT_NEAR(rate() / before, (fp8 + 2) / (2 * fp8), 1e-12);
  const auto multicast = search_serving(v3(), slow, s);
  ASSERT_TRUE(multicast.ok());
  for (const Figure& f : summary(*multicast, slow, s).figures) {
    if (f.name != "prefill tokens per second and node") continue;
    EXPECT_NE(f.formula.find("in_network saves nothing here"), std::string::npos) << f.formula;
    EXPECT_NE(f.formula.find("1.0312 B there and 1.0312 B back"), std::string::npos) << f.formula;
  }
}

TEST(ServingSearch, PrefillSharesThePortOfTheNic) {
  PlanSettings s = loaded_service(4000, 1000, 1);
  s.search.cache_hits = 0.99;
  s.search.gpus = {32};
  s.serving.host_gbps = 63;
  const auto alone = found(s);
  s.serving.host_shares_nic = true;
  const auto shared = found(s);
  ASSERT_TRUE(alone.ok() && shared.ok());
  EXPECT_EQ(shared->prefill.limit, "host link");
  // 99 tokens come back for each new one; that one's copies to the other node cross the same port.
  const double restored = 99 * 70272 / 63e9;
  const double copies = destinations_of(v3().gate, 16, 8).nodes / 2;
  EXPECT_NEAR(1 / alone->prefill.tokens_per_s_per_gpu, restored, 1e-12);
  EXPECT_NEAR(1 / shared->prefill.tokens_per_s_per_gpu, restored + 58 * 7168 * (3 + 1 / 32.0) * copies / 63e9, 1e-12);
}

// What limits a point: its next batch does not fit and would give more, or what takes its step.
TEST(ServingSearch, MemoryCapacityIsNamedWhereItBinds) {
  PlanSettings s = v3_service();
  s.serving.weights = "fp4";
  const auto search = found(s);
  ASSERT_TRUE(search.ok());
  EXPECT_EQ(search->best.limit(), "memory capacity");
  EXPECT_EQ(search->best.step.limit(), "HBM bandwidth");
  Hardware roomy = *find_hardware("h800");
  ASSERT_TRUE(roomy.set("memory_gb", 120).ok());
  const auto larger = search_serving(v3(), roomy, s);
  ASSERT_TRUE(larger.ok());
  EXPECT_GT(larger->best.per_gpu(), 1.01 * search->best.per_gpu());
  // Where a link is full, more memory gives nothing: the link is named although the group is full.
  const auto linked = found(v3_service());
  ASSERT_TRUE(linked.ok());
  EXPECT_EQ(linked->best.limit(), "scale-out network");
  std::set<std::string> limits;
  for (const DecodePoint& p : linked->points) limits.insert(p.limit());
  EXPECT_TRUE(limits.contains("HBM bandwidth"));
  Hardware slow = *find_hardware("h800");
  ASSERT_TRUE(slow.set("fp8_tflops", 20).ok());
  EXPECT_EQ(search_serving(v3(), slow, s)->best.limit(), "compute");
  const auto node = found(s, "gb200-nvl72");
  EXPECT_EQ(node->points.front().limit(), "HBM bandwidth");
}

TEST(ServingSearch, ALoadNeedsNodes) {
  PlanSettings s = loaded_service(4096, 1024, 100);
  const auto one = found(s);
  ASSERT_TRUE(one.ok()) << one.error().text;
  EXPECT_LE(one->best.step.tpot_ms(), 50);
  EXPECT_NEAR(one->decode_gpus, 100 * 1024 / one->best.per_gpu(), 1e-9);
  // Prefill of V3 at half of the FP8 peak: 1978.9 * 0.5 TFLOP/s over 2 * 36.6 G + 61 * 128 * 4096 * 320 FLOPs.
  EXPECT_LE(one->prefill.tokens_per_s_per_gpu, 1978.9e12 * 0.5 / (2 * 36.6e9 + 61 * 128 * 4096.0 * 320) * 1.001);
  // Prompts whose first half is there: half the tokens, each of which attends to more.
  // On a network that binds nobody: else the group that needs the fewest GPUs may be one that waits for it.
  Hardware wide = *find_hardware("h800");
  ASSERT_TRUE(wide.set("nic_effective_gbps", 1000).ok());
  ASSERT_TRUE(wide.set("scale_up_effective_gbps", 1000).ok());
  const auto whole = search_serving(v3(), wide, s);
  s.search.cache_hits = 0.5;
  const auto half = search_serving(v3(), wide, s);
  ASSERT_TRUE(whole.ok() && half.ok());
  EXPECT_EQ(half->prefill.limit, "compute");
  EXPECT_GT(half->prefill_gpus, 0.5 * whole->prefill_gpus);
  EXPECT_LT(half->prefill_gpus, 0.6 * whole->prefill_gpus);
  EXPECT_NEAR(half->prefill.ttft_ms, 2048e3 / half->prefill.tokens_per_s_per_gpu, 1e-6);
  s.search.cache_hits = 0;
  // A tighter limit costs GPUs.
  s.search.max_tpot_ms = 8;
  s.search.qps = 1000;
  const auto tight = found(s);
  ASSERT_TRUE(tight.ok()) << tight.error().text;
  s.search.max_tpot_ms = 50;
  const auto loose = found(s);
  EXPECT_GE(tight->decode_groups * tight->best.gpus, loose->decode_groups * loose->best.gpus);
  EXPECT_LE(tight->best.step.tpot_ms(), 8);
  s.search.max_tpot_ms = 0.01;
  EXPECT_EQ(found(s).error().text.rfind("search.max_tpot_ms is 0.01, but the fastest group takes ", 0), 0u);
  s.search.max_tpot_ms = 50;
  s.search.max_ttft_ms = 1;
  EXPECT_EQ(found(s).error().text.rfind("search.max_ttft_ms is 1, but the 4,096 new tokens of a prompt take ", 0), 0u);
}

// Groups are whole: what is counted, paid and held against search.gpus, and of all that serve the load the fewest GPUs.
TEST(ServingSearch, ALoadTakesWholeGroups) {
  PlanSettings s = loaded_service(4000, 1000, 2);
  s.search.gpus = {256};
  s.energy.pue = 1;
  const auto small = found(s);
  ASSERT_TRUE(small.ok()) << small.error().text;
  EXPECT_EQ(small->decode_groups, 1);
  EXPECT_EQ(small->prefill_groups, 1);
  EXPECT_EQ(small->load_gpus(), small->best.gpus + small->prefill.gpus);
  EXPECT_LE(small->load_gpus(), 256);
  EXPECT_LT(small->decode_gpus, static_cast<double>(small->best.gpus));
  EXPECT_NEAR(small->kw, static_cast<double>(small->load_gpus()) * 0.7, 1e-9);
  for (const DecodePoint& p : small->points) {  // nothing that is fast enough does it with fewer
    if (p.step.tpot_ms() > 50) continue;
    const double groups = std::ceil(2 * 1000 / p.per_gpu() / static_cast<double>(p.gpus));
    EXPECT_GE(groups * static_cast<double>(p.gpus), static_cast<double>(small->best.gpus));
  }
  const FigureGroup g = summary(*small, *find_hardware("h800"), s);
  const auto value = [&](std::string_view name) {
    for (const Figure& f : g.figures) {
      if (f.name == name) return f.value;
    }
    ADD_FAILURE() << name;
    return 0.0;
  };
  const double gpus = static_cast<double>(small->load_gpus());
  EXPECT_EQ(value("nodes for the load"), std::ceil(gpus / 8));
  EXPECT_EQ(value("price of a day"), gpus * 24 * 2);
  EXPECT_NEAR(value("of them busy: decode"), 100 * small->decode_gpus / static_cast<double>(small->best.gpus), 1e-9);
  // The budget is that of whole groups: one GPU fewer than they have is refused.
  s.search.max_kw = (gpus - 0.5) * 0.7;
  EXPECT_NE(found(s).error().text.find("more than search.max_kw"), std::string::npos);
  s.search.max_kw = 0;
  s.search.gpus = {small->load_gpus() - 1};
  EXPECT_NE(found(s).error().text.find("more than the " + std::to_string(small->load_gpus() - 1) + " of search.gpus"),
            std::string::npos);
}

TEST(ServingSearch, BoundsAndWhatIsMissing) {
  PlanSettings s = v3_service();
  s.search.gpus = {};
  EXPECT_EQ(found(s).error().text.rfind("search.gpus is missing", 0), 0u);
  s = v3_service();
  s.search.qps = 10;
  EXPECT_EQ(found(s).error().text.rfind("search.qps needs search.isl", 0), 0u);
  s.search.isl = 4096;
  s.search.osl = 1024;
  s.search.utilisation = 0.5;
  s.search.max_kw = 1;
  EXPECT_NE(found(s).error().text.find("energy.pue"), std::string::npos);
  s.energy.pue = 1.2;
  EXPECT_NE(found(s).error().text.find("more than search.max_kw 1"), std::string::npos);
  s.search.max_kw = 0;
  s.search.qps = 1e6;
  EXPECT_NE(found(s).error().text.find("more than the 2048 of search.gpus"), std::string::npos);
  s = v3_service();
  s.search.gpus = {2};
  EXPECT_NE(found(s).error().text.find("no group of up to 2 GPUs holds the model"), std::string::npos);
}

TEST(ServingSearch, TheChosenGroupIsReadBack) {
  PlanSettings s = v3_service();
  s.search.isl = 3000;
  s.search.osl = 1000;
  const auto search = found(s);
  ASSERT_TRUE(search.ok());
  const PlanSettings c = chosen(s, search->best);
  EXPECT_EQ(c.serving.context, 4000);
  const auto step = decode_step(v3(), *find_hardware("h800"), c.serving);
  ASSERT_TRUE(step.ok());
  EXPECT_EQ(step->tpot_ms(), search->best.step.tpot_ms());
}

}  // namespace
}  // namespace fathom
