#include "serve/load_stream.h"

#include <algorithm>

#include "base/json.h"

namespace fathom::serve {
namespace {

constexpr size_t kMostShown = 200;

std::optional<int64_t> count_at(const Json* object, std::string_view key) {
  const Json* found = object == nullptr ? nullptr : object->find(key);
  if (found == nullptr || !found->is_int() || found->as_int() < 0) return std::nullopt;
  return found->as_int();
}

bool has_text(const Json* value) { return value != nullptr && value->is_string() && !value->as_string().empty(); }

std::string one_line(std::string_view text) {
  std::string out(text.substr(0, kMostShown));
  for (char& c : out) c = static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  return out;
}

std::string message_of(const Json& error) {
  const Json* message = error.is_object() ? error.find("message") : &error;
  return one_line(message != nullptr && message->is_string() ? message->as_string() : error.dump());
}

}  // namespace

std::string error_message(std::string_view body) {
  const auto json = Json::parse(body, "body");
  const Json* error = json ? json->find("error") : nullptr;
  return error != nullptr ? message_of(*error) : one_line(body);
}

bool LoadStream::push(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    if (line_.size() + std::min(end, bytes.size()) > kMostLineBytes) {
      problem_ = "an event is longer than " + std::to_string(kMostLineBytes) + " bytes";
      return false;
    }
    if (end == bytes.npos) {
      line_ += bytes;
      return true;
    }
    line_ += bytes.substr(0, end);
    bytes.remove_prefix(end + 1);
    if (!line_.empty() && line_.back() == '\r') line_.pop_back();
    const bool good = take_line(line_);
    line_.clear();
    if (!good) return false;
  }
  return true;
}

/// Servers send every event as one line of data; other fields and comments (pings) mean nothing here.
bool LoadStream::take_line(std::string_view line) {
  constexpr std::string_view kData = "data:";
  if (!line.starts_with(kData)) return true;
  line.remove_prefix(kData.size());
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (line == "[DONE]") return true;
  const auto event = Json::parse(line, "event");
  if (!event || !event->is_object()) {
    problem_ = "an event is no JSON object: " + one_line(line);
    return false;
  }
  if (const Json* error = event->find("error"); error != nullptr && !error->is_null()) error_ = message_of(*error);
  const Json* choices = event->find("choices");
  bool text = has_text(event->find("content"));  // llama.cpp's own shape
  const Json* stop = event->find("stop");
  finished_ |= stop != nullptr && stop->is_bool() && stop->as_bool();
  if (choices != nullptr && choices->is_array() && !choices->items().empty()) {
    const Json& choice = choices->items().front();
    const Json *delta = choice.find("delta"), *reason = choice.find("finish_reason");
    text |= has_text(choice.find("text")) ||
            (delta != nullptr && (has_text(delta->find("content")) || has_text(delta->find("reasoning_content"))));
    finished_ |= reason != nullptr && reason->is_string();
  }
  num_pieces_ += text;
  const Json* usage = event->find("usage");
  if (const auto count = count_at(usage, "prompt_tokens")) prompt_tokens_ = count;
  if (const auto count = count_at(usage, "completion_tokens")) output_tokens_ = count;
  // llama.cpp's own names; this count grows with every event, and the last one counts.
  if (const auto count = count_at(&*event, "tokens_evaluated")) prompt_tokens_ = count;
  if (const auto count = count_at(&*event, "tokens_predicted")) output_tokens_ = count;
  const Json* details = usage == nullptr ? nullptr : usage->find("prompt_tokens_details");
  if (const auto count = count_at(details, "cached_tokens")) cached_tokens_ = *count;
  return true;
}

}  // namespace fathom::serve
