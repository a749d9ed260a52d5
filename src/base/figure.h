// Figure: a number with its name, unit, formula and source, so that whoever reads it can check it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace fathom {

struct Figure {
  std::string name;  // "KV cache per token"
  double value = 0;
  std::string unit;     // "B", "us", "" for a ratio or a count
  std::string formula;  // "(kv_lora_rank + qk_rope_head_dim) * layers * 2"; empty for a datum
  std::string source;   // "arXiv 2505.09343, table 1"
};

/// Figures that belong together under one title.
struct FigureGroup {
  std::string title;
  std::vector<Figure> figures;
};

/// A count in a formula.
inline double as_double(int64_t count) { return static_cast<double>(count); }

/// The first of that name; null if there is none.
const Figure* find_figure(std::span<const Figure> figures, std::string_view name);

/// {"name", "value", "unit", "formula", "source"}; empty texts are left out. A value that is not finite is null.
Json to_json(const Figure& figure);

/// `value` with `digits` significant digits, thousands separated when it is whole: "70,272", "14.76", "1.2e-05".
std::string figure_text(double value, int digits = 5);

}  // namespace fathom
