#include "serve/load_report.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "report/bench_lines.h"

namespace fathom::serve {
namespace {

constexpr double kMsPerS = 1e3;

std::string fixed(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", decimals, value);
  return text;
}

Json to_json(const Latency& latency) {
  Json json = Json::object();
  json.set("mean", latency.mean).set("p50", latency.p50).set("p90", latency.p90);
  return json.set("p95", latency.p95).set("p99", latency.p99);
}

/// A number behind a path of members such as "ttft_ms.p50".
std::optional<double> number_at(const Json& json, std::string_view path) {
  const size_t dot = path.find('.');
  const Json* found = json.find(path.substr(0, dot));
  if (found == nullptr) return std::nullopt;
  if (dot != path.npos) return number_at(*found, path.substr(dot + 1));
  if (!found->is_number() || !std::isfinite(found->as_double())) return std::nullopt;
  return found->as_double();
}

}  // namespace

std::optional<double> LoadRecord::tpot_s() const {
  if (output_tokens < 2) return std::nullopt;
  return (end_s - first_s) / static_cast<double>(output_tokens - 1);
}

void GapHistogram::add(double seconds) {
  const double bucket = std::log(std::max(seconds, kLeast) / kLeast) / std::log(kRatio);
  ++counts_[std::min(static_cast<size_t>(bucket), kNumBuckets - 1)];
  ++count_;
  sum_ += seconds;
}

double GapHistogram::quantile_s(double q) const {
  const double wanted = q * static_cast<double>(count_);
  double below = 0;
  for (size_t i = 0; i < kNumBuckets; ++i) {
    below += static_cast<double>(counts_[i]);
    if (counts_[i] > 0 && below >= wanted) return kLeast * std::pow(kRatio, static_cast<double>(i) + 0.5);
  }
  return 0;
}

Latency latency_of(std::vector<double> seconds) {
  if (seconds.empty()) return {};
  std::sort(seconds.begin(), seconds.end());
  const auto quantile = [&](double q) {
    const double place = q * static_cast<double>(seconds.size() - 1);
    const auto low = static_cast<size_t>(place);
    const size_t high = std::min(low + 1, seconds.size() - 1);
    return kMsPerS * std::lerp(seconds[low], seconds[high], place - std::floor(place));
  };
  double sum = 0;
  for (const double value : seconds) sum += value;
  return {.mean = kMsPerS * sum / static_cast<double>(seconds.size()),
          .p50 = quantile(0.5),
          .p90 = quantile(0.9),
          .p95 = quantile(0.95),
          .p99 = quantile(0.99)};
}

Latency latency_of(const GapHistogram& gaps) {
  const auto quantile = [&](double q) { return kMsPerS * gaps.quantile_s(q); };
  return {.mean = kMsPerS * gaps.mean_s(),
          .p50 = quantile(0.5),
          .p90 = quantile(0.9),
          .p95 = quantile(0.95),
          .p99 = quantile(0.99)};
}

bool LatencyGoals::kept_by(const LoadRecord& record) const {
  const auto within = [](double seconds, const std::optional<double>& most_ms) {
    return !most_ms || kMsPerS * seconds <= *most_ms;
  };
  return record.answered() && within(record.ttft_s(), ttft_ms) && within(record.tpot_s().value_or(0), tpot_ms) &&
         within(record.longest_gap_s, itl_ms) && within(record.e2e_s(), e2e_ms);
}

Result<LatencyGoals> parse_goals(std::string_view text) {
  LatencyGoals goals;
  const std::pair<std::string_view, std::optional<double>*> known[] = {
      {"ttft", &goals.ttft_ms}, {"tpot", &goals.tpot_ms}, {"itl", &goals.itl_ms}, {"e2e", &goals.e2e_ms}};
  while (true) {
    const size_t end = std::min(text.find(','), text.size());
    const std::string_view part = text.substr(0, end);
    const size_t colon = std::min(part.find(':'), part.size());
    const std::string_view name = part.substr(0, colon), value = part.substr(std::min(colon + 1, part.size()));
    const auto found = std::find_if(std::begin(known), std::end(known), [&](const auto& k) { return k.first == name; });
    double ms = 0;
    const auto [stop, error] = std::from_chars(value.data(), value.data() + value.size(), ms);
    if (found == std::end(known) || error != std::errc{} || stop != value.data() + value.size() || !(ms > 0)) {
      return invalid("\"" + std::string(part.substr(0, 60)) +
                     "\" is no goal; accepted: ttft, tpot, itl or e2e, a colon and milliseconds, as ttft:200,itl:50");
    }
    if (*found->second) return invalid(std::string(name) + " is given twice");
    *found->second = ms;
    if (end == text.size()) return goals;
    text.remove_prefix(end + 1);
  }
}

LoadReport summarise(std::span<const LoadRecord> records, const GapHistogram& gaps, const LatencyGoals& goals) {
  LoadReport report;
  std::vector<double> ttft, tpot, e2e;
  double begin = 0, end = 0;
  int64_t good = 0;
  for (const LoadRecord& record : records) {
    begin = report.requests == 0 ? record.start_s : std::min(begin, record.start_s);
    end = std::max(end, record.end_s);
    ++report.requests;
    if (!record.answered()) {
      ErrorCount& error = report.errors[record.error];
      if (error.count++ == 0) error.text = record.error_text;
      continue;
    }
    ++report.answered;
    report.input_tokens += record.input_tokens;
    report.output_tokens += record.output_tokens;
    report.cached_tokens += record.cached_tokens;
    report.tokens_are_pieces |= record.tokens_are_pieces;
    ttft.push_back(record.ttft_s());
    e2e.push_back(record.e2e_s());
    if (const auto each = record.tpot_s()) tpot.push_back(*each);
    good += goals.kept_by(record);
  }
  report.duration_s = end - begin;
  report.ttft = latency_of(std::move(ttft));
  report.tpot = latency_of(std::move(tpot));
  report.e2e = latency_of(std::move(e2e));
  report.itl = latency_of(gaps);
  if (goals.any()) report.good = good;
  return report;
}

Json to_json(const LoadReport& report) {
  Json errors = Json::object();
  for (const auto& [kind, error] : report.errors) errors.set(kind, error.count);
  Json json = Json::object();
  json.set("requests", report.requests).set("answered", report.answered).set("errors", std::move(errors));
  json.set("duration_s", report.duration_s);
  json.set("input_tokens", report.input_tokens).set("output_tokens", report.output_tokens);
  json.set("cached_tokens", report.cached_tokens).set("tokens_are_pieces", report.tokens_are_pieces);
  json.set("requests_per_s", report.per_s(report.answered));
  json.set("output_tokens_per_s", report.per_s(report.output_tokens));
  json.set("total_tokens_per_s", report.per_s(report.input_tokens + report.output_tokens));
  json.set("ttft_ms", to_json(report.ttft)).set("itl_ms", to_json(report.itl));
  json.set("tpot_ms", to_json(report.tpot)).set("e2e_ms", to_json(report.e2e));
  if (report.good) {
    json.set("good_requests", *report.good).set("goodput_requests_per_s", report.per_s(*report.good));
  }
  if (report.cold_ttft_ms) json.set("cold_ttft_ms", *report.cold_ttft_ms).set("cold_ratio", report.cold_ratio());
  return json;
}

std::string load_table(const LoadReport& report) {
  std::string text = std::to_string(report.answered) + " of " + std::to_string(report.requests) +
                     " requests answered in " + fixed(report.duration_s, 2) +
                     " s: " + fixed(report.per_s(report.answered), 2) + " requests/s, " +
                     fixed(report.per_s(report.output_tokens), 1) + " output tokens/s, " +
                     fixed(report.per_s(report.input_tokens + report.output_tokens), 1) + " tokens/s in all\n";
  text += std::to_string(report.input_tokens) + " tokens in (" + std::to_string(report.cached_tokens) + " cached), " +
          std::to_string(report.output_tokens) + " out" +
          (report.tokens_are_pieces ? ", counted as pieces of text: the server sends no usage\n" : "\n");
  for (const auto& [kind, error] : report.errors) {
    text += std::to_string(error.count) + " x " + kind + (error.text.empty() ? "" : ": " + error.text) + "\n";
  }
  std::vector<std::vector<std::string>> rows = {{"ms", "mean", "p50", "p90", "p95", "p99"}};
  for (const auto& [name, latency] :
       {std::pair{"TTFT", &report.ttft}, {"ITL", &report.itl}, {"TPOT", &report.tpot}, {"E2E", &report.e2e}}) {
    rows.push_back({name, fixed(latency->mean, 2), fixed(latency->p50, 2), fixed(latency->p90, 2),
                    fixed(latency->p95, 2), fixed(latency->p99, 2)});
  }
  text += aligned(rows, 1);
  if (report.good) {
    text += "goodput " + fixed(report.per_s(*report.good), 2) + " requests/s: " + std::to_string(*report.good) +
            " requests kept the goals\n";
  }
  if (report.cold_ttft_ms) {
    text += "shared prefix: TTFT " + fixed(*report.cold_ttft_ms, 2) + " ms of the first request, " +
            fixed(report.ttft.p50, 2) + " ms of those after it (median): " + fixed(report.cold_ratio(), 2) +
            " times lower\n";
  }
  return text;
}

std::optional<double> LoadComparison::ratio() const {
  if (!before || !(*before > 0)) return std::nullopt;
  return now / *before;
}

Result<std::vector<LoadComparison>> compare_loads(const Json& now, const Json& before, std::string_view where) {
  std::vector<LoadComparison> out;
  for (const char* path : {"output_tokens_per_s", "requests_per_s", "goodput_requests_per_s", "ttft_ms.p50",
                           "ttft_ms.p99", "itl_ms.p50", "itl_ms.p99", "tpot_ms.p50", "e2e_ms.p50", "e2e_ms.p99"}) {
    const auto value = number_at(now, path);
    if (value) out.push_back({.name = path, .now = *value, .before = number_at(before, path)});
  }
  if (std::none_of(out.begin(), out.end(), [](const LoadComparison& c) { return c.before.has_value(); })) {
    return corrupt(std::string(where) +
                   " has no \"output_tokens_per_s\" and no latencies; it is not a report of fathom bench serve --json");
  }
  return out;
}

std::string comparison_table(std::span<const LoadComparison> comparisons) {
  std::vector<std::vector<std::string>> rows = {{"figure", "old", "new", "new/old"}};
  for (const LoadComparison& c : comparisons) {
    rows.push_back(
        {c.name, c.before ? fixed(*c.before, 2) : "-", fixed(c.now, 2), c.ratio() ? fixed(*c.ratio(), 3) : "-"});
  }
  return aligned(rows, 1);
}

}  // namespace fathom::serve
