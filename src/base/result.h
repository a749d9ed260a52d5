// Result<T>: the way every fallible function of fathom reports what the world did wrong (a file, a peer, a request,
// memory). Our own bugs go to base/check.h; numerics (NaN, spikes) are values. No exception leaves a public function.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace fathom {

enum class ErrorCode { kInvalidArgument, kNotFound, kCorrupt, kUnsupported, kIo, kOutOfMemory, kCancelled };

/// One line for a person: what was wrong, where, and what to do about it.
struct Error {
  ErrorCode code = ErrorCode::kInvalidArgument;
  std::string text;
};

inline Error invalid(std::string text) { return {ErrorCode::kInvalidArgument, std::move(text)}; }
inline Error not_found(std::string text) { return {ErrorCode::kNotFound, std::move(text)}; }
inline Error corrupt(std::string text) { return {ErrorCode::kCorrupt, std::move(text)}; }
inline Error unsupported(std::string text) { return {ErrorCode::kUnsupported, std::move(text)}; }
inline Error io_error(std::string text) { return {ErrorCode::kIo, std::move(text)}; }
inline Error cancelled(std::string text) { return {ErrorCode::kCancelled, std::move(text)}; }

/// A value or an Error. Test it, then use `*r` / `r->`; on failure pass `r.error()` up.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& operator*() & { return std::get<0>(state_); }
  const T& operator*() const& { return std::get<0>(state_); }
  T&& operator*() && { return std::get<0>(std::move(state_)); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }

  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

/// Success without a value, or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}

  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const { return error_; }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;

}  // namespace fathom
