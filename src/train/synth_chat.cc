// Small chats. A Talk carries what the user has told (name, favourite), so that a later turn can use it; each topic
// adds one question and one answer.
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "train/arithmetic.h"
#include "train/phrases.h"
#include "train/synth_kinds.h"

namespace fathom {
namespace {

struct Pair {
  std::string_view key, value;
};

constexpr auto kOpposites = std::to_array<Pair>(
    {{"hot", "cold"},   {"big", "small"}, {"up", "down"},     {"day", "night"},   {"left", "right"},
     {"happy", "sad"},  {"fast", "slow"}, {"open", "closed"}, {"old", "young"},   {"hard", "soft"},
     {"light", "dark"}, {"high", "low"},  {"full", "empty"},  {"long", "short"},  {"wet", "dry"},
     {"good", "bad"},   {"rich", "poor"}, {"strong", "weak"}, {"loud", "quiet"},  {"clean", "dirty"},
     {"early", "late"}, {"near", "far"},  {"yes", "no"},      {"black", "white"}, {"summer", "winter"}});
constexpr auto kThingColours = std::to_array<Pair>({{"the sky", "blue"},
                                                    {"grass", "green"},
                                                    {"snow", "white"},
                                                    {"a banana", "yellow"},
                                                    {"blood", "red"},
                                                    {"the sun", "yellow"},
                                                    {"coal", "black"},
                                                    {"milk", "white"},
                                                    {"a lemon", "yellow"},
                                                    {"a carrot", "orange"},
                                                    {"chocolate", "brown"},
                                                    {"a tomato", "red"},
                                                    {"a frog", "green"},
                                                    {"the sea", "blue"}});
constexpr auto kCapitals = std::to_array<Pair>(
    {{"France", "Paris"},      {"England", "London"},     {"Italy", "Rome"},       {"Spain", "Madrid"},
     {"Germany", "Berlin"},    {"Norway", "Oslo"},        {"Austria", "Vienna"},   {"Greece", "Athens"},
     {"Ireland", "Dublin"},    {"Portugal", "Lisbon"},    {"Egypt", "Cairo"},      {"Japan", "Tokyo"},
     {"South Korea", "Seoul"}, {"China", "Beijing"},      {"Russia", "Moscow"},    {"Poland", "Warsaw"},
     {"Sweden", "Stockholm"},  {"Denmark", "Copenhagen"}, {"Finland", "Helsinki"}, {"Hungary", "Budapest"}});
constexpr auto kSounds = std::to_array<Pair>({{"dog", "Woof"},
                                              {"cat", "Meow"},
                                              {"cow", "Moo"},
                                              {"duck", "Quack"},
                                              {"sheep", "Baa"},
                                              {"pig", "Oink"},
                                              {"lion", "Roar"},
                                              {"owl", "Hoot"}});
constexpr auto kFacts = std::to_array<Pair>({{"How many legs does a dog have?", "A dog has four legs."},
                                             {"How many legs does a spider have?", "A spider has eight legs."},
                                             {"How many legs does a bird have?", "A bird has two legs."},
                                             {"How many legs does an ant have?", "An ant has six legs."},
                                             {"How many days are in a week?", "A week has seven days."},
                                             {"How many months are in a year?", "A year has twelve months."},
                                             {"How many hours are in a day?", "A day has 24 hours."},
                                             {"How many minutes are in an hour?", "An hour has 60 minutes."},
                                             {"What do bees make?", "Bees make honey."},
                                             {"What do cows give us?", "Cows give us milk."},
                                             {"What do we breathe?", "We breathe air."},
                                             {"What is ice?", "Ice is frozen water."},
                                             {"Where do fish live?", "Fish live in water."},
                                             {"Where do birds sleep?", "Many birds sleep in trees."},
                                             {"When do we see the stars?", "We see the stars at night."},
                                             {"What comes after winter?", "After winter comes spring."},
                                             {"What are the four seasons?", "Spring, summer, autumn and winter."},
                                             {"What shines at night?", "The moon and the stars shine at night."},
                                             {"What do plants need?", "Plants need water, air and light."},
                                             {"How many sides does a triangle have?", "A triangle has three sides."},
                                             {"How many sides does a square have?", "A square has four sides."},
                                             {"What is the largest planet?", "The largest planet is Jupiter."},
                                             {"What do we call frozen rain?", "Frozen rain is called hail or snow."}});
constexpr auto kDays =
    std::to_array<std::string_view>({"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"});
constexpr auto kMonths =
    std::to_array<std::string_view>({"January", "February", "March", "April", "May", "June", "July", "August",
                                     "September", "October", "November", "December"});
constexpr auto kNumbers = std::to_array<std::string_view>(
    {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"});
constexpr auto kSpelled = std::to_array<std::string_view>({"cat", "dog", "sun", "moon", "tree", "book", "fish", "bird",
                                                           "house", "water", "apple", "bread", "star", "milk", "king"});

struct Talk {
  SequentialRng& rng;
  std::vector<Message> messages = {};
  std::string_view user_name = {};
  std::string_view favourite = {};

  void say(std::string user, std::string assistant) {
    messages.push_back({"user", std::move(user)});
    messages.push_back({"assistant", std::move(assistant)});
  }
  std::string choose(std::initializer_list<std::string_view> options) { return std::string(one_of(rng, options)); }
};

void greeting(Talk& talk) {
  const std::string user = talk.choose(
      {"Hello!", "Hello", "Hi!", "Hi", "hi", "hello", "Hey!", "Hi there!", "Good morning!", "Good evening!"});
  if (user.starts_with("Good")) {
    talk.say(user, user + " How can I help you?");
  } else {
    talk.say(user, talk.choose({"Hello! How can I help you?", "Hi! How can I help you?"}));
  }
}

void introduction(Talk& talk) {
  talk.user_name = any_name(talk.rng);
  const std::string_view form =
      one_of(talk.rng, {"My name is {n}.", "I am {n}.", "Hello, I am {n}.", "Hi, my name is {n}!", "my name is {n}",
                        "Call me {n}.", "Hello! My name is {n}."});
  const std::string_view reply = one_of(talk.rng, {"Nice to meet you, {n}!", "Hello, {n}! Nice to meet you."});
  std::string user = fill(form, {{"n", talk.user_name}});
  talk.say(std::move(user), fill(reply, {{"n", talk.user_name}}));
}

void ask_own_name(Talk& talk) {
  std::string user = talk.choose(
      {"What is my name?", "Do you know my name?", "what is my name", "Who am I?", "Do you remember my name?"});
  talk.say(std::move(user), talk.user_name.empty() ? "I do not know your name yet. What is it?"
                                                   : "Your name is " + std::string(talk.user_name) + ".");
}

void identity(Talk& talk) {
  switch (talk.rng.below(4)) {
    case 0:
      talk.say(talk.choose({"What can you do?", "How can you help me?", "what can you do"}),
               "I can talk a little, add and subtract numbers, remember what you tell me, and tell small stories.");
      return;
    case 1:
      talk.say(talk.choose({"Are you a human?", "Are you a person?", "Are you a robot?", "Are you real?"}),
               "I am a small language model. I am fathom's demo model.");
      return;
    case 2:
      talk.say(talk.choose({"Who made you?", "Who trained you?", "Where do you come from?"}),
               "I was trained by fathom, on an ordinary computer.");
      return;
    default:
      talk.say(talk.choose({"Who are you?", "What are you?", "What is your name?", "who are you", "what is your name",
                            "Tell me about yourself."}),
               "I am fathom's demo model, a very small language model.");
  }
}

void wellbeing(Talk& talk) {
  std::string user = talk.choose({"How are you?", "How are you today?", "how are you", "How do you do?"});
  talk.say(std::move(user), talk.choose({"I am fine, thank you. How are you?", "I am very well, thank you!"}));
}

void tell_favourite(Talk& talk) {
  talk.favourite = talk.rng.pick(kColours);
  const std::string_view form =
      one_of(talk.rng, {"My favourite colour is {c}.", "My favorite color is {c}.", "I like the colour {c} best."});
  const std::string_view reply = one_of(talk.rng, {"{c_up} is a beautiful colour.", "I like {c} too."});
  std::string user = fill(form, {{"c", talk.favourite}});
  const std::string upper = capitalised(std::string(talk.favourite));
  talk.say(std::move(user), fill(reply, {{"c", talk.favourite}, {"c_up", upper}}));
}

void ask_favourite(Talk& talk) {
  if (talk.favourite.empty()) return tell_favourite(talk);
  std::string user =
      talk.choose({"What is my favourite colour?", "What is my favorite color?", "Which colour do I like?"});
  talk.say(std::move(user), "Your favourite colour is " + std::string(talk.favourite) + ".");
}

void opposite(Talk& talk) {
  Pair pair = talk.rng.pick(kOpposites);
  if (talk.rng.below(2) == 0) std::swap(pair.key, pair.value);
  const std::string_view form = one_of(talk.rng, {"What is the opposite of {k}?", "What is the opposite of {k}?",
                                                  "what is the opposite of {k}", "Opposite of {k}?"});
  std::string user = fill(form, {{"k", pair.key}});
  talk.say(std::move(user), fill("The opposite of {k} is {v}.", {{"k", pair.key}, {"v", pair.value}}));
}

void thing_colour(Talk& talk) {
  const Pair pair = talk.rng.pick(kThingColours);
  const std::string_view form = one_of(
      talk.rng, {"What colour is {k}?", "What color is {k}?", "what color is {k}", "Which colour does {k} have?"});
  std::string user = fill(form, {{"k", pair.key}});
  talk.say(std::move(user), capitalised(fill("{k} is {v}.", {{"k", pair.key}, {"v", pair.value}})));
}

void capital(Talk& talk) {
  const Pair pair = talk.rng.pick(kCapitals);
  if (talk.rng.below(4) == 0) {
    std::string user = fill("Which country has the capital {v}?", {{"v", pair.value}});
    talk.say(std::move(user), fill("{v} is the capital of {k}.", {{"k", pair.key}, {"v", pair.value}}));
    return;
  }
  const std::string_view form = one_of(talk.rng, {"What is the capital of {k}?", "What is the capital of {k}?",
                                                  "what is the capital of {k}", "Name the capital of {k}."});
  std::string user = fill(form, {{"k", pair.key}});
  talk.say(std::move(user), fill("The capital of {k} is {v}.", {{"k", pair.key}, {"v", pair.value}}));
}

void counting(Talk& talk) {
  const int64_t first = talk.rng.below(2) == 0 ? 1 : talk.rng.between(1, 20);
  const int64_t last = first + talk.rng.between(2, 9);
  const bool backwards = talk.rng.below(4) == 0;
  std::string user;
  if (first == 1 && !backwards && last <= 10) {
    const std::string_view form = one_of(talk.rng, {"Count to {n}.", "Can you count to {n}?", "Please count to {n}."});
    const bool as_word = talk.rng.below(2) == 0;
    user = fill(form, {{"n", as_word ? std::string(kNumbers[static_cast<size_t>(last)]) : std::to_string(last)}});
  } else {
    user = fill("Count from {a} to {b}.",
                {{"a", std::to_string(backwards ? last : first)}, {"b", std::to_string(backwards ? first : last)}});
  }
  std::string reply;
  for (int64_t i = 0; i <= last - first; ++i) {
    if (i > 0) reply += ", ";
    reply += std::to_string(backwards ? last - i : first + i);
  }
  talk.say(std::move(user), reply + ".");
}

template <class List>
void neighbour(Talk& talk, const List& list, std::string_view what) {
  const size_t i = talk.rng.below(list.size());
  const bool after = talk.rng.below(3) != 0;
  const size_t j = (i + (after ? 1 : list.size() - 1)) % list.size();
  const std::string_view order = after ? "after" : "before";
  const std::string_view form =
      one_of(talk.rng, {"What {w} comes {o} {k}?", "Which {w} comes {o} {k}?", "What {w} is {o} {k}?"});
  std::string user = fill(form, {{"w", what}, {"o", order}, {"k", list[i]}});
  talk.say(std::move(user),
           fill("{o} {k} comes {v}.", {{"o", after ? "After" : "Before"}, {"k", list[i]}, {"v", list[j]}}));
}

void days(Talk& talk) {
  if (talk.rng.below(5) == 0) {
    talk.say(talk.choose({"What are the days of the week?", "Name the days of the week."}),
             "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday and Sunday.");
  } else if (talk.rng.below(3) == 0) {
    neighbour(talk, kMonths, "month");
  } else {
    neighbour(talk, kDays, "day");
  }
}

void animal_sound(Talk& talk) {
  const Pair pair = talk.rng.pick(kSounds);
  const std::string_view form = one_of(talk.rng, {"What does {k} say?", "What sound does {k} make?"});
  const std::string animal = with_article(pair.key);
  std::string user = fill(form, {{"k", animal}});
  talk.say(std::move(user), capitalised(fill("{k} says: {v}!", {{"k", animal}, {"v", pair.value}})));
}

void fact(Talk& talk) {
  const Pair pair = talk.rng.pick(kFacts);
  talk.say(std::string(pair.key), std::string(pair.value));
}

void bigger(Talk& talk) {
  const int64_t a = talk.rng.between(1, 99);
  int64_t b = talk.rng.between(1, 98);
  if (b >= a) ++b;  // never equal
  const bool larger = talk.rng.below(3) != 0;
  std::string user = fill("Which is {w}, {a} or {b}?",
                          {{"w", larger ? "bigger" : "smaller"}, {"a", std::to_string(a)}, {"b", std::to_string(b)}});
  const int64_t answer = (a > b) == larger ? a : b;
  const int64_t other = a + b - answer;
  talk.say(std::move(user),
           fill("{a} is {w} than {b}.",
                {{"w", larger ? "bigger" : "smaller"}, {"a", std::to_string(answer)}, {"b", std::to_string(other)}}));
}

void spelling(Talk& talk) {
  const std::string_view word = talk.rng.pick(kSpelled);
  const std::string_view form = one_of(talk.rng, {"Spell {w}.", "How do you spell {w}?", "Spell the word {w}."});
  std::string user = fill(form, {{"w", word}});
  std::string letters;
  for (char c : word) {
    if (!letters.empty()) letters += '-';
    letters += c;
  }
  talk.say(std::move(user), letters + ".");
}

void repeat(Talk& talk) {
  const std::string_view thing = talk.rng.pick(kThings);
  const std::string_view colour = talk.rng.pick(kColours);
  const std::string_view animal = talk.rng.pick(kAnimals);
  const std::string_view form =
      one_of(talk.rng, {"the {c} {t}", "{a} and {t}", "{c} {a}", "{t}", "the {a} has the {t}"});
  const std::string words = fill(form, {{"c", colour}, {"t", thing}, {"a", animal}});
  talk.say(talk.choose({"Say: ", "Repeat: ", "Repeat after me: "}) + words, words);
}

void unknown(Talk& talk) {
  talk.say(talk.choose({"What is the weather today?", "What time is it?", "Who won the game yesterday?",
                        "What did I eat this morning?", "Where are my keys?", "What is in the news?"}),
           "I am sorry, I can not know that.");
}

void story(Talk& talk) {
  std::string user = talk.choose({"Tell me a story.", "Tell me a short story.", "tell me a story",
                                  "Can you tell me a story?", "Please tell me a story."});
  talk.say(std::move(user), story_document(talk.rng).text);
}

void thanks(Talk& talk) {
  std::string user = talk.choose({"Thank you!", "Thanks!", "Thank you.", "thanks", "Great, thank you!"});
  talk.say(std::move(user), talk.choose({"You are welcome!", "You are welcome. Can I help you with anything else?"}));
}

void goodbye(Talk& talk) {
  std::string user = talk.choose({"Goodbye!", "Bye!", "bye", "See you later!", "Good night!"});
  std::string reply = user == "Good night!" ? "Good night" : "Goodbye";
  if (!talk.user_name.empty()) reply += ", " + std::string(talk.user_name);
  talk.say(std::move(user), reply + "!");
}

void small_topic(Talk& talk) {
  using Topic = void (*)(Talk&);
  constexpr auto kTopics = std::to_array<Topic>(
      {identity, identity, wellbeing, ask_favourite, opposite, opposite, thing_colour, thing_colour,
       capital,  capital,  capital,   counting,      counting, days,     days,         animal_sound,
       fact,     fact,     fact,      bigger,        spelling, repeat,   unknown});
  talk.rng.pick(kTopics)(talk);
}

}  // namespace

Document chat_document(SequentialRng& rng) {
  Talk talk{rng};
  if (rng.below(10) == 0) {
    talk.messages.push_back({"system", talk.choose({"You are a helpful assistant.", "You are a friendly assistant.",
                                                    "You are fathom's demo model.", "Answer briefly."})});
  }
  if (rng.below(3) == 0) greeting(talk);
  const bool names = rng.below(3) == 0;
  if (names) introduction(talk);
  const int64_t topics = rng.between(1, 3);
  for (int64_t i = 0; i < topics; ++i) {
    const uint64_t kind = rng.below(20);
    if (kind == 0) {
      story(talk);
    } else if (kind <= 2) {
      add_arithmetic_turn(rng, talk.messages);
    } else if (kind == 3) {
      add_recall_turns(rng, talk.messages);
    } else {
      small_topic(talk);
    }
  }
  if (names ? rng.below(4) != 0 : rng.below(12) == 0) ask_own_name(talk);
  if (!talk.favourite.empty()) ask_favourite(talk);
  if (rng.below(6) == 0) thanks(talk);
  if (rng.below(6) == 0) goodbye(talk);
  return {{}, std::move(talk.messages)};
}

}  // namespace fathom
