#include "report/page.h"

#include <algorithm>

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
    "svg{max-width:100%;height:auto;margin:.6rem 0}\n"
    "pre{overflow-x:auto;padding:.7rem .9rem;background:#f4f5f7;border-radius:6px;font-size:13px}\n"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:14px;margin:.6rem 0}\n"
    "th,td{text-align:left;padding:.3rem .9rem .3rem 0;border-bottom:1px solid #e2e5ea;vertical-align:top}\n"
    ".n{text-align:right;font-variant-numeric:tabular-nums}\n"
    "@media(prefers-color-scheme:dark){body{color:#dbe1ea;background:#12161d}pre{background:#1c222c}"
    "th,td{border-color:#333b48}}\n"
    "</style>\n";

bool looks_like_number(std::string_view cell) {
  if (cell.starts_with('-') || cell.starts_with('+')) cell.remove_prefix(1);
  return !cell.empty() && cell[0] >= '0' && cell[0] <= '9';
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

Page& Page::chart(const LineChart& chart) {
  body_ += to_svg(chart);
  return *this;
}

std::string Page::html() const {
  return std::string(kHead) + "<title>" + title_ + "</title>\n" + std::string(kStyle) + "</head>\n<body>\n<h1>" +
         title_ + "</h1>\n" + body_ + "</body>\n</html>\n";
}

}  // namespace fathom
