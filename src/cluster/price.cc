#include "cluster/price.h"

#include "base/figure.h"

namespace fathom {

PriceTable paper_table3_prices() {
  return {.switch_base = -892.3,
          .switch_per_port = 350.4,
          .link = 2398,
          .endpoint = 994,
          .source =
              "switch: Slim Fly cost model (350.4 k - 892.3 dollars, recalled); link and endpoint: least squares on "
              "table 3 of arXiv 2505.09343"};
}

Result<Price> price_of(const Fabric& fabric, const PriceTable& prices) {
  const double switch_price = prices.switch_base + prices.switch_per_port * static_cast<double>(fabric.radix);
  const std::pair<const char*, double> named[] = {
      {"switch", switch_price}, {"link", prices.link}, {"endpoint", prices.endpoint}};
  for (const auto& [name, value] : named) {
    if (!(value >= 0) || !(value < 1e12)) {
      return invalid("price of a " + std::string(name) + " is " + figure_text(value) + " dollars; accepted: 0 to 1e12");
    }
  }
  return Price{switch_price * static_cast<double>(fabric.switches),
               prices.link * static_cast<double>(fabric.switch_links()),
               prices.endpoint * static_cast<double>(fabric.endpoints)};
}

Result<PriceTable> prices_of(const PriceSettings& s, const std::string& section) {
  const bool has_own =
      s.switch_base_dollars != 0 || s.switch_port_dollars >= 0 || s.link_dollars >= 0 || s.endpoint_dollars >= 0;
  const std::pair<const char*, double> named[] = {
      {"switch_port", s.switch_port_dollars}, {"link", s.link_dollars}, {"endpoint", s.endpoint_dollars}};
  for (const auto& [name, dollars] : named) {
    if (dollars >= 0 || (dollars == -1 && !has_own)) continue;
    const std::string key = section + "." + name + "_dollars";
    if (dollars == -1) return invalid(key + " is missing: other prices are given; 0 makes it free");
    return invalid(key + " is " + figure_text(dollars) + "; accepted: 0 or more");
  }
  if (!has_own) return paper_table3_prices();
  return PriceTable{s.switch_base_dollars, s.switch_port_dollars, s.link_dollars, s.endpoint_dollars, "given"};
}

Result<std::vector<Figure>> fabric_figures(const Fabric& fabric, const PriceTable& prices) {
  const auto price = price_of(fabric, prices);
  if (!price) return price.error();
  const auto count = [&](const std::string& name, int64_t value) {
    return Figure{name, static_cast<double>(value), "", fabric.formula, "counted"};
  };
  std::vector<Figure> figures = {count("endpoints", fabric.endpoints), count("endpoints at most", fabric.max_endpoints),
                                 count("switches", fabric.switches), count("ports used of a switch", fabric.radix)};
  for (const LinkCount& link : fabric.links) figures.push_back(count("links " + link.kind, link.count));
  figures.push_back({"price", price->total() / 1e6, "M$",
                     "switches * (base + ports * price) + links * price + endpoints * price", prices.source});
  figures.push_back({"price per endpoint", price->total() / static_cast<double>(fabric.endpoints), "$",
                     "price / endpoints", prices.source});
  return figures;
}

}  // namespace fathom
