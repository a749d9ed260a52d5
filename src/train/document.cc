// JSON lines and the DeepSeek-V3 rendering of documents.
#include "train/document.h"

#include <utility>

#include "base/json.h"

namespace fathom {
namespace {

constexpr std::string_view kBegin = "<｜begin▁of▁sentence｜>";
constexpr std::string_view kEnd = "<｜end▁of▁sentence｜>";
constexpr std::string_view kUser = "<｜User｜>";
constexpr std::string_view kAssistant = "<｜Assistant｜>";

Error at(std::string_view where, std::string text) { return invalid(std::string(where) + ": " + std::move(text)); }

Result<Message> message_from_json(const Json& json, std::string_view where) {
  if (!json.is_object()) return at(where, "a message must be an object, not " + std::string(json.kind()));
  Message message;
  bool has_role = false, has_content = false;
  for (const auto& [key, value] : json.members()) {
    if (key != "role" && key != "content") {
      return at(where, "message key \"" + key + "\" is not accepted (accepted: role, content)");
    }
    if (!value.is_string()) return at(where, "message." + key + " must be a string, not " + std::string(value.kind()));
    (key == "role" ? has_role : has_content) = true;
    (key == "role" ? message.role : message.content) = value.as_string();
  }
  if (!has_role || !has_content) return at(where, "a message needs both role and content");
  return message;
}

}  // namespace

std::string document_to_json_line(const Document& document) {
  Json line = Json::object();
  if (document.is_chat()) {
    Json messages = Json::array();
    for (const Message& message : document.messages) {
      Json item = Json::object();
      item.set("role", message.role);
      item.set("content", message.content);
      messages.push(std::move(item));
    }
    line.set("messages", std::move(messages));
  } else {
    line.set("text", document.text);
  }
  return line.dump();
}

Result<Document> document_from_json_line(std::string_view line, std::string_view where) {
  const auto json = Json::parse(line, where);
  if (!json) return json.error();
  if (!json->is_object()) return at(where, "a document must be an object, not " + std::string(json->kind()));
  const Json* text = json->find("text");
  const Json* messages = json->find("messages");
  if ((text == nullptr) == (messages == nullptr)) {
    return at(where, "a document needs exactly one of \"text\" and \"messages\"");
  }
  Document document;
  if (text != nullptr) {
    if (!text->is_string()) return at(where, "text must be a string, not " + std::string(text->kind()));
    document.text = text->as_string();
    return document;
  }
  if (!messages->is_array() || messages->items().empty()) {
    return at(where, "messages must be an array with at least one message");
  }
  document.messages.reserve(messages->items().size());
  for (const Json& item : messages->items()) {
    auto message = message_from_json(item, where);
    if (!message) return message.error();
    document.messages.push_back(*std::move(message));
  }
  return document;
}

Result<std::vector<ChatSegment>> deepseek_v3_segments(const std::vector<Message>& messages) {
  std::vector<ChatSegment> segments;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    if (message.role == "system") {
      if (i != 0) return invalid("message " + std::to_string(i) + " has role system, which only the first may have");
      segments.push_back({message.content, false, false});
    } else if (message.role == "user") {
      segments.push_back({std::string(kUser), true, false});
      segments.push_back({message.content, false, false});
    } else if (message.role == "assistant") {
      segments.push_back({std::string(kAssistant), true, false});
      segments.push_back({message.content, false, true});
      segments.push_back({std::string(kEnd), true, true});
    } else {
      return invalid("message " + std::to_string(i) + " has role \"" + message.role +
                     "\" (accepted: system, user, assistant)");
    }
  }
  if (messages.empty() || messages.back().role != "assistant") {
    return invalid("a chat to train on must end with an assistant message");
  }
  return segments;
}

Result<std::string> render_deepseek_v3(const std::vector<Message>& messages) {
  const auto segments = deepseek_v3_segments(messages);
  if (!segments) return segments.error();
  std::string text(kBegin);
  for (const ChatSegment& segment : *segments) text += segment.text;
  return text;
}

}  // namespace fathom
