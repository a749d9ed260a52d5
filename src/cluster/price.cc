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

}  // namespace fathom
