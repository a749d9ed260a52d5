// The page's tables and charts.
#include "train/training_report.h"

#include <cstdio>
#include <map>

#include "report/chart.h"
#include "report/page.h"

namespace fathom {
namespace {

using Records = std::map<int64_t, const Json*>;  // by step

int64_t step_of(const Json& record) {
  const Json* step = record.find("step");
  return step != nullptr && step->is_int() ? step->as_int() : 0;
}

Records by_step(std::span<const Json> records) {
  Records out;
  for (const Json& record : records) {
    const Json* step = record.find("step");
    const Json* loss = record.find("loss.main");
    if (step != nullptr && step->is_int() && loss != nullptr && loss->is_number()) out[step->as_int()] = &record;
  }
  return out;
}

Series series_of(const Records& records, std::string_view key, std::string_view name) {
  Series series{.name = std::string(name), .x = {}, .y = {}};
  for (const auto& [step, record] : records) {
    const Json* value = record->find(key);
    if (value == nullptr || !value->is_number()) continue;
    series.x.push_back(static_cast<double>(step));
    series.y.push_back(value->as_double());
  }
  return series;
}

std::string number(const Json* value) {
  if (value == nullptr || !value->is_number()) return "";
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value->as_double());
  return text;
}

void add_chart(Page& page, const Records& records, std::string_view title, std::string_view y_label,
               std::initializer_list<std::pair<std::string_view, std::string_view>> lines, bool log_y = false) {
  LineChart chart{
      .title = std::string(title), .x_label = "step", .y_label = std::string(y_label), .log_y = log_y, .series = {}};
  for (const auto& [key, name] : lines) {
    Series series = series_of(records, key, name);
    if (!series.x.empty()) chart.series.push_back(std::move(series));
  }
  if (!chart.series.empty()) page.drawing(to_svg(chart));
}

}  // namespace

std::vector<Json> records_of_run(std::span<const Json> records) {
  std::vector<Json> out;
  for (const Json& record : records) {
    const Json* event = record.find("event");
    if (event != nullptr && *event == Json("start")) out.clear();
    if (event != nullptr && *event == Json("resume")) {
      std::erase_if(out, [&](const Json& earlier) { return step_of(earlier) > step_of(record); });
    }
    out.push_back(record);
  }
  return out;
}

std::string training_report_html(std::string_view title, std::string_view settings, std::span<const Json> records) {
  const Records steps = by_step(records);
  Page page(title);
  if (steps.empty()) {
    page.paragraph("No step is on record.");
  } else {
    Table table{.header = {"", "first step", "last step"}, .rows = {}};
    const Json& first = *steps.begin()->second;
    const Json& last = *steps.rbegin()->second;
    for (const char* key : {"step", "tokens", "loss.main", "loss.mtp", "loss.balance", "lr", "grad_norm", "max_vio",
                            "tokens_per_s", "validation.loss", "validation.bits_per_byte"}) {
      if (first.find(key) == nullptr && last.find(key) == nullptr) continue;
      table.rows.push_back({key, number(first.find(key)), number(last.find(key))});
    }
    page.table(table);
    add_chart(page, steps, "Loss", "cross-entropy (nats per token)",
              {{"loss.main", "main"}, {"loss.mtp", "MTP"}, {"validation.loss", "validation"}});
    add_chart(page, steps, "Validation", "bits per byte", {{"validation.bits_per_byte", "validation"}});
    add_chart(page, steps, "Learning rate", "learning rate", {{"lr", "learning rate"}});
    add_chart(page, steps, "Gradient norm before clipping", "norm", {{"grad_norm", "norm"}}, true);
    add_chart(page, steps, "Expert load: MaxVio of the worst layer", "largest load / mean load - 1",
              {{"max_vio", "MaxVio"}});
  }
  page.heading("Settings");
  page.preformatted(settings);
  return page.html();
}

}  // namespace fathom
