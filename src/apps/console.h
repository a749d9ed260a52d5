// The console: where the program meets a person: colours and progress bars only on a terminal, errors as one line, and
// Ctrl-C as a wish to stop.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/progress.h"
#include "base/result.h"

namespace fathom::apps {

/// Exit codes: 0 done, 2 an error that was explained in one line.
inline constexpr int kExitError = 2;

/// Prints "fathom: TEXT" on standard error (red on a terminal) and returns kExitError.
int report_error(const Error& error);

bool stdout_is_terminal();
bool stdin_is_terminal();
/// `text` in an ANSI style ("1" bold, "2" dim, "36" cyan) if standard output is a terminal that shows them; the
/// environment may say no (NO_COLOR, TERM=dumb).
std::string styled(std::string_view text, std::string_view style);

/// Opens what the caller left closed of the standard streams, so that no file of ours becomes one of them. After this,
/// Ctrl-C and SIGTERM set a flag instead of ending the process (a second one ends it), and a write beyond
/// the file size limit is an error of that write instead of a signal that would leave half a file.
void catch_interrupts();
bool interrupted();
void clear_interrupt();
Error interrupted_error(std::string_view during);

/// Standard input line by line. A Ctrl-C ends the waiting whenever it comes, be it just before the read.
class LineReader {
 public:
  /// The next line without its end; nothing when the input ends. Errors: kCancelled when the user interrupts, a line of
  /// more than 64 MiB, input that cannot be read.
  Result<std::optional<std::string>> next();

 private:
  std::string buffer_;  // read but not returned yet
  bool ended_ = false;
};

/// All of standard input, 1 GiB at most. Errors as LineReader's.
Result<std::string> read_standard_input();

/// A progress bar with ETA on standard error. Off a terminal it prints a line every ten seconds; with `quiet` nothing.
class ConsoleProgress final : public Progress {
 public:
  explicit ConsoleProgress(bool quiet);
  ~ConsoleProgress() override;
  void update(std::string_view what, int64_t done, int64_t total, std::string_view note) override;
  /// Takes the bar off the terminal, so that a result can be printed in its place.
  void finish();
  bool stop_requested() const override { return interrupted(); }

 private:
  using Clock = std::chrono::steady_clock;
  bool quiet_;
  bool terminal_;
  bool drawn_ = false;
  std::string what_;
  int64_t first_done_ = 0;
  Clock::time_point start_, last_;
};

/// "671.03 B", "11.3 M", "950".
std::string count_text(int64_t count);
/// "2 h 05 min", "3 min 20 s", "4.2 s".
std::string duration_text(double seconds);

}  // namespace fathom::apps
