#include "cluster/galois.h"

#include <string>

namespace fathom {
namespace {

constexpr int kMostElements = 512;

/// The digits of `a` in base p, plus `times` those of `b`, each modulo p.
int digit_sum(int a, int b, int times, int p) {
  int sum = 0;
  for (int place = 1; a > 0 || b > 0; a /= p, b /= p, place *= p) sum += (a % p + times * (b % p)) % p * place;
  return sum;
}

}  // namespace

Result<GaloisField> GaloisField::make(int q) {
  int p = 2;
  while (p < q && q % p != 0) ++p;
  int rest = q;
  while (rest > 1 && rest % p == 0) rest /= p;
  if (q < 2 || q > kMostElements || rest != 1) {
    return invalid("no field of " + std::to_string(q) + " elements is built; accepted: prime powers from 2 to " +
                   std::to_string(kMostElements));
  }
  GaloisField field;
  field.q_ = q;
  field.p_ = p;
  field.power_.resize(static_cast<size_t>(q - 1));
  field.log_.resize(static_cast<size_t>(q));
  // The powers of x modulo x^n - tail, for every tail until they are all elements: that polynomial is primitive. n = 1:
  // x is the tail itself, a primitive root.
  for (int tail = 1; tail < q; ++tail) {
    int value = 1, num = 0;
    do {
      field.power_[static_cast<size_t>(num)] = value;
      field.log_[static_cast<size_t>(value)] = num;
      ++num;
      const int top = value / (q / p), shifted = value % (q / p) * p;
      value = digit_sum(shifted, tail, top, p);
    } while (value != 1 && value != 0 && num < q - 1);
    if (value == 1 && num == q - 1) return field;
  }
  return invalid("no primitive polynomial for " + std::to_string(q) + " elements");  // there is one for every q
}

int GaloisField::add(int a, int b) const { return digit_sum(a, b, 1, p_); }

int GaloisField::negative(int a) const { return digit_sum(0, a, p_ - 1, p_); }

}  // namespace fathom
