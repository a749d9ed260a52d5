// Verifier: replays a share of the sequences alone, without the pages of others, and compares every bit. The engine
// promises the same bits whatever a batch looked like; what differs is a fault of the machine or of the program.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace fathom::serve {

/// Parses "1%" or "0.01", 0 to 100 %. Errors: anything else.
Result<double> parse_share(std::string_view text);

/// Belongs to the engine's thread.
class Verifier {
 public:
  static constexpr size_t kMaxPending = 64;  // replays that wait; further ones are skipped
  /// Steps of the model that a replay waits for a moment without other work; then it is due, and goes as a request
  /// does.
  static constexpr int64_t kPatience = 16;

  /// Of all sequences this share is replayed, evenly: every 100th at 0.01.
  explicit Verifier(double share) : share_(share) {}

  /// A sequence is about to be submitted: whether it is one to be replayed. It then has to report log-probabilities.
  bool choose();
  /// A chosen sequence has begun; it makes events; it has ended, however, in step `step`.
  void begin(int64_t sequence_id, const Request& request);
  void record(const TokenEvent& event);
  void end(int64_t sequence_id, int64_t step);

  bool has_pending() const { return !pending_.empty(); }
  /// Whether the next replay has waited for kPatience steps in step `step`.
  bool is_due(int64_t step) const { return has_pending() && step - pending_.front().ended >= kPatience; }
  /// The next replay, to be submitted: of the lowest priority, or as a request without one if it is due. There is one.
  Request next(int64_t step);
  /// It has become that sequence, or could not begin.
  void begin_replay(int64_t sequence_id);
  void drop_next();
  /// An event of a replay; what is wrong with it, in words.
  std::optional<std::string> compare(const TokenEvent& event);
  /// The replay has ended; what was not compared by then does not count as verified.
  void finish_replay(int64_t sequence_id) { replays_.erase(sequence_id); }
  int64_t num_replays() const { return std::ssize(replays_); }

  int64_t num_verified() const { return num_verified_; }
  int64_t num_skipped() const { return num_skipped_; }

 private:
  struct Record {
    Request request;
    std::vector<int32_t> tokens;
    std::vector<double> logprobs;
    int64_t ended = 0;    // step
    size_t compared = 0;  // tokens of the replay
  };

  double share_;
  double credit_ = 0;
  std::map<int64_t, Record> recording_;  // by sequence
  std::deque<Record> pending_;
  std::map<int64_t, Record> replays_;  // by sequence
  int64_t num_verified_ = 0, num_skipped_ = 0;
};

}  // namespace fathom::serve
