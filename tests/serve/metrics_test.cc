// Metrics as Prometheus text.
#include "serve/metrics.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

namespace fathom::serve {
namespace {

TEST(Histogram, CumulatesAtAndBelowItsBounds) {
  Histogram histogram({1, 2.5});
  for (const double value : {0.5, 1.0, 2.0, 9.0}) histogram.observe(value);
  EXPECT_EQ(histogram.text("x_seconds", "Help."),
            "# HELP x_seconds Help.\n# TYPE x_seconds histogram\nx_seconds_bucket{le=\"1\"} 2\n"
            "x_seconds_bucket{le=\"2.5\"} 3\nx_seconds_bucket{le=\"+Inf\"} 4\nx_seconds_sum 12.5\nx_seconds_count 4\n");
}

TEST(Metrics, ShowsWhatWasCounted) {
  Metrics metrics;
  metrics.count_response("/v1/models", 200);
  metrics.count_response("/v1/models", 200);
  metrics.count_response("/v1/models", 404);
  metrics.count_error("model_not_found");
  metrics.count_prompt(7);
  metrics.count_token();
  metrics.count_finish("stop");
  metrics.count_dropped_client("buffer");
  Gauges gauges{.engine = {}, .connections = 9, .ready = true};
  gauges.engine.running = 3;
  gauges.engine.pages_in_use = 5;
  const std::string text = metrics.text(gauges, "a\"b\\c\nd", "1.0");
  for (const char* line : {"fathom_http_responses_total{route=\"/v1/models\",status=\"200\"} 2\n",
                           "fathom_http_responses_total{route=\"/v1/models\",status=\"404\"} 1\n",
                           "fathom_errors_total{code=\"model_not_found\"} 1\n", "fathom_prompt_tokens_total 7\n",
                           "fathom_generated_tokens_total 1\n", "fathom_finished_total{reason=\"stop\"} 1\n",
                           "fathom_dropped_clients_total{why=\"buffer\"} 1\n", "fathom_sequences_running 3\n",
                           "fathom_cache_pages_in_use 5\n", "fathom_connections 9\n", "fathom_ready 1\n",
                           "fathom_info{model=\"a\\\"b\\\\c\\nd\",version=\"1.0\"} 1\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

TEST(Metrics, EveryLineHasATypeAndOurName) {
  std::set<std::string> typed;
  std::istringstream lines(Metrics().text({}, "m", "v"));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string first, second, name;
    words >> first >> second >> name;
    if (first == "#") {
      EXPECT_TRUE(name.starts_with("fathom_")) << line;
      const bool is_new = second != "TYPE" || typed.insert(name).second;
      EXPECT_TRUE(is_new) << "typed twice: " << name;
      continue;
    }
    std::string family = line.substr(0, line.find_first_of("{ "));
    for (const char* suffix : {"_bucket", "_sum", "_count"}) {
      if (family.ends_with(suffix) && !typed.contains(family))
        family.resize(family.size() - std::string(suffix).size());
    }
    EXPECT_TRUE(typed.contains(family)) << line;
  }
}

}  // namespace
}  // namespace fathom::serve
