#include "cluster/slim_fly.h"

#include <algorithm>

#include "base/integers.h"

namespace fathom {
namespace {

constexpr int64_t kMostQ = 512;

int64_t degree(int64_t q) {
  const int64_t d = q % 4 == 1 ? 1 : q % 4 == 3 ? -1 : 0;
  return (3 * q - d) / 2;
}

int64_t endpoints_of(int64_t q, int64_t given) { return given > 0 ? given : ceil_div(degree(q), 2); }

bool exists(int64_t q) { return q >= 3 && q % 4 != 2 && is_prime_power(q); }

/// "q = 27 (30618 endpoints, 62 ports)".
std::string offer(int64_t q, int64_t p) {
  return "q = " + std::to_string(q) + " (" + std::to_string(2 * q * q * p) + " endpoints, " +
         std::to_string(degree(q) + p) + " ports)";
}

/// The two largest q below and the next above that exist and fit; above also with fewer endpoints a router.
std::string nearest(int64_t q, int64_t radix, int64_t given) {
  std::string text;
  int num_below = 0;
  for (int64_t at = q - 1; at >= 3 && num_below < 2; --at) {
    if (!exists(at) || degree(at) + endpoints_of(at, given) > radix) continue;
    text += (text.empty() ? "" : " or ") + offer(at, endpoints_of(at, given));
    ++num_below;
  }
  for (int64_t at = q + 1; at <= q + 8; ++at) {
    const int64_t room = radix - degree(at);
    if (!exists(at) || room < degree(at) / 4) continue;
    const int64_t p = std::min(endpoints_of(at, given), room);
    text += (text.empty() ? "" : ", or ") + offer(at, p);
    if (p < endpoints_of(at, given)) text += " with " + std::to_string(p) + " endpoints a switch";
    break;
  }
  return text.empty() ? "none at this radix" : text;
}

std::string factors(int64_t q) {
  std::string text;
  for (int64_t f = 2; q > 1; ++f) {
    for (; q % f == 0; q /= f) text += (text.empty() ? "" : " * ") + std::to_string(f);
  }
  return text;
}

}  // namespace

bool is_prime_power(int64_t q) {
  if (q < 2) return false;
  int64_t f = 2;
  while (f * f <= q && q % f != 0) ++f;
  if (f * f > q) return true;
  while (q % f == 0) q /= f;
  return q == 1;
}

Result<Fabric> slim_fly_counts(int64_t q, int64_t endpoints_per_router) {
  if (q < 3 || q > kMostQ) {
    return invalid("Slim Fly: q = " + std::to_string(q) + "; accepted: 3 to " + std::to_string(kMostQ));
  }
  if (endpoints_per_router < 0 || endpoints_per_router > kMaxRadix) {
    return invalid("Slim Fly: " + std::to_string(endpoints_per_router) + " endpoints a switch; accepted: 1 to " +
                   std::to_string(kMaxRadix));
  }
  const int64_t k = degree(q), p = endpoints_of(q, endpoints_per_router);
  Fabric f;
  f.name = "Slim Fly";
  f.radix = k + p;
  f.switches = 2 * q * q;
  f.endpoints = f.switches * p;
  f.links = {{"local", f.switches * k / 2}};
  f.max_endpoints = f.endpoints;
  f.formula = "switches = 2 q^2; k' = (3q - d) / 2; p = ceil(k'/2); endpoints = 2 q^2 p; links = q^2 k'";
  return f;
}

Result<Fabric> slim_fly(int64_t q, int64_t radix, int64_t endpoints_per_router) {
  if (auto s = check_radix("Slim Fly", radix); !s) return s.error();
  auto f = slim_fly_counts(q, endpoints_per_router);
  if (!f) return f.error();
  if (!exists(q)) {
    return invalid("Slim Fly: q = " + std::to_string(q) + " = " + factors(q) +
                   ", but its graph exists only for prime powers other than 2; possible with " + std::to_string(radix) +
                   " ports: " + nearest(q, radix, endpoints_per_router));
  }
  if (f->radix > radix) {
    return invalid(
        "Slim Fly: q = " + std::to_string(q) + " needs " + std::to_string(f->radix) + " ports a switch, more than " +
        std::to_string(radix) + "; possible: " + nearest(q, radix, endpoints_per_router) +
        (degree(q) < radix ? ", or this q with " + std::to_string(radix - degree(q)) + " endpoints a switch" : ""));
  }
  return f;
}

}  // namespace fathom
