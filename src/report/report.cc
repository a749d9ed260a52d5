#include "report/report.h"

#include <set>
#include <type_traits>

#include "base/file_set.h"
#include "report/page.h"

namespace fathom {
namespace {

Json to_json(const FigureGroup& group) {
  Json list = Json::array();
  for (const Figure& figure : group.figures) list.push(to_json(figure));
  Json out = Json::object();
  return out.set("kind", "figures").set("title", group.title).set("figures", std::move(list));
}

Table to_table(const FigureGroup& group) {
  Table table{.header = {"figure", "value", "unit", "formula", "source"}, .rows = {}};
  for (const Figure& f : group.figures) {
    table.rows.push_back({f.name, exact_text(f.value), f.unit, f.formula, f.source});
  }
  return table;
}

Json block_json(const Report::Block& block) {
  return std::visit([](const auto& b) { return to_json(b); }, block);
}

Table block_table(const Report::Block& block) {
  return std::visit([](const auto& b) { return to_table(b); }, block);
}

const std::string& title_of(const Report::Block& block) {
  return std::visit([](const auto& b) -> const std::string& { return b.title; }, block);
}

void add_block(Page& page, const Report::Block& block) {
  std::visit(
      [&](const auto& b) {
        using Kind = std::decay_t<decltype(b)>;
        if constexpr (std::is_same_v<Kind, FigureGroup>) {
          page.figures(b);
        } else if constexpr (std::is_same_v<Kind, Grid>) {
          page.grid(b);
        } else {
          page.drawing(to_svg(b), b.origin, to_table(b));
        }
      },
      block);
}

// "Memory per rank" -> "memory-per-rank": letters and digits of ASCII, everything else is one hyphen.
std::string file_name_of(const std::string& title) {
  constexpr size_t kMostCharacters = 60;
  std::string out;
  for (const char c : title) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
      out += upper ? static_cast<char>(c - 'A' + 'a') : c;
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
    if (out.size() == kMostCharacters) break;
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.empty() ? "data" : out;
}

}  // namespace

Json to_json(const Report& report) {
  Json sections = Json::array();
  for (const Report::Section& section : report.sections) {
    Json blocks = Json::array();
    for (const Report::Block& block : section.blocks) blocks.push(block_json(block));
    Json item = Json::object();
    item.set("title", section.title).set("text", section.text).set("blocks", std::move(blocks));
    sections.push(std::move(item));
  }
  Json out = Json::object();
  return out.set("title", report.title).set("text", report.text).set("sections", std::move(sections));
}

std::string to_html(const Report& report) {
  Page page(report.title);
  if (!report.text.empty()) page.paragraph(report.text);
  for (const Report::Section& section : report.sections) {
    page.heading(section.title);
    if (!section.text.empty()) page.paragraph(section.text);
    for (const Report::Block& block : section.blocks) add_block(page, block);
  }
  return page.html();
}

std::vector<ReportFile> report_files(const Report& report) {
  std::vector<ReportFile> files;
  std::set<std::string> taken;
  for (const Report::Section& section : report.sections) {
    for (const Report::Block& block : section.blocks) {
      const std::string& title = title_of(block);
      const std::string name = file_name_of(title.empty() ? section.title : title);
      std::string unique = name;
      for (int n = 2; !taken.insert(unique).second; ++n) unique = name + "-" + std::to_string(n);
      files.push_back({"-" + unique + ".csv", to_csv(block_table(block))});
    }
  }
  files.push_back({".json", to_json(report).dump() + "\n"});
  files.push_back({".html", to_html(report)});
  return files;
}

Status check_report_path(const Path& path) {
  if (path.extension() != ".html") {
    return invalid("a report's page is \"" + path.string() +
                   "\"; its name must end in .html (JSON and CSV are written beside it)");
  }
  const auto page = AtomicFile::create(path);  // never committed: it goes away
  if (!page) return page.error();
  return {};
}

Status write_report(const Report& report, const Path& path) {
  if (auto ok = check_report_path(path); !ok) return ok;
  const Path stem = Path(path).replace_extension();
  std::vector<FileText> files;
  for (ReportFile& file : report_files(report)) files.push_back({Path(stem) += file.name, std::move(file.text)});
  return write_files(files);
}

}  // namespace fathom
