// Every backward operation of ref against central differences of its forward, in FP64: along a random direction v,
// <gradient, v> equals (L(x + h v) - L(x - h v)) / 2h to a relative 1e-6, where L sums the outputs with random weights.
#include <gtest/gtest.h>

#include "kernels/op_cases.h"
#include "kernels/ref/ref.h"

namespace fathom {
namespace {

using op_cases::Block;
using op_cases::numbered;
using op_cases::Operands;

Operands in_f64() {
  Operands o;
  o.real = DType::kF64;
  return o;
}

double dot(const Block& a, const Block& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.numel(); ++i) sum += a.real(i) * b.real(i);
  return sum;
}

/// A gradient that is summed into starts at zero.
Block& zeros(Operands& o, const std::string& name, std::vector<int64_t> extents) {
  Block& b = o.output(name, std::move(extents));
  for (int64_t i = 0; i < b.numel(); ++i) b.set(i, 0);
  return b;
}

/// `loss` runs the forward on the operands as they are; o.blocks[gradient] holds dL/d(input) already.
void expect_gradient(Operands& o, const std::string& input, const std::string& gradient,
                     const std::function<double()>& loss) {
  constexpr double kStep = 1e-5;
  Block& x = o.blocks.at(input);
  const Rng rng(7, stream_of(input));
  std::vector<double> start, direction;
  double expected = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    start.push_back(x.real(i));
    direction.push_back(rng.normal(static_cast<uint64_t>(i)));
    expected += o.blocks.at(gradient).real(i) * direction.back();
  }
  const auto loss_at = [&](double h) {
    for (int64_t i = 0; i < x.numel(); ++i) {
      x.set(i, start[static_cast<size_t>(i)] + h * direction[static_cast<size_t>(i)]);
    }
    return loss();
  };
  const double measured = (loss_at(kStep) - loss_at(-kStep)) / (2 * kStep);
  loss_at(0);
  ASSERT_GT(std::fabs(expected), 1e-8) << input;
  EXPECT_NEAR(measured / expected, 1, 1e-6) << input;
}

TEST(RefGradient, RmsNorm) {
  RefKernels k;
  Operands o = in_f64();
  o.input("x", {5, 17}), o.input("g", {17}), o.input("dy", {5, 17});
  o.output("y", {5, 17}), o.output("dx", {5, 17}), zeros(o, "dg", {17});
  k.rms_norm_backward(o.at("x"), o.at("g"), 1e-3, o.at("dy"), o.at("dx"), Into::kAssign, o.at("dg"));
  const auto loss = [&] {
    k.rms_norm(o.at("x"), o.at("g"), 1e-3, o.at("y"));
    return dot(o.blocks["y"], o.blocks["dy"]);
  };
  expect_gradient(o, "x", "dx", loss);
  expect_gradient(o, "g", "dg", loss);
}

TEST(RefGradient, Gemm) {
  RefKernels k;
  Operands o = in_f64();
  o.input("x", {5, 7}), o.weight("w", DType::kF32, 6, 7, 1), o.input("dy", {5, 6});
  o.output("y", {5, 6}), o.output("dx", {5, 7}), zeros(o, "dw", {6, 7});
  k.gemm_backward_input(o.at("dy"), o.w("w"), o.at("dx"), Precision::kF32, Into::kAssign);
  k.gemm_backward_weight(o.at("dy"), o.at("x"), o.at("dw"), Precision::kF32);
  const auto loss = [&] {
    k.gemm(o.at("x"), o.w("w"), o.at("y"), Precision::kF32, Into::kAssign);
    return dot(o.blocks["y"], o.blocks["dy"]);
  };
  expect_gradient(o, "x", "dx", loss);
  expect_gradient(o, "w", "dw", loss);
}

TEST(RefGradient, GroupedGemm) {
  RefKernels k;
  Operands o = in_f64();
  const std::vector<int64_t> offsets = {0, 2, 2, 5};
  o.input("x", {5, 7}), o.input("dy", {5, 6}), o.output("y", {5, 6}), o.output("dx", {5, 7});
  std::vector<Weight> w;
  std::vector<Tensor> dw;
  for (int64_t e = 0; e < 3; ++e) {
    o.weight(numbered("w", e), DType::kF32, 6, 7, 1), zeros(o, numbered("dw", e), {6, 7});
    w.push_back(o.w(numbered("w", e)));
    dw.push_back(o.at(numbered("dw", e)));
  }
  k.grouped_gemm_backward_input(o.at("dy"), offsets, w, o.at("dx"), Precision::kF32, Into::kAssign);
  k.grouped_gemm_backward_weight(o.at("dy"), o.at("x"), offsets, dw, Precision::kF32);
  const auto loss = [&] {
    k.grouped_gemm(o.at("x"), offsets, w, o.at("y"), Precision::kF32);
    return dot(o.blocks["y"], o.blocks["dy"]);
  };
  expect_gradient(o, "x", "dx", loss);
  expect_gradient(o, "w0", "dw0", loss);
  expect_gradient(o, "w2", "dw2", loss);
}

TEST(RefGradient, Rope) {
  RefKernels k;
  Operands o = in_f64();
  o.input("x", {3, 2, 8}), o.input("dy", {3, 2, 8}), o.input("cos", {3, 4}), o.input("sin", {3, 4});
  o.blocks["dx"] = o.blocks["dy"];
  k.rope(o.at("dx"), o.at("cos"), o.at("sin"), RopeDirection::kInverse);
  expect_gradient(o, "x", "dx", [&] {
    o.blocks["y"] = o.blocks["x"];
    k.rope(o.at("y"), o.at("cos"), o.at("sin"), RopeDirection::kForward);
    return dot(o.blocks["y"], o.blocks["dy"]);
  });
}

TEST(RefGradient, MlaPrefill) {
  RefKernels k;
  Operands o = in_f64();
  constexpr int64_t kT = 9, kH = 2, kNope = 5, kRope = 4, kValue = 3;
  o.input("q", {kT, kH, kNope + kRope}), o.input("kv", {kT, kH, kNope + kValue}), o.input("kr", {kT, kRope});
  o.output("out", {kT, kH, kValue}), o.output("lse", {kT, kH}), o.input("dout", {kT, kH, kValue});
  o.output("dq", {kT, kH, kNope + kRope}), o.output("dkv", {kT, kH, kNope + kValue}), o.output("dkr", {kT, kRope});
  const MlaPrefillArgs args = {.q = o.at("q"),
                               .kv = o.at("kv"),
                               .k_rope = o.at("kr"),
                               .qk_nope_head_dim = kNope,
                               .first_position = 0,
                               .softmax_scale = 0.4,
                               .out = o.at("out"),
                               .lse = o.at("lse")};
  k.mla_prefill(args);
  k.mla_prefill_backward({args, o.at("dout"), o.at("dq"), o.at("dkv"), o.at("dkr")});
  const auto loss = [&] {
    k.mla_prefill(args);
    return dot(o.blocks["out"], o.blocks["dout"]);
  };
  expect_gradient(o, "q", "dq", loss);
  expect_gradient(o, "kv", "dkv", loss);
  expect_gradient(o, "kr", "dkr", loss);
}

TEST(RefGradient, Router) {
  RefKernels k;
  for (const bool sigmoid : {false, true}) {
    for (const bool normalised : {false, true}) {
      Operands o = in_f64();
      const RouterSpec spec = {.sigmoid = sigmoid,
                               .biased_selection = false,
                               .n_group = 1,
                               .topk_group = 1,
                               .num_experts_per_tok = 3,
                               .norm_topk_prob = normalised,
                               .routed_scaling_factor = 2.5};
      o.input("z", {4, 8}), o.output("s", {4, 8}), o.ints("ids", {4, 3}, 1), o.output("w", {4, 3});
      o.input("dw", {4, 3}), o.input("ds", {4, 8}), o.output("dz", {4, 8});
      const auto loss = [&] {
        k.router({o.at("z"), {}, spec, o.at("s"), o.at("ids"), o.at("w")});
        return dot(o.blocks["w"], o.blocks["dw"]) + dot(o.blocks["s"], o.blocks["ds"]);
      };
      loss();
      k.router_backward({o.at("s"), o.at("ids"), o.at("dw"), o.at("ds"), spec, o.at("dz")});
      expect_gradient(o, "z", "dz", loss);
    }
  }
}

TEST(RefGradient, BalanceLoss) {
  RefKernels k;
  Operands o = in_f64();
  o.input("s", {9, 6}, 0.05, 0.5), o.output("ds", {9, 6});
  const std::vector<int64_t> documents = {0, 4, 9};
  const auto loss = [&] { return k.balance_loss({o.at("s"), documents, 2, 0.3, o.at("ds")}); };
  loss();
  o.blocks["gradient"] = o.blocks["ds"];
  expect_gradient(o, "s", "gradient", loss);
}

// y = combine(w * (h W^T)): dw and dh through weigh_rows_backward and the backward of gather and combine.
TEST(RefGradient, WeightedCombine) {
  RefKernels k;
  Operands o = in_f64();
  constexpr int64_t kT = 3, kK = 2, kD = 5;
  const std::vector<int32_t> slots = {0, 3, 1, 4, 2, 5}, row_token = {0, 1, 2, 0, 1, 2};
  o.input("h", {kT * kK, kD}), o.input("w", {kT, kK}), o.input("dy", {kT, kD}), o.output("y", {kT, kD});
  o.ints("ids", {kT, kK}, 1);
  for (int64_t t = 0; t < kT; ++t) o.blocks["ids"].set(t * kK, 1), o.blocks["ids"].set(t * kK + 1, 4);
  const auto loss = [&] {
    k.combine_rows(o.at("h"), slots, o.at("ids"), o.at("w"), o.at("y"), Into::kAssign);
    return dot(o.blocks["y"], o.blocks["dy"]);
  };
  o.output("dh", {kT * kK, kD}), o.output("row_w", {kT * kK}), o.output("row_dw", {kT * kK}), o.output("dw", {kT, kK});
  k.gather_rows(o.at("dy"), row_token, o.at("dh"));
  for (size_t i = 0; i < slots.size(); ++i)
    o.blocks["row_w"].set(slots[i], o.blocks["w"].real(static_cast<int64_t>(i)));
  o.blocks["weighed"] = o.blocks["h"];
  k.weigh_rows_backward(o.at("dh"), o.at("weighed"), o.at("row_w"), o.at("row_dw"));
  for (size_t i = 0; i < slots.size(); ++i) {
    o.blocks["dw"].set(static_cast<int64_t>(i), o.blocks["row_dw"].real(slots[i]));
  }
  expect_gradient(o, "h", "dh", loss);
  expect_gradient(o, "w", "dw", loss);
}

TEST(RefGradient, GatherRows) {
  RefKernels k;
  Operands o = in_f64();
  const std::vector<int32_t> row_token = {0, 1, 2, 0, 1, 2}, slots = {0, 3, 1, 4, 2, 5};
  o.input("x", {3, 5}), o.input("dy", {6, 5}), o.output("y", {6, 5}), o.output("dx", {3, 5}), o.ints("ids", {3, 2}, 1);
  for (int64_t t = 0; t < 3; ++t) o.blocks["ids"].set(2 * t + 1, 1);
  k.combine_rows(o.at("dy"), slots, o.at("ids"), {}, o.at("dx"), Into::kAssign);
  expect_gradient(o, "x", "dx", [&] {
    k.gather_rows(o.at("x"), row_token, o.at("y"));
    return dot(o.blocks["y"], o.blocks["dy"]);
  });
}

TEST(RefGradient, Swiglu) {
  RefKernels k;
  Operands o = in_f64();
  o.input("g", {4, 9}, 2), o.input("u", {4, 9}), o.input("dh", {4, 9});
  o.output("h", {4, 9}), o.output("dg", {4, 9}), o.output("du", {4, 9});
  k.swiglu_backward(o.at("g"), o.at("u"), o.at("dh"), o.at("dg"), o.at("du"));
  const auto loss = [&] {
    k.swiglu(o.at("g"), o.at("u"), o.at("h"));
    return dot(o.blocks["h"], o.blocks["dh"]);
  };
  expect_gradient(o, "g", "dg", loss);
  expect_gradient(o, "u", "du", loss);
}

TEST(RefGradient, CrossEntropy) {
  RefKernels k;
  Operands o = in_f64();
  o.input("z", {4, 11}), o.output("loss", {4}), o.output("dz", {4, 11});
  const std::vector<int32_t> targets = {3, -1, 0, 10};
  k.cross_entropy(o.at("z"), targets, 0.25, o.at("loss"), o.at("dz"));
  expect_gradient(o, "z", "dz", [&] {
    k.cross_entropy(o.at("z"), targets, 0.25, o.at("loss"), {});
    double sum = 0;
    for (int64_t t = 0; t < 4; ++t) sum += 0.25 * o.blocks["loss"].real(t);
    return sum;
  });
}

TEST(RefGradient, Embed) {
  RefKernels k;
  Operands o = in_f64();
  o.ints("ids", {6}, 3), o.weight("table", DType::kF32, 3, 4, 1), o.input("dy", {6, 4});
  o.output("y", {6, 4}), zeros(o, "dtable", {3, 4});
  k.embed_backward(o.at("ids"), o.at("dy"), o.at("dtable"));
  expect_gradient(o, "table", "dtable", [&] {
    k.embed(o.at("ids"), o.w("table"), o.at("y"));
    return dot(o.blocks["y"], o.blocks["dy"]);
  });
}

}  // namespace
}  // namespace fathom
