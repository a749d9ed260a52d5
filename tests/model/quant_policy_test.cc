#include "model/quant_policy.h"

#include <gtest/gtest.h>

#include "checkpoint_dir.h"
#include "model/config.h"
#include "model/tensor_plan.h"

namespace fathom {
namespace {

TensorSpec matrix(TensorClass tensor_class, std::string name = "model.layers.0.x.weight") {
  return {.name = std::move(name), .shape = {8, 8}, .tensor_class = tensor_class};
}

TEST(QuantPolicy, AppliesOneFormatToAllClasses) {
  const auto policy = parse_quant_policy("int8");
  ASSERT_TRUE(policy);
  for (TensorClass c : {TensorClass::kAttention, TensorClass::kDenseFfn, TensorClass::kRoutedExpert,
                        TensorClass::kSharedExpert, TensorClass::kHead, TensorClass::kMtp}) {
    EXPECT_EQ(policy->format_of(matrix(c)), WeightFormat::kInt8);
  }
  for (TensorClass c : {TensorClass::kEmbedding, TensorClass::kRouter, TensorClass::kNorm}) {
    EXPECT_EQ(policy->format_of(matrix(c)), WeightFormat::kStored);
  }
}

TEST(QuantPolicy, LeavesVectorsAndKvBAsStored) {
  const auto policy = parse_quant_policy("int8");
  ASSERT_TRUE(policy);
  EXPECT_EQ(policy->format_of(matrix(TensorClass::kAttention, "model.layers.0.self_attn.kv_b_proj.weight")),
            WeightFormat::kStored);
  TensorSpec vector = matrix(TensorClass::kAttention);
  vector.shape = {8};
  EXPECT_EQ(policy->format_of(vector), WeightFormat::kStored);
}

TEST(QuantPolicy, KeepsTheHeadInInt8BesideFourBits) {
  EXPECT_EQ(parse_quant_policy("int4")->head, WeightFormat::kInt8);
  EXPECT_EQ(parse_quant_policy("mxfp4")->head, WeightFormat::kInt8);
  EXPECT_EQ(parse_quant_policy("int4,head=int4")->head, WeightFormat::kInt4);
  EXPECT_EQ(parse_quant_policy("fp8")->head, WeightFormat::kFp8);
}

TEST(QuantPolicy, TakesClassesApart) {
  const auto policy = parse_quant_policy("int8,experts=int4,attention=none,mtp=bf16,dense=iq4_nl,shared=mxfp4");
  ASSERT_TRUE(policy);
  EXPECT_EQ(policy->experts, WeightFormat::kInt4);
  EXPECT_EQ(policy->attention, WeightFormat::kStored);
  EXPECT_EQ(policy->mtp, WeightFormat::kBF16);
  EXPECT_EQ(policy->dense, WeightFormat::kIq4Nl);
  EXPECT_EQ(policy->shared, WeightFormat::kMxfp4);
  EXPECT_EQ(policy->head, WeightFormat::kInt8);
  EXPECT_EQ(parse_quant_policy("experts=int4")->dense, WeightFormat::kStored);
}

TEST(QuantPolicy, NamesWhatItDoesNotUnderstand) {
  const auto expect_error = [](std::string_view text, std::string_view part) {
    const auto policy = parse_quant_policy(text);
    ASSERT_FALSE(policy) << text;
    EXPECT_NE(policy.error().text.find(part), std::string::npos) << policy.error().text;
    EXPECT_NE(policy.error().text.find("accepted"), std::string::npos) << policy.error().text;
  };
  expect_error("int9", "\"int9\"");
  expect_error("int8,router=int4", "\"router\"");
  expect_error("experts=int9", "\"int9\"");
  expect_error("int8,,experts=int4", "\"\"");
  EXPECT_NE(parse_quant_policy("experts=int4,int8").error().text.find("comes first"), std::string::npos);
  EXPECT_TRUE(parse_quant_policy(""));
  EXPECT_TRUE(parse_quant_policy("none"));
}

TEST(QuantPolicy, NamesEveryFormatAsItParsesIt) {
  for (WeightFormat f : {WeightFormat::kBF16, WeightFormat::kFp8, WeightFormat::kInt8, WeightFormat::kInt4,
                         WeightFormat::kIq4Nl, WeightFormat::kMxfp4}) {
    EXPECT_EQ(parse_quant_policy(name_of(f))->experts, f);
  }
}

TEST(QuantPolicy, TakesLayersApart) {
  const auto policy = parse_quant_policy("int8,experts=int4,experts.3=int8,attention.0=none");
  ASSERT_TRUE(policy);
  TensorSpec spec = matrix(TensorClass::kRoutedExpert);
  spec.layer = 2;
  EXPECT_EQ(policy->format_of(spec), WeightFormat::kInt4);
  spec.layer = 3;
  EXPECT_EQ(policy->format_of(spec), WeightFormat::kInt8);
  spec.tensor_class = TensorClass::kDenseFfn;
  EXPECT_EQ(policy->format_of(spec), WeightFormat::kInt8);
  spec = matrix(TensorClass::kAttention);
  spec.layer = 0;
  EXPECT_EQ(policy->format_of(spec), WeightFormat::kStored);
  EXPECT_EQ(*parse_quant_policy(policy->text()), *policy);
  for (const char* text : {"experts.=int8", "experts.x=int8", "experts.-1=int8", "experts.3.4=int8", "experts.3.=int8",
                           "experts.99999999999999999999=int8", "experts.o=int8", "experts.down.3=int8",
                           "experts.3down=int8", "attention.kv_b=int8", "experts.65537.down=int8"}) {
    const auto broken = parse_quant_policy(text);
    ASSERT_FALSE(broken) << text;
    EXPECT_NE(broken.error().text.find(".LAYER, as in "), std::string::npos) << broken.error().text;
  }
  for (const char* text : {"head.down=int8", "int8,head.3=int4"}) {
    const auto broken = parse_quant_policy(text);
    ASSERT_FALSE(broken) << text;
    EXPECT_NE(broken.error().text.find("head by itself"), std::string::npos) << broken.error().text;
  }
  for (const char* text : {"experts=int8,experts=int4", "int8,head=int8,head=int8", "experts.3=int8,experts.03=int4"}) {
    const auto twice = parse_quant_policy(text);
    ASSERT_FALSE(twice) << text;
    EXPECT_NE(twice.error().text.find("twice"), std::string::npos) << twice.error().text;
  }
}

TEST(QuantPolicy, TakesMatricesApart) {
  const auto policy =
      parse_quant_policy("experts=int4,experts.down=int8,experts.2=fp8,experts.2.down=bf16,attention.kv_a=int8");
  ASSERT_TRUE(policy) << policy.error().text;
  const auto format = [&](TensorClass c, int64_t layer, const std::string& module) {
    TensorSpec spec = matrix(c, "model.layers.9." + module + ".weight");
    spec.layer = layer;
    return policy->format_of(spec);
  };
  const auto expert = [&](int64_t layer, const std::string& name) {
    return format(TensorClass::kRoutedExpert, layer, "mlp.experts.1." + name + "_proj");
  };
  EXPECT_EQ(expert(1, "gate"), WeightFormat::kInt4);
  EXPECT_EQ(expert(1, "down"), WeightFormat::kInt8);
  EXPECT_EQ(expert(2, "gate"), WeightFormat::kFp8) << "the layer before the matrix of all layers";
  EXPECT_EQ(expert(2, "down"), WeightFormat::kBF16);
  EXPECT_EQ(format(TensorClass::kAttention, 0, "self_attn.kv_a_proj_with_mqa"), WeightFormat::kInt8);
  EXPECT_EQ(format(TensorClass::kAttention, 0, "self_attn.q_a_proj"), WeightFormat::kStored);
  EXPECT_EQ(*parse_quant_policy(policy->text()), *policy) << policy->text();
  const auto twice = parse_quant_policy("experts.down=int8,experts.down=int4");
  ASSERT_FALSE(twice);
  EXPECT_NE(twice.error().text.find("\"experts.down\" twice"), std::string::npos) << twice.error().text;
}

TEST(QuantPolicy, NamesPartsThatTheModelHas) {
  const ModelConfig config = testing::awkward_config();  // three layers, the first dense, q_a and q_b
  const auto refusal = [&](const char* text) {
    const auto policy = parse_quant_policy(text);
    EXPECT_TRUE(policy) << policy.error().text;
    const Status s = check_parts(*policy, config);
    return s.ok() ? std::string() : s.error().text;
  };
  for (const char* text : {"int4", "experts.1=int8", "experts.2.down=int8", "experts.up=int8", "attention.q_a=int8",
                           "dense.0=int8", "dense.gate=int8"}) {
    EXPECT_EQ(refusal(text), "") << text;
  }
  EXPECT_NE(refusal("attention.3=int8").find("attention.3: the model has layers 0 to 2"), std::string::npos);
  for (const char* text : {"experts.0=int8", "dense.1=int8", "attention.0.q=int8", "experts.0.down=int8"}) {
    EXPECT_NE(refusal(text).find("no such matrix in that layer"), std::string::npos) << text << ": " << refusal(text);
  }
  EXPECT_NE(refusal("attention.q=int8").find("attention.q: the model has no such matrix"), std::string::npos);
  ModelConfig with_mtp = config;
  with_mtp.num_nextn_predict_layers = 1;
  EXPECT_TRUE(check_parts(*parse_quant_policy("attention.3=int8,mtp.eh=int4"), with_mtp))
      << "layer 3 is the MTP module";
}

TEST(QuantPolicy, WritesWhatItReads) {
  for (const char* text : {"none", "int8", "experts=int4", "mxfp4,head=bf16,experts.1=fp8", "iq4_nl,attention=none"}) {
    const auto policy = parse_quant_policy(text);
    ASSERT_TRUE(policy);
    const auto again = parse_quant_policy(policy->text());
    ASSERT_TRUE(again) << policy->text();
    EXPECT_EQ(*again, *policy) << policy->text();
  }
}

}  // namespace
}  // namespace fathom
