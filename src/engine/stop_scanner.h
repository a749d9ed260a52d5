// StopScanner: finds stop strings in text that arrives in pieces. Text that could still become a stop string is held
// back; the stop string itself and everything after it are never shown. Of overlapping stop strings the one that ends
// first counts (of those the longest), so the pieces do not matter.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fathom {

class StopScanner {
 public:
  /// Empty stop strings are ignored. The one that is found is shown only if `shows_stop`.
  explicit StopScanner(std::vector<std::string> stops, bool shows_stop = false);

  /// The text that may be shown now.
  std::string push(std::string_view piece);
  /// The end of the stream: what was held back.
  std::string flush();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  bool shows_stop_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace fathom
