// Recorded traces of requests through the sequence table and the scheduler in virtual time, without a model: what is
// left of the engine when the numbers are taken away.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../text/tokenizer_cases.h"
#include "base/json.h"
#include "base/rng.h"
#include "engine/sequence_table.h"
#include "shared_data.h"

namespace fathom::testing {

struct Traced {
  int64_t arrival_us = 0;
  std::vector<int32_t> prompt;
  int64_t answer_tokens = 0;
  int64_t priority = 0;
  int64_t deadline_us = INT64_MAX;  // from then on it is taken away, whatever it has
};

/// The first requests of Mooncake's conversation trace, an eighth as long: its prefix blocks of 512 tokens become our
/// pages of 64. The tokens of a block are its id.
inline std::vector<Traced> mooncake(size_t num_requests) {
  const std::string text = read_xz(shared_data() / "traces/mooncake-conversation_trace.jsonl.xz");
  std::vector<Traced> requests;
  for (size_t begin = 0; begin < text.size() && requests.size() < num_requests;) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const auto line = Json::parse(text.substr(begin, end - begin), "trace");
    begin = end + 1;
    if (!line) break;
    Traced request;
    request.arrival_us = line->find("timestamp")->as_int() * 1000;
    request.answer_tokens = std::max<int64_t>(1, line->find("output_length")->as_int() / 8);
    const int64_t length = std::max<int64_t>(1, line->find("input_length")->as_int() / 8);
    const auto& blocks = line->find("hash_ids")->items();
    for (int64_t i = 0; i < length; ++i) {
      const auto block = std::min(static_cast<size_t>(i / 64), blocks.size() - 1);
      request.prompt.push_back(static_cast<int32_t>(blocks[block].as_int()));
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

/// The first requests of Azure's conversation trace of 2023, an eighth as long and `speed_up` times as fast; no two
/// share a token.
inline std::vector<Traced> azure(size_t num_requests, double speed_up) {
  const std::string text = read_xz(shared_data() / "traces/azure-llm-2023-conv.csv.xz");
  std::vector<Traced> requests;
  double first = -1;
  for (size_t begin = text.find('\n') + 1; begin < text.size() && requests.size() < num_requests;) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    int hour = 0, minute = 0;
    double second = 0;
    long input = 0, output = 0;
    const std::string line = text.substr(begin, end - begin);
    if (std::sscanf(line.c_str(), "2023-11-16 %d:%d:%lf,%ld,%ld", &hour, &minute, &second, &input, &output) != 5) break;
    begin = end + 1;
    const double time = 3600.0 * hour + 60.0 * minute + second;
    if (first < 0) first = time;
    requests.push_back({.arrival_us = static_cast<int64_t>(1e6 * (time - first) / speed_up),
                        .prompt = std::vector<int32_t>(static_cast<size_t>(std::max(1L, input / 8)),
                                                       static_cast<int32_t>(requests.size())),
                        .answer_tokens = std::max(1L, output / 8)});
  }
  return requests;
}

/// A cache whose pages hold next to nothing.
inline ModelConfig no_model() {
  ModelConfig config;
  config.num_hidden_layers = 1;
  config.kv_lora_rank = 1;
  config.qk_rope_head_dim = 1;
  return config;
}

struct Replayed {
  // By request, after its arrival; -1: never, because its deadline came before.
  std::vector<int64_t> first_token_us, last_token_us, ended_us;
  std::vector<int64_t> most_overtaken;  // steps in which later arrivals of higher priority were served and it was not
  int64_t steps = 0;
  int64_t num_expired = 0;
  uint64_t plans_hash = 0;  // of every plan, in order
  EngineStats stats;
};

/// What a plan decides, by the ids of the sequences.
inline uint64_t hash_of(uint64_t hash, const StepPlan& plan, std::span<const std::unique_ptr<Sequence>> sequences) {
  std::string text;
  const auto add = [&](char what, size_t i) { text += what + std::to_string(sequences[i]->id); };
  for (const size_t i : plan.preempted) add('p', i);
  for (const size_t i : plan.admitted) add('a', i);
  if (plan.promoted) add('!', *plan.promoted);
  for (const StepItem& item : plan.items) {
    add('i', item.sequence);
    text += ":" + std::to_string(item.first_position) + "+" + std::to_string(item.count) + (item.samples ? "s" : "") +
            (item.form == MlaForm::kAbsorbed ? "g" : "");
  }
  return stream_of(std::to_string(hash) + text);
}

/// Runs all requests to their end. A step takes 10 ms and 20 us for each of its tokens.
inline Replayed replay(const std::vector<Traced>& requests, SequenceTableOptions options, int64_t max_cache_tokens) {
  LatentCache cache(no_model(), DType::kF32, max_cache_tokens);
  SequenceTable table(cache, options);
  Replayed result;
  result.first_token_us.assign(requests.size(), -1);
  result.last_token_us.assign(requests.size(), -1);
  result.ended_us.assign(requests.size(), -1);
  result.most_overtaken.assign(requests.size(), 0);
  int64_t now_us = 0;
  size_t arrived = 0, finished = 0;
  std::map<int64_t, int64_t> last_begun;  // by priority: the arrival of the youngest request that has begun
  std::vector<bool> began(requests.size());
  int64_t num_overtaken = 0;
  while (finished < requests.size() && result.steps < 1'000'000) {
    for (; arrived < requests.size() && requests[arrived].arrival_us <= now_us; ++arrived) {
      auto sequence = std::make_unique<Sequence>(static_cast<int64_t>(arrived), cache);
      sequence->priority = requests[arrived].priority;
      table.set_prompt(*sequence, requests[arrived].prompt);
      sequence->max_length = sequence->prompt_length + requests[arrived].answer_tokens;
      table.add(std::move(sequence));
    }
    if (table.sequences().empty()) {
      if (arrived == requests.size()) break;
      now_us = requests[arrived].arrival_us;
      continue;
    }
    std::vector<int64_t> late;
    for (const auto& s : table.sequences()) {
      if (requests[static_cast<size_t>(s->id)].deadline_us <= now_us) late.push_back(s->id);
    }
    for (const int64_t id : late) {
      table.remove(id);
      result.ended_us[static_cast<size_t>(id)] = now_us - requests[static_cast<size_t>(id)].arrival_us;
    }
    result.num_expired += std::ssize(late);
    finished += late.size();
    if (table.sequences().empty()) continue;
    const StepPlan plan = table.begin_step();  // aborts when a page is missing
    ++result.steps;
    result.plans_hash = hash_of(result.plans_hash, plan, table.sequences());
    for (const auto& s : table.sequences()) result.most_overtaken[static_cast<size_t>(s->id)] = s->num_overtaken;
    int64_t tokens = 0;
    for (const StepItem& item : plan.items) tokens += item.count;
    EXPECT_LE(tokens, options.token_budget);
    EXPECT_LE(std::ssize(plan.items), options.max_running);
    EXPECT_LE(cache.pages_in_use(), cache.max_pages());
    if (tokens == 0) {
      ADD_FAILURE() << "a step without work";
      break;
    }
    for (size_t i : plan.admitted) {  // in order of arrival, whoever is not back from a preemption
      const Sequence& s = *table.sequences()[i];
      if (began[static_cast<size_t>(s.id)]) continue;
      began[static_cast<size_t>(s.id)] = true;
      num_overtaken += s.arrival < last_begun[s.priority];
      last_begun[s.priority] = std::max(last_begun[s.priority], s.arrival);
    }
    now_us += 10'000 + 20 * tokens;
    std::vector<int64_t> done;
    for (const StepItem& item : plan.items) {
      Sequence& s = *table.sequences()[item.sequence];
      table.end_item(item);
      if (!item.samples) continue;
      s.tokens.push_back(-1 - static_cast<int32_t>(s.id));
      const auto r = static_cast<size_t>(s.id);
      if (result.first_token_us[r] < 0) result.first_token_us[r] = now_us - requests[r].arrival_us;
      result.last_token_us[r] = result.ended_us[r] = now_us - requests[r].arrival_us;
      EXPECT_EQ(std::ssize(s.cache.pages()), pages_for(s.num_computed));
      if (std::ssize(s.tokens) == s.max_length) done.push_back(s.id);
    }
    for (int64_t id : done) table.remove(id);
    finished += done.size();
  }
  table.add_to(result.stats);
  EXPECT_EQ(finished, requests.size()) << "somebody starved";
  // Only who waits for a prefix that is being computed may be overtaken.
  if (!options.prefix_cache) {
    EXPECT_EQ(num_overtaken, 0);
  }
  return result;
}

inline double mean(const std::vector<int64_t>& values) {
  double sum = 0;
  for (int64_t v : values) sum += static_cast<double>(v);
  return sum / static_cast<double>(values.size());
}

}  // namespace fathom::testing
