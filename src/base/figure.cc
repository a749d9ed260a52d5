#include "base/figure.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace fathom {

const Figure* find_figure(std::span<const Figure> figures, std::string_view name) {
  const auto at = std::ranges::find(figures, name, &Figure::name);
  return at == figures.end() ? nullptr : &*at;
}

Json to_json(const Figure& figure) {
  Json out = Json::object();
  out.set("name", figure.name).set("value", std::isfinite(figure.value) ? Json(figure.value) : Json());
  if (!figure.unit.empty()) out.set("unit", figure.unit);
  if (!figure.formula.empty()) out.set("formula", figure.formula);
  if (!figure.source.empty()) out.set("source", figure.source);
  return out;
}

std::string figure_text(double value, int digits) {
  char text[64];
  constexpr double kMostWhole = 1e15;
  if (!(std::abs(value) < kMostWhole) || (value != std::floor(value) && std::abs(value) < std::pow(10, digits))) {
    std::snprintf(text, sizeof text, "%.*g", digits, value);
    return text;
  }
  std::snprintf(text, sizeof text, "%.0f", value);
  std::string out = text;
  const size_t first = out.front() == '-' ? 2 : 1;
  for (size_t at = out.size(); at > first + 2;) {
    at -= 3;
    out.insert(at, ",");
  }
  return out;
}

}  // namespace fathom
