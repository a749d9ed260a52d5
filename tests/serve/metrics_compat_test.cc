// Metrics under others' names: the values are this server's.
#include "serve/metrics_compat.h"

#include <gtest/gtest.h>

namespace fathom::serve {
namespace {

std::string text_of(MetricsDialect dialect) {
  Metrics metrics;
  metrics.count_prompt(7);
  metrics.count_token();
  metrics.count_finish("stop");
  metrics.observe_first_token(0.02);
  Gauges gauges;
  gauges.engine.running = 3;
  gauges.engine.waiting = 2;
  gauges.engine.pages_in_use = 5;
  gauges.engine.max_pages = 20;
  gauges.engine.prompt_tokens = 400;
  gauges.engine.prefix_hit_tokens = 300;
  gauges.engine.preemptions = 6;
  gauges.engine.speculation.add(4, 2);
  gauges.engine.step_sizes.observe(3);
  gauges.engine.step_sizes.observe(4);
  metrics.observe_sequence(6, 9, 0.25, 0.5, 2.5);
  metrics.count_response("/v1/completions", 200, "POST");
  metrics.count_response("/v1/completions", 429, "POST");
  return metrics_in_dialect(dialect, metrics.snapshot(), gauges, "a\"b");
}

void expect_lines(const std::string& text, std::initializer_list<const char*> lines) {
  for (const char* line : lines) EXPECT_NE(("\n" + text).find("\n" + std::string(line) + "\n"), text.npos) << line;
}

TEST(MetricsCompat, SpeaksVllm) {
  expect_lines(
      text_of(MetricsDialect::kVllm),
      {R"(vllm:num_requests_running{engine="0",model_name="a\"b"} 3)",
       R"(vllm:num_requests_waiting{engine="0",model_name="a\"b"} 2)",
       R"(vllm:kv_cache_usage_perc{engine="0",model_name="a\"b"} 0.25)",
       R"(vllm:prefix_cache_hits_total{engine="0",model_name="a\"b"} 300)",
       R"(vllm:prefix_cache_queries_total{engine="0",model_name="a\"b"} 400)",
       R"(vllm:num_preemptions_total{engine="0",model_name="a\"b"} 6)",
       R"(vllm:prompt_tokens_total{engine="0",model_name="a\"b"} 7)",
       R"(vllm:generation_tokens_total{engine="0",model_name="a\"b"} 1)",
       R"(vllm:request_success_total{engine="0",model_name="a\"b",finished_reason="stop"} 1)",
       R"(vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="a\"b"} 2)",
       R"(vllm:time_to_first_token_seconds_bucket{engine="0",model_name="a\"b",le="0.01"} 0)",
       R"(vllm:time_to_first_token_seconds_bucket{engine="0",model_name="a\"b",le="0.02"} 1)",
       R"(vllm:time_to_first_token_seconds_count{engine="0",model_name="a\"b"} 1)",
       R"(vllm:request_queue_time_seconds_sum{engine="0",model_name="a\"b"} 0.25)",
       R"(vllm:request_prefill_time_seconds_sum{engine="0",model_name="a\"b"} 0.25)",
       R"(vllm:request_decode_time_seconds_sum{engine="0",model_name="a\"b"} 2)",
       R"(vllm:request_inference_time_seconds_sum{engine="0",model_name="a\"b"} 2.25)",
       R"(vllm:request_prompt_tokens_bucket{engine="0",model_name="a\"b",le="10"} 1)",
       R"(vllm:request_generation_tokens_sum{engine="0",model_name="a\"b"} 9)",
       R"(vllm:iteration_tokens_total_bucket{engine="0",model_name="a\"b",le="2"} 0)",
       R"(vllm:iteration_tokens_total_bucket{engine="0",model_name="a\"b",le="4"} 2)",
       R"(vllm:iteration_tokens_total_sum{engine="0",model_name="a\"b"} 7)",
       R"(vllm:cache_config_info{block_size="64",enable_prefix_caching="True",engine="0",num_gpu_blocks="20"} 1)",
       R"(http_requests_total{handler="/v1/completions",method="POST",status="2xx"} 1)",
       R"(http_requests_total{handler="/v1/completions",method="POST",status="4xx"} 1)",
       "# TYPE vllm:e2e_request_latency_seconds histogram"});
}

TEST(MetricsCompat, SpeaksSglang) {
  expect_lines(text_of(MetricsDialect::kSglang),
               {R"(sglang:num_running_reqs{model_name="a\"b"} 3)", R"(sglang:num_queue_reqs{model_name="a\"b"} 2)",
                R"(sglang:token_usage{model_name="a\"b"} 0.25)", R"(sglang:num_used_tokens{model_name="a\"b"} 320)",
                R"(sglang:cache_hit_rate{model_name="a\"b"} 0.75)", R"(sglang:spec_accept_length{model_name="a\"b"} 3)",
                "# TYPE sglang:gen_throughput gauge", "# TYPE sglang:inter_token_latency_seconds histogram"});
}

TEST(MetricsCompat, KnowsItsNames) {
  EXPECT_EQ(*parse_metrics_dialect("vllm"), MetricsDialect::kVllm);
  EXPECT_EQ(*parse_metrics_dialect("sglang"), MetricsDialect::kSglang);
  EXPECT_NE(parse_metrics_dialect("tgi").error().text.find("tgi"), std::string::npos);
}

}  // namespace
}  // namespace fathom::serve
