// Progress: what long library work tells its caller. Libraries are silent; only apps draw.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fathom {

/// Receives progress and may ask the work to stop. Called from the thread that does the work.
class Progress {
 public:
  virtual ~Progress() = default;
  /// `done` of `total` units of `what`; `note` is a short extra ("loss 2.31").
  virtual void update(std::string_view what, int64_t done, int64_t total, std::string_view note) = 0;
  /// True when the user asked to stop (Ctrl-C): the work ends with ErrorCode::kCancelled and leaves nothing half
  /// written.
  virtual bool stop_requested() const { return false; }
};

/// The sink that hears nothing.
class SilentProgress final : public Progress {
 public:
  void update(std::string_view, int64_t, int64_t, std::string_view) override {}
};

}  // namespace fathom
