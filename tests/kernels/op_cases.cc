// The table of op_cases.h: shapes around the tiles (1, tile, tile + 1, primes), every weight dtype, every precision.
#include "kernels/op_cases.h"

#include <array>
#include <memory>
#include <numeric>

#include "kernels/ref/ref.h"
#include "numerics/panels.h"

namespace fathom::op_cases {
namespace {

const char* name_of(Precision p) { return p == Precision::kF32 ? "f32" : p == Precision::kBF16 ? "bf16" : "fp8"; }

std::string label(const std::string& op, Precision p, DType d, std::initializer_list<int64_t> shape) {
  return op + "_" + name_of(p) + "_" + std::string(fathom::name_of(d)) + "_" + name_of_shape(shape);
}

void add_gemms(std::vector<OpCase>& cases, const OpShapes& shapes) {
  const DType dtypes[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kE4M3};
  for (const auto& [t, n, k] : shapes.gemms) {
    for (DType d : dtypes) {
      for (Precision p : {Precision::kF32, Precision::kBF16, Precision::kFp8}) {
        const bool exact_fp8 = p == Precision::kFp8 && d == DType::kE4M3;
        if (p == Precision::kFp8 && d != DType::kE4M3 && d != DType::kBF16) continue;
        const ScaleFormat format = exact_fp8 && n % 2 == 0 ? ScaleFormat::kUe8m0 : ScaleFormat::kF32;
        const Into into = t % 2 == 0 ? Into::kAccumulate : Into::kAssign;
        cases.push_back({.name = label("gemm", p, d, {t, n, k}),
                         .outputs = {"y"},
                         .setup =
                             [=](Operands& o) {
                               o.input("x", {t, k});
                               o.weight("w", d, n, k, 0.1);
                               if (into == Into::kAccumulate) {
                                 o.input("y", {t, n});
                               } else {
                                 o.output("y", {t, n});
                               }
                             },
                         .run =
                             [=](Kernels& kn, Operands& o) {
                               Weight w = o.w("w");
                               w.scale_format = format;
                               kn.gemm(o.at("x"), w, o.at("y"), p, into);
                             },
                         .closeness = exact_fp8 ? Closeness::kBits : Closeness::kSum,
                         .terms = k,
                         .same_on_levels = p != Precision::kBF16,
                         .macs = static_cast<double>(t * n * k)});
        if (p == Precision::kFp8) continue;
        cases.push_back({.name = label("gemm_backward_input", p, d, {t, n, k}),
                         .outputs = {"dx"},
                         .setup =
                             [=](Operands& o) {
                               o.input("dy", {t, n});
                               o.weight("w", d, n, k, 0.1);
                               o.input("dx", {t, k});
                             },
                         .run = [=](Kernels& kn,
                                    Operands& o) { kn.gemm_backward_input(o.at("dy"), o.w("w"), o.at("dx"), p, into); },
                         .closeness = Closeness::kSum,
                         .terms = n + 1,
                         .same_on_levels = p == Precision::kF32,
                         .macs = static_cast<double>(t * n * k)});
        if (d != DType::kF32) continue;
        cases.push_back(
            {.name = label("gemm_backward_weight", p, d, {t, n, k}),
             .outputs = {"dw"},
             .setup =
                 [=](Operands& o) {
                   o.input("dy", {t, n});
                   o.input("x", {t, k});
                   o.input("dw", {n, k});
                 },
             .run = [=](Kernels& kn, Operands& o) { kn.gemm_backward_weight(o.at("dy"), o.at("x"), o.at("dw"), p); },
             .closeness = Closeness::kSum,
             .terms = t + 1,
             .same_on_levels = p == Precision::kF32,
             .macs = static_cast<double>(t * n * k)});
      }
    }
  }
}

/// A weight in panels, whose memory is one more block.
Weight packed(Kernels& kernels, Operands& o, const std::string& name, const Weight& rows, Weight panels) {
  const Block& memory =
      o.block(name + ".panels", DType::kU8, {num_panels(panels.out_features()) * panel_bytes(panels)});
  panels.codes.data = memory.data();
  panels.scales = rows.scales;
  kernels.pack(rows, panels);
  return panels;
}
Weight packed(Kernels& kernels, Operands& o, const std::string& name, const Weight& panels) {
  return packed(kernels, o, name, o.w(name), panels);
}

// Formats that numbers can be turned into are packed from numbers, the others from blocks of a file.
void set_groups(Operands& o, const std::string& name, GroupFormat f, int64_t n, int64_t k) {
  can_quantize_to(f) ? o.weight(name, DType::kBF16, n, k, 0.1) : static_cast<void>(o.group_blocks(name, f, n, k));
}
Weight packed_groups(Kernels& kernels, Operands& o, const std::string& name, GroupFormat f, int64_t n, int64_t k) {
  const auto* blocks = reinterpret_cast<const std::byte*>(o.blocks.at(name).data());
  const Weight from = can_quantize_to(f) ? o.w(name) : blocks_of(f, n, k, blocks);
  return packed(kernels, o, name, from, panels_of(f, n, k));
}
/// The depth nearest above k that is whole blocks.
int64_t depth_of(GroupFormat f, int64_t k) {
  const int64_t numbers = groups_of_block(f) * kGroupSize;
  return can_quantize_to(f) ? k : (k + numbers - 1) / numbers * numbers;
}

const char* name_of(GroupFormat f) {
  const char* names[] = {"none", "int8", "int4", "iq4_nl", "mxfp4", "q5_0", "q4_k", "q5_k", "q6_k", "iq4_xs"};
  return names[static_cast<int>(f)];
}

constexpr GroupFormat kGroupFormats[] = {GroupFormat::kInt8,  GroupFormat::kInt4, GroupFormat::kIq4Nl,
                                         GroupFormat::kMxfp4, GroupFormat::kQ5_0, GroupFormat::kQ4K,
                                         GroupFormat::kQ5K,   GroupFormat::kQ6K,  GroupFormat::kIq4Xs};

void add_panels(std::vector<OpCase>& cases, const OpShapes& shapes) {
  for (const auto& [t, n, width] : shapes.panels) {
    for (GroupFormat f : kGroupFormats) {
      const int64_t k = depth_of(f, width);
      cases.push_back({.name = std::string("gemm_") + name_of(f) + "_panels_" + name_of_shape({t, n, k}),
                       .outputs = {"y"},
                       .setup =
                           [=](Operands& o) {
                             o.input("x", {t, k});
                             set_groups(o, "w", f, n, k);
                             o.output("y", {t, n});
                           },
                       .run =
                           [=](Kernels& kn, Operands& o) {
                             kn.gemm(o.at("x"), packed_groups(kn, o, "w", f, n, k), o.at("y"), Precision::kBF16);
                           },
                       .closeness = Closeness::kBits,
                       .macs = static_cast<double>(t * n * k)});
    }
    const int64_t k = width;
    for (DType d : {DType::kBF16, DType::kE4M3}) {
      const Into into = t % 2 == 0 ? Into::kAccumulate : Into::kAssign;
      cases.push_back({.name = label("gemm_panels", Precision::kBF16, d, {t, n, k}),
                       .outputs = {"y"},
                       .setup =
                           [=](Operands& o) {
                             o.input("x", {t, k});
                             o.weight("w", d, n, k, 0.1);
                             into == Into::kAccumulate ? o.input("y", {t, n}) : o.output("y", {t, n});
                           },
                       .run =
                           [=](Kernels& kn, Operands& o) {
                             kn.gemm(o.at("x"), packed(kn, o, "w", panels_of(d, n, k)), o.at("y"), Precision::kBF16,
                                     into);
                           },
                       .closeness = Closeness::kSum,
                       .terms = k,
                       .same_on_levels = false,
                       .macs = static_cast<double>(t * n * k)});
    }
  }
}

void add_grouped_panels(std::vector<OpCase>& cases, const OpShapes::Grouped& shape) {
  const std::vector<int64_t> offsets = shape.offsets;
  const int64_t n = shape.n;
  const int64_t experts = static_cast<int64_t>(offsets.size()) - 1;
  for (GroupFormat f : kGroupFormats) {
    const int64_t k = depth_of(f, shape.k);
    cases.push_back(
        {.name = std::string("grouped_gemm_") + name_of(f) + "_panels_" + name_of_shape({offsets.back(), n, k}),
         .outputs = {"y"},
         .setup =
             [=](Operands& o) {
               o.input("x", {offsets.back(), k});
               for (int64_t e = 0; e < experts; ++e) set_groups(o, numbered("w", e), f, n, k);
               o.output("y", {offsets.back(), n});
             },
         .run =
             [=](Kernels& kn, Operands& o) {
               std::vector<Weight> w;
               for (int64_t e = 0; e < experts; ++e) w.push_back(packed_groups(kn, o, numbered("w", e), f, n, k));
               kn.grouped_gemm(o.at("x"), offsets, w, o.at("y"), Precision::kF32);
             },
         .closeness = Closeness::kBits});
    // h is swiglu of the two, bit for bit (cpu_test.cc).
    cases.push_back(
        {.name = std::string("grouped_swiglu_") + name_of(f) + "_panels_" + name_of_shape({offsets.back(), n, k}),
         .outputs = {"gate", "up"},
         .setup =
             [=](Operands& o) {
               o.input("x", {offsets.back(), k});
               for (int64_t e = 0; e < 2 * experts; ++e) set_groups(o, numbered("w", e), f, n, k);
               for (const char* out : {"gate", "up", "h"}) o.output(out, {offsets.back(), n});
             },
         .run =
             [=](Kernels& kn, Operands& o) {
               std::vector<Weight> w;
               for (int64_t e = 0; e < 2 * experts; ++e) w.push_back(packed_groups(kn, o, numbered("w", e), f, n, k));
               const std::span<const Weight> all = w;
               kn.grouped_swiglu({.x = o.at("x"),
                                  .offsets = offsets,
                                  .w_gate = all.first(static_cast<size_t>(experts)),
                                  .w_up = all.last(static_cast<size_t>(experts)),
                                  .gate = o.at("gate"),
                                  .up = o.at("up"),
                                  .h = o.at("h"),
                                  .precision = Precision::kF32});
             },
         .closeness = Closeness::kBits});
  }
}

void add_grouped(std::vector<OpCase>& cases, const OpShapes::Grouped& shape) {
  const std::vector<int64_t> offsets = shape.offsets;
  const int64_t n = shape.n, k = shape.k;
  const int64_t rows = offsets.back(), experts = static_cast<int64_t>(offsets.size()) - 1;
  const auto weights = [=](const Operands& o) {
    std::vector<Weight> out;
    for (int64_t e = 0; e < experts; ++e) out.push_back(o.w(numbered("w", e)));
    return out;
  };
  std::vector<std::string> gradients;
  for (int64_t e = 0; e < experts; ++e) gradients.push_back(numbered("dw", e));
  for (Precision p : {Precision::kF32, Precision::kBF16, Precision::kFp8}) {
    const DType d = p == Precision::kBF16 ? DType::kBF16 : DType::kE4M3;
    const auto inputs = [=](Operands& o) {
      o.input("x", {rows, k});
      o.input("dy", {rows, n});
      for (int64_t e = 0; e < experts; ++e) o.weight(numbered("w", e), d, n, k, 0.1);
    };
    cases.push_back(
        {.name = label("grouped_gemm", p, d, {rows, n, k}),
         .outputs = {"y"},
         .setup =
             [=](Operands& o) {
               inputs(o), o.output("y", {rows, n});
             },
         .run = [=](Kernels& kn, Operands& o) { kn.grouped_gemm(o.at("x"), offsets, weights(o), o.at("y"), p); },
         .closeness = p == Precision::kFp8 ? Closeness::kBits : Closeness::kSum,
         .terms = k,
         .same_on_levels = p != Precision::kBF16});
    if (p == Precision::kFp8) continue;  // there is no backward in FP8
    cases.push_back({.name = label("grouped_gemm_backward_input", p, d, {rows, n, k}),
                     .outputs = {"dx"},
                     .setup =
                         [=](Operands& o) {
                           inputs(o), o.input("dx", {rows, k});
                         },
                     .run =
                         [=](Kernels& kn, Operands& o) {
                           kn.grouped_gemm_backward_input(o.at("dy"), offsets, weights(o), o.at("dx"), p,
                                                          Into::kAccumulate);
                         },
                     .closeness = Closeness::kSum,
                     .terms = n + 1,
                     .same_on_levels = p == Precision::kF32});
    cases.push_back({.name = label("grouped_gemm_backward_weight", p, DType::kF32, {rows, n, k}),
                     .outputs = gradients,
                     .setup =
                         [=](Operands& o) {
                           inputs(o);
                           for (int64_t e = 0; e < experts; ++e) o.input(numbered("dw", e), {n, k});
                         },
                     .run =
                         [=](Kernels& kn, Operands& o) {
                           std::vector<Tensor> dw;
                           for (int64_t e = 0; e < experts; ++e) dw.push_back(o.at(numbered("dw", e)));
                           kn.grouped_gemm_backward_weight(o.at("dy"), o.at("x"), offsets, dw, p);
                         },
                     .closeness = Closeness::kSum,
                     .terms = rows + 1,
                     .same_on_levels = p == Precision::kF32});
  }
}

void add_rows(std::vector<OpCase>& cases, const OpShapes& shapes) {
  for (const auto& [t, d] : shapes.rows) {
    const std::string shape = name_of_shape({t, d});
    cases.push_back({.name = "rms_norm_" + shape,
                     .outputs = {"y"},
                     .setup =
                         [=](Operands& o) {
                           o.input("x", {t, d}), o.input("g", {d}), o.output("y", {t, d});
                         },
                     .run = [](Kernels& k, Operands& o) { k.rms_norm(o.at("x"), o.at("g"), 1e-6, o.at("y")); },
                     .closeness = Closeness::kCounted,
                     .bounds = of_result(8)});
    cases.push_back({.name = "rms_norm_backward_" + shape,
                     .outputs = {"dx", "dg"},
                     .setup =
                         [=](Operands& o) {
                           o.input("x", {t, d}), o.input("g", {d}), o.input("dy", {t, d});
                           o.input("dx", {t, d}), o.input("dg", {d});
                         },
                     .run =
                         [](Kernels& k, Operands& o) {
                           k.rms_norm_backward(o.at("x"), o.at("g"), 1e-6, o.at("dy"), o.at("dx"), Into::kAccumulate,
                                               o.at("dg"));
                         },
                     .closeness = Closeness::kCounted,
                     .bounds = of_norm_backward});
    cases.push_back({.name = "swiglu_" + shape,
                     .outputs = {"h"},
                     .setup =
                         [=](Operands& o) {
                           o.input("g", {t, d}, 4), o.input("u", {t, d}), o.output("h", {t, d});
                         },
                     .run = [](Kernels& k, Operands& o) { k.swiglu(o.at("g"), o.at("u"), o.at("h")); },
                     .closeness = Closeness::kCounted,
                     .bounds = of_result(kExp + 4)});
    cases.push_back(
        {.name = "swiglu_backward_" + shape,
         .outputs = {"dg", "du"},
         .setup =
             [=](Operands& o) {
               o.input("g", {t, d}, 4), o.input("u", {t, d}), o.input("dh", {t, d});
               o.output("dg", {t, d}), o.output("du", {t, d});
             },
         .run = [](Kernels& k,
                   Operands& o) { k.swiglu_backward(o.at("g"), o.at("u"), o.at("dh"), o.at("dg"), o.at("du")); },
         .closeness = Closeness::kCounted,
         .bounds = of_swiglu_backward});
    cases.push_back({.name = "add_" + shape,
                     .outputs = {"y"},
                     .setup =
                         [=](Operands& o) {
                           o.input("x", {t, d}), o.input("y", {t, d});
                         },
                     .run = [](Kernels& k, Operands& o) { k.add(o.at("x"), o.at("y")); },
                     .closeness = Closeness::kBits});
    cases.push_back({.name = "round_to_bf16_" + shape,
                     .outputs = {"x"},
                     .setup =
                         [=](Operands& o) {
                           o.input("x", {t, d});
                         },
                     .run = [](Kernels& k, Operands& o) { k.round_to_bf16(o.at("x")); },
                     .closeness = Closeness::kBits});
    for (const ScaleFormat format : {ScaleFormat::kF32, ScaleFormat::kUe8m0}) {
      cases.push_back(
          {.name = (format == ScaleFormat::kF32 ? "quantize_tiles_" : "quantize_tiles_ue8m0_") + shape,
           .outputs = {"codes", "scales"},
           .setup =
               [=](Operands& o) {
                 Block& x = o.input("x", {t, d}, 3);
                 for (int64_t i = 0; i < x.numel(); i += 3) x.set(i, x.real(i) * std::pow(10, -(i % 8)));
                 o.block("codes", DType::kE4M3, {t, d});
                 o.output("scales", {t, num_scale_blocks(d)});
               },
           .run = [=](Kernels& k, Operands& o) { k.quantize_tiles(o.at("x"), format, o.at("codes"), o.at("scales")); },
           .closeness = Closeness::kBits});
    }
    cases.push_back(
        {.name = "weigh_rows_backward_" + shape,
         .outputs = {"dh", "h", "dw"},
         .setup =
             [=](Operands& o) {
               o.input("dh", {t, d}), o.input("h", {t, d}), o.input("w", {t}), o.output("dw", {t});
             },
         .run = [](Kernels& k, Operands& o) { k.weigh_rows_backward(o.at("dh"), o.at("h"), o.at("w"), o.at("dw")); },
         .closeness = Closeness::kCounted,
         .bounds = of_weighed_rows});
    cases.push_back(
        {.name = "cross_entropy_" + shape,
         .outputs = {"loss", "dz"},
         .setup =
             [=](Operands& o) {
               o.input("z", {t, d}, 5), o.output("loss", {t}), o.output("dz", {t, d});
               o.ints("target", {t}, d);
               if (t > 2) o.blocks["target"].set(1, -1);
             },
         .run = [](Kernels& k,
                   Operands& o) { k.cross_entropy(o.at("z"), o.span("target"), kLossScale, o.at("loss"), o.at("dz")); },
         .closeness = Closeness::kCounted,
         .bounds = of_cross_entropy});
    if (t == 0) continue;
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kE4M3}) {
      cases.push_back({.name = "embed_" + std::string(fathom::name_of(dtype)) + "_" + shape,
                       .outputs = {"out"},
                       .setup =
                           [=](Operands& o) {
                             o.ints("ids", {t}, 7), o.weight("table", dtype, 7, d, 1), o.output("out", {t, d});
                           },
                       .run = [](Kernels& k, Operands& o) { k.embed(o.at("ids"), o.w("table"), o.at("out")); },
                       .closeness = Closeness::kBits});
    }
    cases.push_back(
        {.name = "embed_backward_" + shape,
         .outputs = {"dtable"},
         .setup =
             [=](Operands& o) {
               o.ints("ids", {t}, 7), o.input("dout", {t, d}), o.input("dtable", {7, d});
             },
         .run = [](Kernels& k, Operands& o) { k.embed_backward(o.at("ids"), o.at("dout"), o.at("dtable")); },
         .closeness = Closeness::kBits});
    cases.push_back({.name = "gather_rows_" + shape,
                     .outputs = {"out"},
                     .setup =
                         [=](Operands& o) {
                           o.ints("from", {2 * t}, t), o.input("x", {t, d}), o.output("out", {2 * t, d});
                         },
                     .run = [](Kernels& k, Operands& o) { k.gather_rows(o.at("x"), o.span("from"), o.at("out")); },
                     .closeness = Closeness::kBits});
    for (int64_t chosen : {1, 3, 8}) {
      cases.push_back({.name = "combine_rows_" + name_of_shape({t, d, chosen}),
                       .outputs = {"out"},
                       .setup =
                           [=](Operands& o) {
                             o.input("rows", {t * chosen, d}), o.input("w", {t, chosen}), o.input("out", {t, d});
                             o.ints("slot", {t * chosen}, t * chosen), o.ints("ids", {t, chosen}, 5);
                             Block& ids = o.blocks["ids"];  // ascending: running sums of 1 .. 5
                             for (int64_t i = 0; i < ids.numel(); ++i) {
                               ids.set(i, ids.real(i) + 1 + (i % chosen == 0 ? 0 : ids.real(i - 1)));
                             }
                           },
                       .run =
                           [=](Kernels& k, Operands& o) {
                             k.combine_rows(o.at("rows"), o.span("slot"), o.at("ids"),
                                            chosen == 3 ? Tensor{} : o.at("w"), o.at("out"),
                                            chosen == 8 ? Into::kAccumulate : Into::kAssign);
                           },
                       .closeness = Closeness::kBits});
    }
  }
  for (const auto& [rope_t, h, r] : shapes.ropes) {
    for (RopeDirection direction : {RopeDirection::kForward, RopeDirection::kInverse}) {
      cases.push_back(
          {.name = "rope_" + name_of_shape({rope_t, h, r}) +
                   (direction == RopeDirection::kForward ? "_forward" : "_inverse"),
           .outputs = {"x"},
           .setup =
               [=](Operands& o) {
                 o.input("x", {rope_t, h, r}), o.input("cos", {rope_t, r / 2}), o.input("sin", {rope_t, r / 2});
               },
           .run = [=](Kernels& k, Operands& o) { k.rope(o.at("x"), o.at("cos"), o.at("sin"), direction); },
           .closeness = Closeness::kCounted,
           .bounds = of_rope});
    }
  }
  for (int64_t n : shapes.lengths) {
    cases.push_back({.name = "adamw_" + std::to_string(n),
                     .outputs = {"master", "first", "second"},
                     .setup =
                         [=](Operands& o) {
                           o.input("master", {n}), o.input("grad", {n});
                           o.weight("first", DType::kBF16, 1, n, 0.1), o.weight("second", DType::kBF16, 1, n, 0.01);
                           Block& v = o.blocks["second"];
                           for (int64_t i = 0; i < n; ++i) v.set(i, std::fabs(v.real(i)));
                         },
                     .run =
                         [](Kernels& k, Operands& o) {
                           k.adamw({.master = o.at("master"),
                                    .grad = o.at("grad"),
                                    .first_moment = o.at("first"),
                                    .second_moment = o.at("second"),
                                    .learning_rate = 3e-3,
                                    .weight_decay = 0.1,
                                    .gradient_scale = 0.7,
                                    .step = 3});
                         },
                     .closeness = Closeness::kBits});
    cases.push_back({.name = "sum_of_squares_" + std::to_string(n),
                     .outputs = {"sum"},
                     .setup = [=](Operands& o) { o.input("x", {n}), o.output("sum", {1}); },
                     .run = [](Kernels& k, Operands& o) { o.blocks["sum"].set(0, k.sum_of_squares(o.at("x"))); },
                     .closeness = Closeness::kCounted,
                     .bounds = of_result(2)});
  }
}

void add_router(std::vector<OpCase>& cases, const OpShapes& shapes) {
  for (const OpShapes::Router& s : shapes.routers) {
    const RouterSpec spec = {.sigmoid = s.sigmoid,
                             .biased_selection = s.biased,
                             .n_group = s.groups,
                             .topk_group = s.kept,
                             .num_experts_per_tok = s.k,
                             .norm_topk_prob = s.norm,
                             .routed_scaling_factor = 2.5};
    const std::string shape = name_of_shape({s.t, s.e, s.k, s.groups}) + (s.sigmoid ? "_sigmoid" : "_softmax");
    cases.push_back({.name = "router_" + shape,
                     .outputs = {"scores", "ids", "weights"},
                     .setup =
                         [=](Operands& o) {
                           o.input("z", {s.t, s.e}), o.input("bias", {s.e}, 0.1), o.output("scores", {s.t, s.e});
                           o.ints("ids", {s.t, s.k}, 1), o.output("weights", {s.t, s.k});
                         },
                     .run =
                         [=](Kernels& k, Operands& o) {
                           k.router({.logits = o.at("z"),
                                     .bias = s.biased ? o.at("bias") : Tensor{},
                                     .spec = spec,
                                     .scores = o.at("scores"),
                                     .expert_ids = o.at("ids"),
                                     .weights = o.at("weights")});
                         },
                     .closeness = Closeness::kCounted,
                     .bounds = [=](const Operands& before, const Operands& after,
                                   const std::string& out) { return of_router(spec, before, after, out); }});
    cases.push_back(
        {.name = "router_backward_" + shape,
         .outputs = {"dz"},
         .setup =
             [=](Operands& o) {
               o.input("scores", {s.t, s.e}, 0.01, 0.2), o.input("dw", {s.t, s.k}), o.output("dz", {s.t, s.e});
               o.input("ds", {s.t, s.e}), o.ints("ids", {s.t, s.k}, 1);
               for (int64_t i = 0; i < s.t * s.k; ++i) {
                 o.blocks["ids"].set(i, static_cast<double>(i % s.k * (s.e / s.k)));
               }
             },
         .run =
             [=](Kernels& k, Operands& o) {
               k.router_backward({.scores = o.at("scores"),
                                  .expert_ids = o.at("ids"),
                                  .dweights = o.at("dw"),
                                  .dscores = s.biased ? o.at("ds") : Tensor{},
                                  .spec = spec,
                                  .dlogits = o.at("dz")});
             },
         .closeness = Closeness::kCounted,
         .bounds = of_result(2)});
    cases.push_back({.name = "balance_loss_" + shape,
                     .outputs = {"loss", "ds"},
                     .setup =
                         [=](Operands& o) {
                           o.input("scores", {s.t, s.e}, 0.01, 0.2), o.output("ds", {s.t, s.e}), o.output("loss", {1});
                         },
                     .run =
                         [=](Kernels& k, Operands& o) {
                           const std::array<int64_t, 3> documents = {0, s.t / 2, s.t};
                           o.blocks["loss"].set(0, k.balance_loss({.scores = o.at("scores"),
                                                                   .document_offsets = documents,
                                                                   .num_experts_per_tok = s.k,
                                                                   .coefficient = 0.1,
                                                                   .dscores = o.at("ds")}));
                         },
                     .closeness = Closeness::kCounted,
                     .bounds = of_result(2)});
  }
}

/// Both projections of kv_b, for one token and for several.
struct Absorption {
  int64_t nope, value, latent;
};
void add_absorption(std::vector<OpCase>& cases, const Absorption& s) {
  constexpr int64_t kHeads = 3;
  for (DType d : {DType::kF32, DType::kBF16, DType::kF16, DType::kE4M3}) {
    for (int64_t t : {1, 6})
      for (const Precision precision : {Precision::kF32, Precision::kBF16}) {
        const bool in_bf16 = precision == Precision::kBF16;
        const std::string label = std::string(in_bf16 ? "bf16_" : "") + std::string(fathom::name_of(d)) + "_" +
                                  std::to_string(t) + "_" + std::to_string(s.latent);
        cases.push_back(
            {.name = "mla_absorb_query_" + label,
             .outputs = {"out"},
             .setup =
                 [=](Operands& o) {
                   o.input("q", {t, kHeads, s.nope}), o.output("out", {t, kHeads, s.latent});
                   o.weight("w", d, kHeads * (s.nope + s.value), s.latent, 0.1);
                 },
             .run = [=](Kernels& k, Operands& o) { k.mla_absorb_query(o.at("q"), o.w("w"), o.at("out"), precision); },
             .closeness = Closeness::kSum,
             .terms = s.nope,
             .same_on_levels = !in_bf16});
        cases.push_back(
            {.name = "mla_expand_value_" + label,
             .outputs = {"out"},
             .setup =
                 [=](Operands& o) {
                   o.input("c", {t, kHeads, s.latent}), o.output("out", {t, kHeads, s.value});
                   o.weight("w", d, kHeads * (s.nope + s.value), s.latent, 0.1);
                 },
             .run = [=](Kernels& k, Operands& o) { k.mla_expand_value(o.at("c"), o.w("w"), o.at("out"), precision); },
             .closeness = Closeness::kSum,
             .terms = s.latent,
             .same_on_levels = !in_bf16});
      }
  }
}

void add_attention(std::vector<OpCase>& cases, const OpShapes& shapes) {
  for (const PrefillShape& s : shapes.prefills) {
    const std::string shape = name_of_shape({s.t, s.s, s.first, s.h, s.nope, s.rope, s.value});
    const double scale = 1 / std::sqrt(static_cast<double>(s.nope + s.rope));
    const auto inputs = [=](Operands& o) {
      o.input("q", {s.t, s.h, s.nope + s.rope}), o.input("kv", {s.s, s.h, s.nope + s.value});
      o.input("kr", {s.s, s.rope}), o.output("out", {s.t, s.h, s.value}), o.output("lse", {s.t, s.h});
    };
    const auto args = [=](Operands& o, Precision precision = Precision::kF32) {
      return MlaPrefillArgs{.q = o.at("q"),
                            .kv = o.at("kv"),
                            .k_rope = o.at("kr"),
                            .qk_nope_head_dim = s.nope,
                            .first_position = s.first,
                            .softmax_scale = scale,
                            .out = o.at("out"),
                            .lse = o.at("lse"),
                            .precision = precision};
    };
    const auto bounds_in = [=](Precision precision) {
      return [=](const Operands& before, const Operands& after, const std::string& out) {
        return of_prefill(s, scale, precision, before, after, out);
      };
    };
    cases.push_back({.name = "mla_prefill_" + shape,
                     .outputs = {"out", "lse"},
                     .setup = inputs,
                     .run = [=](Kernels& k, Operands& o) { k.mla_prefill(args(o)); },
                     .closeness = Closeness::kCounted,
                     .bounds = bounds_in(Precision::kF32)});
    cases.push_back({.name = "mla_prefill_bf16_" + shape,
                     .outputs = {"out", "lse"},
                     .setup = inputs,
                     .run = [=](Kernels& k, Operands& o) { k.mla_prefill(args(o, Precision::kBF16)); },
                     .closeness = Closeness::kCounted,
                     .bounds = bounds_in(Precision::kBF16),
                     .same_on_levels = false});
    if (s.first == 0) {
      cases.push_back({.name = "mla_prefill_backward_" + shape,
                       .outputs = {"dq", "dkv", "dkr"},
                       .setup =
                           [=](Operands& o) {
                             inputs(o);
                             o.input("dout", {s.t, s.h, s.value}), o.output("dq", {s.t, s.h, s.nope + s.rope});
                             o.output("dkv", {s.s, s.h, s.nope + s.value}), o.output("dkr", {s.s, s.rope});
                           },
                       .run =
                           [=](Kernels& k, Operands& o) {
                             k.mla_prefill(args(o));
                             k.mla_prefill_backward({.forward = args(o),
                                                     .dout = o.at("dout"),
                                                     .dq = o.at("dq"),
                                                     .dkv = o.at("dkv"),
                                                     .dk_rope = o.at("dkr")});
                           },
                       .closeness = Closeness::kCounted,
                       .bounds = bounds_in(Precision::kF32)});
    }
  }
  for (const OpShapes::Decode& s : shapes.decodes) {
    const std::string shape = std::string(fathom::name_of(s.dtype)) + "_" + name_of_shape({s.t, s.h, s.latent, s.rope});
    constexpr int64_t kPages = 3;
    const auto cache_of = [=](const Operands& o, std::array<void*, kPages>& pages) {
      const DType stored = s.dtype == DType::kF32 ? o.real : s.dtype;
      for (int64_t p = 0; p < kPages; ++p) {
        pages[static_cast<size_t>(p)] =
            o.blocks.at("pages").data() + p * 64 * LatentPages::token_bytes(stored, s.latent, s.rope);
      }
      return LatentPages{pages, stored, s.latent, s.rope};
    };
    const auto make_pages = [=](Operands& o) {
      const DType stored = s.dtype == DType::kF32 ? o.real : s.dtype;
      const int64_t rows = kPages * 64, row_bytes = LatentPages::token_bytes(stored, s.latent, s.rope);
      // As bytes where a page is no matrix of numbers.
      stored == DType::kE4M3 ? o.block("pages", DType::kU8, {rows, row_bytes})
                             : o.block("pages", stored, {rows, s.latent + s.rope});
      o.input("latents", {rows, s.latent}), o.input("keys", {rows, s.rope});
      std::vector<int64_t> positions(static_cast<size_t>(rows));
      std::iota(positions.begin(), positions.end(), 0);
      std::array<void*, kPages> pages;
      const LatentPages cache = cache_of(o, pages);
      RefKernels().append_latents(o.at("latents"), o.at("keys"), positions, cache);
      o.output("stored.latents", {rows, s.latent}), o.output("stored.keys", {rows, s.rope});  // for the bounds
      RefKernels().gather_latents(cache, o.at("stored.latents"), o.at("stored.keys"));
    };
    for (const Precision precision : {Precision::kF32, Precision::kBF16}) {
      const bool in_bf16 = precision == Precision::kBF16;
      cases.push_back({.name = (in_bf16 ? "mla_decode_bf16_" : "mla_decode_") + shape,
                       .outputs = {"out"},
                       .setup =
                           [=](Operands& o) {
                             o.input("q", {s.t, s.h, s.latent}), o.input("qr", {s.t, s.h, s.rope});
                             o.output("out", {s.t, s.h, s.latent});
                             make_pages(o);
                           },
                       .run =
                           [=](Kernels& k, Operands& o) {
                             std::array<void*, kPages> pages;
                             const std::vector<LatentPages> caches(static_cast<size_t>(s.t), cache_of(o, pages));
                             const std::vector<int64_t> positions = positions_of_decode(s.t);
                             k.mla_decode({.q_latent = o.at("q"),
                                           .q_rope = o.at("qr"),
                                           .sequences = caches,
                                           .positions = positions,
                                           .softmax_scale = kDecodeScale,
                                           .out = o.at("out"),
                                           .precision = precision});
                           },
                       .closeness = Closeness::kCounted,
                       .bounds = [=](const Operands& before, const Operands& after,
                                     const std::string&) { return of_decode(before, after, precision); },
                       .same_on_levels = !in_bf16});
    }
    cases.push_back({.name = "append_and_gather_latents_" + shape,
                     .outputs = {"pages", "c", "r"},
                     .setup =
                         [=](Operands& o) {
                           o.input("latent", {s.t, s.latent}), o.input("rope", {s.t, s.rope});
                           make_pages(o);
                           o.output("c", {130, s.latent}), o.output("r", {130, s.rope});
                         },
                     .run =
                         [=](Kernels& k, Operands& o) {
                           std::array<void*, kPages> pages;
                           const LatentPages cache = cache_of(o, pages);
                           std::vector<int64_t> positions;
                           for (int64_t t = 0; t < s.t; ++t) positions.push_back(62 + t);
                           k.append_latents(o.at("latent"), o.at("rope"), positions, cache);
                           k.gather_latents(cache, o.at("c"), o.at("r"));
                         },
                     .closeness = Closeness::kBits});
  }
  add_absorption(cases, {.nope = 20, .value = 18, .latent = 150});
  add_absorption(cases, {.nope = 131, .value = 3, .latent = 521});  // wider than one token's pieces of 256
}

}  // namespace

std::vector<OpCase> cases_of(const OpShapes& shapes) {
  std::vector<OpCase> cases;
  add_gemms(cases, shapes);
  add_panels(cases, shapes);
  for (const OpShapes::Grouped& g : shapes.grouped) add_grouped_panels(cases, g), add_grouped(cases, g);
  add_rows(cases, shapes);
  add_router(cases, shapes);
  add_attention(cases, shapes);
  return cases;
}

std::vector<OpCase> all_cases() { return cases_of(fixed_shapes()); }

}  // namespace fathom::op_cases
