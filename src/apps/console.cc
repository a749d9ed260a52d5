#include "apps/console.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "text/utf8.h"

namespace fathom::apps {
namespace {

// A signal handler can reach nothing but static state. The pipe becomes readable with the flag, so that waiting for
// input ends whichever thread the signal found and however shortly before the wait it came.
std::atomic<bool> interrupt_flag{false};
int wake_read = -1, wake_write = -1;

void on_interrupt(int) {
  if (interrupt_flag.exchange(true)) ::_exit(kExitError);
  const int code = errno;
  [[maybe_unused]] const ssize_t ignored = ::write(wake_write, "", 1);
  errno = code;
}

constexpr size_t kMaxLineBytes = size_t{64} << 20;
constexpr size_t kMaxInputBytes = size_t{1} << 30;

/// Appends what standard input has, after waiting for it; the number of bytes, 0 at the end.
Result<size_t> append_input(std::string& text) {
  pollfd waits[] = {{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                    {.fd = wake_read, .events = POLLIN, .revents = 0}};
  char piece[16384];
  while (true) {
    if (interrupted()) return interrupted_error("waiting for input");
    if (::poll(waits, std::size(waits), -1) < 0 && errno != EINTR) {
      return io_error(std::string("cannot wait for standard input: ") + std::strerror(errno));
    }
    if (interrupted() || waits[0].revents == 0) continue;
    const ssize_t got = ::read(STDIN_FILENO, piece, sizeof(piece));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error(std::string("cannot read standard input: ") + std::strerror(errno));
    text.append(piece, static_cast<size_t>(got));
    return static_cast<size_t>(got);
  }
}

/// Whether what is written there may move the cursor: not where a log or a dumb terminal keeps every character.
bool is_screen(int fd) {
  const char* terminal = std::getenv("TERM");
  return ::isatty(fd) != 0 && (terminal == nullptr || std::strcmp(terminal, "dumb") != 0);
}

/// Whether the stream shows colours.
bool is_colourful(int fd) {
  const char* plain = std::getenv("NO_COLOR");
  return is_screen(fd) && (plain == nullptr || *plain == '\0');
}

/// Columns of the terminal; 80 where it does not say.
size_t num_columns(int fd) {
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string format(const char* pattern, double value, const char* unit) {
  char text[64];
  std::snprintf(text, sizeof(text), pattern, value, unit);
  return text;
}

}  // namespace

int report_error(const Error& error) {
  std::string line = error.text;
  std::replace(line.begin(), line.end(), '\n', ' ');
  if (is_colourful(STDERR_FILENO)) {
    std::fprintf(stderr, "\033[31mfathom:\033[0m %s\n", line.c_str());
  } else {
    std::fprintf(stderr, "fathom: %s\n", line.c_str());
  }
  return kExitError;
}

bool stdout_is_terminal() { return ::isatty(STDOUT_FILENO) != 0; }
bool stdin_is_terminal() { return ::isatty(STDIN_FILENO) != 0; }

std::string styled(std::string_view text, std::string_view style) {
  if (!is_colourful(STDOUT_FILENO)) return std::string(text);
  return "\033[" + std::string(style) + "m" + std::string(text) + "\033[0m";
}

void catch_interrupts() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    // Gets the lowest free number: this one. Input ends at once; output that nobody can get is an error of its writing.
    [[maybe_unused]] const int opened = ::open("/dev/null", O_RDONLY);
  }
  int ends[2];
  if (wake_read < 0 && ::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0) {
    wake_read = ends[0];
    wake_write = ends[1];
  }
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() { return interrupt_flag; }
void clear_interrupt() {
  interrupt_flag = false;
  for (char piece[16]; ::read(wake_read, piece, sizeof(piece)) > 0;) continue;
}
Error interrupted_error(std::string_view during) { return cancelled("interrupted while " + std::string(during)); }

Result<std::optional<std::string>> LineReader::next() {
  size_t searched = 0;
  while (true) {
    if (const size_t end = buffer_.find('\n', searched); end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return std::optional(std::move(line));
    }
    if (ended_) break;
    searched = buffer_.size();
    if (searched > kMaxLineBytes) {
      return invalid("a line of standard input has more than the accepted " + std::to_string(kMaxLineBytes) + " bytes");
    }
    const auto got = append_input(buffer_);
    if (!got) return got.error();
    ended_ = *got == 0;
  }
  if (buffer_.empty()) return std::optional<std::string>();
  return std::optional(std::exchange(buffer_, {}));
}

Result<std::string> read_standard_input() {
  std::string text;
  while (text.size() <= kMaxInputBytes) {
    const auto got = append_input(text);
    if (!got) return got.error();
    if (*got == 0) return text;
  }
  return invalid("standard input has more than the accepted " + std::to_string(kMaxInputBytes) + " bytes");
}

ConsoleProgress::ConsoleProgress(bool quiet)
    : quiet_(quiet), terminal_(is_screen(STDERR_FILENO)), start_(Clock::now()), last_(start_) {}

ConsoleProgress::~ConsoleProgress() { finish(); }

void ConsoleProgress::finish() {
  if (drawn_) std::fprintf(stderr, "\r\033[K");
  drawn_ = false;
}

void ConsoleProgress::update(std::string_view what, int64_t done, int64_t total, std::string_view note) {
  if (quiet_) return;
  const auto now = Clock::now();
  if (what != what_) {
    what_ = what;
    start_ = last_ = now;
    first_done_ = done;
    return;
  }
  const double interval = terminal_ ? 0.1 : 10.0;
  if (std::chrono::duration<double>(now - last_).count() < interval) return;
  last_ = now;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double fraction = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
  std::string eta = "?";
  if (done > first_done_) {
    eta = duration_text(elapsed * static_cast<double>(total - done) / static_cast<double>(done - first_done_));
  }
  if (terminal_) {
    constexpr int kWidth = 24;
    const int filled = static_cast<int>(fraction * kWidth);
    const std::string bar =
        std::string(static_cast<size_t>(filled), '#') + std::string(static_cast<size_t>(kWidth - filled), '.');
    char percent[32];
    std::snprintf(percent, sizeof(percent), "%3.0f %%", fraction * 100);
    std::string line = what_ + " [" + bar + "] " + percent + "  " + eta + " left  " + std::string(note);
    // A second row would stay when the bar is drawn anew.
    line.resize(utf8_prefix(line, num_columns(STDERR_FILENO) - 1).size());
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    drawn_ = true;
  } else {
    std::fprintf(stderr, "%s %.0f %%, %s left%s%.*s\n", what_.c_str(), fraction * 100, eta.c_str(),
                 note.empty() ? "" : ", ", static_cast<int>(note.size()), note.data());
  }
}

std::string count_text(int64_t count) {
  const auto value = static_cast<double>(count);
  if (value >= 1e9) return format("%.3f %s", value / 1e9, "B");
  if (value >= 1e6) return format("%.2f %s", value / 1e6, "M");
  return std::to_string(count);
}

std::string duration_text(double seconds) {
  char text[64];
  if (seconds >= 3600) {
    std::snprintf(text, sizeof(text), "%d h %02d min", static_cast<int>(seconds / 3600),
                  static_cast<int>(std::fmod(seconds, 3600) / 60));
  } else if (seconds >= 60) {
    std::snprintf(text, sizeof(text), "%d min %02d s", static_cast<int>(seconds / 60),
                  static_cast<int>(std::fmod(seconds, 60)));
  } else {
    std::snprintf(text, sizeof(text), "%.1f s", seconds);
  }
  return text;
}

}  // namespace fathom::apps
