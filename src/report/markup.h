// Markup: text and numbers made safe and short for HTML and SVG. Everything that a report shows passes through here.
#pragma once

#include <string>
#include <string_view>

namespace fathom {

/// `text` for element content and quoted attributes: & < > " ' escaped; control characters other than line feed and
/// tab, and bytes that are not UTF-8, become U+FFFD.
std::string escape_markup(std::string_view text);

/// A coordinate with at most two decimals ("12.5"), as SVG wants it. `v` is finite.
std::string coordinate_text(double v);

}  // namespace fathom
