#include "serve/verifier.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <limits>

namespace fathom::serve {

Result<double> parse_share(std::string_view text) {
  const bool percent = text.ends_with('%');
  const std::string_view digits = percent ? text.substr(0, text.size() - 1) : text;
  double share = -1;
  const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), share);
  if (percent) share /= 100;
  if (failed == std::errc() && end == digits.data() + digits.size() && share >= 0 && share <= 1) return share;
  return invalid("share \"" + std::string(text) + "\" is not understood; accepted: 0% to 100%, or 0 to 1");
}

bool Verifier::choose() {
  credit_ += share_;
  if (credit_ < 1 - 1e-9) return false;
  credit_ -= 1;
  return true;
}

void Verifier::begin(int64_t sequence_id, const Request& request) {
  Record& record = recording_[sequence_id];
  record.request = request;
  // Alone and plain: no pages of others, no guesses, no end but its own, and after everybody who waits.
  record.request.use_prefix_cache = false;
  record.request.speculation = {};
  record.request.deadline.reset();
  record.request.priority = std::numeric_limits<int64_t>::min();
  record.request.prompt_logprobs = false;
  record.request.num_logprobs = 0;
}

void Verifier::record(const TokenEvent& event) {
  const auto found = recording_.find(event.sequence_id);
  if (found == recording_.end() || event.token == TokenEvent::kNoToken || !event.logprobs) return;
  found->second.tokens.push_back(event.token);
  found->second.logprobs.push_back(event.logprobs->chosen.logprob);
}

void Verifier::end(int64_t sequence_id, int64_t step) {
  auto node = recording_.extract(sequence_id);
  if (node.empty() || node.mapped().tokens.empty()) return;
  if (pending_.size() >= kMaxPending) {
    ++num_skipped_;
    return;
  }
  Record& record = node.mapped();
  record.request.max_new_tokens = std::ssize(record.tokens);
  record.request.min_new_tokens = std::min(record.request.min_new_tokens, record.request.max_new_tokens);
  record.ended = step;
  pending_.push_back(std::move(record));
}

Request Verifier::next(int64_t step) {
  Request request = pending_.front().request;
  if (is_due(step)) request.priority = 0;
  return request;
}

void Verifier::begin_replay(int64_t sequence_id) {
  replays_[sequence_id] = std::move(pending_.front());
  pending_.pop_front();
}

void Verifier::drop_next() {
  ++num_skipped_;
  pending_.pop_front();
}

std::optional<std::string> Verifier::compare(const TokenEvent& event) {
  const auto found = replays_.find(event.sequence_id);
  if (found == replays_.end()) return std::nullopt;
  Record& replay = found->second;
  const auto differs = [&](const std::string& was, const std::string& is) {
    return "token " + std::to_string(replay.compared) + " of an answer of " + std::to_string(replay.tokens.size()) +
           " tokens was " + was + " and is " + is + " when computed again";
  };
  const bool has_token = event.token != TokenEvent::kNoToken && event.logprobs.has_value();
  if (!has_token || replay.compared >= replay.tokens.size()) return differs("a number", "none");
  const int32_t token = replay.tokens[replay.compared];
  const double logprob = replay.logprobs[replay.compared];
  if (event.token != token) return differs(std::to_string(token), std::to_string(event.token));
  if (std::bit_cast<uint64_t>(event.logprobs->chosen.logprob) != std::bit_cast<uint64_t>(logprob)) {
    return differs("of log-probability " + std::to_string(logprob),
                   "of " + std::to_string(event.logprobs->chosen.logprob) + ", in some bits another number,");
  }
  if (++replay.compared == replay.tokens.size()) ++num_verified_;
  return std::nullopt;
}

}  // namespace fathom::serve
