#include "model/choose_formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "checkpoint_dir.h"
#include "kernels/registry.h"
#include "model/divergence.h"
#include "model/quantize_checkpoint.h"

namespace fathom {
namespace {

FormatGroup group_of(QuantPart part, std::vector<FormatCost> costs) {
  return {.part = std::move(part), .num_tensors = 1, .costs = std::move(costs)};
}

/// Three groups: the second gains more per byte than the first, the third nearly nothing.
FormatChoice three_groups() {
  FormatChoice choice;
  choice.fixed_bytes = 100;
  const auto costs = [](double error) {
    return std::vector<FormatCost>{
        {WeightFormat::kInt4, 10, error}, {WeightFormat::kInt8, 20, error / 100}, {WeightFormat::kStored, 40, 0}};
  };
  choice.groups = {group_of({TensorClass::kAttention, 0, "o"}, costs(1)),
                   group_of({TensorClass::kRoutedExpert, 1, "up"}, costs(2)),
                   group_of({TensorClass::kRoutedExpert, 2, "up"}, costs(0.001))};
  return choice;
}

TEST(ChooseWithin, TakesWhatGainsMostPerByteFirst) {
  FormatChoice choice = three_groups();
  ASSERT_TRUE(choose_within(130, choice));
  EXPECT_EQ(choice.bytes(), 130);
  ASSERT_TRUE(choose_within(140, choice));
  EXPECT_EQ(choice.policy().text(), "attention=int4,experts=int8,experts.2.up=int4");
  ASSERT_TRUE(choose_within(155, choice));
  EXPECT_EQ(choice.policy().text(), "attention=int8,experts=int8,experts.2.up=int4") << "5 bytes are of no use";
  ASSERT_TRUE(choose_within(1000, choice));
  EXPECT_EQ(choice.bytes(), 220);
  EXPECT_EQ(choice.error(), 0);
  EXPECT_EQ(choice.policy().text(), "none");
}

TEST(FormatChoice, NamesAMatrixOfAllLayersBeforeThoseOfSingleOnes) {
  FormatChoice choice;
  const auto add = [&](const char* matrix, int64_t layer, WeightFormat format) {
    choice.groups.push_back(group_of({TensorClass::kRoutedExpert, layer, matrix}, {{format, 10, 1}}));
  };
  for (int64_t layer = 1; layer < 4; ++layer) {
    add("gate", layer, WeightFormat::kInt4);
    add("up", layer, WeightFormat::kInt4);
    add("down", layer, layer == 2 ? WeightFormat::kInt4 : WeightFormat::kInt8);
  }
  choice.groups.push_back(group_of({TensorClass::kHead}, {{WeightFormat::kFp8, 10, 1}}));
  EXPECT_EQ(choice.policy().text(), "experts=int4,head=fp8,experts.down=int8,experts.2.down=int4");
  for (const FormatGroup& group : choice.groups) {
    const std::string name = "model.layers.0.mlp.experts.7." + group.part.matrix + "_proj.weight";
    const TensorSpec spec{name, {4, 4}, group.part.tensor_class, group.part.layer};
    EXPECT_EQ(choice.policy().format_of(spec), group.cost().format) << group.part.text();
  }
}

TEST(ChooseWithin, NeverGoesBeyondTheTargetAndNeverGetsWorseWithMore) {
  double last = INFINITY;
  for (int64_t target = 130; target < 230; ++target) {
    FormatChoice choice = three_groups();
    ASSERT_TRUE(choose_within(target, choice));
    EXPECT_LE(choice.bytes(), target);
    EXPECT_LE(choice.error(), last) << target;
    last = choice.error();
  }
  FormatChoice choice = three_groups();
  const Status s = choose_within(129, choice);
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().text.find("130 bytes"), std::string::npos) << s.error().text;
}

TEST(WeighByDivergence, MakesErrorsAddUpToWhatIsMeasured) {
  FormatChoice choice = three_groups();
  choice.num_layers = 2;  // so the third group is an MTP module's
  choice.groups.push_back(
      group_of({TensorClass::kMtp, 2, "eh"}, {{WeightFormat::kInt4, 10, 1}, {WeightFormat::kStored, 40, 0}}));
  std::vector<std::string> asked;
  const auto measure = [&](const QuantPolicy& policy) -> Result<double> {
    asked.push_back(policy.text());
    return asked.size() == 1 ? 0.5 : 0.02;
  };
  ASSERT_TRUE(weigh_by_divergence(choice, measure));
  EXPECT_EQ(asked, (std::vector<std::string>{"attention=int4", "experts=int4"}));
  EXPECT_TRUE(choice.predicts_kl);
  EXPECT_DOUBLE_EQ(choice.groups[0].costs[0].error, 0.5);
  EXPECT_DOUBLE_EQ(choice.groups[0].costs[1].error, 0.005);
  EXPECT_DOUBLE_EQ(choice.groups[1].costs[0].error, 0.02) << "of layer 1 alone";
  EXPECT_DOUBLE_EQ(choice.groups[2].costs[0].error, 0.001 * 0.01);
  EXPECT_DOUBLE_EQ(choice.groups[3].costs[0].error, 0.01) << "the least weight";
  FormatChoice indifferent = three_groups();
  ASSERT_TRUE(weigh_by_divergence(indifferent, [](const QuantPolicy&) -> Result<double> { return 0.0; }));
  EXPECT_FALSE(indifferent.predicts_kl);
  EXPECT_EQ(indifferent.groups[0].costs[0].error, 1);
  const Status s = weigh_by_divergence(choice, [](const QuantPolicy&) -> Result<double> { return invalid("no"); });
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().text, "no");
}

/// A stand-in for a measurement: a hundredth of the choice's error, counted.
struct Measurement {
  FormatChoice& choice;
  int count = 0;
  Result<double> operator()(const QuantPolicy&) {
    ++count;
    return choice.error() / 100;
  }
};

TEST(ChooseBelow, FindsTheSmallestThatIsGoodEnough) {
  for (const double max_kl : {1.0, 0.02, 0.0105, 0.001, 0.0001, 1e-9}) {
    FormatChoice choice = three_groups();
    Measurement measurement{choice};
    const auto kl = choose_below(max_kl, 0, 12, choice, std::ref(measurement));
    ASSERT_TRUE(kl) << kl.error().text;
    EXPECT_LE(*kl, max_kl);
    EXPECT_EQ(*kl, choice.error() / 100);
    EXPECT_LE(measurement.count, 12);
    FormatChoice smaller = three_groups();
    if (choice.bytes() == 130) continue;
    ASSERT_TRUE(choose_within(choice.bytes() - 1, smaller));
    EXPECT_GT(smaller.error() / 100, max_kl) << "a smaller one would do";
  }
}

TEST(ChooseBelow, SaysWhenThereIsNone) {
  FormatChoice choice = three_groups();
  Measurement measurement{choice};
  const auto bounded = choose_below(1e-9, 150, 8, choice, std::ref(measurement));
  ASSERT_FALSE(bounded);
  EXPECT_EQ(measurement.count, 2) << "the smallest and the largest allowed";
  EXPECT_NE(bounded.error().text.find("at 150 bytes"), std::string::npos) << bounded.error().text;
  const auto failing =
      choose_below(1, 0, 8, choice, [](const QuantPolicy&) -> Result<double> { return invalid("no"); });
  ASSERT_FALSE(failing);
  EXPECT_EQ(failing.error().text, "no");
  const auto small = choose_below(1, 120, 8, choice, std::ref(measurement));
  ASSERT_FALSE(small);
  EXPECT_NE(small.error().text.find("smallest formats make 130 bytes"), std::string::npos) << small.error().text;
  const auto never = choose_below(0.1, 0, 8, choice, [](const QuantPolicy&) -> Result<double> { return 1.0; });
  EXPECT_FALSE(never);
}

Result<FormatChoice> measured(const Model& model, const std::map<std::string, InputStatistics>& statistics,
                              int threads = 2) {
  ThreadPool pool(threads);
  SilentProgress silent;
  return measure_formats(model, statistics, pool, silent);
}

TEST(MeasureFormats, FindsTheErrorsThatTheFormatsHave) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  const auto choice = measured(*model, {});
  ASSERT_TRUE(choice) << choice.error().text;
  std::set<QuantPart> places;
  for (const FormatGroup& group : choice->groups) {
    EXPECT_TRUE(places.insert(group.part).second);
    for (size_t f = 1; f < group.costs.size(); ++f) {
      EXPECT_GT(group.costs[f].bytes, group.costs[f - 1].bytes);
      EXPECT_LT(group.costs[f].error, group.costs[f - 1].error);
    }
    EXPECT_EQ(group.costs.back().format, WeightFormat::kStored);
    EXPECT_EQ(group.costs.back().error, 0);
  }
  // Four matrices of attention in three layers, three of one dense layer, of experts and of shared ones in two, the
  // head.
  EXPECT_EQ(places.size(), 12u + 3 + 6 + 6 + 1);
  // A matrix of normal numbers: an error of 0.5 % in INT8 (numerics/intq_test), squared.
  const FormatGroup& attention = choice->groups[0];
  EXPECT_EQ(attention.part.text(), "attention.0.q_a");
  EXPECT_EQ(attention.num_tensors, 1);
  const auto int8 = std::find_if(attention.costs.begin(), attention.costs.end(),
                                 [](const FormatCost& c) { return c.format == WeightFormat::kInt8; });
  ASSERT_NE(int8, attention.costs.end());
  EXPECT_NEAR(std::sqrt(int8->error * 6), 0.005, 0.002) << "one of six sublayers";
  // Ten experts share the layer: the error of one matrix, not of ten.
  const auto experts = std::find_if(choice->groups.begin(), choice->groups.end(), [](const FormatGroup& g) {
    return g.part.tensor_class == TensorClass::kRoutedExpert;
  });
  ASSERT_NE(experts, choice->groups.end());
  EXPECT_EQ(experts->num_tensors, 10);
  EXPECT_EQ(experts->part.text(), "experts.1.gate");
  const auto fp8 = std::find_if(experts->costs.begin(), experts->costs.end(),
                                [](const FormatCost& c) { return c.format == WeightFormat::kFp8; });
  ASSERT_NE(fp8, experts->costs.end());
  EXPECT_NEAR(std::sqrt(fp8->error * 6), 0.025, 0.01) << "E4M3 errs by 2.5 %";
  // Down is 7 wide, and groups are filled up to 32: nothing is smaller than FP8.
  const auto down = std::find_if(choice->groups.begin(), choice->groups.end(),
                                 [](const FormatGroup& g) { return g.part.text() == "experts.1.down"; });
  ASSERT_NE(down, choice->groups.end());
  EXPECT_EQ(down->costs.front().format, WeightFormat::kFp8);
  // The head gives the logits themselves.
  EXPECT_EQ(choice->groups.back().part.text(), "head");
  EXPECT_NEAR(choice->groups.back().costs.front().error / attention.costs.front().error, 6, 2);
}

TEST(MeasureFormats, OffersNoFormatThatCannotHoldTheNumbers) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  model->weights.blocks[1].moe.up.value[9].codes.ptr<bf16>()[0] = {0x7FC0};
  const auto choice = measured(*model, {});
  ASSERT_TRUE(choice);
  for (const FormatGroup& group : choice->groups) {
    const bool is_broken = group.part == QuantPart{TensorClass::kRoutedExpert, 1, "up"};
    EXPECT_EQ(group.costs.size() == 1, is_broken);
    EXPECT_EQ(group.costs.back().format, WeightFormat::kStored);
  }
}

TEST(MeasureFormats, DoesNotDependOnThreads) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  const auto one = measured(*model, {}, 1), three = measured(*model, {}, 3);
  ASSERT_TRUE(one && three);
  for (size_t g = 0; g < one->groups.size(); ++g) {
    for (size_t f = 0; f < one->groups[g].costs.size(); ++f) {
      EXPECT_EQ(one->groups[g].costs[f].error, three->groups[g].costs[f].error);
    }
  }
}

TEST(MeasureFormats, WeighsChannelsByWhatTheyCarry) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  // Only channels 0 to 31 of attention's input carry anything; the rest of q_a, kv_a are made to err much.
  std::map<std::string, InputStatistics> statistics;
  for (const char* name : {"q_a_proj", "kv_a_proj_with_mqa"}) {
    InputStatistics& s = statistics["model.layers.0.self_attn." + std::string(name) + ".weight"];
    s.mean_square.assign(44, 0);
    std::fill_n(s.mean_square.begin(), 32, 1.0);
    s.num_rows = 1;
  }
  for (Weight* w : {&model->weights.blocks[0].attention.q_a.value, &model->weights.blocks[0].attention.kv_a.value}) {
    for (int64_t n = 0; n < w->out_features(); ++n) w->codes.ptr<bf16>()[n * w->codes.stride(0) + 40] = to_bf16(100);
  }
  const auto blind = measured(*model, {}), seeing = measured(*model, statistics);
  ASSERT_TRUE(blind && seeing);
  const auto smallest_error = [](const FormatChoice& choice) { return choice.groups[0].costs[0].error; };
  EXPECT_NE(smallest_error(*blind), smallest_error(*seeing));
  EXPECT_EQ(blind->groups[1].part.text(), "attention.0.q_b");
  EXPECT_EQ(blind->groups[1].costs[0].error, seeing->groups[1].costs[0].error) << "no statistics there";
}

// The bytes that a choice promises are those of the files, and calibration sees every matrix that a pass multiplies.
TEST(MeasureFormats, PromisesTheBytesThatAreWritten) {
  const testing::TemporaryDirectory dir;
  testing::write_model(*testing::random_model(testing::awkward_config(), 5, DType::kBF16), dir.path() / "model");
  const auto model = load_model(dir.path() / "model");
  ASSERT_TRUE(model);
  ThreadPool pool(2);
  const auto kernels = make_kernels("cpu", pool);
  Arena arena;
  InputCollector collector;
  const fathom::Run run{.k = **kernels, .arena = arena, .precision = Precision::kBF16, .observer = &collector};
  const Transformer transformer((*model)->config, (*model)->weights);
  const auto ids = testing::random_tokens(50, (*model)->config.vocab_size, 1);
  const Tensor hidden = ScoredModel{run, transformer}.forward(ids);
  const Tensor logits = run.make({50, (*model)->config.vocab_size});
  transformer.head().forward(run, hidden, logits);
  const auto statistics = collector.by_name(**model);
  int64_t expert_rows = 0;
  for (const TensorSpec& spec : expected_tensors((*model)->config)) {
    if (parse_quant_policy("int8")->format_of(spec) == WeightFormat::kStored) continue;
    const auto found = statistics.find(spec.name);
    if (spec.tensor_class == TensorClass::kRoutedExpert) {
      if (spec.layer == 1 && spec.name.ends_with("up_proj.weight") && found != statistics.end()) {
        expert_rows += found->second.num_rows;
      }
      continue;
    }
    ASSERT_NE(found, statistics.end()) << spec.name;
    EXPECT_EQ(found->second.num_rows, 50);
    EXPECT_EQ(static_cast<int64_t>(found->second.mean_square.size()), spec.shape[1]);
  }
  EXPECT_EQ(expert_rows, 50 * 4) << "four experts a token";
  double mean = 0;
  for (int64_t t = 0; t < 50; ++t) mean += std::pow(double{hidden.ptr<float>()[t * 44 + 3]}, 2) / 50;
  EXPECT_NEAR(statistics.at("lm_head.weight").mean_square[3], mean, 1e-12);

  const auto choice = measured(**model, statistics);
  ASSERT_TRUE(choice);
  FormatChoice smallest = *choice;
  for (const double share : {0.0, 0.3, 0.6}) {
    FormatChoice chosen = *choice;
    const auto largest = (*model)->checkpoints[0].total_bytes();
    const auto target =
        smallest.bytes() + static_cast<int64_t>(share * static_cast<double>(largest - smallest.bytes()));
    ASSERT_TRUE(choose_within(target, chosen));
    SilentProgress silent;
    const Path out = dir.path() / ("out" + std::to_string(target));
    const auto report = quantize_checkpoint(dir.path() / "model", out, {.policy = chosen.policy()}, pool, silent);
    ASSERT_TRUE(report) << report.error().text;
    EXPECT_EQ(report->written_bytes, chosen.bytes());
    EXPECT_LE(report->written_bytes, target);
    EXPECT_EQ(Checkpoint::open(out)->total_bytes(), report->written_bytes);
    EXPECT_TRUE(load_model(out));
  }
}

}  // namespace
}  // namespace fathom
