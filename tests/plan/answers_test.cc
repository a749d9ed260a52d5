// Answers: the groups that `fathom plan` prints, what moves them, and what is refused.
#include "plan/answers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "plan/footprint.h"
#include "plan/paper.h"

namespace fathom {
namespace {

PlanSettings settings(std::vector<std::string> overrides) {
  auto s = load_config<PlanSettings>({.overrides = std::move(overrides)});
  EXPECT_TRUE(s.ok()) << (s ? "" : s.error().text);
  return s ? *s : PlanSettings{};
}

std::string refused(std::vector<std::string> overrides) {
  const auto s = load_config<PlanSettings>({.overrides = std::move(overrides)});
  return s ? "" : s.error().text;
}

double value(const std::vector<FigureGroup>& groups, std::string_view name) {
  for (const FigureGroup& group : groups) {
    for (const Figure& figure : group.figures) {
      if (figure.name == name) return figure.value;
    }
  }
  ADD_FAILURE() << "no figure " << name;
  return std::nan("");
}

std::vector<FigureGroup> answers(const PlanSettings& s) {
  const auto hardware = changed_hardware(*find_hardware("h800"), s);
  EXPECT_TRUE(hardware.ok());
  const auto groups = plan_model(CountedModel(paper_input().v3), *hardware, s);
  EXPECT_TRUE(groups.ok()) << (groups ? "" : groups.error().text);
  return groups ? *groups : std::vector<FigureGroup>{};
}

const std::vector<std::string> kV3Run = {
    "training.pipeline=16",       "training.expert=64", "training.data=128",       "training.schedule=dualpipe",
    "training.micro_batches=120", "training.mfu=0.39",  "training.tokens=14.8e12", "training.gpu_hour_dollars=2"};

TEST(Answers, TheV3RunTakesItsPublishedTimeAndPrice) {
  const auto groups = answers(settings(kV3Run));
  EXPECT_EQ(value(groups, "GPUs"), 2048);
  EXPECT_EQ(value(groups, "GPUs at least"), 1024);
  EXPECT_EQ(value(groups, "tokens per step"), 15360.0 * 4096);
  EXPECT_NEAR(value(groups, "step"), 19.93, 0.05);
  EXPECT_NEAR(value(groups, "days"), 54.25, 0.2);
  EXPECT_NEAR(value(groups, "GPU-hours") / 2.664e6, 1, 0.003);
  EXPECT_NEAR(value(groups, "price") / 5.328e6, 1, 0.003);
  EXPECT_LT(value(groups, "memory of the rank"), 80);
  const TrainingLayout layout{
      .pipeline = 16, .expert = 64, .data = 128, .schedule = "dualpipe", .num_micro_batches = 120};
  EXPECT_EQ(value(groups, "weights") * 1e9, training_bytes(paper_input().v3, layout)->weights);
}

TEST(Answers, NothingIsSaidOfWhatWasNotGiven) {
  const auto groups = answers({});
  EXPECT_EQ(groups.size(), 2u);
  EXPECT_EQ(value(groups, "KV cache per token"), 70272);
  auto some = kV3Run;
  some.resize(5);
  const auto layout_alone = answers(settings(some));
  ASSERT_EQ(layout_alone.size(), 3u);
  for (const Figure& figure : layout_alone[2].figures) EXPECT_NE(figure.name, "days");
}

TEST(Answers, EveryFigureHasASource) {
  auto all = kV3Run;
  all.insert(all.end(), {"serving.gpus=144", "serving.redundant_experts=32", "serving.batch=64"});
  for (const FigureGroup& group : answers(settings(all))) {
    for (const Figure& figure : group.figures) {
      EXPECT_FALSE(figure.source.empty()) << figure.name;
      EXPECT_TRUE(std::isfinite(figure.value)) << figure.name;
    }
  }
}

const Figure& figure(const std::vector<FigureGroup>& groups, std::string_view title, std::string_view name) {
  static const Figure none;
  for (const FigureGroup& group : groups) {
    for (const Figure& f : group.figures) {
      if (group.title == title && f.name == name) return f;
    }
  }
  ADD_FAILURE() << "no figure " << name;
  return none;
}

// Whoever computes what a formula says gets the figure, with drafts and with linear layers too.
TEST(Answers, FormulasOfAStepGiveItsFigures) {
  const auto expect = [](const std::vector<FigureGroup>& groups, const char* name, double value, const char* formula) {
    const Figure& f = figure(groups, "serving", name);
    EXPECT_NEAR(f.value / value, 1, 1e-3) << name;
    EXPECT_EQ(f.formula, formula) << name;
  };
  const std::vector<std::string> decode = {"serving.gpus=144", "serving.redundant_experts=32", "serving.batch=64"};
  const auto plain = answers(settings(decode));
  const double flops = value(plain, "FLOPs per generated token") * 1e9, copies = 7.556;
  expect(plain, "step bound by network", 2 * 58 * 3.03125 * 32 * 7168 * copies / 40e6,
         "2 * 58 layers with experts * (1.0312 B + 2 B) * batch / 2 * hidden * copies that a GPU receives (7.556 of "
         "top-k over the NIC) / 40 GB/s");
  std::vector<std::string> given = decode;
  given.insert(given.end(), {"serving.mtp_acceptance=0.85", "serving.dispatch_us=30"});
  const auto drafts = answers(settings(given));
  const double kv = value(drafts, "KV cache per token as served"), read = value(drafts, "weights read in a step");
  EXPECT_EQ(kv, 62 * 1152);
  expect(drafts, "step bound by network", 2 * 59 * (30e-3 + 3.03125 * 32 * 2 * 7168 * copies / 40e6),
         "2 * 59 layers with experts, MTP's among them, * (30 us + (1.0312 B + 2 B) * batch / 2 * 2 positions * hidden "
         "* copies that a GPU receives (7.556 of top-k over the NIC) / 40 GB/s)");
  expect(drafts, "step bound by compute", 64 * 2 * flops * 62 / 61 / 1978.9e9,
         "batch * 2 positions * FLOPs per generated token * (layers + 1, MTP's) / layers / FP8 peak");
  expect(drafts, "step bound by memory", (read * 1e9 + 64 * 4096 * kv) / 3350e6,
         "(weights read + batch * context * KV per token) / HBM bandwidth");
  expect(drafts, "TPOT at least", value(drafts, "step bound by network") / 1.85,
         ("the largest of the step's bounds, " + figure_text(value(drafts, "step bound by network")) +
          " ms by scale-out network, / tokens per step and sequence")
             .c_str());
  given = decode;
  given.push_back("serving.full_attention_every=4");
  const auto linear = answers(settings(given));
  expect(linear, "step bound by memory",
         (value(linear, "weights read in a step") * 1e9 +
          64 * (4096 * value(linear, "KV cache per token as served") +
                2e6 * value(linear, "states of linear attention per sequence"))) /
             3350e6,
         "(weights read + batch * (context * KV per token + 2 * states, read and written back)) / HBM bandwidth");
  const Figure& generated = figure(linear, "model", "FLOPs per generated token");
  EXPECT_NEAR(generated.value * 1e9,
              2 * value(linear, "active parameters") + 16.0 * 128 * 4096 * 2 * 1088 + 45.0 * 4 * 128 * 128 * 128, 1);
  EXPECT_EQ(generated.formula,
            "2 * active + 16 layers * heads * 4096 * 2 (2 kv_lora_rank + qk_rope_head_dim) + 45 linear layers * 4 * "
            "heads * qk_nope_head_dim * v_head_dim");
}

TEST(Answers, HardwareChangesMoveTheBounds) {
  const std::vector<std::string> base = {"serving.gpus=144", "serving.redundant_experts=32", "serving.batch=64"};
  const auto before = answers(settings(base));
  auto faster = base;
  faster.push_back("hardware.nic_gbps=100");
  const auto after = answers(settings(faster));
  EXPECT_EQ(value(after, "step bound by network"), value(before, "step bound by network") / 2);
  EXPECT_EQ(value(after, "step bound by memory"), value(before, "step bound by memory"));
  EXPECT_EQ(value(before, "TPOT at least"), value(before, "step bound by network"));
  // Whatever batch was asked for, the buffers are those of the sequences that fit: 94 at a time.
  const double room = 80e9 - value(before, "weights per GPU") * 1e9 - low_latency_buffer_bytes(94, 288, 7168);
  EXPECT_EQ(value(before, "sequences that fit"), 188);
  EXPECT_EQ(std::floor(room / (4096.0 * 70272)), 188);
  for (const char* batch : {"serving.batch=1", "serving.batch=188"}) {
    EXPECT_EQ(value(answers(settings({base[0], base[1], batch})), "sequences that fit"), 188) << batch;
  }
}

// A bound at a rate that no link has would be none; a faster link is as efficient as the preset's.
TEST(Answers, EffectiveRatesStayBelowTheLineRate) {
  const Hardware h800 = *find_hardware("h800");
  for (const auto& [given, effective, out] :
       {std::tuple{"hardware.nic_effective_gbps=80", "nic_effective_gbps is 80 GB/s", "hardware.nic_gbps=80"},
        {"hardware.scale_up_effective_gbps=1000", "scale_up_effective_gbps is 1,000 GB/s",
         "hardware.scale_up_gbps=1000"},
        {"hardware.nic_effective_gbps=50.1", "line rate of 50;", "hardware.nic_gbps=50.1"}}) {
    const auto refused_hardware = changed_hardware(h800, settings({given}));
    ASSERT_FALSE(refused_hardware.ok()) << given;
    EXPECT_NE(refused_hardware.error().text.find(effective), std::string::npos) << refused_hardware.error().text;
    EXPECT_NE(refused_hardware.error().text.find(out), std::string::npos) << refused_hardware.error().text;
  }
  const auto faster = changed_hardware(h800, settings({"hardware.nic_gbps=100", "hardware.scale_up_gbps=400"}));
  ASSERT_TRUE(faster.ok()) << faster.error().text;
  EXPECT_EQ(faster->nic_effective_gbps, 80);
  EXPECT_EQ(faster->scale_up_effective_gbps, 320);
  for (const Figure& fact : faster->facts) {
    if (fact.name == "nic_effective_gbps") {
      EXPECT_EQ(fact.source, "given line rate times the preset's effective / line rate");
    }
  }
  const auto measured = changed_hardware(h800, settings({"hardware.nic_gbps=100", "hardware.nic_effective_gbps=41"}));
  ASSERT_TRUE(measured.ok());
  EXPECT_EQ(measured->nic_effective_gbps, 41);
  EXPECT_TRUE(changed_hardware(h800, settings({"hardware.nic_effective_gbps=50"})).ok());
  EXPECT_FALSE(paper_input({.overrides = {"hardware.nic_effective_gbps=80"}}).ok());
}

TEST(Answers, FabricsWithCountsAndPrices) {
  const auto g = plan_fabric(settings({"fabric.kind=mpft", "fabric.endpoints=2048"}));
  ASSERT_TRUE(g.ok());
  EXPECT_EQ(value({*g}, "switches"), 96);
  EXPECT_EQ(value({*g}, "links leaf-spine"), 2048);
  EXPECT_NEAR(value({*g}, "price per endpoint"), 4400, 10);
  std::vector<std::string> own = {"fabric.kind=ft2", "fabric.link_dollars=100"};
  EXPECT_EQ(plan_fabric(settings(own)).error().text,
            "fabric.switch_port_dollars is missing: other prices are given; 0 makes it free");
  own.insert(own.end(), {"fabric.switch_port_dollars=0", "fabric.endpoint_dollars=0"});
  EXPECT_EQ(value({*plan_fabric(settings(own))}, "price"), 0.2048);
  own.back() = "fabric.endpoint_dollars=-0.5";
  EXPECT_EQ(plan_fabric(settings(own)).error().text, "fabric.endpoint_dollars is -0.5; accepted: 0 or more");
  EXPECT_EQ(plan_fabric(settings({"fabric.kind=slimfly", "fabric.q=28"}))
                .error()
                .text.rfind("Slim Fly: q = 28 = 2 * 2 * 7, ", 0),
            0u);
  EXPECT_EQ(plan_fabric(settings({"fabric.kind=slimfly"})).error().text, "fabric.q is missing: a prime power, as 27");
  EXPECT_EQ(plan_fabric(settings({"fabric.kind=dragonfly", "fabric.endpoints=5"})).error().text,
            "fabric.endpoints: the size of a dragonfly follows from its radix and fabric.groups; leave it 0");
  EXPECT_EQ(value({*plan_fabric(settings({"fabric.kind=dragonfly", "fabric.groups=511"}))}, "switches"), 16352);
}

// Llama 3 on 16,384 GPUs: 419 stops in 54 days.
TEST(Answers, FailuresOfAJob) {
  const auto g = plan_failures(settings(
      {"failures.gpu_mtbf_h=50677", "failures.gpus=16384", "failures.checkpoint_min=0.5", "failures.restart_min=4"}));
  ASSERT_TRUE(g.ok());
  EXPECT_NEAR(value({*g}, "time between stops"), 3.093, 0.001);
  EXPECT_GT(value({*g}, "goodput"), 90);
  EXPECT_LT(value({*g}, "goodput"), 92);
  EXPECT_EQ(plan_failures(settings({"failures.gpu_mtbf_h=1"})).error().text,
            "failures.gpus is missing: the GPUs of the job");
  EXPECT_EQ(plan_failures(settings({"failures.gpu_mtbf_h=1", "failures.gpus=1"})).error().text,
            "failures.checkpoint_min is 0, so the best interval is none; give it, or failures.interval_min");
}

TEST(Answers, AJobHasWholeGpus) {
  const auto failures = plan_failures(settings({"failures.gpu_mtbf_h=1e5", "failures.gpus=1000.5"}));
  ASSERT_FALSE(failures.ok());
  EXPECT_EQ(failures.error().text, "failures.gpus is 1000.5; accepted: a whole number, as 1001");
}

TEST(Answers, Timelines) {
  const auto t =
      plan_timeline(settings({"training.pipeline=4", "training.schedule=dualpipe", "training.micro_batches=10"}));
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t->run.makespan, 32);
  EXPECT_EQ(plan_timeline(settings({"training.pipeline=2", "training.chunk_times=1,2"})).error().text,
            "training.chunk_times has 2 numbers; it must have 4: F, input gradient, W, overlapped F&B");
  EXPECT_EQ(plan_timeline(settings({"training.pipeline=2", "training.chunk_times=0,0,0,0"})).error().text,
            "training.chunk_times are all 0: nothing takes time");
  // 1F1B of two ranks, the second twice as slow: it is never idle but before its first micro-batch and after its last.
  const auto slow =
      plan_timeline(settings({"training.pipeline=2", "training.micro_batches=4", "training.stage_scale=1,2"}));
  ASSERT_TRUE(slow.ok());
  EXPECT_EQ(slow->run.makespan, 4 * 6 + 1 + 2);
  EXPECT_NEAR(bubble_of(slow->run), 1 - 12 / 27.0, 1e-12);
  EXPECT_EQ(plan_timeline(settings({"training.pipeline=2", "training.stage_scale=1,2,3"})).error().text,
            "training.stage_scale has 3 numbers; 1f1b on 2 ranks has 2 stages");
  EXPECT_EQ(plan_timeline({}).error().text, "training.pipeline is missing: the number of pipeline ranks");
}

TEST(Answers, RefusesWhatDoesNotFit) {
  const auto refusal = [](std::vector<std::string> overrides) {
    const auto groups =
        plan_model(CountedModel(paper_input().v3), *find_hardware("h800"), settings(std::move(overrides)));
    return groups ? "" : groups.error().text;
  };
  EXPECT_EQ(
      refusal({"serving.gpus=1"}).rfind("serving: the weights of one GPU are 673 GB, more than the 80 GB of h800", 0),
      0u);
  EXPECT_EQ(
      refusal({"serving.gpus=64", "serving.batch=1000"})
          .rfind("serving: 1000 sequences of 4096 tokens do not fit beside the weights and their buffers; at most ", 0),
      0u);
  EXPECT_EQ(refusal({"training.pipeline=1"}).rfind("training: rank 0 needs ", 0), 0u);
  EXPECT_NE(refusal({"training.pipeline=1"}).find(" GB, more than the 80 GB of h800; "), std::string::npos);
  EXPECT_EQ(plan_failures(settings({"failures.gpu_mtbf_h=1e12", "failures.gpus=1", "failures.checkpoint_min=1"}))
                .error()
                .text.rfind("failures.gpu_mtbf_h / failures.gpus is ", 0),
            0u);
  EXPECT_EQ(refusal({"serving.gpus=100"}),
            "serving: 256 routed experts do not spread evenly over 100 ranks; possible with 44 redundant experts");
  EXPECT_NE(refused({"training.pipeline=nan"}), "");
  EXPECT_NE(refused({"training.mfu=1.5"}), "");
  EXPECT_NE(refused({"hardware.nic_gbps=-1"}), "");
  EXPECT_NE(refused({"fabric.kind=torus"}).find("mpft"), std::string::npos);
  EXPECT_NE(refused({"fabric.plane=4"}).find("fabric.planes"), std::string::npos);
}

}  // namespace
}  // namespace fathom
