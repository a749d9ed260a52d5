#include "report/page.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "report/markup.h"

namespace fathom {
namespace {

constexpr std::string_view kHead =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n";

constexpr std::string_view kStyle =
    "<style>\n"
    "body{font:15px/1.55 system-ui,sans-serif;max-width:760px;margin:2rem auto;padding:0 1rem;color:#1f2937;"
    "background:#fff}\n"
    "h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.15rem;margin-top:2.2rem}\n"
    "h3{font-size:1rem;margin:1.6rem 0 .2rem}h1,h2,h3,p{overflow-wrap:anywhere}\n"
    "svg{max-width:100%;height:auto;margin:.6rem 0 0}svg[data-kind=gantt]{max-width:none}\n"
    "figure{margin:1.4rem 0}figcaption,.f{color:#5b6472;font-size:13px}figcaption div{overflow-wrap:anywhere}\n"
    "summary{cursor:pointer;font-size:13px;color:#5b6472}details table{font-size:12.5px}\n"
    "pre{overflow-x:auto;padding:.7rem .9rem;background:#f4f5f7;border-radius:6px;font-size:13px}\n"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:14px;margin:.6rem 0}\n"
    "th,td{text-align:left;padding:.3rem .9rem .3rem 0;border-bottom:1px solid #e2e5ea;vertical-align:top}\n"
    ".n{text-align:right;font-variant-numeric:tabular-nums}td.n{white-space:nowrap}[title]{cursor:help}\n"
    // Drawings keep a size at which their text can be read; what is wider than the screen is moved under it.
    "@media screen and (max-width:640px){.scroll svg{min-width:600px}}\n"
    "@media(prefers-color-scheme:dark){body{color:#dbe1ea;background:#12161d}pre{background:#1c222c}"
    "th,td{border-color:#333b48}figcaption,.f,summary{color:#9aa5b4}}\n"
    "@media print{@page{margin:14mm}body{font-size:10pt;max-width:none;margin:0;padding:0;color:#111;background:#fff}"
    "pre{background:#f4f5f7;white-space:pre-wrap}th,td{border-color:#ccc}figcaption,.f{color:#444;font-size:8.5pt}"
    "table,.scroll table{font-size:8.5pt}th,td{padding-right:.5rem}td.n{white-space:normal}"
    ".scroll{overflow:visible}.scroll svg,svg[data-kind=gantt]{max-width:100%;min-width:0}"
    "figure,tr{break-inside:avoid}h2,h3{break-after:avoid}details{display:none}}\n"
    "</style>\n";

constexpr size_t kMaxTableRows = 200;  // of the values below a drawing

bool looks_like_number(std::string_view cell) {
  if (cell.starts_with('-') || cell.starts_with('+')) cell.remove_prefix(1);
  return !cell.empty() && cell[0] >= '0' && cell[0] <= '9';
}

std::string title_attribute(const Origin& origin) {
  if (origin.formula.empty() && origin.source.empty()) return "";
  const bool both = !origin.formula.empty() && !origin.source.empty();
  return " title=\"" + escape_markup(origin.formula + (both ? "\n" : "") + origin.source) + "\"";
}

std::string number_cell(double v, const Origin& origin) {
  return "<td class=\"n\" data-v=\"" + exact_text(v) + "\"" + title_attribute(origin) + ">" +
         (std::isfinite(v) ? figure_text(v) : "") + "</td>";
}

}  // namespace

Page::Page(std::string_view title) : title_(escape_markup(title)) {}

Page& Page::heading(std::string_view text) {
  body_ += "<h2>" + escape_markup(text) + "</h2>\n";
  return *this;
}

Page& Page::paragraph(std::string_view text) {
  body_ += "<p>" + escape_markup(text) + "</p>\n";
  return *this;
}

Page& Page::preformatted(std::string_view text) {
  body_ += "<pre>" + escape_markup(text) + "</pre>\n";
  return *this;
}

Page& Page::table(const Table& table) {
  std::vector<bool> numeric(table.header.size(), !table.rows.empty());
  for (const auto& row : table.rows) {
    check(row.size() == table.header.size(), "every row of a table is as long as its header");
    for (size_t i = 0; i < row.size(); ++i) numeric[i] = numeric[i] && (row[i].empty() || looks_like_number(row[i]));
  }
  const auto cells = [&](const char* tag, const std::vector<std::string>& row) {
    std::string out = "<tr>";
    for (size_t i = 0; i < row.size(); ++i) {
      out += std::string("<") + tag + (numeric[i] ? " class=\"n\">" : ">") + escape_markup(row[i]) + "</" + tag + ">";
    }
    return out + "</tr>\n";
  };
  body_ += "<div class=\"scroll\"><table>\n<thead>" + cells("th", table.header) + "</thead>\n<tbody>\n";
  for (const auto& row : table.rows) body_ += cells("td", row);
  body_ += "</tbody></table></div>\n";
  return *this;
}

Page& Page::figures(const FigureGroup& group) {
  if (!group.title.empty()) body_ += "<h3>" + escape_markup(group.title) + "</h3>\n";
  body_ +=
      "<div class=\"scroll\"><table class=\"figures\">\n<thead><tr><th>figure</th><th class=\"n\">value</th>"
      "<th>unit</th><th>formula</th></tr></thead>\n<tbody>\n";
  for (const Figure& f : group.figures) {
    body_ += "<tr><td>" + escape_markup(f.name) + "</td>" + number_cell(f.value, {f.formula, f.source}) + "<td>" +
             escape_markup(f.unit) + "</td><td class=\"f\">" + escape_markup(f.formula.empty() ? f.source : f.formula) +
             "</td></tr>\n";
  }
  body_ += "</tbody></table></div>\n";
  return *this;
}

Page& Page::grid(const Grid& grid) {
  if (!grid.title.empty()) body_ += "<h3>" + escape_markup(grid.title) + "</h3>\n";
  body_ += "<div class=\"scroll\"><table class=\"grid\">\n<thead><tr><th>" + escape_markup(grid.row_label) + "</th>";
  for (const Grid::Column& column : grid.columns) {
    body_ += "<th class=\"n\"" + title_attribute(column.origin) + ">" + escape_markup(label_of(column)) + "</th>";
  }
  body_ += "</tr></thead>\n<tbody>\n";
  for (const Grid::Row& row : grid.rows) {
    check(row.values.size() == grid.columns.size(), "a row of a grid has a value per column");
    body_ += "<tr><td>" + escape_markup(row.name) + "</td>";
    for (size_t i = 0; i < row.values.size(); ++i) body_ += number_cell(row.values[i], grid.columns[i].origin);
    body_ += "</tr>\n";
  }
  body_ += "</tbody></table></div>\n";
  return *this;
}

Page& Page::drawing(std::string_view svg, const Origin& origin, const Table& values) {
  body_ += "<figure><div class=\"scroll\">" + std::string(svg) + "</div>\n";
  if (!origin.formula.empty() || !origin.source.empty()) {
    body_ += "<figcaption>";
    if (!origin.formula.empty()) body_ += "<div>" + escape_markup(origin.formula) + "</div>";
    if (!origin.source.empty()) body_ += "<div>Source: " + escape_markup(origin.source) + "</div>";
    body_ += "</figcaption>\n";
  }
  if (!values.rows.empty()) {
    const size_t shown = std::min(values.rows.size(), kMaxTableRows);
    const bool all = shown == values.rows.size();
    body_ += "<details><summary>" +
             (all ? "values"
                  : "the first " + std::to_string(shown) + " of " + std::to_string(values.rows.size()) + " values") +
             "</summary>\n";
    if (all) {
      table(values);
    } else {
      table({values.header, {values.rows.begin(), values.rows.begin() + static_cast<int64_t>(shown)}});
    }
    body_ += "</details>\n";
  }
  body_ += "</figure>\n";
  return *this;
}

std::string Page::html() const {
  return std::string(kHead) + "<title>" + title_ + "</title>\n" + std::string(kStyle) + "</head>\n<body>\n<h1>" +
         title_ + "</h1>\n" + body_ + "</body>\n</html>\n";
}

}  // namespace fathom
