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

FormatGroup group_of(TensorClass tensor_class, int64_t layer, std::vector<FormatCost> costs) {
  return {.tensor_class = tensor_class, .layer = layer, .num_tensors = 1, .costs = std::move(costs)};
}

/// Three groups: the second gains more per byte than the first, the third nearly nothing.
FormatChoice three_groups() {
  FormatChoice choice;
  choice.fixed_bytes = 100;
  const auto costs = [](double error) {
    return std::vector<FormatCost>{
        {WeightFormat::kInt4, 10, error}, {WeightFormat::kInt8, 20, error / 100}, {WeightFormat::kStored, 40, 0}};
  };
  choice.groups = {group_of(TensorClass::kAttention, 0, costs(1)), group_of(TensorClass::kRoutedExpert, 1, costs(2)),
                   group_of(TensorClass::kRoutedExpert, 2, costs(0.001))};
  return choice;
}

TEST(ChooseWithin, TakesWhatGainsMostPerByteFirst) {
  FormatChoice choice = three_groups();
  ASSERT_TRUE(choose_within(130, choice));
  EXPECT_EQ(choice.bytes(), 130);
  ASSERT_TRUE(choose_within(140, choice));
  EXPECT_EQ(choice.policy().text(), "attention=int4,experts=int8,experts.2=int4");
  ASSERT_TRUE(choose_within(155, choice));
  EXPECT_EQ(choice.policy().text(), "attention=int8,experts=int8,experts.2=int4") << "5 bytes are of no use";
  ASSERT_TRUE(choose_within(1000, choice));
  EXPECT_EQ(choice.bytes(), 220);
  EXPECT_EQ(choice.error(), 0);
  EXPECT_EQ(choice.policy().text(), "none");
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
  std::set<std::pair<TensorClass, int64_t>> places;
  for (const FormatGroup& group : choice->groups) {
    EXPECT_TRUE(places.insert({group.tensor_class, group.layer}).second);
    for (size_t f = 1; f < group.costs.size(); ++f) {
      EXPECT_GT(group.costs[f].bytes, group.costs[f - 1].bytes);
      EXPECT_LT(group.costs[f].error, group.costs[f - 1].error);
    }
    EXPECT_EQ(group.costs.back().format, WeightFormat::kStored);
    EXPECT_EQ(group.costs.back().error, 0);
  }
  // Three layers of attention, one dense, two of experts and of shared ones, the head.
  EXPECT_EQ(places.size(), 9u);
  // Four matrices of normal numbers: an error of 0.5 % each in INT8 (numerics/intq_test), squared.
  const FormatGroup& attention = choice->groups[0];
  EXPECT_EQ(attention.num_tensors, 4);
  const auto int8 = std::find_if(attention.costs.begin(), attention.costs.end(),
                                 [](const FormatCost& c) { return c.format == WeightFormat::kInt8; });
  ASSERT_NE(int8, attention.costs.end());
  EXPECT_NEAR(std::sqrt(int8->error / 4), 0.005, 0.002);
  // Ten experts share the layer: three matrices, not thirty.
  const auto experts = std::find_if(choice->groups.begin(), choice->groups.end(),
                                    [](const FormatGroup& g) { return g.tensor_class == TensorClass::kRoutedExpert; });
  ASSERT_NE(experts, choice->groups.end());
  EXPECT_EQ(experts->num_tensors, 30);
  const FormatCost& smallest = experts->costs.front();
  ASSERT_EQ(smallest.format, WeightFormat::kFp8) << "of matrices 7 wide, whose groups are filled up to 32";
  EXPECT_NEAR(std::sqrt(smallest.error / 3), 0.025, 0.01) << "E4M3 errs by 2.5 %";
}

TEST(MeasureFormats, OffersNoFormatThatCannotHoldTheNumbers) {
  const auto model = testing::random_model(testing::awkward_config(), 5, DType::kBF16);
  model->weights.blocks[1].moe.up.value[9].codes.ptr<bf16>()[0] = {0x7FC0};
  const auto choice = measured(*model, {});
  ASSERT_TRUE(choice);
  for (const FormatGroup& group : choice->groups) {
    const bool is_broken = group.tensor_class == TensorClass::kRoutedExpert && group.layer == 1;
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
