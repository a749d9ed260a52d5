// The forward pass, layer by layer, against the independent NumPy reference (tools/reference): in double to 1e-12, in
// FP32 on every back end to 1e-5. Covers attention, dense and expert feed-forward, blocks, MTP and head at once,
// because each activation is compared where it leaves its part.
#include "model/transformer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "golden.h"
#include "kernels/registry.h"
#include "model/mtp.h"
#include "numerics/compare.h"
#include "numerics/decode.h"
#include "numerics/fp8.h"
#include "test_models.h"

namespace fathom {
namespace {

using testing::Golden;
using testing::to_doubles;

class GoldenForward : public ::testing::TestWithParam<const char*> {
 protected:
  GoldenForward() : golden_(GetParam()) {
    auto stored = load_model(golden_.dir());
    EXPECT_TRUE(stored) << stored.error().text;
    stored_ = std::move(*stored);
  }

  void expect_near(const std::string& what, const std::vector<double>& got, double tolerance) {
    const auto wanted = golden_.values(what);
    ASSERT_EQ(got.size(), wanted.size()) << what;
    EXPECT_LT(relative_max(std::span<const double>(got), std::span<const double>(wanted)), tolerance)
        << backend_ << " " << what;
  }

  void expect_layer(int64_t layer, bool is_moe, const BlockSaved& saved, double tolerance) {
    const std::string prefix = "layer." + std::to_string(layer) + ".";
    std::vector<double> attention = to_doubles(saved.h_mid);
    const std::vector<double> before = to_doubles(saved.h_in);
    for (size_t i = 0; i < attention.size(); ++i) attention[i] -= before[i];
    expect_near(prefix + "attn_out", attention, tolerance);
    ASSERT_EQ(is_moe, golden_.has(prefix + "router_scores"));
    if (!is_moe) return;
    expect_near(prefix + "router_scores", to_doubles(saved.moe.scores), tolerance);
    expect_near(prefix + "expert_weights", to_doubles(saved.moe.weights), tolerance);
    const Tensor ids = saved.moe.expert_ids;
    EXPECT_EQ(std::vector<int32_t>(ids.ptr<int32_t>(), ids.ptr<int32_t>() + ids.numel()),
              golden_.ids(prefix + "expert_ids"))
        << backend_ << " layer " << layer;
  }

  void expect_whole_pass(const Model& model, Kernels& kernels, DType activation, double tolerance) {
    backend_ = std::string(kernels.name());
    Arena arena;
    const fathom::Run run{.k = kernels, .arena = arena, .activation = activation};
    const Transformer transformer(model.config, model.weights);
    const auto tokens = golden_.ids("tokens");
    const auto offsets = golden_.offsets();
    const DocumentLayout layout(offsets);
    TransformerSaved saved;
    std::vector<Tensor> hidden;
    const Tensor final_norm = transformer.forward(
        run, {.tokens = tokens, .positions = layout.positions, .segments = layout.segments}, &saved, &hidden);
    const int64_t num_layers = model.config.num_hidden_layers, T = final_norm.extent(0);
    ASSERT_EQ(static_cast<int64_t>(hidden.size()), num_layers);
    for (int64_t l = 0; l < num_layers; ++l) {
      const auto at = static_cast<size_t>(l);
      expect_layer(l, model.weights.blocks[at].is_moe, saved.blocks[at], tolerance);
      expect_near("layer." + std::to_string(l) + ".hidden", to_doubles(hidden[at]), tolerance);
    }
    expect_near("final_norm", to_doubles(final_norm), tolerance);
    const Tensor logits = run.make({T, model.config.vocab_size});
    transformer.head().forward(run, final_norm, logits);
    expect_near("logits", to_doubles(logits), tolerance);

    ASSERT_EQ(model.config.num_nextn_predict_layers > 0, golden_.has("mtp.0.logits"));
    if (model.config.num_nextn_predict_layers == 0) return;
    MtpSaved mtp;
    const auto next_tokens = golden_.ids("mtp.0.tokens");
    const Tensor predicted =
        Mtp(transformer, 0)
            .forward(run, final_norm, next_tokens,
                     {.segments = layout.segments, .rotary = saved.rotary, .layer = num_layers}, &mtp);
    expect_layer(num_layers, model.weights.mtp[0].block.is_moe, mtp.block, tolerance);
    expect_near("layer." + std::to_string(num_layers) + ".hidden", to_doubles(mtp.h_out), tolerance);
    transformer.head().forward(run, predicted, logits);
    expect_near("mtp.0.logits", to_doubles(logits), tolerance);
  }

  Golden golden_;
  std::unique_ptr<Model> stored_;
  std::string backend_;
};

TEST_P(GoldenForward, EveryActivationAgreesInDouble) {
  const auto model = make_model(stored_->config, DType::kF64, false);
  copy_weights(*stored_, *model);
  ThreadPool pool(1);
  const auto kernels = make_kernels("ref", pool);
  ASSERT_TRUE(kernels);
  expect_whole_pass(*model, **kernels, DType::kF64, 1e-12);
}

TEST_P(GoldenForward, EveryActivationAgreesInFp32OnEveryBackEnd) {
  for (const std::string& name : available_kernels()) {
    ThreadPool pool(2);
    const auto kernels = make_kernels(name, pool);
    ASSERT_TRUE(kernels);
    expect_whole_pass(*stored_, **kernels, DType::kF32, 1e-5);
  }
}

TEST_P(GoldenForward, KeepingActivationsChangesNoBit) {
  for (const std::string& name : available_kernels()) {
    ThreadPool pool(1);
    const auto kernels = make_kernels(name, pool);
    ASSERT_TRUE(kernels);
    const Transformer transformer(stored_->config, stored_->weights);
    const auto tokens = golden_.ids("tokens");
    const auto offsets = golden_.offsets();
    const DocumentLayout layout(offsets);
    const PackedTokens batch{.tokens = tokens, .positions = layout.positions, .segments = layout.segments};
    Arena kept_arena, arena;
    TransformerSaved saved;
    const Tensor kept = transformer.forward({.k = **kernels, .arena = kept_arena}, batch, &saved);
    const Tensor plain = transformer.forward({.k = **kernels, .arena = arena}, batch);
    const auto size = static_cast<size_t>(kept.numel());
    EXPECT_TRUE(bit_equal({kept.ptr<float>(), size}, {plain.ptr<float>(), size})) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenForward, ::testing::Values("v2lite", "v2", "v3", "v3-plain"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(DocumentLayout, NumbersPositionsFromEachDocumentsStart) {
  const std::vector<int64_t> offsets{0, 3, 3, 5};
  const DocumentLayout layout(offsets);
  EXPECT_EQ(layout.positions, (std::vector<int64_t>{0, 1, 2, 0, 1}));
  ASSERT_EQ(layout.segments.size(), 3u);
  EXPECT_EQ(layout.segments[1].count, 0);
  EXPECT_EQ(layout.segments[2].row, 3);
  EXPECT_EQ(layout.segments[2].count, 2);
  EXPECT_EQ(layout.segments[2].first_position, 0);
  EXPECT_TRUE(layout.segments[2].pages.empty());
}

/// Stores every kv_b in E4M3 with one scale, 1/64, for all of its blocks.
void quantize_kv_b(Model& model) {
  for (BlockWeights& block : model.weights.blocks) {
    Weight& w = block.attention.kv_b.value;
    const int64_t rows = w.out_features(), columns = w.in_features();
    Weight narrow;
    model.storage.push_back(Storage::for_tensor(DType::kE4M3, {rows, columns}, &narrow.codes));
    model.storage.push_back(
        Storage::for_tensor(DType::kF32, {num_scale_blocks(rows), num_scale_blocks(columns)}, &narrow.scales));
    for (int64_t i = 0; i < rows * columns; ++i) {
      narrow.codes.ptr<e4m3>()[i] = to_e4m3(64 * weight_at(w, i / columns, i % columns));
    }
    for (int64_t i = 0; i < narrow.scales.numel(); ++i) narrow.scales.ptr<float>()[i] = 1.0f / 64;
    w = narrow;
  }
}

// Naive attention expands a few heads at a time; how many changes no bit. The rows of two of these heads are one block
// of scales, so that is the least there.
TEST(Transformer, HeadsExpandedAtATimeDoNotChangeABit) {
  ModelConfig config = testing::awkward_config();
  config.num_attention_heads = 5;
  config.qk_nope_head_dim = 40;
  config.v_head_dim = 24;
  const auto tokens = testing::random_tokens(90, config.vocab_size, 1);
  const std::vector<int64_t> offsets{0, 20, 90};
  const DocumentLayout layout(offsets);
  for (const bool is_fp8 : {false, true}) {
    const auto model = testing::random_model(config, 5, DType::kBF16);
    if (is_fp8) quantize_kv_b(*model);
    for (const std::string& name : available_kernels()) {
      ThreadPool pool(2);
      const auto kernels = make_kernels(name, pool);
      ASSERT_TRUE(kernels);
      const Transformer transformer(model->config, model->weights);
      for (const Precision precision : {Precision::kF32, Precision::kBF16, Precision::kFp8}) {
        std::vector<float> whole;
        for (const int64_t bytes : {int64_t{64} << 20, int64_t{3 * 70 * 64 * 4}, int64_t{1}}) {  // all, three, one
          Arena arena;
          const Tensor hidden =
              transformer.forward({.k = **kernels, .arena = arena, .precision = precision, .expansion_bytes = bytes},
                                  {.tokens = tokens, .positions = layout.positions, .segments = layout.segments});
          const std::vector<float> got(hidden.ptr<float>(), hidden.ptr<float>() + hidden.numel());
          if (whole.empty()) whole = got;
          EXPECT_TRUE(std::isfinite(got.back()) && bit_equal(whole, got)) << name << " " << bytes;
        }
      }
    }
  }
}

// The last layer is for rows that somebody reads, but for the keys of the others.
TEST(Transformer, RowsThatNobodyReadsChangeNoBitOfTheOthers) {
  const auto tokens = testing::random_tokens(90, testing::awkward_config().vocab_size, 1);
  const std::vector<int64_t> offsets{0, 20, 90};
  const DocumentLayout layout(offsets);
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  for (const std::string& name : available_kernels()) {
    ThreadPool pool(2);
    const auto kernels = make_kernels(name, pool);
    ASSERT_TRUE(kernels);
    const Transformer transformer(model->config, model->weights);
    for (const Precision precision : {Precision::kF32, Precision::kBF16, Precision::kFp8}) {
      const auto hidden_of = [&](const std::vector<int32_t>* rows, Arena& arena) {
        return transformer.forward(
            {.k = **kernels, .arena = arena, .precision = precision},
            {.tokens = tokens, .positions = layout.positions, .segments = layout.segments, .read_rows = rows});
      };
      Arena all_arena;
      const Tensor all = hidden_of(nullptr, all_arena);
      const auto D = static_cast<size_t>(all.extent(1));
      for (const std::vector<int32_t>& rows :
           {std::vector<int32_t>{}, {89}, {19, 89}, {0, 1, 2, 3, 19, 20, 60, 61, 88, 89}}) {
        Arena arena;
        const Tensor some = hidden_of(&rows, arena);
        ASSERT_EQ(some.extent(0), 90);
        for (int32_t t = 0; t < 90; ++t) {
          const std::span<const float> got(some.ptr<float>() + static_cast<size_t>(t) * D, D);
          if (std::find(rows.begin(), rows.end(), t) != rows.end()) {
            EXPECT_TRUE(bit_equal(got, {all.ptr<float>() + static_cast<size_t>(t) * D, D})) << name << " " << t;
          } else {
            EXPECT_TRUE(std::all_of(got.begin(), got.end(), [](float x) { return x == 0; })) << name << " " << t;
          }
        }
      }
    }
  }
}

// Packing is invisible: each document alone gives the bits it has inside the pack, empty documents included.
TEST(Transformer, DocumentsOfAPackDoNotSeeEachOther) {
  const auto model = testing::random_model(testing::awkward_config(), 4);
  const auto tokens = testing::random_tokens(100, model->config.vocab_size, 1);
  const std::vector<int64_t> offsets{0, 1, 66, 66, 100};
  for (const std::string& name : available_kernels()) {
    ThreadPool pool(2);
    const auto kernels = make_kernels(name, pool);
    ASSERT_TRUE(kernels);
    const Transformer transformer(model->config, model->weights);
    Arena arena;
    const fathom::Run run{.k = **kernels, .arena = arena};
    const DocumentLayout packed(offsets);
    const Tensor all =
        transformer.forward(run, {.tokens = tokens, .positions = packed.positions, .segments = packed.segments});
    for (size_t d = 0; d + 1 < offsets.size(); ++d) {
      const int64_t begin = offsets[d], count = offsets[d + 1] - begin;
      if (count == 0) continue;
      const std::vector<int64_t> own_offsets{0, count};
      const DocumentLayout own(own_offsets);
      const Tensor alone = transformer.forward(
          run, {.tokens = std::span(tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)),
                .positions = own.positions,
                .segments = own.segments});
      const auto size = static_cast<size_t>(alone.numel());
      EXPECT_TRUE(bit_equal({alone.ptr<float>(), size}, {all.rows(begin, count).ptr<float>(), size}))
          << name << " document " << d;
    }
  }
}

}  // namespace
}  // namespace fathom
