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
  static constexpr size_t kMaxPending = 16;  // replays that wait; further ones are skipped

  /// Of all sequences this share is replayed, evenly: every 100th at 0.01.
  explicit Verifier(double share) : share_(share) {}

  /// A sequence is about to be submitted: whether it is one to be replayed. It then has to report log-probabilities.
  bool choose();
  /// A chosen sequence has begun; it makes events; it has ended, however.
  void begin(int64_t sequence_id, const Request& request);
  void record(const TokenEvent& event);
  void end(int64_t sequence_id);

  bool has_pending() const { return !pending_.empty(); }
  /// The next replay, to be submitted; nothing while one is going on.
  std::optional<Request> next();
  /// An event of the replay; what is wrong with it, in words.
  std::optional<std::string> compare(const TokenEvent& event);
  /// The replay has ended or could not begin.
  void finish_replay() { replay_.reset(); }

  int64_t num_verified() const { return num_verified_; }
  int64_t num_skipped() const { return num_skipped_; }

 private:
  struct Record {
    Request request;
    std::vector<int32_t> tokens;
    std::vector<double> logprobs;
  };

  double share_;
  double credit_ = 0;
  std::map<int64_t, Record> recording_;  // by sequence
  std::deque<Record> pending_;
  std::optional<Record> replay_;
  size_t compared_ = 0;  // tokens of the replay
  int64_t num_verified_ = 0, num_skipped_ = 0;
};

}  // namespace fathom::serve
