// What a checkpoint of integer groups may not be: every way to break one is an error of one line that names the tensor.
#include "model/stored_groups.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>

#include "base/rng.h"
#include "checkpoint_dir.h"
#include "model/quantize_checkpoint.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWeight = "model.layers.0.self_attn.o_proj.weight";

/// Bytes and declaration of a tensor on their way into a broken checkpoint.
struct Editable {
  TensorDecl decl;
  std::vector<std::byte> bytes;
};

class StoredGroups : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_model(*testing::random_model(testing::awkward_config(), 5, DType::kBF16), dir_.path() / "model");
  }

  /// The quantised form of the model, made once.
  Path quantized(const std::string& policy) {
    const Path out = dir_.path() / policy;
    if (fs::exists(out)) return out;
    SilentProgress silent;
    ThreadPool pool(1);
    const auto report =
        quantize_checkpoint(dir_.path() / "model", out, {.policy = *parse_quant_policy(policy)}, pool, silent);
    EXPECT_TRUE(report) << report.error().text;
    return out;
  }

  /// The error of loading a copy of `model` after `edit` saw every tensor; one that it returns false for is left out.
  std::string error_after(const Path& model, const std::function<bool(Editable&)>& edit) {
    std::vector<Editable> tensors;
    {
      const auto checkpoint = Checkpoint::open(model);
      for (std::string_view name : checkpoint->names()) {
        const StoredTensor& t = *checkpoint->find(name);
        Editable one{{t.name, t.dtype, t.shape}, {t.bytes.begin(), t.bytes.end()}};
        if (edit(one)) tensors.push_back(std::move(one));
      }
    }
    std::vector<TensorDecl> decls;
    for (const Editable& t : tensors) decls.push_back(t.decl);
    const Path broken = dir_.path() / "broken";
    fs::create_directory(broken);
    fs::copy_file(model / "config.json", broken / "config.json", fs::copy_options::overwrite_existing);
    auto writer = SafetensorsWriter::create(broken / "model.safetensors", decls);
    EXPECT_TRUE(writer);
    for (const Editable& t : tensors) EXPECT_TRUE(writer->append(t.decl.name, t.bytes));
    EXPECT_TRUE(writer->commit());
    const auto loaded = load_model(broken);
    return loaded ? std::string() : loaded.error().text;
  }

  static void expect_names(const std::string& error, std::initializer_list<std::string_view> parts) {
    for (std::string_view part : parts) EXPECT_NE(error.find(part), std::string::npos) << part << " in: " << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }

  testing::TemporaryDirectory dir_;
};

TEST_F(StoredGroups, LoadInPlaceAsTheyWereMade) {
  for (const std::string policy : {"int8", "int4", "iq4_nl", "mxfp4"}) {
    const auto model = load_model(quantized(policy));
    ASSERT_TRUE(model) << model.error().text;
    const Weight& w = (*model)->weights.blocks[0].attention.o.value;
    EXPECT_EQ(w.groups, groups_of(parse_quant_policy(policy)->attention));
    EXPECT_EQ(w.layout, WeightLayout::kRows);
    EXPECT_EQ(w.in_features(), 39);
    EXPECT_EQ(w.codes.stride(0), 64);
  }
}

TEST_F(StoredGroups, WithoutScalesOrOfAnotherShapeOrDtypeAreErrors) {
  const std::string scale = group_scale_name(kWeight);
  for (const std::string policy : {"int8", "int4", "mxfp4"}) {
    EXPECT_EQ(error_after(quantized(policy), [](Editable&) { return true; }), "");
    for (const std::string& name : {std::string(kWeight), scale}) {
      expect_names(error_after(quantized(policy), [&](Editable& t) { return t.decl.name != name; }), {name, "missing"});
      const auto without_a_row = [&](Editable& t) {
        if (t.decl.name != name) return true;
        t.bytes.resize(t.bytes.size() / static_cast<size_t>(t.decl.shape[0]) * 2);
        t.decl.shape[0] = 2;
        return true;
      };
      expect_names(error_after(quantized(policy), without_a_row), {name, "shape [2, ", "asks for [44, "});
      const auto flat = [&](Editable& t) {
        if (t.decl.name == name) t.decl.shape = {t.decl.shape[0] * t.decl.shape[1]};
        return true;
      };
      expect_names(error_after(quantized(policy), flat), {name, "shape ["});
      const auto as_other = [&](Editable& t) {
        if (t.decl.name != name) return true;
        t.decl.dtype = DType::kF32;
        t.bytes.resize(static_cast<size_t>(*tensor_bytes(DType::kF32, t.decl.shape)));
        return true;
      };
      expect_names(error_after(quantized(policy), as_other), {name, "dtype F32"});
    }
  }
}

TEST_F(StoredGroups, RefuseScalesThatAreNotFinite) {
  const std::string scale = group_scale_name(kWeight);
  for (const uint16_t bits : {uint16_t{0x7C00}, uint16_t{0xFC00}, uint16_t{0x7E00}}) {
    const auto edit = [&](Editable& t) {
      if (t.decl.name == scale) std::memcpy(t.bytes.data() + 2 * 5, &bits, 2);
      return true;
    };
    expect_names(error_after(quantized("int8"), edit), {scale, "not finite", "row 2, group 1"});
  }
  const auto edit = [&](Editable& t) {
    if (t.decl.name == scale) t.bytes[4] = std::byte{0xFF};
    return true;
  };
  expect_names(error_after(quantized("mxfp4"), edit), {scale, "not finite", "row 2, group 0"});
}

TEST_F(StoredGroups, OfAnotherFormatThanTheConfigSaysAreErrors) {
  const auto with_formats = [&](const std::string& stored, const std::string& said) {
    const Path model = quantized(stored);
    ModelConfig config = *load_model_config(model);
    config.stored_formats = *parse_quant_policy(said);
    EXPECT_TRUE(write_file(model / "config.json", config.to_json().dump()));
    const auto loaded = load_model(model);
    return loaded ? std::string() : loaded.error().text;
  };
  expect_names(with_formats("int8", "int4"), {"model.layers.0.self_attn.q_a_proj.weight", "asks for [21, 32]"});
  expect_names(with_formats("int4", "mxfp4"), {"q_a_proj.weight_scale", "F16", "F8_E8M0"});
  expect_names(with_formats("int4", "none"), {"q_a_proj.weight", "shape"});
  expect_names(with_formats("bf16,head=int8", "int8"), {"q_a_proj.weight"});
}

// Whatever a file says: it loads, or it is an error of one line that names the directory.
TEST_F(StoredGroups, WithAnyByteOfTheHeaderChangedLoadOrAreOneLine) {
  const Path model = quantized("int4,attention=int8,dense=mxfp4");
  const auto bytes = read_file(model / "model.safetensors");
  ASSERT_TRUE(bytes);
  uint64_t header = 0;
  std::memcpy(&header, bytes->data(), sizeof header);
  const Path broken = dir_.path() / "broken";
  fs::create_directory(broken);
  fs::copy_file(model / "config.json", broken / "config.json");
  const Rng rng(7, stream_of("header"));
  int errors = 0;
  for (uint64_t i = 0; i < 150; ++i) {
    std::string changed = *bytes;
    for (uint64_t b = 0; b < 3; ++b) {
      const char* const likely = "0123456789,[]{}\"UIF_ -";
      changed[8 + rng.below(6 * i + 2 * b, header)] = likely[rng.below(6 * i + 2 * b + 1, 23)];
    }
    std::ofstream(broken / "model.safetensors", std::ios::binary) << changed;
    const auto loaded = load_model(broken);
    if (loaded) continue;
    ++errors;
    expect_names(loaded.error().text, {broken.string()});
  }
  EXPECT_GT(errors, 100);
}

TEST_F(StoredGroups, OfAConfigThatDoesNotSayItWellAreErrors) {
  const Path model = quantized("int8");
  const auto with = [&](const Json& quantization) {
    Json config = load_model_config(model)->to_json();
    config.set("quantization_config", quantization);
    const auto parsed = ModelConfig::parse(config, "c");
    return parsed ? std::string() : parsed.error().text;
  };
  Json good = *load_model_config(model)->to_json().find("quantization_config");
  EXPECT_EQ(with(good), "");
  const auto changed = [&](const char* key, Json value) {
    Json json = good;
    json.set(key, std::move(value));
    return with(json);
  };
  expect_names(changed("group_size", int64_t{64}), {"c: quantization_config", "group_size"});
  expect_names(changed("formats", Json::array()), {"formats must be an object"});
  expect_names(changed("formats", Json()), {"formats"});
  expect_names(changed("formats", Json::object().set("experts", 4)), {"\"experts\"", "name of a format"});
  expect_names(changed("formats", Json::object().set("experts", "int3")), {"\"int3\"", "accepted"});
  expect_names(changed("formats", Json::object().set("router", "int8")), {"\"router\"", "accepted"});
  expect_names(changed("formats", Json::object().set("experts.x", "int8")), {"experts.x"});
  expect_names(changed("quant_method", "gptq"), {"\"gptq\"", "fathom"});
  expect_names(changed("bits", 4), {"\"bits\""});
}

}  // namespace
}  // namespace fathom
