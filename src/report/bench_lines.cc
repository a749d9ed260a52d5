#include "report/bench_lines.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace fathom {
namespace {

std::string number(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*f", decimals, value);
  return text;
}

std::string counted(int64_t count, const char* one, const char* many) {
  return std::to_string(count) + " " + (count == 1 ? one : many);
}

/// "decode", or "decode int8" in a run with several weights.
std::string work_text(const BenchLine& line) { return line.work + (line.weights.empty() ? "" : " " + line.weights); }

/// A member of a line. Errors name it.
Result<double> number_in(const Json& line, const char* key, const std::string& where) {
  const Json* found = line.find(key);
  if (found == nullptr) return corrupt(where + " has no \"" + key + "\"; it is not a report of fathom bench --json");
  if (!found->is_number() || !std::isfinite(found->as_double()) || found->as_double() < 0) {
    return corrupt(where + ": \"" + key + "\" is " + found->dump().substr(0, 60) + ", not a number from 0 up");
  }
  return found->as_double();
}

Result<int64_t> integer_in(const Json& line, const char* key, const std::string& where) {
  const auto value = number_in(line, key, where);
  if (!value) return value.error();
  if (!line.find(key)->is_int()) return corrupt(where + ": \"" + key + "\" is not an integer");
  return line.find(key)->as_int();
}

Result<std::string> text_in(const Json& line, const char* key, const std::string& where) {
  const Json* found = line.find(key);
  if (found == nullptr || !found->is_string()) {
    return corrupt(where + " has no text \"" + key + "\"; it is not a report of fathom bench --json");
  }
  return found->as_string();
}

Result<BenchLine> line_of(const Json& json, const std::string& where) {
  BenchLine line;
  for (const auto& [key, member] : {std::pair{"work", &BenchLine::work}, {"unit", &BenchLine::unit}}) {
    auto value = text_in(json, key, where);
    if (!value) return value.error();
    line.*member = std::move(*value);
  }
  if (json.find("weights") != nullptr) {
    auto weights = text_in(json, "weights", where);
    if (!weights) return weights.error();
    line.weights = std::move(*weights);
  }
  for (const auto& [key, member] : {std::pair{"threads", &BenchLine::threads},
                                    {"batch", &BenchLine::batch},
                                    {"depth", &BenchLine::depth},
                                    {"tokens", &BenchLine::tokens}}) {
    const auto value = integer_in(json, key, where);
    if (!value) return value.error();
    line.*member = *value;
  }
  for (const auto& [key, target] : {std::pair{"tokens_per_s", &line.tokens_per_s.median},
                                    {"lowest", &line.tokens_per_s.lowest},
                                    {"highest", &line.tokens_per_s.highest},
                                    {"reached", &line.reached},
                                    {"limit", &line.limit}}) {
    const auto value = number_in(json, key, where);
    if (!value) return value.error();
    *target = *value;
  }
  return line;
}

}  // namespace

std::string BenchLine::name() const {
  return work + ", " + counted(threads, "thread", "threads") + ", batch " + std::to_string(batch) + ", depth " +
         std::to_string(depth) + ", " + counted(tokens, "token", "tokens") + (weights.empty() ? "" : ", " + weights);
}

Json to_json(const BenchLine& line) {
  Json json = Json::object();
  json.set("work", line.work).set("threads", line.threads).set("batch", line.batch).set("depth", line.depth);
  json.set("tokens", line.tokens).set("tokens_per_s", line.tokens_per_s.median);
  json.set("lowest", line.tokens_per_s.lowest).set("highest", line.tokens_per_s.highest);
  json.set("reached", line.reached).set("limit", line.limit).set("unit", line.unit).set("share", line.share());
  if (!line.weights.empty()) json.set("weights", line.weights);
  return json;
}

Result<std::vector<BenchLine>> bench_lines_of(const Json& report, std::string_view where) {
  const Json* array = report.find("lines");
  if (array == nullptr || !array->is_array()) {
    return corrupt(std::string(where) + " has no array \"lines\"; it is not a report of fathom bench --json");
  }
  std::vector<BenchLine> lines;
  for (const Json& json : array->items()) {
    auto line = line_of(json, std::string(where) + ": line " + std::to_string(lines.size()));
    if (!line) return line.error();
    const std::string name = line->name();
    if (std::any_of(lines.begin(), lines.end(), [&](const BenchLine& other) { return other.name() == name; })) {
      return corrupt(std::string(where) + " has \"" + name + "\" twice");
    }
    lines.push_back(std::move(*line));
  }
  return lines;
}

std::string aligned(std::span<const std::vector<std::string>> rows, size_t num_left) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string padding(widths[c] - row[c].size(), ' ');
      if (c > 0) line += "  ";
      line += c < num_left ? row[c] + padding : padding + row[c];
    }
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

std::string bench_table(std::span<const BenchLine> lines) {
  std::vector<std::vector<std::string>> rows = {
      {"work", "threads", "batch", "depth", "tokens", "tokens/s", "spread", "reached", "limit", "", "share"}};
  for (const BenchLine& line : lines) {
    const bool has_limit = line.limit > 0;
    rows.push_back({work_text(line), std::to_string(line.threads), std::to_string(line.batch),
                    std::to_string(line.depth), std::to_string(line.tokens), number(line.tokens_per_s.median, 1),
                    number(100 * line.tokens_per_s.relative(), 1) + " %", number(line.reached, 1),
                    has_limit ? number(line.limit, 1) : "-", line.unit,
                    has_limit ? number(100 * line.share(), 0) + " %" : "-"});
  }
  return aligned(rows, 1);
}

std::optional<double> BenchComparison::ratio() const {
  if (!before_tokens_per_s || *before_tokens_per_s <= 0) return std::nullopt;
  return now.tokens_per_s.median / *before_tokens_per_s;
}

std::vector<BenchComparison> compare_lines(std::span<const BenchLine> now, std::span<const BenchLine> before) {
  std::vector<BenchComparison> out;
  for (const BenchLine& line : now) {
    BenchComparison comparison{.now = line, .before_tokens_per_s = std::nullopt};
    for (const BenchLine& old : before) {
      if (old.name() == line.name()) comparison.before_tokens_per_s = old.tokens_per_s.median;
    }
    out.push_back(std::move(comparison));
  }
  return out;
}

std::string comparison_table(std::span<const BenchComparison> comparisons) {
  std::vector<std::vector<std::string>> rows = {
      {"work", "threads", "batch", "depth", "tokens", "old tokens/s", "new tokens/s", "new/old"}};
  for (const BenchComparison& c : comparisons) {
    rows.push_back({work_text(c.now), std::to_string(c.now.threads), std::to_string(c.now.batch),
                    std::to_string(c.now.depth), std::to_string(c.now.tokens),
                    c.before_tokens_per_s ? number(*c.before_tokens_per_s, 1) : "-",
                    number(c.now.tokens_per_s.median, 1), c.ratio() ? number(*c.ratio(), 3) : "-"});
  }
  return aligned(rows, 1);
}

std::vector<std::string> slower_than(std::span<const BenchComparison> comparisons, double least) {
  std::vector<std::string> out;
  for (const BenchComparison& c : comparisons) {
    if (c.ratio() && *c.ratio() < least) out.push_back(c.now.name());
  }
  return out;
}

}  // namespace fathom
