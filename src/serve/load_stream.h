// Load stream: what a load generator reads off a streamed completion: server-sent events, as OpenAI's servers send them
// and as llama.cpp's native ones are. Bytes in any pieces; memory is bounded by the longest line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fathom::serve {

class LoadStream {
 public:
  static constexpr size_t kMostLineBytes = size_t{1} << 20;

  /// Reads on; false when the stream is none of these: a line that is too long, an event that is no JSON object.
  /// problem() says which.
  bool push(std::string_view bytes);

  /// Events with text so far.
  int64_t num_pieces() const { return num_pieces_; }
  /// The answer has said how it ended.
  bool finished() const { return finished_; }
  /// The server's own counts, if it told them.
  std::optional<int64_t> prompt_tokens() const { return prompt_tokens_; }
  std::optional<int64_t> output_tokens() const { return output_tokens_; }
  int64_t cached_tokens() const { return cached_tokens_; }
  /// The message of an error event.
  const std::optional<std::string>& error() const { return error_; }
  /// Why push returned false.
  const std::string& problem() const { return problem_; }

 private:
  bool take_line(std::string_view line);

  std::string line_;  // begun, not ended
  int64_t num_pieces_ = 0;
  bool finished_ = false;
  std::optional<int64_t> prompt_tokens_, output_tokens_;
  int64_t cached_tokens_ = 0;
  std::optional<std::string> error_;
  std::string problem_;
};

/// The message of an error body, {"error": {"message": ...}} or {"error": "..."}; else the body's beginning, on a line.
std::string error_message(std::string_view body);

}  // namespace fathom::serve
