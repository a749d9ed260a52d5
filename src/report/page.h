// Page: a self-contained HTML report built from sections in order. One file, no scripts, nothing loaded from elsewhere;
// every text is escaped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "report/chart.h"

namespace fathom {

/// Rows of cells under a header; every row is as long as the header. Columns whose cells all look like numbers are
/// aligned right.
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

class Page {
 public:
  explicit Page(std::string_view title);

  Page& heading(std::string_view text);
  Page& paragraph(std::string_view text);
  /// Text whose line breaks and blanks count: a schedule, a command.
  Page& preformatted(std::string_view text);
  Page& table(const Table& table);
  Page& chart(const LineChart& chart);

  /// The whole document.
  std::string html() const;
  /// Writes the document to `path`, whole or not at all.
  Status write(const Path& path) const { return write_file(path, html()); }

 private:
  std::string title_;
  std::string body_;
};

}  // namespace fathom
