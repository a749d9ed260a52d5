#include "engine/stop_scanner.h"

#include <algorithm>
#include <utility>

namespace fathom {

StopScanner::StopScanner(std::vector<std::string> stops, bool shows_stop)
    : stops_(std::move(stops)), shows_stop_(shows_stop) {
  std::erase(stops_, std::string());
}

std::string StopScanner::push(std::string_view piece) {
  if (stopped_) return {};
  held_ += piece;
  // The stop string that is complete first wins, whichever began first: what is shown cannot depend on the pieces.
  size_t first = std::string::npos, end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos || at + stop.size() > end) continue;
    first = at + stop.size() < end ? at : std::min(first, at);
    end = at + stop.size();
  }
  if (first != std::string::npos) {
    stopped_ = true;
    return std::exchange(held_, {}).substr(0, shows_stop_ ? end : first);
  }
  // The longest suffix that begins some stop string stays.
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
      if (held_.ends_with(std::string_view(stop).substr(0, n))) keep = n;
    }
  }
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return shown;
}

std::string StopScanner::flush() { return stopped_ ? std::string() : std::exchange(held_, {}); }

}  // namespace fathom
