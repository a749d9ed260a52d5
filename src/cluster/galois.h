// Galois: arithmetic of the finite field of q = p^n elements, in tables. Slim Flies are built on it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace fathom {

/// Elements are 0 to q - 1: the digits of an element in base p are the coefficients of its polynomial, so that 0 and 1
/// are zero and one, and of a prime q the arithmetic is that of integers modulo q.
class GaloisField {
 public:
  /// Errors: q is not a prime power, or above 512.
  static Result<GaloisField> make(int q);

  int size() const { return q_; }
  int add(int a, int b) const;
  int negative(int a) const;
  int times(int a, int b) const {
    if (a == 0 || b == 0) return 0;
    return power_[static_cast<size_t>((log_[static_cast<size_t>(a)] + log_[static_cast<size_t>(b)]) % (q_ - 1))];
  }
  /// The e-th power, e >= 0, of one fixed element whose powers are all elements but 0.
  int generator_power(int e) const { return power_[static_cast<size_t>(e % (q_ - 1))]; }

 private:
  int q_ = 0, p_ = 0;
  std::vector<int> power_, log_;
};

}  // namespace fathom
