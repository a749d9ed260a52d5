#include "serve/stats.h"

#include "serve_fixture.h"

namespace fathom::serve {
namespace {

using fathom::testing::kContext;

TEST(Stats, ShowsWhatItIsGiven) {
  Metrics metrics;
  metrics.count_finish("stop");
  metrics.observe_first_token(0.003);
  metrics.observe_first_token(1000);
  StatsInput input{.gauges = {.engine = {}, .connections = 2, .ready = true},
                   .counts = metrics.snapshot(),
                   .model = "m",
                   .version = "1",
                   .max_model_len = 77,
                   .expert_load = {{}, {3, 0, 5}}};
  input.gauges.engine.max_pages = 9;
  input.gauges.engine.prefix_hit_tokens = 64;
  input.gauges.engine.speculation.proposed = 10;
  input.gauges.engine.speculation.accepted = 7;
  const Json json = stats_json(input);
  EXPECT_EQ(json.find("experts")->dump(), R"([{"layer":1,"tokens":[3,0,5]}])");
  EXPECT_EQ(json.find("drafts")->dump(), R"({"proposed":10,"accepted":7})");
  EXPECT_EQ(json.find("cache")->find("pages")->as_int(), 9);
  EXPECT_EQ(json.find("cache")->find("page_tokens")->as_int(), 64);
  EXPECT_EQ(json.find("cache")->find("prefix_hit_tokens")->as_int(), 64);
  EXPECT_EQ(json.find("sequences")->find("finished")->dump(), R"({"stop":1})");
  const Json& first = *json.find("latency")->find("first_token");
  ASSERT_EQ(first.find("counts")->items().size(), first.find("bounds")->items().size() + 1);
  EXPECT_EQ(first.find("bounds")->items()[1].as_double(), 0.005);
  EXPECT_EQ(first.find("counts")->items()[1].as_int(), 1);
  EXPECT_EQ(first.find("counts")->items().back().as_int(), 1);
  EXPECT_EQ(first.find("sum")->as_double(), 1000.003);
}

class StatsRoute : public fathom::testing::ServeFixture {};

TEST_F(StatsRoute, CountsEveryTokenOfEveryExpertOnce) {
  start(false);
  const Json early = ask("GET", "/api/stats").json();
  EXPECT_FALSE(early.find("ready")->as_bool());
  EXPECT_TRUE(early.find("experts")->items().empty());
  server_->attach(served());
  // 5 prompt tokens (BOS and four bytes); of the 3 generated ones the last is not computed.
  ASSERT_EQ(ask("POST", "/v1/completions", R"({"prompt":"abcd","max_tokens":3})").status, 200);
  const ModelConfig& config = model_->config;
  int64_t num_moe_layers = 0;
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) num_moe_layers += config.is_moe_layer(layer);
  ASSERT_GT(num_moe_layers, 0);
  const auto total = [&](const Json& layer) {
    int64_t sum = 0;
    for (const Json& count : layer.find("tokens")->items()) sum += count.as_int();
    return sum;
  };
  Json stats;
  ASSERT_TRUE(fathom::testing::eventually([&] {
    stats = ask("GET", "/api/stats").json();
    return total(stats.find("experts")->items().front()) == 7 * config.num_experts_per_tok;
  }));
  EXPECT_EQ(std::ssize(stats.find("experts")->items()), num_moe_layers);
  for (const Json& layer : stats.find("experts")->items()) {
    EXPECT_EQ(std::ssize(layer.find("tokens")->items()), config.n_routed_experts);
    // The last layer computes rows that are read: of the prompt its last token.
    const bool is_last = &layer == &stats.find("experts")->items().back();
    EXPECT_EQ(total(layer), (is_last ? 3 : 7) * config.num_experts_per_tok);
  }
  EXPECT_EQ(stats.find("tokens")->find("generated")->as_int(), 3);
  EXPECT_EQ(stats.find("max_model_len")->as_int(), kContext);
  EXPECT_EQ(stats.find("model")->as_string(), "tiny");
}

TEST_F(StatsRoute, NeedsTheKeyThatThePageDoesNot) {
  options_.api_keys = {"secret"};
  start();
  EXPECT_EQ(ask("GET", "/api/stats").status, 401);
  EXPECT_EQ(ask("GET", "/api/stats", "", "Authorization: Bearer secret\r\n").status, 200);
  EXPECT_EQ(ask("GET", "/", "", "Accept-Encoding: gzip\r\n").status, 200);
  EXPECT_EQ(ask("GET", "/assets/none.js").status, 404);
  EXPECT_EQ(ask("GET", "/nothing").status, 401);
}

}  // namespace
}  // namespace fathom::serve
