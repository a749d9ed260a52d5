// Price: what the switches and cables of a fabric cost. Prices are the user's; one preset reproduces a published table.
#pragma once

#include <vector>

#include "base/figure.h"
#include "cluster/topology.h"

namespace fathom {

/// In dollars. A switch costs base + per_port * the ports that the fabric uses of it.
struct PriceTable {
  double switch_base = 0;
  double switch_per_port = 0;
  double link = 0;      // between two switches: cable and both transceivers
  double endpoint = 0;  // cable of an endpoint to its switch
  std::string source;
};

/// The prices that reproduce table 3 of arXiv 2505.09343 within 0.8 %: the switch price of Slim Fly's published cost
/// model and the link and endpoint prices that fit the five dollar columns best (least squares). The paper does not
/// give its unit prices, and no one price per switch, link and endpoint gives all five columns exactly.
PriceTable paper_table3_prices();

/// Prices as a user gives them: none (what paper_table3_prices says), or all. -1: not given.
struct PriceSettings {
  double switch_base_dollars = 0, switch_port_dollars = -1, link_dollars = -1, endpoint_dollars = -1;
};

/// Errors: some prices given and others not, or a negative one, named as keys of `section`.
Result<PriceTable> prices_of(const PriceSettings& settings, const std::string& section);

struct Price {
  double switches = 0;
  double links = 0;
  double endpoints = 0;
  double total() const { return switches + links + endpoints; }
};

/// Errors: a price that is negative or not finite, named.
Result<Price> price_of(const Fabric& fabric, const PriceTable& prices);

/// Endpoints, switches, links by kind, price and price per endpoint. Errors: price_of's.
Result<std::vector<Figure>> fabric_figures(const Fabric& fabric, const PriceTable& prices);

}  // namespace fathom
