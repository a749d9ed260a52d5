// Fields: the members of a JSON request, read by name and kind. The first one that is wrong is kept as the error to
// answer with; a member that is null counts as absent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "serve/api_error.h"

namespace fathom::serve {

class Fields {
 public:
  /// `body`, an object, must outlive the fields.
  explicit Fields(const Json& body) : body_(body) {}

  /// The member, or nullptr.
  const Json* find(std::string_view key) const;
  const std::optional<ApiError>& error() const { return error_; }

  // An absent member leaves the value as it is; one of another kind or out of range is an error that names it.
  void text(std::string_view key, std::string& value);
  void boolean(std::string_view key, bool& value);
  void integer(std::string_view key, std::optional<int64_t>& value, int64_t least, int64_t most);
  void number(std::string_view key, std::optional<double>& value, double least, double most, std::string_view accepted);

  void refuse(std::string_view key, std::string message);
  void wrong_kind(std::string_view key, const Json& found, std::string_view accepted);
  void out_of_range(std::string_view key, const Json& found, std::string_view accepted);

 private:
  const Json& body_;
  std::optional<ApiError> error_;
};

}  // namespace fathom::serve
