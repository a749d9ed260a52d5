// docs/worked-example.md is the data of this test: the model is made from its weight tables, and every number of its
// other tables is compared, to the digits shown, with what the code computes.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "golden.h"
#include "kernels/registry.h"
#include "model/transformer.h"

namespace fathom {
namespace {

using testing::to_doubles;

struct Shown {
  double value = 0;
  double tolerance = 0;  // half a unit of the last decimal; whole numbers are exact
  bool is_masked = false;
};

Shown parse_cell(const std::string& cell) {
  if (cell == "-") return {.is_masked = true};
  size_t end = 0;
  const double value = std::stod(cell, &end);
  if (end != cell.size()) throw std::invalid_argument("\"" + cell + "\" is not a number");
  const size_t point = cell.find('.');
  const double unit = point == std::string::npos ? 0 : std::pow(10.0, -static_cast<double>(cell.size() - point - 1));
  return {.value = value, .tolerance = unit / 2 + 1e-9};
}

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  for (size_t begin = 1, end; (end = line.find('|', begin)) != std::string::npos; begin = end + 1) {
    const std::string cell = line.substr(begin, end - begin);
    const size_t first = cell.find_first_not_of(' '), last = cell.find_last_not_of(' ');
    cells.push_back(first == std::string::npos ? "" : cell.substr(first, last - first + 1));
  }
  return cells;
}

/// The page's JSON block and its tables by name.
class Page {
 public:
  Page() {
    const auto text = read_file(Path(FATHOM_SOURCE_DIR) / "docs/worked-example.md");
    EXPECT_TRUE(text) << text.error().text;
    std::string table;
    bool in_json = false;
    for (size_t begin = 0; begin < text->size();) {
      const size_t end = std::min(text->find('\n', begin), text->size());
      const std::string line = text->substr(begin, end - begin);
      begin = end + 1;
      if (line.starts_with("```")) {
        in_json = line == "```json";
      } else if (in_json) {
        config_ += line + "\n";
      } else if (line.starts_with("| `")) {
        table = cells_of(line)[0];
        table = table.substr(1, table.size() - 2);
        EXPECT_FALSE(tables_.contains(table)) << table << " is there twice";
        tables_[table];
      } else if (!line.starts_with("|")) {
        table.clear();
      } else if (!table.empty() && !line.starts_with("|--")) {
        const auto cells = cells_of(line);
        for (size_t i = 1; i < cells.size(); ++i) tables_[table].push_back(parse_cell(cells[i]));
      }
    }
  }

  ModelConfig config() const {
    const auto json = Json::parse(config_, "worked-example.md");
    EXPECT_TRUE(json) << json.error().text;
    auto config = ModelConfig::parse(*json, "worked-example.md");
    EXPECT_TRUE(config) << config.error().text;
    return *config;
  }

  const std::vector<Shown>& table(const std::string& name) {
    used_.insert(name);
    EXPECT_TRUE(tables_.contains(name)) << "the page has no table " << name;
    return tables_[name];
  }

  /// Every number of the table is `values` rounded to its digits; masked cells are skipped.
  void expect(const std::string& name, const std::vector<double>& values) {
    const auto& shown = table(name);
    ASSERT_EQ(shown.size(), values.size()) << name;
    for (size_t i = 0; i < values.size(); ++i) {
      if (!shown[i].is_masked) {
        EXPECT_NEAR(shown[i].value, values[i], shown[i].tolerance) << name << ", number " << i;
      }
    }
  }
  void expect(const std::string& name, const Tensor& values) { expect(name, to_doubles(values)); }

  std::vector<std::string> unused() const {
    std::vector<std::string> names;
    for (const auto& [name, shown] : tables_) {
      if (!used_.contains(name)) names.push_back(name);
    }
    return names;
  }

 private:
  std::string config_;
  std::map<std::string, std::vector<Shown>> tables_;
  std::set<std::string> used_;
};

class WorkedExample : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = make_model(page_.config(), DType::kF64, false);
    visit_weights(model_->config, model_->weights, [&](const TensorSpec& spec, Weight& weight, Tensor*) {
      const std::string layer = "model.layers.0.";
      const auto& shown = page_.table(spec.name.starts_with(layer) ? spec.name.substr(layer.size()) : spec.name);
      ASSERT_EQ(static_cast<int64_t>(shown.size()), spec.num_elements()) << spec.name;
      for (size_t i = 0; i < shown.size(); ++i) {
        if (weight.codes.dtype == DType::kF64) {
          weight.codes.ptr<double>()[i] = shown[i].value;
        } else {
          weight.codes.ptr<float>()[i] = static_cast<float>(shown[i].value);
        }
      }
    });
    auto kernels = make_kernels("ref", pool_);
    ASSERT_TRUE(kernels);
    kernels_ = std::move(*kernels);
  }

  fathom::Run context() { return {.k = *kernels_, .arena = arena_, .activation = DType::kF64}; }

  const std::vector<int32_t> tokens_ = {0, 1};
  Page page_;
  std::unique_ptr<Model> model_;
  ThreadPool pool_{1};
  std::unique_ptr<Kernels> kernels_;
  Arena arena_;
};

TEST_F(WorkedExample, ShowsWhatTheModelComputes) {
  const fathom::Run run = context();
  Kernels& k = run.k;
  const Transformer transformer(model_->config, model_->weights);
  const BlockWeights& w = model_->weights.blocks[0];
  const std::vector<int64_t> offsets = {0, 2};
  const DocumentLayout layout(offsets);
  TransformerSaved saved;
  const Tensor hidden =
      transformer.forward(run, {.tokens = tokens_, .positions = layout.positions, .segments = layout.segments}, &saved);
  const auto multiplied = [&](const Tensor& x, const Weight& weight) {
    const Tensor y = run.make({x.extent(0), weight.out_features()});
    k.gemm(x, weight, y, Precision::kF32);
    return y;
  };

  // Attention, prompt form.
  const BlockSaved& block = saved.blocks[0];
  const MlaSaved& attention = block.attention;
  page_.expect("h_in", block.h_in);
  page_.expect("x", attention.x);
  page_.expect("q_before_rope", multiplied(attention.x, w.attention.q_a.value));
  page_.expect("q", attention.q);
  page_.expect("kv_before_rope", multiplied(attention.x, w.attention.kv_a.value));
  page_.expect("latent", attention.latent);
  const Tensor k_rope = attention.kv_raw.slice(1, 2, 2);
  page_.expect("k_rope", k_rope);
  const Tensor kv = multiplied(attention.latent, w.attention.kv_b.value);
  page_.expect("kv", kv);
  page_.expect("lse", attention.lse);
  // With the unit vectors as values, attention returns its weights.
  for (int64_t s = 0; s < 2; ++s) {
    for (int64_t v = 0; v < 2; ++v) kv.ptr<double>()[s * 4 + 2 + v] = s == v ? 1 : 0;
  }
  const Tensor probabilities = run.make({2, 1, 2});
  k.mla_prefill({.q = attention.q,
                 .kv = kv.split_last(1, 4),
                 .k_rope = k_rope,
                 .qk_nope_head_dim = 2,
                 .softmax_scale = model_->config.softmax_scale(),
                 .out = probabilities,
                 .lse = {}});
  page_.expect("probabilities", probabilities);
  std::vector<double> scores;
  for (int64_t i = 0; i < 4; ++i) {
    scores.push_back(std::log(probabilities.ptr<double>()[i]) + attention.lse.ptr<double>()[i / 2]);
  }
  page_.expect("scores", scores);
  page_.expect("o", attention.o);
  page_.expect("attention_out", multiplied(attention.o.join_last(), w.attention.o.value));

  // Attention of token 1, generated form.
  std::vector<double> page(LatentPages::kPageTokens * 4, std::numeric_limits<double>::quiet_NaN());
  void* const pages[] = {page.data()};
  const LatentPages cache{.pages = pages, .dtype = DType::kF64, .kv_lora_rank = 2, .qk_rope_head_dim = 2};
  k.append_latents(attention.latent, k_rope, layout.positions, cache);
  const Tensor q_latent = run.make({1, 1, 2}), o_latent = run.make({1, 1, 2}), o = run.make({1, 1, 2});
  const Tensor q = attention.q.rows(1, 1);
  k.mla_absorb_query(q.slice(2, 0, 2), w.attention.kv_b.value, q_latent, Precision::kF32);
  page_.expect("q_latent", q_latent);
  const std::vector<int64_t> position = {1};
  k.mla_decode({.q_latent = q_latent,
                .q_rope = q.slice(2, 2, 2),
                .sequences = std::span(&cache, 1),
                .positions = position,
                .softmax_scale = model_->config.softmax_scale(),
                .out = o_latent});
  page_.expect("o_latent", o_latent);
  k.mla_expand_value(o_latent, w.attention.kv_b.value, o, Precision::kF32);
  page_.expect("o_absorbed", o);

  // Experts.
  const MoeSaved& moe = block.moe;
  page_.expect("h_mid", block.h_mid);
  page_.expect("z", moe.x);
  page_.expect("router_logits", multiplied(moe.x, w.moe.router.value));
  page_.expect("router_scores", moe.scores);
  std::vector<double> biased = to_doubles(moe.scores);
  for (size_t i = 0; i < biased.size(); ++i) biased[i] += double{w.moe.bias.ptr<float>()[i % 2]};
  page_.expect("biased_scores", biased);
  const auto* ids = moe.expert_ids.ptr<const int32_t>();
  page_.expect("expert_ids", std::vector<double>(ids, ids + 2));
  page_.expect("expert_weights", moe.weights);
  page_.expect("gate", moe.gate);
  page_.expect("up", moe.up);
  page_.expect("h", moe.h);
  const Tensor expert_out = run.make({2, 4}), routed = run.make({2, 4});
  k.grouped_gemm(moe.h, moe.plan.offsets, w.moe.down.value, expert_out, Precision::kF32);
  page_.expect("expert_out", expert_out);
  k.combine_rows(expert_out, moe.plan.slot_row, moe.expert_ids, moe.weights, routed, Into::kAssign);
  page_.expect("routed", routed);
  page_.expect("shared_gate", moe.shared.gate);
  page_.expect("shared_up", moe.shared.up);
  page_.expect("shared_h", moe.shared.h);
  page_.expect("shared_out", multiplied(moe.shared.h, w.moe.shared.down.value));
  page_.expect("h_out", saved.h_out);

  // Head.
  page_.expect("hidden", hidden);
  const Tensor logits = run.make({2, 3});
  transformer.head().forward(run, hidden, logits);
  page_.expect("logits", logits);
  const std::vector<int32_t> targets = {1, -1};
  page_.expect("loss", std::vector<double>{transformer.head().loss(run, hidden, targets, 1, Tensor{})});
  EXPECT_TRUE(page_.unused().empty()) << page_.unused()[0] << " is compared with nothing";
}

TEST_F(WorkedExample, GeneratingTheSecondTokenGivesTheShownHiddenState) {
  const fathom::Run run = context();
  const Transformer transformer(model_->config, model_->weights);
  std::vector<double> page(LatentPages::kPageTokens * 4, std::numeric_limits<double>::quiet_NaN());
  void* const pages[] = {page.data()};
  const LatentPages cache{.pages = pages, .dtype = DType::kF64, .kv_lora_rank = 2, .qk_rope_head_dim = 2};
  std::vector<double> hidden;
  for (int64_t t = 0; t < 2; ++t) {
    const std::vector<int64_t> positions = {t};
    const Segment segment{.row = 0,
                          .count = 1,
                          .first_position = t,
                          .form = t == 0 ? MlaForm::kNaive : MlaForm::kAbsorbed,
                          .pages = std::span(&cache, 1)};
    const auto row =
        to_doubles(transformer.forward(run, {.tokens = std::span(tokens_).subspan(static_cast<size_t>(t), 1),
                                             .positions = positions,
                                             .segments = std::span(&segment, 1)}));
    hidden.insert(hidden.end(), row.begin(), row.end());
  }
  page_.expect("hidden", hidden);
}

}  // namespace
}  // namespace fathom
