// View<T, Rank>: typed, strided, span-like access to memory that somebody else owns. Rank at compile time, extents at
// run time, innermost stride 1. Pass by value; a const element type means input.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace fathom {

template <class T, int Rank>
struct View {
  T* data = nullptr;
  std::array<int64_t, Rank> extents{};
  std::array<int64_t, Rank> strides{};

  int64_t extent(int axis) const { return extents[static_cast<size_t>(axis)]; }

  /// The element (rank 1) or the slice of rank Rank-1 at index i of the first axis.
  decltype(auto) operator[](int64_t i) const {
    if constexpr (Rank == 1) {
      return static_cast<T&>(data[i * strides[0]]);
    } else {
      View<T, Rank - 1> out;
      out.data = data + i * strides[0];
      for (int a = 1; a < Rank; ++a) {
        out.extents[static_cast<size_t>(a - 1)] = extents[static_cast<size_t>(a)];
        out.strides[static_cast<size_t>(a - 1)] = strides[static_cast<size_t>(a)];
      }
      return out;
    }
  }
  /// The element at the given indices. Always inline: under the sanitizers the compiler keeps the call otherwise, and
  /// the oracle, all of whose inner loops come here, takes twice the time.
  template <class... I>
  [[gnu::always_inline]] T& operator()(I... index) const {
    static_assert(sizeof...(I) == Rank);
    const int64_t at[] = {static_cast<int64_t>(index)...};
    int64_t offset = 0;
    for (int a = 0; a < Rank; ++a) offset += at[a] * strides[static_cast<size_t>(a)];
    return data[offset];
  }
  operator View<const T, Rank>() const requires(!std::is_const_v<T>) { return {data, extents, strides}; }
};

}  // namespace fathom
