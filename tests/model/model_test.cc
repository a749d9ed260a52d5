// Loading a checkpoint: what is accepted, and every way in which a directory can be wrong, one by one. Making and
// copying models.
#include "model/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "checkpoint/safetensors.h"
#include "numerics/decode.h"
#include "numerics/fp8.h"
#include "test_models.h"

namespace fathom {
namespace {

using testing::TemporaryDirectory;

struct Stored {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};
using Contents = std::map<std::string, Stored>;

/// A small model with MTP, whose projections are larger than one FP8 block.
ModelConfig small_config() {
  ModelConfig config = testing::awkward_config();
  config.hidden_size = 130;
  config.num_hidden_layers = 2;
  config.num_nextn_predict_layers = 1;
  return config;
}

/// The number that a test checkpoint holds at `index` of a tensor: exact in every dtype of matrices, E4M3 included.
float value_of(const std::string& name, int64_t index) {
  return static_cast<float>(static_cast<int64_t>((stream_of(name) + static_cast<uint64_t>(index) * 7) % 15) - 7);
}

Stored stored(DType dtype, std::vector<int64_t> shape, const std::string& name) {
  Stored s{dtype, std::move(shape), {}};
  int64_t count = 1;
  for (int64_t extent : s.shape) count *= extent;
  s.bytes.resize(static_cast<size_t>(count * size_of(dtype)));
  for (int64_t i = 0; i < count; ++i) {
    const auto put = [&](auto v) { std::memcpy(s.bytes.data() + i * size_of(dtype), &v, sizeof v); };
    const float v = value_of(name, i);
    switch (dtype) {
      case DType::kF64: put(double{v}); break;
      case DType::kF32: put(v); break;
      case DType::kF16: put(to_f16(v)); break;
      case DType::kBF16: put(to_bf16(v)); break;
      case DType::kE4M3: put(to_e4m3(v)); break;
      default: break;  // zeros
    }
  }
  return s;
}

/// What a whole checkpoint of the config holds, without the optional copies.
Contents whole(const ModelConfig& config) {
  Contents contents;
  for (const TensorSpec& spec : expected_tensors(config)) {
    if (!spec.is_optional) contents[spec.name] = stored(DType::kF32, spec.shape, spec.name);
  }
  return contents;
}

void write_shard(const Path& path, const Contents& contents) {
  std::vector<TensorDecl> declared;
  for (const auto& [name, s] : contents) declared.push_back({name, s.dtype, s.shape});
  auto writer = SafetensorsWriter::create(path, declared);
  ASSERT_TRUE(writer) << writer.error().text;
  for (const auto& [name, s] : contents) ASSERT_TRUE(writer->append(name, s.bytes));
  ASSERT_TRUE(writer->commit());
}

/// A model directory that lives as long as this.
class ModelDirectory {
 public:
  ModelDirectory(const ModelConfig& config, const std::vector<Contents>& shards) {
    EXPECT_TRUE(write_file(path() / "config.json", config.to_json().dump(1)));
    if (shards.size() == 1) {
      write_shard(path() / "model.safetensors", shards[0]);
      return;
    }
    Json map = Json::object();
    for (size_t i = 0; i < shards.size(); ++i) {
      const std::string file = "part-" + std::to_string(i) + ".safetensors";
      write_shard(path() / file, shards[i]);
      for (const auto& [name, s] : shards[i]) map.set(name, file);
    }
    Json index = Json::object();
    index.set("weight_map", map);
    EXPECT_TRUE(write_file(path() / "model.safetensors.index.json", index.dump()));
  }
  const Path& path() const { return dir_.path(); }

 private:
  TemporaryDirectory dir_;
};

Result<std::unique_ptr<Model>> load(const ModelConfig& config, const std::vector<Contents>& shards) {
  const ModelDirectory dir(config, shards);
  return load_model(dir.path());  // the maps outlive the files
}

void expect_error(const ModelConfig& config, const std::vector<Contents>& shards, ErrorCode code,
                  std::initializer_list<std::string> says) {
  const auto model = load(config, shards);
  ASSERT_FALSE(model) << "loaded, though wrong: " << *says.begin();
  EXPECT_EQ(model.error().code, code) << model.error().text;
  for (const std::string& part : says) {
    EXPECT_NE(model.error().text.find(part), std::string::npos) << model.error().text << "\nlacks " << part;
  }
  EXPECT_EQ(model.error().text.find('\n'), std::string::npos) << "one line";
}

/// Every number of a loaded model is `wanted(name, index)`.
template <class Wanted>
void expect_values(Model& model, Wanted&& wanted) {
  visit_weights(model.config, model.weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    const bool is_vector = spec.shape.size() == 1;
    const int64_t columns = spec.shape.back();
    int64_t wrong = 0;
    for (int64_t i = 0; i < spec.num_elements(); ++i) {
      const float got = is_vector ? value.codes.view<float, 1>()[i] : weight_at(value, i / columns, i % columns);
      wrong += got != wanted(spec, i);
    }
    EXPECT_EQ(wrong, 0) << spec.name;
  });
}

TEST(LoadModel, BindsEveryTensorByItsName) {
  const ModelConfig config = small_config();
  const auto model = load(config, {whole(config)});
  ASSERT_TRUE(model) << model.error().text;
  EXPECT_EQ((*model)->config.num_nextn_predict_layers, 1);
  expect_values(**model, [](const TensorSpec& spec, int64_t i) { return value_of(spec.name, i); });
  const ModelWeights& w = (*model)->weights;
  EXPECT_NE(w.head.value.codes.data, w.embedding.value.codes.data);
  EXPECT_FALSE(w.blocks[0].is_moe);
  ASSERT_TRUE(w.blocks[1].is_moe);
  EXPECT_EQ(w.blocks[1].moe.down.value.size(), 10u);
  EXPECT_TRUE(w.mtp[0].block.is_moe);
  EXPECT_FALSE(w.blocks[0].attention.q_a.grad) << "no gradients outside training";
}

TEST(LoadModel, AcceptsEveryStorageOfFloats) {
  const ModelConfig config = small_config();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    Contents contents = whole(config);
    for (auto& [name, s] : contents) s = stored(dtype, s.shape, name);
    const auto model = load(config, {contents});
    ASSERT_TRUE(model) << model.error().text;
    EXPECT_EQ((*model)->weights.head.value.codes.dtype, dtype) << "matrices are used as they are stored";
    EXPECT_EQ((*model)->weights.norm.value.codes.dtype, DType::kF32);
    EXPECT_EQ((*model)->weights.blocks[1].moe.bias.dtype, DType::kF32);
    expect_values(**model, [](const TensorSpec& spec, int64_t i) { return value_of(spec.name, i); });
  }
}

/// All projections as E4M3; block b of a matrix has the scale 2^(b % 5), stored in `scale_dtype`.
Contents quantized(const ModelConfig& config, DType scale_dtype = DType::kF32) {
  Contents contents = whole(config);
  for (const TensorSpec& spec : expected_tensors(config)) {
    if (!spec.fp8_when_quantized) continue;
    contents[spec.name] = stored(DType::kE4M3, spec.shape, spec.name);
    Stored scales = stored(scale_dtype, scale_shape(spec.shape), "");
    const auto size = static_cast<size_t>(size_of(scale_dtype));
    for (size_t b = 0; b < scales.bytes.size() / size; ++b) {
      const auto scale = static_cast<float>(1 << b % 5);
      const uint32_t bits =
          std::bit_cast<uint32_t>(scale) >> (scale_dtype == DType::kF32    ? 0
                                             : scale_dtype == DType::kBF16 ? 16
                                                                           : 23);  // E8M0: the exponent
      std::memcpy(scales.bytes.data() + b * size, &bits, size);
    }
    contents[scale_name(spec.name)] = scales;
  }
  return contents;
}

float quantized_value(const TensorSpec& spec, int64_t i) {
  const float code = value_of(spec.name, i);
  if (!spec.fp8_when_quantized) return code;
  const int64_t columns = spec.shape[1], block_columns = scale_shape(spec.shape)[1];
  const int64_t block = i / columns / 128 * block_columns + i % columns / 128;
  return code * static_cast<float>(1 << block % 5);
}

TEST(LoadModel, MultipliesFp8CodesByTheScaleOfTheirBlock) {
  const ModelConfig config = small_config();
  const auto model = load(config, {quantized(config)});
  ASSERT_TRUE(model) << model.error().text;
  expect_values(**model, quantized_value);
}

TEST(LoadModel, ReadsScalesInEveryDtypeThatCheckpointsHave) {
  const ModelConfig config = small_config();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kE8M0}) {
    const auto model = load(config, {quantized(config, dtype)});
    ASSERT_TRUE(model) << model.error().text;
    expect_values(**model, quantized_value);
    EXPECT_EQ((*model)->weights.blocks[0].attention.q_a.value.scale_format,
              dtype == DType::kE8M0 ? ScaleFormat::kUe8m0 : ScaleFormat::kF32);
  }
}

TEST(LoadModel, TakesTheScaleFormatOfTheConfig) {
  ModelConfig config = small_config();
  config.quantization = Fp8Quantization{.ue8m0_scales = true};
  const auto model = load(config, {quantized(config)});
  ASSERT_TRUE(model) << model.error().text;
  EXPECT_EQ((*model)->weights.blocks[0].attention.q_a.value.scale_format, ScaleFormat::kUe8m0);
}

TEST(LoadModel, FindsAScaleInAnotherShard) {
  const ModelConfig config = small_config();
  Contents codes, scales;
  for (const auto& [name, s] : quantized(config)) (name.ends_with("_scale_inv") ? scales : codes)[name] = s;
  ASSERT_FALSE(scales.empty());
  const auto model = load(config, {codes, scales});
  ASSERT_TRUE(model) << model.error().text;
  expect_values(**model, quantized_value);
}

TEST(LoadModel, NamesAMissingTensor) {
  const ModelConfig config = small_config();
  const Contents complete = whole(config);
  // One of each kind, the first and the last of the plan, and of the MTP module.
  for (const std::string name :
       {"model.embed_tokens.weight", "model.layers.0.self_attn.q_a_proj.weight",
        "model.layers.0.self_attn.kv_a_layernorm.weight", "model.layers.1.mlp.gate.e_score_correction_bias",
        "model.layers.1.mlp.experts.9.up_proj.weight", "model.layers.1.mlp.shared_experts.down_proj.weight",
        "model.layers.2.eh_proj.weight", "model.layers.2.input_layernorm.weight", "model.norm.weight",
        "lm_head.weight"}) {
    Contents contents = complete;
    ASSERT_EQ(contents.erase(name), 1u) << name;
    expect_error(config, {contents}, ErrorCode::kCorrupt, {name, "missing"});
  }
}

TEST(LoadModel, NamesAWrongShapeAndTheRightOne) {
  const ModelConfig config = small_config();
  const Contents complete = whole(config);
  struct Row {
    const char* name;
    std::vector<int64_t> shape;
    const char *found, *wanted;
  };
  const Row rows[] = {{"model.layers.0.self_attn.kv_a_proj_with_mqa.weight", {26, 130}, "[26, 130]", "[25, 130]"},
                      {"model.layers.0.self_attn.kv_a_proj_with_mqa.weight", {130, 25}, "[130, 25]", "[25, 130]"},
                      {"model.layers.0.self_attn.kv_a_proj_with_mqa.weight", {25 * 130}, "[3250]", "[25, 130]"},
                      {"model.layers.0.self_attn.kv_a_proj_with_mqa.weight", {1, 25, 130}, "[1, 25, 130]", "[25, 130]"},
                      {"model.norm.weight", {131}, "[131]", "[130]"},
                      {"model.norm.weight", {1, 130}, "[1, 130]", "[130]"},
                      {"model.norm.weight", {}, "[]", "[130]"},
                      {"lm_head.weight", {71, 0}, "[71, 0]", "[71, 130]"}};
  for (const Row& row : rows) {
    Contents contents = complete;
    contents[row.name] = stored(DType::kF32, row.shape, row.name);
    expect_error(config, {contents}, ErrorCode::kCorrupt, {row.name, row.found, row.wanted});
  }
}

TEST(LoadModel, NamesADtypeThatItDoesNotTake) {
  const ModelConfig config = small_config();
  const std::string matrix = "model.layers.1.mlp.experts.3.gate_proj.weight", vector = "model.norm.weight";
  for (const DType dtype : {DType::kF64, DType::kI32, DType::kI64, DType::kU8}) {
    for (const std::string& name : {matrix, vector}) {
      Contents contents = whole(config);
      contents[name] = stored(dtype, contents[name].shape, name);
      expect_error(config, {contents}, ErrorCode::kUnsupported, {name, std::string(name_of(dtype)), "BF16"});
    }
  }
  Contents contents = whole(config);
  contents[vector] = stored(DType::kE4M3, contents[vector].shape, vector);
  expect_error(config, {contents}, ErrorCode::kUnsupported, {vector, "F8_E4M3"});
}

TEST(LoadModel, NamesAScaleThatIsMissingOrWrong) {
  const ModelConfig config = small_config();
  const std::string name = "model.layers.0.self_attn.q_a_proj.weight";  // [21, 130]: 1 x 2 blocks
  const Contents complete = quantized(config);
  Contents contents = complete;
  contents.erase(scale_name(name));
  expect_error(config, {contents}, ErrorCode::kCorrupt, {scale_name(name), "missing"});
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{1, 1}, {2, 1}, {2}, {1, 3}, {}}) {
    contents[scale_name(name)] = stored(DType::kF32, shape, "");
    expect_error(config, {contents}, ErrorCode::kCorrupt, {scale_name(name), "[1, 2]"});
  }
  contents[scale_name(name)] = stored(DType::kE8M0, {1, 2}, "");
  contents[scale_name(name)].bytes[1] = std::byte{0xFF};
  expect_error(config, {contents}, ErrorCode::kCorrupt, {scale_name(name), "not finite"});
  for (const DType dtype : {DType::kF16, DType::kF64, DType::kE4M3, DType::kU8}) {
    contents[scale_name(name)] = stored(dtype, {1, 2}, "");
    expect_error(config, {contents}, ErrorCode::kUnsupported, {scale_name(name), std::string(name_of(dtype)), "F32"});
  }
}

TEST(LoadModel, GoesWithoutMtpWhenTheCheckpointHasNone) {
  const ModelConfig config = small_config();
  Contents contents = whole(config);
  std::erase_if(contents, [](const auto& entry) { return entry.first.starts_with("model.layers.2."); });
  const auto model = load(config, {contents});
  ASSERT_TRUE(model) << model.error().text;
  EXPECT_EQ((*model)->config.num_nextn_predict_layers, 0);
  EXPECT_TRUE((*model)->weights.mtp.empty());
  expect_values(**model, [](const TensorSpec& spec, int64_t i) { return value_of(spec.name, i); });
  // One MTP tensor is not none.
  contents["model.layers.2.enorm.weight"] = stored(DType::kF32, {130}, "");
  expect_error(config, {contents}, ErrorCode::kCorrupt, {"model.layers.2.", "missing"});
}

TEST(LoadModel, ReadsPastMtpsCopiesOfEmbeddingAndHead) {
  const ModelConfig config = small_config();
  Contents contents = whole(config);
  for (const std::string name : {"model.layers.2.embed_tokens.weight", "model.layers.2.shared_head.head.weight"}) {
    contents[name] = stored(DType::kF32, {71, 130}, name);
  }
  const auto model = load(config, {contents});
  ASSERT_TRUE(model) << model.error().text;
  expect_values(**model, [](const TensorSpec& spec, int64_t i) { return value_of(spec.name, i); });
}

TEST(LoadModel, TiedEmbeddingsAreOneMatrix) {
  ModelConfig config = small_config();
  config.tie_word_embeddings = true;
  const Contents contents = whole(config);
  ASSERT_FALSE(contents.contains("lm_head.weight"));
  const auto model = load(config, {contents});
  ASSERT_TRUE(model) << model.error().text;
  EXPECT_EQ((*model)->weights.head.value.codes.data, (*model)->weights.embedding.value.codes.data);
  const auto made = make_model(config, DType::kF32, true);
  EXPECT_EQ(made->weights.head.value.codes.data, made->weights.embedding.value.codes.data);
  EXPECT_EQ(made->weights.head.grad.data, made->weights.embedding.grad.data) << "and its gradient is one";
}

TEST(LoadModel, PassesOnWhatIsWrongWithTheFiles) {
  const TemporaryDirectory dir;
  EXPECT_FALSE(load_model(dir.path()));
  ASSERT_TRUE(write_file(dir.path() / "config.json", small_config().to_json().dump()));
  const auto no_weights = load_model(dir.path());
  ASSERT_FALSE(no_weights);
  EXPECT_EQ(no_weights.error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(write_file(dir.path() / "model.safetensors", "not safetensors"));
  const auto broken = load_model(dir.path());
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, ErrorCode::kCorrupt);
}

TEST(CompareWithPlan, ListsWhatIsMissingAndWhatIsUnexpected) {
  const ModelConfig config = small_config();
  Contents contents = quantized(config);
  const auto difference = [&] {
    const ModelDirectory dir(config, {contents});
    const auto checkpoint = Checkpoint::open(dir.path());
    EXPECT_TRUE(checkpoint) << checkpoint.error().text;
    return compare_with_plan(config, *checkpoint);
  };
  EXPECT_TRUE(difference().missing.empty());
  EXPECT_TRUE(difference().unexpected.empty());
  contents.erase("model.norm.weight");
  contents.erase("model.layers.0.self_attn.o_proj.weight_scale_inv");
  contents["model.layers.0.self_attn.rotary_emb.inv_freq"] = stored(DType::kF32, {3}, "");
  contents["model.norm.weight_scale_inv"] = stored(DType::kF32, {1, 2}, "");  // the scale of nothing
  const CheckpointDifference found = difference();
  EXPECT_EQ(found.missing,
            (std::vector<std::string>{"model.layers.0.self_attn.o_proj.weight_scale_inv", "model.norm.weight"}));
  auto unexpected = found.unexpected;
  std::sort(unexpected.begin(), unexpected.end());
  EXPECT_EQ(unexpected,
            (std::vector<std::string>{"model.layers.0.self_attn.rotary_emb.inv_freq", "model.norm.weight_scale_inv"}));
}

TEST(CompareWithPlan, TheIndexerOfSparseAttentionIsSkipped) {
  ModelConfig config = small_config();
  Contents contents = quantized(config);
  contents["model.layers.0.self_attn.indexer.wq_b.weight"] = stored(DType::kF32, {1}, "");
  contents["model.layers.0.self_attn.indexer.k_norm.bias"] = stored(DType::kF32, {1}, "");
  const auto difference = [&] {
    const ModelDirectory dir(config, {contents});
    EXPECT_TRUE(load_model(dir.path()));
    const auto checkpoint = Checkpoint::open(dir.path());
    EXPECT_TRUE(checkpoint) << checkpoint.error().text;
    return compare_with_plan(config, *checkpoint);
  };
  EXPECT_EQ(difference().unexpected.size(), 2u) << "a dense model has no indexer";
  config.model_type = "deepseek_v32";
  config.index_topk = 64;
  const CheckpointDifference found = difference();
  EXPECT_TRUE(found.unexpected.empty());
  EXPECT_EQ(found.skipped.size(), 2u);
}

TEST(MakeModel, IsZeroAndHasGradientsWhenAsked) {
  const ModelConfig config = small_config();
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const bool with_gradients : {false, true}) {
      const auto model = make_model(config, dtype, with_gradients);
      size_t visited = 0;
      visit_weights(model->config, model->weights, [&](const TensorSpec& spec, Weight& value, Tensor* grad) {
        ++visited;
        const bool is_bias = spec.name.ends_with("e_score_correction_bias");
        EXPECT_EQ(grad == nullptr, is_bias) << spec.name;
        EXPECT_EQ(value.codes.dtype, is_bias ? DType::kF32 : dtype) << spec.name;
        EXPECT_EQ(value.codes.numel(), spec.num_elements()) << spec.name;
        const auto* bytes = static_cast<const char*>(value.codes.data);
        EXPECT_TRUE(std::all_of(bytes, bytes + value.codes.num_bytes(), [](char b) { return b == 0; })) << spec.name;
        if (is_bias) return;
        ASSERT_EQ(static_cast<bool>(*grad), with_gradients) << spec.name;
        if (with_gradients) {
          EXPECT_EQ(grad->extents, value.codes.extents) << spec.name;
          EXPECT_NE(grad->data, value.codes.data) << spec.name;
        }
      });
      EXPECT_EQ(visited, whole(config).size()) << "every tensor but the optional copies";
    }
  }
}

TEST(CopyWeights, WidensExactlyAndComesBackUnchanged) {
  const ModelConfig config = small_config();
  const auto source = testing::random_model(config, 1);
  const auto wide = make_model(config, DType::kF64, false), back = make_model(config, DType::kF32, false);
  copy_weights(*source, *wide);
  copy_weights(*wide, *back);
  std::vector<Weight> sources;
  visit_weights(config, source->weights, [&](const TensorSpec&, Weight& value, Tensor*) { sources.push_back(value); });
  size_t next = 0;
  visit_weights(config, back->weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    const Weight& from = sources[next++];
    EXPECT_EQ(std::memcmp(value.codes.data, from.codes.data, static_cast<size_t>(value.codes.num_bytes())), 0)
        << spec.name;
  });
  EXPECT_EQ(wide->weights.norm.value.codes.ptr<double>()[5], double{source->weights.norm.value.codes.ptr<float>()[5]});
}

TEST(CopyWeights, KeepsDoublesWhole) {
  const ModelConfig config = small_config();
  const auto source = make_model(config, DType::kF64, false), target = make_model(config, DType::kF64, false);
  testing::randomize(*source, 2);
  copy_weights(*source, *target);
  const Tensor from = source->weights.blocks[1].moe.up.value[3].codes,
               to = target->weights.blocks[1].moe.up.value[3].codes;
  ASSERT_NE(from.ptr<double>()[7], static_cast<double>(static_cast<float>(from.ptr<double>()[7])));
  EXPECT_EQ(std::memcmp(from.data, to.data, static_cast<size_t>(from.num_bytes())), 0);
  EXPECT_EQ(target->weights.norm.value.codes.ptr<double>()[3], source->weights.norm.value.codes.ptr<double>()[3]);
  EXPECT_EQ(target->weights.blocks[1].moe.bias.ptr<float>()[3], source->weights.blocks[1].moe.bias.ptr<float>()[3]);
}

TEST(CopyWeights, RoundsToBf16AndDecodesFp8) {
  const ModelConfig config = small_config();
  const auto source = testing::random_model(config, 3);
  const auto narrow = testing::random_model(config, 4, DType::kBF16);
  copy_weights(*source, *narrow);
  EXPECT_EQ(narrow->weights.head.value.codes.ptr<bf16>()[9].bits,
            to_bf16(source->weights.head.value.codes.ptr<float>()[9]).bits);
  const auto stored_model = load(config, {quantized(config)});
  ASSERT_TRUE(stored_model) << stored_model.error().text;
  const auto decoded = make_model(config, DType::kF32, false);
  copy_weights(**stored_model, *decoded);
  expect_values(*decoded, quantized_value);
}

TEST(CopyWeightsDeathTest, RefusesAModelOfAnotherConfig) {
  const ModelConfig config = small_config();
  ModelConfig other = config;
  other.kv_lora_rank += 1;
  const auto source = make_model(config, DType::kF32, false), target = make_model(other, DType::kF32, false);
  EXPECT_DEATH(copy_weights(*source, *target), "one shape");
  other = config;
  other.num_hidden_layers += 1;
  const auto deeper = make_model(other, DType::kF32, false);
  EXPECT_DEATH(copy_weights(*source, *deeper), "one shape|one config");
}

}  // namespace
}  // namespace fathom
