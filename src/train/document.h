// Document: what training data is made of before it is tokens: a plain text or a chat. JSON lines are its file format,
// and DeepSeek-V3's chat markup is its default rendering. synth.h writes documents, pack.h turns them into shards.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

/// One turn of a chat. Roles: "system" (only as the first message), "user", "assistant".
struct Message {
  std::string role;
  std::string content;

  bool operator==(const Message&) const = default;
};

/// A text, or (when `messages` is not empty) a chat.
struct Document {
  std::string text;
  std::vector<Message> messages;

  bool is_chat() const { return !messages.empty(); }
  bool operator==(const Document&) const = default;
};

/// A stretch of a rendered chat. Markup is what the template adds (special tokens live only there, so a message that
/// spells out a special token stays plain text); `in_loss` marks what the assistant itself writes.
struct ChatSegment {
  std::string text;
  bool is_markup = false;
  bool in_loss = false;
};

/// {"text": ...} or {"messages": [{"role": ..., "content": ...}, ...]} on one line, without the line feed.
std::string document_to_json_line(const Document& document);

/// The inverse. Exactly one of "text" and "messages" must be there; other keys of the line are metadata and ignored,
/// other keys of a message are an error, because dropping them would change what the chat says.
/// `where` names the source in errors ("corpus.jsonl line 7").
Result<Document> document_from_json_line(std::string_view line, std::string_view where);

/// DeepSeek-V3's chat format, without the beginning-of-sentence token, as segments:
///   SYSTEM<｜User｜>U1<｜Assistant｜>A1<｜end▁of▁sentence｜><｜User｜>U2...
/// Error if a role is unknown, a system message is not first, or the last message is not the assistant's.
Result<std::vector<ChatSegment>> deepseek_v3_segments(const std::vector<Message>& messages);

/// The segments joined, with "<｜begin▁of▁sentence｜>" in front: what a chat looks like to the model.
Result<std::string> render_deepseek_v3(const std::vector<Message>& messages);

}  // namespace fathom
