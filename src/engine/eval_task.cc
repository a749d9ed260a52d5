#include "engine/eval_task.h"

#include <algorithm>
#include <map>

namespace fathom {
namespace {

constexpr std::string_view kLetters = "ABCD";

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The number that begins at `at`: digits with commas and one point, a sign in front. Empty: none does.
std::string number_at(std::string_view text, size_t at) {
  std::string out;
  if (at < text.size() && text[at] == '-') out += text[at++];
  if (at < text.size() && text[at] == '$') ++at;
  bool has_digit = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (is_digit(c)) {
      has_digit = true;
      out += c;
    } else if (c == '.' && has_digit && at + 1 < text.size() && is_digit(text[at + 1]) &&
               out.find('.') == std::string::npos) {
      out += c;
    } else if (c != ',' || at + 1 >= text.size() || !is_digit(text[at + 1])) {
      break;
    }
  }
  return has_digit ? out : std::string();
}

/// Text up to the first of `stops`.
std::string_view cut(std::string_view text, const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) text = text.substr(0, text.find(stop));
  return text;
}

/// Without carriage returns, blanks at the ends of lines and around the whole: what two writers of the same code share.
std::string normal_code(std::string_view code) {
  std::string out;
  while (!code.empty()) {
    const size_t end = code.find('\n');
    std::string_view line = code.substr(0, end);
    while (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r')) line.remove_suffix(1);
    if (!line.empty()) out += std::string(line) + "\n";
    code = end == std::string_view::npos ? std::string_view() : code.substr(end + 1);
  }
  return out;
}

/// What is inside the first fence of Markdown, if there is one: chat models wrap their code.
std::string_view unfenced(std::string_view text) {
  const size_t fence = text.find("```");
  if (fence == std::string_view::npos) return text;
  const size_t line_end = text.find('\n', fence);
  if (line_end == std::string_view::npos) return text;
  text.remove_prefix(line_end + 1);
  return text.substr(0, text.find("```"));
}

/// Members of one record, with errors that name its line.
class Record {
 public:
  Record(Json json, std::string where) : json_(std::move(json)), where_(std::move(where)) {}

  Result<std::string> text(std::string_view key) const {
    const Json* member = json_.find(key);
    if (member != nullptr && member->is_string()) return member->as_string();
    return wrong(key, member, "a string");
  }
  Result<std::vector<std::string>> texts(std::string_view key, size_t count) const {
    const Json* member = json_.find(key);
    const std::string wanted = (count > 0 ? std::to_string(count) : "a list of") + std::string(" strings");
    if (member == nullptr || !member->is_array() || (count > 0 && member->items().size() != count)) {
      return wrong(key, member, wanted);
    }
    std::vector<std::string> out;
    for (const Json& item : member->items()) {
      if (!item.is_string()) return wrong(key, &item, wanted);
      out.push_back(item.as_string());
    }
    return out;
  }
  /// A string or an integer, as text.
  Result<std::string> id(std::string_view key) const {
    const Json* member = json_.find(key);
    if (member != nullptr && member->is_int()) return std::to_string(member->as_int());
    return text(key);
  }
  const std::string& where() const { return where_; }

 private:
  Error wrong(std::string_view key, const Json* member, const std::string& wanted) const {
    return corrupt(where_ + ": \"" + std::string(key) + "\" must be " + wanted + ", " +
                   (member == nullptr ? "but is missing" : "not " + std::string(member->kind())));
  }
  Json json_;
  std::string where_;
};

/// A record as a task sees it.
struct Item {
  std::string id;
  std::string question;  // up to where the answer begins
  std::string shown;     // the answer as a shot shows it
  std::string right;
  std::string topic;
};

Result<Item> gsm8k_item(const Record& record) {
  const auto question = record.text("question"), answer = record.text("answer");
  if (!question) return question.error();
  if (!answer) return answer.error();
  const std::string number = marked_number(*answer);
  if (number.empty()) return corrupt(record.where() + ": \"answer\" has no number behind \"####\"");
  return Item{.id = {},
              .question = "Question: " + *question + "\nAnswer:",
              .shown = " " + *answer,
              .right = number,
              .topic = {}};
}

Result<Item> mmlu_item(const Record& record) {
  const auto question = record.text("question"), answer = record.text("answer"), topic = record.text("topic");
  if (!question) return question.error();
  if (!answer) return answer.error();
  if (!topic) return topic.error();
  const auto options = record.texts("options", kLetters.size());
  if (!options) return options.error();
  if (answer->size() != 1 || kLetters.find(*answer) == std::string_view::npos) {
    return corrupt(record.where() + ": \"answer\" is \"" + answer->substr(0, 100) + "\"; accepted: A, B, C, D");
  }
  std::string text = *question + "\n";
  for (size_t i = 0; i < kLetters.size(); ++i) text += std::string(1, kLetters[i]) + ". " + (*options)[i] + "\n";
  return Item{.id = {}, .question = text + "Answer:", .shown = " " + *answer, .right = *answer, .topic = *topic};
}

Result<Item> humaneval_item(const Record& record) {
  const auto id = record.id("task_id"), prompt = record.text("prompt"), solution = record.text("canonical_solution");
  if (!id) return id.error();
  if (!prompt) return prompt.error();
  if (!solution) return solution.error();
  return Item{.id = *id, .question = *prompt, .shown = {}, .right = *solution, .topic = {}};
}

Result<Item> mbpp_item(const Record& record) {
  const auto id = record.id("task_id"), text = record.text("text"), code = record.text("code");
  if (!id) return id.error();
  if (!text) return text.error();
  if (!code) return code.error();
  const auto tests = record.texts("test_list", 0);
  if (!tests) return tests.error();
  std::string question = "You are an expert Python programmer, and here is your task: " + *text +
                         " Your code should pass these tests:\n\n";
  for (const std::string& test : *tests) question += test + "\n";
  return Item{.id = *id, .question = question + "[BEGIN]\n", .shown = *code + "\n[DONE]", .right = *code, .topic = {}};
}

/// The published mmlu_stem file was written by a program that took the option "None" for a missing number: a bare NaN,
/// which is no JSON. Outside strings it becomes what it was.
std::string with_none(std::string_view line) {
  constexpr std::string_view kNan = "NaN";
  std::string out;
  bool inside = false;
  for (size_t i = 0; i < line.size(); ++i) {
    if (inside && line[i] == '\\' && i + 1 < line.size()) {
      out += line[i++];
    } else if (line[i] == '"') {
      inside = !inside;
    } else if (!inside && line.substr(i, kNan.size()) == kNan) {
      out += "\"None\"";
      i += kNan.size() - 1;
      continue;
    }
    out += line[i];
  }
  return out;
}

struct Format {
  std::string_view name;
  EvalKind kind;
  Result<Item> (*item)(const Record&);
  std::vector<std::string> stops;
};

const std::vector<Format>& formats() {
  static const std::vector<Format> all = {
      {"gsm8k", EvalKind::kNumber, gsm8k_item, {"Question:"}},
      {"mmlu_stem", EvalKind::kChoice, mmlu_item, {}},
      // A function ends where a line begins at its left margin.
      {"humaneval", EvalKind::kCode, humaneval_item, {"\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n@", "\nimport"}},
      {"mbpp", EvalKind::kCode, mbpp_item, {"[DONE]"}}};
  return all;
}

/// "abstract algebra" of "abstract_algebra".
std::string topic_words(std::string topic) {
  std::replace(topic.begin(), topic.end(), '_', ' ');
  return topic;
}

}  // namespace

std::string last_number(std::string_view text) {
  for (size_t end = text.size(); end > 0; --end) {
    if (!is_digit(text[end - 1])) continue;
    size_t begin = end - 1;
    while (begin > 0 && (is_digit(text[begin - 1]) || ((text[begin - 1] == ',' || text[begin - 1] == '.') &&
                                                       begin > 1 && is_digit(text[begin - 2])))) {
      --begin;
    }
    if (begin > 0 && text[begin - 1] == '$') --begin;
    if (begin > 0 && text[begin - 1] == '-') --begin;
    return number_at(text, begin);
  }
  return {};
}

std::string marked_number(std::string_view text) {
  const size_t mark = text.rfind("####");
  if (mark == std::string_view::npos) return {};
  const size_t at = text.find_first_not_of(' ', mark + 4);
  return at == std::string_view::npos ? std::string() : number_at(text, at);
}

const std::vector<std::string>& EvalTask::names() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> names;
    for (const Format& format : formats()) names.emplace_back(format.name);
    return names;
  }();
  return all;
}

Result<EvalTask> EvalTask::create(std::string_view name, std::string_view records, std::string_view where,
                                  int64_t num_shots, int64_t limit) {
  const auto format = std::find_if(formats().begin(), formats().end(), [&](const Format& f) { return f.name == name; });
  if (format == formats().end()) {
    return invalid("task \"" + std::string(name.substr(0, 100)) +
                   "\" is unknown; accepted: gsm8k, mmlu_stem, humaneval, mbpp");
  }
  if (num_shots < 0 || limit < 0) return invalid("shots and limit of a task are counts of 0 and more");
  if (num_shots > 0 && name == "humaneval")
    return invalid("humaneval has no shots: its prompts are functions to go on with");
  EvalTask task;
  task.kind_ = format->kind;
  task.name_ = name;
  task.stops_ = format->stops;
  struct Shots {
    int64_t count = 0;
    std::string text;
  };
  std::map<std::string, Shots> shots;  // by topic; tasks without topics have one
  int64_t line_number = 0, num_records = 0;
  while (!records.empty()) {
    const size_t end = records.find('\n');
    const std::string_view line = trimmed(records.substr(0, end));
    records = end == std::string_view::npos ? std::string_view() : records.substr(end + 1);
    ++line_number;
    if (line.empty()) continue;
    const std::string source = std::string(where) + ":" + std::to_string(line_number);
    auto json = name == "mmlu_stem" ? Json::parse(with_none(line), source) : Json::parse(line, source);
    if (!json) return json.error();
    if (!json->is_object()) return corrupt(source + ": a record must be an object, not " + std::string(json->kind()));
    auto item = format->item(Record(std::move(*json), source));
    if (!item) return item.error();
    ++num_records;
    Shots& before = shots[item->topic];
    if (before.text.empty() && !item->topic.empty()) {
      before.text =
          "The following are multiple choice questions (with answers) about " + topic_words(item->topic) + ".\n\n";
    }
    if (before.count < num_shots) {
      ++before.count;
      before.text += item->question + item->shown + "\n\n";
      continue;
    }
    if (limit > 0 && static_cast<int64_t>(task.questions_.size()) == limit) break;
    if (item->id.empty()) item->id = std::to_string(num_records - 1);
    task.questions_.push_back({std::move(item->id), before.text + item->question, std::move(item->right)});
  }
  if (task.questions_.empty()) {
    return invalid(std::string(where) + " has " + std::to_string(num_records) + " records" +
                   (num_shots > 0 ? ", of which " + std::to_string(num_shots) + " (of each topic) are shots" : "") +
                   ": none is left to ask");
  }
  return task;
}

Result<EvalAnswer> EvalTask::ask(const EvalQuestion& question, Answerer& answerer, int64_t max_tokens) const {
  EvalAnswer out;
  if (kind_ == EvalKind::kChoice) {
    for (const char letter : kLetters) {
      const auto value = answerer.log_likelihood(question.prompt, std::string(" ") + letter);
      if (!value) return value.error();
      if (!*value) {
        out.too_long = true;
        return out;
      }
      out.log_likelihoods.push_back(**value);
    }
    const auto best = std::max_element(out.log_likelihoods.begin(), out.log_likelihoods.end());  // the first of equals
    out.answer = kLetters[static_cast<size_t>(best - out.log_likelihoods.begin())];
    out.right = out.right_loosely = out.answer == question.right;
    return out;
  }
  auto text = answerer.complete(question.prompt, stops_, max_tokens);
  if (!text) return text.error();
  if (!*text) {
    out.too_long = true;
    return out;
  }
  out.text = std::move(**text);
  if (kind_ == EvalKind::kNumber) {
    const std::string_view worked = cut(out.text, stops_);
    out.answer = marked_number(worked);
    out.right = out.answer == question.right;
    out.right_loosely = last_number(worked) == question.right;
    return out;
  }
  out.answer = cut(unfenced(out.text), stops_);
  out.right = out.right_loosely = normal_code(out.answer) == normal_code(question.right);
  return out;
}

Json EvalTask::record_of(const EvalQuestion& question, const EvalAnswer& answer) const {
  Json record = Json::object();
  if (kind_ == EvalKind::kCode) return record.set("task_id", question.id).set("completion", answer.answer);
  record.set("id", question.id).set("answer", answer.answer).set("expected", question.right);
  record.set("right", answer.right);
  if (kind_ == EvalKind::kNumber) return record.set("right_loosely", answer.right_loosely).set("text", answer.text);
  Json values = Json::array();
  for (const double value : answer.log_likelihoods) values.push(value);
  return record.set("log_likelihoods", std::move(values));
}

}  // namespace fathom
