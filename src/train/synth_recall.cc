// Key-value recall: facts of one relation with unique keys and values, then questions in either direction.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "train/phrases.h"
#include "train/synth_kinds.h"

namespace fathom {
namespace {

// How a relation is told and asked. {k} is the key, {v} the value.
struct Relation {
  std::string_view fact;       // "{k} has {v}."
  std::string_view ask_value;  // "What does {k} have?"
  std::string_view ask_key;    // "Who has {v}?"
  std::string_view say_value;  // the answer in a chat
  std::string_view say_key;
};

constexpr Relation kHas{"{k} has {v}.", "What does {k} have?", "Who has {v}?", "{k} has {v}.", "{k} has {v}."};
constexpr Relation kLives{"{k} lives in {v}.", "Where does {k} live?", "Who lives in {v}?", "{k} lives in {v}.",
                          "{k} lives in {v}."};
constexpr Relation kLikes{"{k} likes {v}.", "What does {k} like?", "Who likes {v}?", "{k} likes {v}.",
                          "{k} likes {v}."};
constexpr Relation kBox{"The {k} box holds {v}.", "What is in the {k} box?", "Which box holds {v}?",
                        "The {k} box holds {v}.", "The {k} box holds {v}."};
constexpr Relation kCode{"The code of {k} is {v}.", "What is the code of {k}?", "Whose code is {v}?",
                         "The code of {k} is {v}.", "{v} is the code of {k}."};

struct Exercise {
  const Relation* relation = nullptr;
  std::vector<std::string> keys;
  std::vector<std::string> values;

  std::string with(std::string_view pattern, size_t i) const {
    return fill(pattern, {{"k", keys[i]}, {"v", values[i]}});
  }
  std::string facts() const {
    std::string text;
    for (size_t i = 0; i < keys.size(); ++i) {
      if (i > 0) text += ' ';
      text += with(relation->fact, i);
    }
    return text;
  }
};

std::vector<std::string> draw_possessions(SequentialRng& rng, size_t count) {
  std::vector<std::string> values;
  const auto things = distinct(rng, kThings.size(), count);
  const auto countables = distinct(rng, kCountables.size(), count);
  for (size_t i = 0; i < count; ++i) {
    if (rng.below(3) == 0) {
      const int64_t number = rng.between(2, 20);
      values.push_back(std::to_string(number) + " " + std::string(kCountables[countables[i]]) + "s");
    } else {
      const std::string_view colour = rng.pick(kColours);
      values.push_back(with_article(std::string(colour) + " " + std::string(kThings[things[i]])));
    }
  }
  return values;
}

template <class List>
std::vector<std::string> draw_from(SequentialRng& rng, const List& list, size_t count) {
  std::vector<std::string> values;
  for (size_t i : distinct(rng, list.size(), count)) values.emplace_back(list[i]);
  return values;
}

Exercise draw_exercise(SequentialRng& rng) {
  const auto count = static_cast<size_t>(rng.between(2, 6));
  Exercise exercise;
  const uint64_t kind = rng.below(8);
  if (kind == 4) {
    exercise.relation = &kBox;
    exercise.keys = draw_from(rng, kColours, count);
  } else {
    for (size_t i : distinct(rng, kNumNames, count)) exercise.keys.emplace_back(name_at(i));
  }
  if (kind <= 4) {
    if (kind < 4) exercise.relation = &kHas;
    exercise.values = draw_possessions(rng, count);
  } else if (kind == 5) {
    exercise.relation = &kLives;
    exercise.values = draw_from(rng, kCities, count);
  } else if (kind == 6) {
    exercise.relation = &kLikes;
    exercise.values = draw_from(rng, kFoods, count);
  } else {
    exercise.relation = &kCode;
    for (size_t number : distinct(rng, 900, count)) exercise.values.push_back(std::to_string(number + 100));
  }
  return exercise;
}

// A question and its answers: bare (plain documents) and as a sentence (chats).
struct Question {
  std::string ask, bare, sentence;
};

std::vector<Question> draw_questions(SequentialRng& rng, const Exercise& exercise, size_t most) {
  const size_t limit = std::min(most, exercise.keys.size());
  const auto count = static_cast<size_t>(rng.between(1, static_cast<int64_t>(limit)));
  std::vector<Question> questions;
  const Relation& relation = *exercise.relation;
  for (size_t i : distinct(rng, exercise.keys.size(), count)) {
    const bool by_key = rng.below(4) != 0;
    std::string bare = by_key ? exercise.values[i] : exercise.keys[i];
    if (!by_key && &relation == &kBox) bare = "the " + bare + " box";
    questions.push_back({exercise.with(by_key ? relation.ask_value : relation.ask_key, i), std::move(bare),
                         capitalised(exercise.with(by_key ? relation.say_value : relation.say_key, i))});
  }
  return questions;
}

}  // namespace

void add_recall_turns(SequentialRng& rng, std::vector<Message>& messages) {
  const Exercise exercise = draw_exercise(rng);
  const auto questions = draw_questions(rng, exercise, 3);
  std::string facts(one_of(rng, {"Remember: ", "Please remember: ", "Remember this: ", ""}));
  facts += exercise.facts();
  size_t next = 0;
  if (rng.below(2) == 0) {  // everything in one message
    messages.push_back({"user", facts + " " + questions[0].ask});
    messages.push_back({"assistant", questions[0].sentence});
    next = 1;
  } else {
    messages.push_back({"user", std::move(facts)});
    messages.push_back(
        {"assistant", std::string(one_of(rng, {"I will remember that.", "All right, I will remember."}))});
  }
  for (; next < questions.size(); ++next) {
    messages.push_back({"user", questions[next].ask});
    messages.push_back({"assistant", questions[next].sentence});
  }
}

Document recall_document(SequentialRng& rng) {
  Document document;
  if (rng.below(2) == 0) {
    add_recall_turns(rng, document.messages);
    return document;
  }
  const Exercise exercise = draw_exercise(rng);
  document.text = "Remember: " + exercise.facts();
  for (const Question& question : draw_questions(rng, exercise, 4)) {
    document.text += "\nQuestion: " + question.ask + "\nAnswer: " + question.bare + ".";
  }
  return document;
}

}  // namespace fathom
