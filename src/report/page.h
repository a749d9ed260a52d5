// Page: a self-contained HTML report built from sections in order. One file, no scripts, nothing loaded from elsewhere;
// every text is escaped.
#pragma once

#include <string>
#include <string_view>

#include "base/figure.h"
#include "base/file.h"
#include "base/result.h"
#include "report/table.h"

namespace fathom {

class Page {
 public:
  explicit Page(std::string_view title);

  Page& heading(std::string_view text);
  Page& paragraph(std::string_view text);
  /// Text whose line breaks and blanks count: a schedule, a command.
  Page& preformatted(std::string_view text);
  /// Columns whose cells all look like numbers are aligned right.
  Page& table(const Table& table);
  /// Names, values, units and formulas; a value says formula and source on hover and carries the exact number in
  /// data-v.
  Page& figures(const FigureGroup& group);
  /// As figures(), a column each; the origin of a column is that of its numbers.
  Page& grid(const Grid& grid);
  /// An <svg> element of to_svg() with its origin below it, and its values in a fold (of a table with more than 200
  /// rows only so many; none: no fold).
  Page& drawing(std::string_view svg, const Origin& origin = {}, const Table& values = {});

  /// The whole document.
  std::string html() const;
  /// Writes the document to `path`, whole or not at all.
  Status write(const Path& path) const { return write_file(path, html()); }

 private:
  std::string title_;
  std::string body_;
};

}  // namespace fathom
