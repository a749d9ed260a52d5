// Every operation of the cpu back end, on every level this machine can run, against ref, against the other levels,
// against other thread counts and against other batches.
#include "kernels/cpu/cpu.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>

#include "../effort.h"
#include "kernels/levels.h"
#include "kernels/op_cases.h"
#include "numerics/panels.h"
#include "tensor/storage.h"

namespace fathom {
namespace {

using op_cases::Block;
using op_cases::Closeness;
using op_cases::Guarded;
using op_cases::OpCase;
using op_cases::Operands;

using testing::levels;
using testing::make;

/// A read or write beyond an operand stops the program here; the preset dev names the place.
Operands result(const OpCase& c, Kernels& kernels, Guarded guarded = Guarded::kEnd) {
  Operands ops;
  ops.guarded = guarded;
  c.setup(ops);
  c.run(kernels, ops);
  for (const auto& [name, block] : ops.blocks) EXPECT_TRUE(block.rest_intact()) << c.name << " left " << name;
  return ops;
}

TEST(GuardedOperandsDeathTest, StopAtTheFirstByteBeyond) {
  for (const int64_t numbers : {300, 1024}) {
    const Block at_end(DType::kF32, {numbers}), at_start(DType::kF32, {numbers}, Guarded::kStart), copy = at_start;
    volatile uint8_t sink = at_end.data()[at_end.num_bytes() - 1];
    EXPECT_DEATH(sink = at_end.data()[at_end.num_bytes()], "");
    EXPECT_DEATH(at_end.data()[at_end.num_bytes()] = sink, "");
    EXPECT_DEATH(sink = at_start.data()[-1], "");
    EXPECT_DEATH(copy.data()[-1] = sink, "");
  }
  const Block block(DType::kF32, {3});
  block.data()[-1] ^= 1;
  EXPECT_FALSE(block.rest_intact());
}

// tools/run_tests.py prints these properties in its summary.
TEST(CpuLevels, AreNamed) {
  ThreadPool pool(1);
  std::string executed, absent;
  for (const std::string& level : levels()) executed += (executed.empty() ? "" : " ") + level;
  for (const std::string level : {"generic", "avx2", "avx512", "avx512bf16", "amx", "neon"}) {
    if ((" " + executed + " ").find(" " + level + " ") != std::string::npos) continue;
    absent += (absent.empty() ? "" : " ") + level;
    const auto kernels = make_kernels(level, pool);
    ASSERT_FALSE(kernels);
    EXPECT_NE(kernels.error().text.find("cannot run on this CPU"), std::string::npos) << level;
  }
  RecordProperty("kernel_levels", executed);
  RecordProperty("absent_kernel_levels", absent);
  std::printf("levels run on this CPU: %s; not: %s\n", executed.c_str(), absent.c_str());
  EXPECT_EQ(levels().front(), "generic");
}

/// Every level against ref.
void expect_agreement(const OpCase& c, Kernels& ref, ThreadPool& pool) {
  const Operands expected = result(c, ref);
  Operands before;
  if (c.closeness != Closeness::kBits) c.setup(before);
  if (c.closeness == Closeness::kSum) {
    op_cases::take_magnitudes(before);
    c.run(ref, before);
  }
  std::map<std::string, op_cases::Bounds> bounds;
  for (const std::string& out : c.outputs) {
    if (c.closeness == Closeness::kCounted) bounds[out] = c.bounds(before, expected, out);
  }
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    const Operands actual = result(c, *kernels);
    for (const std::string& out : c.outputs) {
      const Block &a = actual.blocks.at(out), &e = expected.blocks.at(out);
      if (c.closeness == Closeness::kBits || e.dtype() == DType::kI32) {
        EXPECT_TRUE(a.bytes_equal(e)) << c.name << " " << level << " " << out;
        continue;
      }
      for (int64_t i = 0; i < e.numel(); ++i) {
        const double bound = c.closeness == Closeness::kSum
                                 ? sum_bound(c.terms + 1, before.blocks.at(out).real(i)) + 1e-30
                                 : bounds.at(out).at(static_cast<size_t>(i)) * 0x1p-24 + 1e-37;  // subnormal results
        const double difference = std::fabs(a.real(i) - e.real(i));
        ASSERT_TRUE(difference <= bound) << c.name << " " << level << " " << out << "[" << i << "]: " << a.real(i)
                                         << " for " << e.real(i) << ", bound " << bound;
      }
    }
  }
}

TEST(CpuKernels, AgreeWithRefWithinTheDerivedBound) {
  ThreadPool pool(2);
  const auto ref = make("ref", pool);
  for (const OpCase& c : op_cases::all_cases()) expect_agreement(c, *ref, pool);
}

// The seed is fixed so that a run can be repeated; FATHOM_SEED sets another one, FATHOM_ALL takes ten.
TEST(CpuKernels, AgreeWithRefOnRandomShapes) {
  ThreadPool pool(3);
  const auto ref = make("ref", pool);
  const char* seed_text = std::getenv("FATHOM_SEED");
  const uint64_t first = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : 20261129;
  const uint64_t count = seed_text == nullptr && testing::effort() == testing::Effort::kGreat ? 10 : 1;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    std::printf("FATHOM_SEED=%llu\n", static_cast<unsigned long long>(seed));
    SCOPED_TRACE("FATHOM_SEED=" + std::to_string(seed));
    for (const OpCase& c : op_cases::cases_of(op_cases::random_shapes(seed))) expect_agreement(c, *ref, pool);
  }
}

// With another alignment of the operands, whose starts are guarded here and whose ends in the other tests.
TEST(CpuKernels, GiveTheSameBitsOnEveryLevelInF32) {
  ThreadPool pool(1);
  const auto cases = op_cases::all_cases();
  for (size_t i = 0; i < cases.size(); i += testing::effort() == testing::Effort::kLittle ? 2 : 1) {
    const OpCase& c = cases[i];
    const auto generic = make("generic", pool);
    const Operands of_generic = result(c, *generic);
    for (const std::string& level : levels()) {
      const auto kernels = make(level, pool);
      const bool as_generic = c.same_on_levels || (level != "avx512bf16" && level != "amx");
      const Operands expected = as_generic ? of_generic : result(c, *kernels);
      const Operands actual = result(c, *kernels, Guarded::kStart);
      for (const std::string& out : c.outputs) {
        EXPECT_TRUE(actual.blocks.at(out).bytes_equal(expected.blocks.at(out))) << c.name << " " << level << " " << out;
      }
    }
  }
}

TEST(CpuKernels, GiveTheSameBitsForAnyNumberOfThreads) {
  ThreadPool one(1);
  const auto kernels = make("cpu", one);
  std::vector<int> threads = {2, 3, 8};
  if (testing::effort() == testing::Effort::kLittle) threads = {3};
  std::vector<std::unique_ptr<ThreadPool>> pools;
  std::vector<std::unique_ptr<Kernels>> others;
  for (int t : threads) {
    pools.push_back(std::make_unique<ThreadPool>(t));
    others.push_back(make("cpu", *pools.back()));
  }
  for (const OpCase& c : op_cases::all_cases()) {
    const Operands expected = result(c, *kernels);
    for (size_t i = 0; i < threads.size(); ++i) {
      const Operands actual = result(c, *others[i]);
      for (const std::string& out : c.outputs) {
        EXPECT_TRUE(actual.blocks.at(out).bytes_equal(expected.blocks.at(out))) << c.name << " " << threads[i];
      }
    }
  }
}

TEST(CpuGemm, GivesTheSameBitsFromPanelsAndFromRows) {
  ThreadPool pool(2);
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    for (DType dtype : {DType::kBF16, DType::kE4M3}) {
      for (int64_t tokens : {1, 3, 4, 5, 33, 200}) {
        constexpr int64_t kN = 83, kK = 1100;
        Operands o;
        o.input("x", {tokens, kK}), o.weight("w", dtype, kN, kK, 0.1);
        o.output("rows", {tokens, kN}), o.output("panels", {tokens, kN});
        kernels->gemm(o.at("x"), o.w("w"), o.at("rows"), Precision::kBF16, Into::kAssign);
        Weight panels = panels_of(dtype, kN, kK);
        Storage memory(num_panels(kN) * panel_bytes(panels));
        panels.codes.data = memory.data();
        panels.scales = o.w("w").scales;
        EXPECT_TRUE(kernels->pack(o.w("w"), panels));
        kernels->gemm(o.at("x"), panels, o.at("panels"), Precision::kBF16, Into::kAssign);
        EXPECT_TRUE(o.blocks.at("rows").bytes_equal(o.blocks.at("panels"))) << level << " " << tokens;
      }
    }
  }
}

TEST(CpuGemm, GivesATokenTheSameBitsAloneAndInABatchFromIntegerGroups) {
  ThreadPool pool(2);
  constexpr int64_t kTokens = 150, kN = 70;
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    for (GroupFormat format :
         {GroupFormat::kInt8, GroupFormat::kInt4, GroupFormat::kIq4Nl, GroupFormat::kMxfp4, GroupFormat::kQ5_0,
          GroupFormat::kQ4K, GroupFormat::kQ5K, GroupFormat::kQ6K, GroupFormat::kIq4Xs}) {
      Operands o;
      const int64_t k = can_quantize_to(format) ? 1100 : 1280;  // blocks of up to 256
      o.input("x", {kTokens, k}), o.output("y", {kTokens, kN});
      Weight from;
      if (can_quantize_to(format)) {
        o.weight("w", DType::kBF16, kN, k, 0.1);
        from = o.w("w");
      } else {
        from = o.group_blocks("w", format, kN, k);
      }
      Weight panels = panels_of(format, kN, k);
      Storage memory(num_panels(kN) * panel_bytes(panels));
      panels.codes.data = memory.data();
      EXPECT_TRUE(kernels->pack(from, panels));
      kernels->gemm(o.at("x"), panels, o.at("y"), Precision::kBF16, Into::kAssign);
      for (int64_t rows : {1, 2, 3, 4, 5, 9}) {
        Block& part = o.output("part", {rows, kN});
        kernels->gemm(o.at("x").rows(140, rows), panels, o.at("part"), Precision::kBF16, Into::kAssign);
        EXPECT_EQ(0, std::memcmp(part.data(), o.at("y").rows(140, rows).data, static_cast<size_t>(part.num_bytes())))
            << level << " " << rows;
      }
    }
  }
}

TEST(CpuGemm, MakesARowWithANanNanAndNoOther) {
  ThreadPool pool(1);
  const auto kernels = make("cpu", pool);
  constexpr int64_t kN = 20, kK = 96;
  Operands o;
  Block& x = o.input("x", {7, kK});
  o.weight("w", DType::kBF16, kN, kK, 0.1), o.output("y", {7, kN});
  x.set(3 * kK + 40, NAN);
  x.set(5 * kK + 41, INFINITY);
  Weight panels = panels_of(GroupFormat::kInt8, kN, kK);
  Storage memory(num_panels(kN) * panel_bytes(panels));
  panels.codes.data = memory.data();
  EXPECT_TRUE(kernels->pack(o.w("w"), panels));
  kernels->gemm(o.at("x"), panels, o.at("y"), Precision::kBF16, Into::kAssign);
  for (int64_t t = 0; t < 7; ++t) {
    for (int64_t n = 0; n < kN; ++n) EXPECT_EQ(std::isnan(o.blocks.at("y").real(t * kN + n)), t == 3 || t == 5);
  }
}

std::span<const float> floats(const Tensor& t) { return {t.ptr<const float>(), static_cast<size_t>(t.numel())}; }

TEST(CpuGemm, GivesATokenTheSameBitsAloneAndInABatch) {
  ThreadPool pool(2);
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kE4M3}) {
      for (Precision precision : {Precision::kF32, Precision::kBF16, Precision::kFp8}) {
        constexpr int64_t kTokens = 150, kN = 70, kK = 1100;
        Operands o;
        o.input("x", {kTokens, kK}), o.weight("w", dtype, kN, kK, 0.1), o.output("y", {kTokens, kN});
        kernels->gemm(o.at("x"), o.w("w"), o.at("y"), precision);
        for (int64_t rows : {1, 2, 3, 4, 5, 9}) {
          o.output("part", {rows, kN});
          kernels->gemm(o.at("x").rows(140, rows), o.w("w"), o.at("part"), precision);
          EXPECT_TRUE(bit_equal(floats(o.at("part")), floats(o.at("y").rows(140, rows))))
              << level << " " << name_of(dtype) << " rows " << rows;
        }
      }
    }
  }
}

TEST(CpuGemm, GroupedIsTheGemmOfEachExpert) {
  ThreadPool pool(2);
  const auto kernels = make("cpu", pool);
  constexpr int64_t kN = 40, kK = 100;
  const std::vector<int64_t> offsets = {0, 3, 3, 50, 51};
  Operands o;
  o.input("x", {51, kK}), o.output("y", {51, kN}), o.output("one", {51, kN});
  std::vector<Weight> w;
  for (int e = 0; e < 4; ++e) o.weight(op_cases::numbered("w", e), DType::kBF16, kN, kK, 0.1);
  for (int e = 0; e < 4; ++e) w.push_back(o.w(op_cases::numbered("w", e)));
  kernels->grouped_gemm(o.at("x"), offsets, w, o.at("y"), Precision::kBF16);
  for (size_t e = 0; e < 4; ++e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    kernels->gemm(o.at("x").rows(offsets[e], rows), w[e], o.at("one").rows(offsets[e], rows), Precision::kBF16);
  }
  EXPECT_TRUE(o.blocks["y"].bytes_equal(o.blocks["one"]));
}

// A file may have gate and up of an expert in formats of their own.
TEST(CpuGemm, GroupedSwigluIsItsTwoProductsAndSwiglu) {
  ThreadPool pool(2);
  constexpr int64_t kN = 70, kK = 1100, kExperts = 4;
  const std::vector<int64_t> offsets = {0, 3, 3, 50, 51};
  for (const std::string& level : available_kernels()) {
    const auto kernels = make(level, pool);
    for (Precision precision : {Precision::kF32, Precision::kBF16, Precision::kFp8}) {
      Operands o;
      o.input("x", {51, kK});
      for (const char* out : {"gate", "up", "h", "gate alone", "up alone", "h alone"}) o.output(out, {51, kN});
      Weight panels = panels_of(GroupFormat::kInt8, kN, kK);
      Storage memory(num_panels(kN) * panel_bytes(panels));
      panels.codes.data = memory.data();
      std::vector<Weight> gate, up;
      for (int64_t e = 0; e < kExperts; ++e) {
        const std::string g = op_cases::numbered("g", e), u = op_cases::numbered("u", e);
        o.weight(g, precision == Precision::kFp8 ? DType::kE4M3 : DType::kBF16, kN, kK, 0.1);
        o.weight(u, DType::kBF16, kN, kK, 0.1);
        gate.push_back(o.w(g));
        up.push_back(o.w(u));
      }
      EXPECT_TRUE(kernels->pack(up[3], panels));
      gate[0] = up[2] = panels;
      kernels->grouped_swiglu({.x = o.at("x"),
                               .offsets = offsets,
                               .w_gate = gate,
                               .w_up = up,
                               .gate = o.at("gate"),
                               .up = o.at("up"),
                               .h = o.at("h"),
                               .precision = precision});
      kernels->grouped_gemm(o.at("x"), offsets, gate, o.at("gate alone"), precision);
      kernels->grouped_gemm(o.at("x"), offsets, up, o.at("up alone"), precision);
      kernels->swiglu(o.at("gate alone"), o.at("up alone"), o.at("h alone"));
      for (const std::string out : {"gate", "up", "h"}) {
        EXPECT_TRUE(o.blocks[out].bytes_equal(o.blocks[out + " alone"])) << level << " " << out;
      }
    }
  }
}

// One token takes more columns of kv_b at once than several do; the second of its pieces and the rest are here too.
TEST(CpuAttention, AbsorbsATokenAloneAsAmongOthers) {
  ThreadPool pool(2);
  constexpr int64_t kTokens = 6, kH = 3, kNope = 131, kValue = 20, kLatent = 521;
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kE4M3}) {
      for (const Precision precision : {Precision::kF32, Precision::kBF16}) {
        Operands o;
        o.input("q", {kTokens, kH, kNope}), o.input("c", {kTokens, kH, kLatent});
        o.weight("w", dtype, kH * (kNope + kValue), kLatent, 0.1);
        o.output("absorbed", {kTokens, kH, kLatent}), o.output("value", {kTokens, kH, kValue});
        o.output("absorbed alone", {1, kH, kLatent}), o.output("value alone", {1, kH, kValue});
        kernels->mla_absorb_query(o.at("q"), o.w("w"), o.at("absorbed"), precision);
        kernels->mla_expand_value(o.at("c"), o.w("w"), o.at("value"), precision);
        for (int64_t t = 0; t < kTokens; ++t) {
          kernels->mla_absorb_query(o.at("q").rows(t, 1), o.w("w"), o.at("absorbed alone"), precision);
          kernels->mla_expand_value(o.at("c").rows(t, 1), o.w("w"), o.at("value alone"), precision);
          for (const std::string out : {"absorbed", "value"}) {
            EXPECT_TRUE(bit_equal(floats(o.at(out + " alone")), floats(o.at(out).rows(t, 1))))
                << level << " " << name_of(dtype) << " " << out << " " << t;
          }
        }
      }
    }
  }
}

TEST(CpuAttention, ChunkingAPromptDoesNotChangeABit) {
  ThreadPool pool(2);
  constexpr int64_t kS = 200, kH = 2, kNope = 20, kRope = 16, kValue = 24;
  for (const std::string& level : levels())
    for (const Precision precision : {Precision::kF32, Precision::kBF16}) {
      const auto kernels = make(level, pool);
      Operands o;
      o.input("q", {kS, kH, kNope + kRope}), o.input("kv", {kS, kH, kNope + kValue}), o.input("kr", {kS, kRope});
      o.output("out", {kS, kH, kValue}), o.output("lse", {kS, kH});
      o.output("out2", {kS, kH, kValue}), o.output("lse2", {kS, kH});
      const auto prefill = [&](int64_t first, int64_t count, const char* out, const char* lse) {
        kernels->mla_prefill({.q = o.at("q").rows(first, count),
                              .kv = o.at("kv").rows(0, first + count),
                              .k_rope = o.at("kr").rows(0, first + count),
                              .qk_nope_head_dim = kNope,
                              .first_position = first,
                              .softmax_scale = 0.3,
                              .out = o.at(out).rows(first, count),
                              .lse = o.at(lse).rows(first, count),
                              .precision = precision});
      };
      prefill(0, kS, "out", "lse");
      int64_t first = 0;
      for (int64_t count : {1, 62, 2, 64, 7, 64}) {
        prefill(first, count, "out2", "lse2");
        first += count;
      }
      ASSERT_EQ(first, kS);
      EXPECT_TRUE(o.blocks["out"].bytes_equal(o.blocks["out2"])) << level;
      EXPECT_TRUE(o.blocks["lse"].bytes_equal(o.blocks["lse2"])) << level;
    }
}

TEST(CpuAttention, DecodeOfARowDoesNotDependOnItsBatch) {
  ThreadPool pool(2);
  const auto kernels = make("cpu", pool);
  constexpr int64_t kT = 5, kH = 6, kLatent = 32, kRope = 16;
  Operands o;
  o.input("q", {kT, kH, kLatent}), o.input("qr", {kT, kH, kRope});
  o.weight("page", DType::kBF16, 128, kLatent + kRope, 1);
  o.output("all", {kT, kH, kLatent}), o.output("one", {kT, kH, kLatent});
  const std::array<void*, 2> pages = {o.blocks["page"].data(), o.blocks["page"].data() + 64 * (kLatent + kRope) * 2};
  const std::vector<LatentPages> caches(kT, LatentPages{pages, DType::kBF16, kLatent, kRope});
  const std::vector<int64_t> positions = {0, 63, 64, 100, 127};
  kernels->mla_decode({o.at("q"), o.at("qr"), caches, positions, 0.2, o.at("all")});
  for (int64_t t = 0; t < kT; ++t) {
    kernels->mla_decode({o.at("q").rows(t, 1), o.at("qr").rows(t, 1), std::span(caches).subspan(0, 1),
                         std::span(positions).subspan(static_cast<size_t>(t), 1), 0.2, o.at("one").rows(t, 1)});
  }
  EXPECT_TRUE(o.blocks["all"].bytes_equal(o.blocks["one"]));
}

TEST(CpuQuantize, RoundsEveryBoundaryAsRef) {
  ThreadPool pool(1);
  const auto ref = make("ref", pool);
  // A row whose largest value is 448 has scale 1, so codes see the values themselves: all codes, the midpoints between
  // neighbours and a hair to either side, subnormal steps, NaN and zeros.
  std::vector<float> values;
  for (int code = 0; code < 0x7E; ++code) {
    const float a = to_float(e4m3{static_cast<uint8_t>(code)}), b = to_float(e4m3{static_cast<uint8_t>(code + 1)});
    const float middle = (a + b) / 2;
    for (float v : {a, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1000.0f)}) {
      values.push_back(v);
      values.push_back(-v);
    }
  }
  values.push_back(std::nanf(""));
  Operands o;
  const auto rows = static_cast<int64_t>((values.size() + 126) / 127);
  Block& x = o.input("x", {rows, 128}, 0);
  for (size_t i = 0; i < values.size(); ++i) x.set(static_cast<int64_t>(i / 127 * 128 + i % 127), values[i]);
  for (int64_t r = 0; r < rows; ++r) x.set(r * 128 + 127, 448);
  for (const char* suffix : {"", "2"}) {
    o.block(std::string("c").append(suffix), DType::kE4M3, {rows, 128});
    o.output(std::string("s").append(suffix), {rows, 1});
  }
  ref->quantize_tiles(o.at("x"), ScaleFormat::kF32, o.at("c"), o.at("s"));
  for (const std::string& level : levels()) {
    make(level, pool)->quantize_tiles(o.at("x"), ScaleFormat::kF32, o.at("c2"), o.at("s2"));
    EXPECT_TRUE(o.blocks["c"].bytes_equal(o.blocks["c2"])) << level;
    EXPECT_TRUE(o.blocks["s"].bytes_equal(o.blocks["s2"])) << level;
  }
}

TEST(CpuWeights, DecodeEveryCodeAsRef) {
  ThreadPool pool(1);
  const auto ref = make("ref", pool);
  Operands o;
  o.ints("ids", {1}, 1);
  for (DType dtype : {DType::kE4M3, DType::kF16, DType::kBF16}) {
    const int64_t codes = dtype == DType::kE4M3 ? 256 : 65536;
    o.weight("table", dtype, 1, codes, 1);
    for (int64_t i = 0; i < codes; ++i) {
      if (dtype == DType::kE4M3) o.blocks["table"].data()[i] = static_cast<uint8_t>(i);
      if (dtype != DType::kE4M3) reinterpret_cast<uint16_t*>(o.blocks["table"].data())[i] = static_cast<uint16_t>(i);
    }
    o.output("expected", {1, codes});
    ref->embed(o.at("ids"), o.w("table"), o.at("expected"));
    for (const std::string& level : levels()) {
      o.output("actual", {1, codes});
      make(level, pool)->embed(o.at("ids"), o.w("table"), o.at("actual"));
      for (int64_t i = 0; i < codes; ++i) {
        const double e = o.blocks["expected"].real(i), a = o.blocks["actual"].real(i);
        ASSERT_TRUE(std::isnan(e) ? std::isnan(a) : e == a && std::signbit(e) == std::signbit(a))
            << level << " " << name_of(dtype) << " code " << i;
      }
    }
    o.blocks.erase("table.scales");
  }
}

TEST(CpuSoftmax, SurvivesTheEndsOfTheRange) {
  ThreadPool pool(1);
  for (const std::string& level : levels()) {
    const auto kernels = make(level, pool);
    Operands o;
    o.input("g", {1, 6}, 0), o.input("u", {1, 6}, 0, 1), o.output("h", {1, 6});
    const double gates[] = {-1e30, -100, -88.5, 100, 1e30, std::nan("")};
    for (int64_t i = 0; i < 6; ++i) o.blocks["g"].set(i, gates[i]);
    kernels->swiglu(o.at("g"), o.at("u"), o.at("h"));
    const Block& h = o.blocks["h"];
    EXPECT_EQ(h.real(0), 0) << level;
    EXPECT_NEAR(h.real(1), 0, 1e-36) << level;
    EXPECT_NEAR(h.real(2), 0, 1e-35) << level;
    EXPECT_EQ(h.real(3), 100) << level;
    EXPECT_EQ(h.real(4), static_cast<double>(1e30f)) << level;
    EXPECT_TRUE(std::isnan(h.real(5))) << level;
    // Logits far apart: the small ones vanish, nothing overflows.
    o.input("z", {1, 3}, 0), o.output("loss", {1}), o.output("dz", {1, 3}), o.ints("target", {1}, 1);
    o.blocks["z"].set(0, -3e38), o.blocks["z"].set(1, 3e38);
    o.blocks["target"].set(0, 1);
    kernels->cross_entropy(o.at("z"), o.span("target"), 1, o.at("loss"), o.at("dz"));
    EXPECT_EQ(o.blocks["loss"].real(0), 0) << level;
    for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(o.blocks["dz"].real(i), 0) << level;
  }
}

TEST(CpuRouter, SendsTiesToTheLowerId) {
  ThreadPool pool(1);
  for (const std::string& level : levels()) {
    Operands o;
    o.input("z", {1, 8}, 0), o.output("s", {1, 8}), o.output("w", {1, 3}), o.ints("ids", {1, 3}, 1);
    o.blocks["z"].set(6, 1);
    make(level, pool)
        ->router({.logits = o.at("z"),
                  .bias = {},
                  .spec = {.num_experts_per_tok = 3},
                  .scores = o.at("s"),
                  .expert_ids = o.at("ids"),
                  .weights = o.at("w")});
    EXPECT_EQ(o.blocks["ids"].real(0), 0) << level;
    EXPECT_EQ(o.blocks["ids"].real(1), 1) << level;
    EXPECT_EQ(o.blocks["ids"].real(2), 6) << level;
  }
}

TEST(Registry, RefusesAnUnknownName) {
  ThreadPool pool(1);
  const auto kernels = make_kernels("fastest", pool);
  ASSERT_FALSE(kernels);
  EXPECT_NE(kernels.error().text.find("\"fastest\""), std::string::npos);
  EXPECT_NE(kernels.error().text.find("generic"), std::string::npos);
}

}  // namespace
}  // namespace fathom
