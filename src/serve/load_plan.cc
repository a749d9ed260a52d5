#include "serve/load_plan.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>

#include "base/json.h"
#include "base/rng.h"

namespace fathom::serve {
namespace {

constexpr int64_t kTraceBlockTokens = 512;
constexpr std::string_view kAzureTitle = "TIMESTAMP,ContextTokens,GeneratedTokens";

std::string shown(std::string_view text) { return "\"" + std::string(text.substr(0, 80)) + "\""; }

/// An integer that is the whole text.
std::optional<int64_t> integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Seconds since 1970 of "2023-11-16 18:15:46.6805900".
std::optional<double> time_of(std::string_view text) {
  if (text.size() < 19 || text[4] != '-' || text[7] != '-' || text[10] != ' ' || text[13] != ':' || text[16] != ':') {
    return std::nullopt;
  }
  std::array<int64_t, 6> parts{};
  constexpr std::array<std::pair<size_t, size_t>, 6> kPlaces = {{{0, 4}, {5, 2}, {8, 2}, {11, 2}, {14, 2}, {17, 2}}};
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto part = integer(text.substr(kPlaces[i].first, kPlaces[i].second));
    if (!part || *part < 0) return std::nullopt;
    parts[i] = *part;
  }
  const std::chrono::year_month_day day(std::chrono::year(static_cast<int>(parts[0])),
                                        std::chrono::month(static_cast<unsigned>(parts[1])),
                                        std::chrono::day(static_cast<unsigned>(parts[2])));
  if (!day.ok() || parts[3] > 23 || parts[4] > 59 || parts[5] > 60) return std::nullopt;
  double fraction = 0;
  if (const std::string_view rest = text.substr(19); !rest.empty()) {
    const auto digits = integer(rest.substr(1));
    if (rest.front() != '.' || rest.size() < 2 || rest.size() > 16 || !digits || *digits < 0) return std::nullopt;
    fraction = static_cast<double>(*digits) / std::pow(10.0, static_cast<double>(rest.size() - 1));
  }
  const auto days = static_cast<int64_t>(std::chrono::sys_days(day).time_since_epoch().count());
  return static_cast<double>(days * 86400 + parts[3] * 3600 + parts[4] * 60 + parts[5]) + fraction;
}

bool is_length(int64_t tokens) { return tokens >= 0 && tokens <= LoadPlan::kMostTokens; }

Error bad_length(const std::string& where, std::string_view what, std::string_view value) {
  return corrupt(where + ": " + std::string(what) + " " + std::string(value.substr(0, 60)) +
                 " is not a count of tokens from 0 to " + std::to_string(LoadPlan::kMostTokens));
}

int64_t scaled(int64_t tokens, double scale) {
  const double value = std::round(static_cast<double>(tokens) * scale);
  return static_cast<int64_t>(std::clamp(value, 1.0, static_cast<double>(LoadPlan::kMostTokens)));
}

int32_t draw(const Rng& rng, int64_t index, TokenRange range) {
  const auto size = static_cast<uint64_t>(range.end - range.first);
  return range.first + static_cast<int32_t>(rng.below(static_cast<uint64_t>(index), size));
}

}  // namespace

TokenRange token_range(int64_t vocab_size) {
  constexpr int64_t kMarks = 256;
  const int64_t end = std::clamp<int64_t>(vocab_size, 1, INT32_MAX);
  return {.first = static_cast<int32_t>(end > 4 * kMarks ? kMarks : 0), .end = static_cast<int32_t>(end)};
}

LoadPlan LoadPlan::synthetic(const SyntheticLoad& load, uint64_t seed) {
  LoadPlan plan;
  plan.seed_ = seed;
  plan.shared_prefix_len_ = load.shared_prefix_len;
  const Rng rng(seed, stream_of("arrivals"));
  double now = 0;
  for (int64_t i = 0; i < load.num_prompts; ++i) {
    if (load.requests_per_s > 0) now += -std::log1p(-rng.uniform(static_cast<uint64_t>(i))) / load.requests_per_s;
    plan.requests_.push_back({.start_s = now, .input_len = load.input_len, .output_len = load.output_len});
  }
  return plan;
}

Result<LoadPlan::Planned> LoadPlan::mooncake_line(std::string_view line, const std::string& where) {
  const auto json = Json::parse(line, where);
  if (!json) return json.error();
  Planned request;
  const Json* timestamp = json->find("timestamp");
  if (timestamp == nullptr || !timestamp->is_number() || !std::isfinite(timestamp->as_double())) {
    return corrupt(where + " has no number \"timestamp\" (ms); it is not a line of a Mooncake trace");
  }
  request.start_s = timestamp->as_double() * 1e-3;
  for (const auto& [key, target] :
       {std::pair{"input_length", &request.input_len}, {"output_length", &request.output_len}}) {
    const Json* length = json->find(key);
    if (length == nullptr) return corrupt(where + " has no \"" + key + "\"; it is not a line of a Mooncake trace");
    if (!length->is_int() || !is_length(length->as_int())) return bad_length(where, key, length->dump());
    *target = length->as_int();
  }
  if (const Json* blocks = json->find("hash_ids")) {
    if (!blocks->is_array()) return corrupt(where + ": \"hash_ids\" is no array");
    for (const Json& block : blocks->items()) {
      if (!block.is_int()) return corrupt(where + ": \"hash_ids\" has " + block.dump().substr(0, 60));
      request.blocks.push_back(block.as_int());
    }
  }
  return request;
}

Result<LoadPlan::Planned> LoadPlan::azure_line(std::string_view line, const std::string& where) {
  const size_t first = line.find(','), second = first == line.npos ? line.npos : line.find(',', first + 1);
  const auto time = time_of(line.substr(0, std::min(first, line.size())));
  if (second == line.npos || !time) {
    return corrupt(where + ": " + shown(line) + " is not like \"2023-11-16 18:15:46.6805900,374,44\"");
  }
  Planned request{.start_s = *time};
  const std::string_view input = line.substr(first + 1, second - first - 1), output = line.substr(second + 1);
  struct Column {
    std::string_view name, text;
    int64_t& target;
  };
  for (const Column& column :
       {Column{"ContextTokens", input, request.input_len}, Column{"GeneratedTokens", output, request.output_len}}) {
    const auto length = integer(column.text);
    if (!length || !is_length(*length)) return bad_length(where, column.name, shown(column.text));
    column.target = *length;
  }
  return request;
}

Result<LoadPlan> LoadPlan::from_trace(std::string_view text, std::string_view where, const TraceScale& scale,
                                      uint64_t seed) {
  LoadPlan plan;
  plan.seed_ = seed;
  plan.block_len_ = scaled(kTraceBlockTokens, scale.length_scale);
  bool is_csv = false;
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty()) continue;
    if (number == 1 && line == kAzureTitle) {
      is_csv = true;
      continue;
    }
    const std::string place = std::string(where) + ": line " + std::to_string(number);
    if (number == 1 && line.front() != '{') {
      return corrupt(place + " is neither a JSON object nor \"" + std::string(kAzureTitle) +
                     "\"; give a trace of Mooncake's or Azure's form, not compressed");
    }
    auto request = is_csv ? azure_line(line, place) : mooncake_line(line, place);
    if (!request) return request.error();
    if (plan.size() == kMostRequests) {
      return corrupt(place + ": more than " + std::to_string(kMostRequests) + " requests; give --limit");
    }
    plan.requests_.push_back(std::move(*request));
    if (scale.limit > 0 && plan.size() == scale.limit) break;
  }
  if (plan.requests_.empty()) return corrupt(std::string(where) + " has no requests");
  std::stable_sort(plan.requests_.begin(), plan.requests_.end(),
                   [](const Planned& a, const Planned& b) { return a.start_s < b.start_s; });
  const double begin = plan.requests_.front().start_s;
  for (Planned& request : plan.requests_) {
    request.start_s = (request.start_s - begin) / scale.speed_up;
    request.input_len = scaled(request.input_len, scale.length_scale);
    request.output_len = scaled(request.output_len, scale.length_scale);
  }
  return plan;
}

int64_t LoadPlan::longest() const {
  int64_t longest = 0;
  for (int64_t i = 0; i < size(); ++i) longest = std::max(longest, input_len(i) + output_len(i));
  return longest;
}

std::vector<int32_t> LoadPlan::prompt(int64_t i, TokenRange range) const {
  const Planned& request = at(i);
  std::vector<int32_t> tokens;
  tokens.reserve(static_cast<size_t>(input_len(i)));
  const Rng shared(seed_, stream_of("shared prefix"));
  for (int64_t p = 0; p < shared_prefix_len_; ++p) tokens.push_back(draw(shared, p, range));
  const Rng own(seed_, stream_of("prompt") + static_cast<uint64_t>(i));
  for (int64_t p = 0; p < request.input_len; ++p) {
    if (request.blocks.empty()) {
      tokens.push_back(draw(own, p, range));
    } else {
      const auto block = std::min(static_cast<size_t>(p / block_len_), request.blocks.size() - 1);
      const Rng common(seed_, stream_of("block") + static_cast<uint64_t>(request.blocks[block]));
      tokens.push_back(draw(common, p - static_cast<int64_t>(block) * block_len_, range));
    }
  }
  return tokens;
}

std::vector<int32_t> LoadPlan::warm_up_prompt(int64_t i, TokenRange range) const {
  std::vector<int32_t> tokens;
  const Rng rng(seed_, stream_of("warm-up") + static_cast<uint64_t>(i));
  for (int64_t p = 0; p < input_len(i); ++p) tokens.push_back(draw(rng, p, range));
  return tokens;
}

std::string words_of(const std::vector<int32_t>& tokens) {
  constexpr std::array<std::string_view, 32> kWords = {
      "the",  "sea",  "a",    "stone", "of",   "light", "is",   "under", "and",  "river", "we",
      "know", "time", "on",   "her",   "hand", "it",    "came", "back",  "to",   "them",  "when",
      "rain", "fell", "over", "town",  "he",   "saw",   "how",  "far",   "deep", "was"};
  std::string text;
  for (const int32_t token : tokens) {
    if (!text.empty()) text += ' ';
    text += kWords[static_cast<size_t>(token) % kWords.size()];
  }
  return text;
}

}  // namespace fathom::serve
