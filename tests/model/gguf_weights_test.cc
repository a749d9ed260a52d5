// A model written as GGUF computes what its Hugging Face directory computes, bit for bit: names, layouts, the split
// kv_b and the order of RoPE pairs (nothing is permuted).
#include "model/gguf_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "../effort.h"
#include "kernels/registry.h"
#include "model/gguf_config.h"
#include "model/gguf_export.h"
#include "model/golden.h"
#include "model/prepare_weights.h"
#include "model/test_models.h"
#include "model/transformer.h"
#include "numerics/blocks.h"
#include "numerics/decode.h"

namespace fathom {
namespace {

using testing::GgufExport;
using testing::TemporaryDirectory;
using testing::to_gguf;

Path write(const TemporaryDirectory& dir, const std::string& name, const std::string& bytes) {
  const Path path = dir.path() / name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

/// Logits of every position of a seeded text.
std::vector<float> logits_of(const Model& model, int64_t length, const char* back_end = "ref",
                             Precision precision = Precision::kF32) {
  ThreadPool pool(1);
  auto kernels = make_kernels(back_end, pool);
  EXPECT_TRUE(kernels) << kernels.error().text;
  Arena arena;
  const Run run{.k = **kernels, .arena = arena, .precision = precision};
  const Transformer transformer(model.config, model.weights);
  const std::vector<int32_t> tokens = testing::random_tokens(length, model.config.vocab_size, 3);
  const std::vector<int64_t> offsets{0, length};
  const DocumentLayout layout(offsets);
  const Tensor hidden = transformer.forward(
      run, {.tokens = tokens, .positions = layout.positions, .segments = layout.segments}, nullptr, nullptr);
  const Tensor logits = run.make({length, model.config.vocab_size});
  transformer.head().forward(run, hidden, logits);
  return {logits.ptr<float>(), logits.ptr<float>() + logits.numel()};
}

std::unique_ptr<Model> load_bytes(const std::string& bytes) {
  const TemporaryDirectory dir;
  auto model = load_model(write(dir, "m.gguf", bytes));
  EXPECT_TRUE(model) << model.error().text;
  return model ? std::move(*model) : nullptr;
}

/// Every tensor has the same dtype and the same bits.
void expect_equal_weights(const Model& a, const Model& b) {
  std::vector<std::pair<std::string, Weight>> left;
  auto& wa = const_cast<ModelWeights&>(a.weights);
  auto& wb = const_cast<ModelWeights&>(b.weights);
  visit_weights(a.config, wa, [&](const TensorSpec& spec, Weight& w, Tensor*) { left.emplace_back(spec.name, w); });
  size_t at = 0;
  visit_weights(b.config, wb, [&](const TensorSpec& spec, Weight& w, Tensor*) {
    ASSERT_LT(at, left.size());
    const auto& [name, other] = left[at++];
    ASSERT_EQ(name, spec.name);
    EXPECT_EQ(other.codes.dtype, w.codes.dtype) << name;
    EXPECT_EQ(testing::weight_values(other), testing::weight_values(w)) << name;
  });
  EXPECT_EQ(at, left.size());
}

const std::vector<GgufExport>& layouts() {
  static const std::vector<GgufExport> all = {
      {}, {.mla_keys = false}, {.split_kv_b = true}, {.split_kv_b = true, .fold_heads = true}};
  return all;
}

/// What GGUF metadata cannot say is taken from the original; all else must have come back.
void expect_equal_config(ModelConfig read, const ModelConfig& original) {
  read.model_type = original.model_type;
  read.initializer_range = original.initializer_range;
  read.aux_loss_alpha = original.aux_loss_alpha;
  EXPECT_EQ(read.to_json().dump(1), original.to_json().dump(1));
}

TEST(GgufWeights, GoldenModelsGiveTheLogitsOfTheirDirectories) {
  for (const char* name : {"v2", "v2lite", "v3", "v3-plain"}) {
    SCOPED_TRACE(name);
    const auto original = load_model(testing::Golden(name).dir());
    ASSERT_TRUE(original) << original.error().text;
    // GGUF has one key for both; every released model has them equal, the golden v2 on purpose has not.
    auto& yarn = (*original)->config.rope_scaling;
    if (yarn) yarn->mscale = yarn->mscale_all_dim;
    const std::vector<float> expected = logits_of(**original, 12);
    for (const GgufExport& layout : layouts()) {
      const auto read = load_bytes(to_gguf(**original, layout).build());
      ASSERT_NE(read, nullptr);
      expect_equal_config(read->config, (*original)->config);
      expect_equal_weights(**original, *read);
      EXPECT_EQ(logits_of(*read, 12), expected);
    }
  }
}

TEST(GgufWeights, TheOracleModelGivesTheLogitsOfItsDirectory) {
  if (!std::filesystem::exists(testing::oracle_dir())) GTEST_SKIP() << "needs " << testing::oracle_dir();
  const auto original = testing::load_oracle("bf16");
  ASSERT_TRUE(original) << original.error().text;
  const auto read = load_bytes(to_gguf(**original, {.split_kv_b = true}).build());
  ASSERT_NE(read, nullptr);
  expect_equal_config(read->config, (*original)->config);
  EXPECT_EQ(logits_of(*read, 40), logits_of(**original, 40));
}

TEST(GgufWeights, AwkwardWidthsAndBf16) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const auto original = testing::random_model(testing::awkward_config(), 5, dtype);
    const auto read = load_bytes(to_gguf(*original, {.split_kv_b = true}).build());
    ASSERT_NE(read, nullptr);
    expect_equal_weights(*original, *read);
    EXPECT_EQ(logits_of(*read, 9), logits_of(*original, 9));
  }
}

TEST(GgufWeights, RopeRowsInTheOtherOrderWouldShow) {
  // The half-split order of RoPE rows, which some formats use, gives other logits: the equality above proves something.
  const auto original = testing::random_model(testing::awkward_config(), 5);
  const std::vector<float> expected = logits_of(*original, 9);
  const ModelConfig& c = original->config;
  Tensor& kv_a = original->weights.blocks[0].attention.kv_a.value.codes;
  float* a = kv_a.ptr<float>() + (c.kv_lora_rank + 1) * c.hidden_size;
  float* b = kv_a.ptr<float>() + (c.kv_lora_rank + 2) * c.hidden_size;
  std::swap_ranges(a, a + c.hidden_size, b);
  EXPECT_NE(logits_of(*original, 9), expected);
}

ModelConfig even_config() {
  ModelConfig c = testing::awkward_config();
  c.hidden_size = 64;
  c.intermediate_size = 96;
  c.moe_intermediate_size = 32;
  c.q_lora_rank = 32;
  c.kv_lora_rank = 64;
  c.qk_nope_head_dim = 32;
  c.v_head_dim = 32;
  return c;
}

/// Q4_1 with the offset of Q4_0: scale, -8 scale, codes; within half a step of the values.
std::string encode_q4_1(const std::vector<float>& values) {
  std::string out;
  for (size_t b = 0; b < values.size(); b += 32) {
    float amax = 0;
    for (size_t i = 0; i < 32; ++i) amax = std::max(amax, std::fabs(values[b + i]));
    const f16 scale = to_f16(amax / 7);
    out += testing::GgufBuilder::raw(scale.bits) + testing::GgufBuilder::raw(to_f16(-8 * to_float(scale)).bits);
    const auto code = [&](size_t i) {
      const float q = to_float(scale) > 0 ? std::round(values[b + i] / to_float(scale)) : 0;
      return static_cast<int>(std::clamp(q + 8, 0.0f, 15.0f));
    };
    for (size_t i = 0; i < 16; ++i) out.push_back(static_cast<char>(code(i) | code(i + 16) << 4));
  }
  return out;
}

/// The blocks of one of the four types that are our integer groups, of what quantize_groups makes of the values.
std::string encode_groups(GroupFormat format, const std::vector<float>& values) {
  std::string out;
  const auto groups = static_cast<int64_t>(values.size()) / kGroupSize;
  std::vector<uint8_t> codes(values.size());
  std::vector<uint16_t> scales(static_cast<size_t>(groups));
  EXPECT_TRUE(quantize_groups(values.data(), groups, format, codes.data(), scales.data()));
  for (size_t g = 0; g < scales.size(); ++g) {
    out.push_back(static_cast<char>(scales[g] & 255));
    if (format != GroupFormat::kMxfp4) out.push_back(static_cast<char>(scales[g] >> 8));
    const uint8_t* block = codes.data() + 32 * g;
    if (format == GroupFormat::kInt8) {
      out.append(reinterpret_cast<const char*>(block), 32);
    } else {
      for (size_t i = 0; i < 16; ++i) out.push_back(static_cast<char>(block[i] | block[i + 16] << 4));
    }
  }
  return out;
}

/// Whether a tensor of the file is a matrix that products alone read.
bool is_product(const std::string& name) {
  for (const char* other :
       {"token_embd", "embed_tokens", "attn_kv_b", "attn_k_b", "attn_v_b", "ffn_gate_inp", "norm", "exp_probs_b"}) {
    if (name.find(other) != std::string::npos) return false;
  }
  return true;
}

TEST(GgufWeights, BlocksWithOffsetsAreDecodedToBf16) {
  const auto original = testing::random_model(even_config(), 7);
  for (bool split : {false, true}) {
    GgufExport how{.split_kv_b = split};
    how.encode = [](const std::string& name, const std::vector<float>& values, uint32_t* type, std::string* data) {
      if (name.find("ffn_gate_inp") != std::string::npos || values.size() % 32 != 0) return false;
      *type = 3;
      *data = encode_q4_1(values);
      return true;
    };
    const auto read = load_bytes(to_gguf(*original, how).build());
    ASSERT_NE(read, nullptr);
    std::vector<Weight> wanted;
    visit_weights(original->config, original->weights,
                  [&](const TensorSpec&, Weight& w, Tensor*) { wanted.push_back(w); });
    size_t at = 0;
    visit_weights(read->config, read->weights, [&](const TensorSpec& spec, Weight& w, Tensor*) {
      const std::vector<float> exact = testing::weight_values(wanted[at++]);
      const std::vector<float> got = testing::weight_values(w);
      ASSERT_EQ(got.size(), exact.size());
      if (spec.shape.size() == 1 || spec.tensor_class == TensorClass::kRouter) {
        EXPECT_EQ(got, exact) << spec.name;
        return;
      }
      EXPECT_EQ(w.codes.dtype, DType::kBF16) << spec.name;
      double amax = 0;
      for (float v : exact) amax = std::max(amax, std::fabs(double{v}));
      // Half a step of 4 bits, and half a unit of BF16 and of the F16 scale and offset.
      const double bound = amax * (0.5 / 7 + 1.0 / 256 + 2.0 / 1024);
      for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], exact[i], bound) << spec.name << " " << i;
    });
  }
}

TEST(GgufWeights, Q8BlocksHaveTheirExactValue) {
  const auto original = testing::random_model(even_config(), 7);
  std::vector<float> exact;  // of blk.1.ffn_up_exps
  GgufExport how;
  how.encode = [&](const std::string& name, const std::vector<float>& values, uint32_t* type, std::string* data) {
    if (name != "blk.1.ffn_up_exps.weight") return false;
    *type = 8;
    *data = encode_groups(GroupFormat::kInt8, values);
    for (size_t at = 0; at < data->size(); at += 34) {
      f16 scale;
      std::memcpy(&scale.bits, data->data() + at, 2);
      for (size_t i = 0; i < 32; ++i)
        exact.push_back(to_float(scale) * static_cast<float>(static_cast<int8_t>((*data)[at + 2 + i])));
    }
    return true;
  };
  const auto read = load_bytes(to_gguf(*original, how).build());
  ASSERT_NE(read, nullptr);
  size_t at = 0;
  for (const Weight& expert : read->weights.blocks[1].moe.up.value) {
    EXPECT_EQ(expert.layout, WeightLayout::kBlocks);
    for (float v : testing::weight_values(expert)) ASSERT_EQ(v, exact[at++]);
  }
  EXPECT_EQ(at, exact.size());
}

// A file whose blocks our own quantiser made gives, bit for bit, the logits of the model quantised at load.
TEST(GgufWeights, GroupsComputeWhatQuantizingAtLoadDoes) {
  struct Case {
    GroupFormat format;
    uint32_t type;
    const char* policy;
  };
  for (const Case& c :
       {Case{GroupFormat::kInt8, 8, "int8"}, Case{GroupFormat::kInt4, 2, "int4,head=int4"},
        Case{GroupFormat::kIq4Nl, 20, "iq4_nl,head=iq4_nl"}, Case{GroupFormat::kMxfp4, 39, "mxfp4,head=mxfp4"}}) {
    SCOPED_TRACE(c.policy);
    const auto original = testing::random_model(even_config(), 7);
    GgufExport how;
    how.encode = [&](const std::string& name, const std::vector<float>& values, uint32_t* type, std::string* data) {
      if (!is_product(name)) return false;
      *type = c.type;
      *data = encode_groups(c.format, values);
      return true;
    };
    const auto read = load_bytes(to_gguf(*original, how).build());
    ASSERT_NE(read, nullptr);
    ThreadPool pool(2);
    const auto kernels = make_kernels("cpu", pool);
    ASSERT_TRUE(kernels);
    SilentProgress silent;
    const auto policy = parse_quant_policy(c.policy);
    ASSERT_TRUE(policy);
    ASSERT_TRUE(prepare_weights(*original, *policy, Precision::kBF16, **kernels, silent));
    ASSERT_TRUE(prepare_weights(*read, {}, Precision::kBF16, **kernels, silent));
    EXPECT_EQ(read->weights.blocks[1].moe.up.value[0].groups, c.format);
    EXPECT_EQ(logits_of(*read, 12, "cpu", Precision::kBF16), logits_of(*original, 12, "cpu", Precision::kBF16));
  }
}

/// Those that stay integer groups. How each is decoded is numerics' to test.
std::vector<GgmlType> group_types() {
  if (testing::effort() == testing::Effort::kLittle) return {GgmlType::kQ4_K};
  return {GgmlType::kQ5_0, GgmlType::kQ4_K, GgmlType::kQ5_K, GgmlType::kQ6_K, GgmlType::kIQ4_XS};
}

/// A file whose products are all of a type, and their blocks by name.
std::string file_of_type(GgmlType type, std::map<std::string, std::string>& blocks) {
  ModelConfig c = even_config();
  c.hidden_size = c.intermediate_size = c.moe_intermediate_size = c.q_lora_rank = 256;
  c.num_attention_heads = 2;
  c.v_head_dim = 128;
  GgufExport how;
  how.encode = [&](const std::string& name, const std::vector<float>& values, uint32_t* out_type, std::string* data) {
    if (!is_product(name)) return false;
    *out_type = static_cast<uint32_t>(type);
    *data = testing::random_blocks(group_format(type), values.size() / static_cast<size_t>(info_of(type).block_length),
                                   blocks.size());
    blocks[name] = *data;
    return true;
  };
  return to_gguf(*testing::random_model(c, 7), how).build();
}

// Matrices in the K types and Q5_0 take the memory of the file and keep its values.
TEST(GgufWeights, KTypesStayIntegerGroups) {
  for (GgmlType type : group_types()) {
    SCOPED_TRACE(std::string(info_of(type).name));
    const GroupFormat format = group_format(type);
    std::map<std::string, std::string> blocks;
    const auto read = load_bytes(file_of_type(type, blocks));
    ASSERT_NE(read, nullptr);
    ThreadPool pool(2);
    const auto kernels = make_kernels("cpu", pool);
    ASSERT_TRUE(kernels);
    SilentProgress silent;
    ASSERT_TRUE(prepare_weights(*read, {}, Precision::kBF16, **kernels, silent));
    int64_t matrices = 0;
    visit_weights(read->config, read->weights, [&](const TensorSpec& spec, Weight& w, Tensor*) {
      const GgufSource source = gguf_source(spec.name);
      const auto found = blocks.find(source.name);
      if (found == blocks.end()) return;
      ++matrices;
      EXPECT_EQ(w.groups, format) << spec.name;
      EXPECT_EQ(w.layout, WeightLayout::kPanels) << spec.name;
      const auto numbers = static_cast<size_t>(w.out_features() * w.in_features());
      const int64_t count = static_cast<int64_t>(numbers) / info_of(type).block_length;
      const int64_t skip = std::max<int64_t>(source.expert, 0) * count * info_of(type).block_bytes;
      std::vector<float> exact(numbers);
      decode_blocks(type, reinterpret_cast<const std::byte*>(found->second.data()) + skip, count, exact.data());
      for (int64_t n = 0; n < w.out_features(); ++n) {
        std::vector<float> row(static_cast<size_t>(w.in_features()));
        decode_row(w, n, 0, w.in_features(), row.data());
        ASSERT_TRUE(std::equal(row.begin(), row.end(), exact.begin() + n * w.in_features())) << spec.name << " " << n;
      }
    });
    EXPECT_GT(matrices, 10);
    for (float v : logits_of(*read, 5, "cpu", Precision::kBF16)) ASSERT_TRUE(std::isfinite(v));
  }
}

// A step reads a few rows of an embedding: they are taken from its blocks, and no copy of it is made.
TEST(GgufWeights, AnEmbeddingIsLookedUpInItsBlocks) {
  std::string blocks;
  GgufExport how;
  how.encode = [&](const std::string& name, const std::vector<float>& values, uint32_t* type, std::string* data) {
    if (name != "token_embd.weight") return false;
    *type = static_cast<uint32_t>(GgmlType::kQ5_0);
    *data = blocks = testing::random_blocks(group_format(GgmlType::kQ5_0), values.size() / 32, 1);
    return true;
  };
  const auto read = load_bytes(to_gguf(*testing::random_model(even_config(), 8), how).build());
  ASSERT_NE(read, nullptr);
  const Weight& table = read->weights.embedding.value;
  ASSERT_EQ(table.layout, WeightLayout::kBlocks);
  const int64_t width = read->config.hidden_size, block_bytes = info_of(GgmlType::kQ5_0).block_bytes;
  ThreadPool pool(1);
  std::vector<int32_t> ids = {7, 0, -1, 7};
  for (const std::string& name : available_kernels()) {
    const auto kernels = make_kernels(name, pool);
    ASSERT_TRUE(kernels);
    std::vector<float> found(ids.size() * static_cast<size_t>(width), -1), row(static_cast<size_t>(width));
    (*kernels)->embed(Tensor::contiguous(ids.data(), DType::kI32, {std::ssize(ids)}), table,
                      Tensor::contiguous(found.data(), DType::kF32, {std::ssize(ids), width}));
    for (size_t t = 0; t < ids.size(); ++t) {
      std::fill(row.begin(), row.end(), 0.0f);
      if (ids[t] >= 0) {
        const auto* at = reinterpret_cast<const std::byte*>(blocks.data()) + ids[t] * (width / 32) * block_bytes;
        decode_blocks(GgmlType::kQ5_0, at, width / 32, row.data());
      }
      EXPECT_TRUE(std::equal(row.begin(), row.end(), found.begin() + static_cast<int64_t>(t) * width)) << name << t;
    }
  }
}

TEST(GgufWeights, KeptInAFileAreTheSameBits) {
  ThreadPool pool(2);
  const auto kernels = make_kernels("cpu", pool);
  ASSERT_TRUE(kernels);
  SilentProgress silent;
  for (GgmlType type : group_types()) {
    SCOPED_TRACE(std::string(info_of(type).name));
    std::map<std::string, std::string> blocks;
    const TemporaryDirectory dir;
    const Path path = write(dir, "m.gguf", file_of_type(type, blocks));
    const auto in_memory = load_model(path);
    ASSERT_TRUE(in_memory);
    ASSERT_TRUE(prepare_weights(**in_memory, {}, Precision::kBF16, **kernels, silent));
    for (const bool is_second : {false, true}) {
      const auto model = load_model(path);
      ASSERT_TRUE(model);
      const auto kept = prepare_weights_once(**model, {}, Precision::kBF16, **kernels, dir.path() / "kept", silent);
      ASSERT_TRUE(kept) << kept.error().text;
      EXPECT_EQ(kept->is_mapped, is_second);
      EXPECT_EQ(logits_of(**model, 5, "cpu", Precision::kBF16), logits_of(**in_memory, 5, "cpu", Precision::kBF16));
    }
  }
}

std::string load_error(const std::string& bytes) {
  const TemporaryDirectory dir;
  const Path path = write(dir, "m.gguf", bytes);
  const auto model = load_model(path);
  if (model) return "no error";
  const std::string prefix = path.string() + ": ";
  EXPECT_EQ(model.error().text.rfind(prefix, 0), 0u) << model.error().text;
  return model.error().text.substr(prefix.size());
}

TEST(GgufWeights, WhatDoesNotFitIsNamed) {
  const auto model = testing::random_model(even_config(), 7);
  const auto with = [&](const std::string& wanted, uint32_t type, const std::string& data) {
    GgufExport how;
    how.encode = [&](const std::string& name, const std::vector<float>&, uint32_t* out_type, std::string* out) {
      if (name != wanted) return false;
      *out_type = type;
      *out = data;
      return true;
    };
    return to_gguf(*model, how).build();
  };
  EXPECT_EQ(load_error(with("blk.0.attn_output.weight", 9, std::string(64 * 96 / 32 * 36, '\0'))),
            "tensor blk.0.attn_output.weight has type Q8_1; accepted: " + decodable_ggml_types());
  ModelConfig other = model->config;
  other.intermediate_size = 97;
  // A file whose metadata asks for another width than its tensors have.
  auto bad = std::make_unique<Model>();
  bad->config = other;
  bad->weights = model->weights;
  EXPECT_EQ(load_error(to_gguf(*bad).build()),
            "tensor blk.0.ffn_gate.weight has shape [96, 64], the metadata asks for [97, 64]");

  const TemporaryDirectory dir;
  std::string bytes = to_gguf(*model, {.split_kv_b = true}).build();
  const size_t at = bytes.find("blk.2.attn_v_b.weight");
  bytes[at + 4] = '9';
  EXPECT_EQ(load_error(bytes), "tensor blk.2.attn_v_b.weight is missing");
  const auto file = GgufModel::open(write(dir, "m.gguf", bytes));
  ASSERT_TRUE(file) << file.error().text;
  const CheckpointDifference difference = compare_with_plan(*config_from_gguf(*file), *file);
  EXPECT_EQ(difference.unexpected, (std::vector<std::string>{"blk.9.attn_v_b.weight"}));
  EXPECT_EQ(difference.wrong, (std::vector<std::string>{"blk.2.attn_v_b.weight is missing"}));
  EXPECT_TRUE(difference.missing.empty());
}

TEST(GgufWeights, AWholeFileHasNoDifference) {
  const auto model = testing::random_model(testing::awkward_config(), 7, DType::kBF16);
  const TemporaryDirectory dir;
  for (const GgufExport& layout : layouts()) {
    const auto file = GgufModel::open(write(dir, "m.gguf", to_gguf(*model, layout).build()));
    ASSERT_TRUE(file) << file.error().text;
    const CheckpointDifference difference = compare_with_plan(*config_from_gguf(*file), *file);
    EXPECT_EQ(difference.missing, std::vector<std::string>{});
    EXPECT_EQ(difference.unexpected, std::vector<std::string>{});
    EXPECT_EQ(difference.wrong, std::vector<std::string>{});
    int64_t stored = 0;
    for (const TensorSpec& spec : expected_tensors(model->config)) {
      stored += gguf_bytes(spec, model->config, *file).stored;
    }
    int64_t in_file = 0;
    for (const GgufTensor* t : file->tensors()) in_file += static_cast<int64_t>(t->bytes.size());
    EXPECT_EQ(stored, in_file);
  }
}

TEST(GgufWeights, NamesOfThePlan) {
  EXPECT_EQ(gguf_source("model.embed_tokens.weight").name, "token_embd.weight");
  EXPECT_EQ(gguf_source("model.layers.12.self_attn.kv_a_proj_with_mqa.weight").name, "blk.12.attn_kv_a_mqa.weight");
  const GgufSource expert = gguf_source("model.layers.3.mlp.experts.17.down_proj.weight");
  EXPECT_EQ(expert.name, "blk.3.ffn_down_exps.weight");
  EXPECT_EQ(expert.expert, 17);
  EXPECT_EQ(gguf_source("model.layers.61.shared_head.norm.weight").name, "blk.61.nextn.shared_head_norm.weight");
}

}  // namespace
}  // namespace fathom
