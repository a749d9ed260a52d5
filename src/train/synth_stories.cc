// Micro-stories: six plots, each a list of steps with several wordings. All draws are made in order, one statement
// each.
#include <array>
#include <string>
#include <string_view>

#include "train/phrases.h"
#include "train/synth_kinds.h"

namespace fathom {
namespace {

// Who and what one story is about; the same words come back through its sentences.
struct Cast {
  std::string_view name, he, his, him;  // pronouns follow the name
  std::string_view friend_name;
  std::string_view animal, place, thing, colour, food;
};

Cast draw_cast(SequentialRng& rng) {
  Cast cast;
  const bool girl = rng.below(2) == 0;
  cast.name = girl ? rng.pick(kGirls) : rng.pick(kBoys);
  cast.he = girl ? "she" : "he";
  cast.his = girl ? "her" : "his";
  cast.him = girl ? "her" : "him";
  do {
    cast.friend_name = any_name(rng);
  } while (cast.friend_name == cast.name);
  cast.animal = rng.pick(kAnimals);
  cast.place = rng.pick(kPlaces);
  cast.thing = rng.pick(kThings);
  cast.colour = rng.pick(kColours);
  cast.food = rng.pick(kFoods);
  return cast;
}

using Step = std::array<std::string_view, 3>;  // three wordings of one step

constexpr Step kOpenings[] = {
    {"Once upon a time there was a child named {name}.", "There was once a child called {name}.",
     "{name} lived in a small house near the {place}."},
    {"One day {name} went to the {place} with {friend}.",
     "One sunny morning {name} and {friend} walked to the {place}.",
     "It was a warm day, and {name} met {friend} at the {place}."}};

constexpr Step kEndings[] = {{"{name} smiled all the way home.", "That night {name} slept very well.",
                              "{name} and {friend} laughed and went home."},
                             {"It was a good day.", "They were happy.", "From that day on they were best friends."}};

// Something is lost, and an animal finds it.
constexpr Step kLost[] = {
    {"{name} had {a_thing}, and {he} loved it very much.", "{name} took {his} {thing} along, as always.",
     "{name} was proud of {his} new {thing}."},
    {"But soon the {thing} was gone.", "Then the wind came and took the {thing} away.",
     "When {he} looked again, the {thing} was not there."},
    {"\"Where is my {thing}?\" {name} cried.", "{name} was very sad.",
     "{name} looked everywhere but could not find it."},
    {"\"Do not cry,\" said {friend}. \"We will look for it.\"", "{friend} helped {him} look under every tree.",
     "{friend} said, \"Let us ask the {animal}.\""},
    {"A little {animal} sat next to the {thing}.", "Behind a stone they met {an_animal}, and it had the {thing}.",
     "The {animal} had seen where the {thing} was."},
    {"\"Thank you, {animal}!\" said {name}.", "{name} gave the {animal} some {food} to say thank you.",
     "The {animal} was glad to help."}};

// Somebody does not want to share, and learns to.
constexpr Step kShare[] = {
    {"{name} had some {food} in {his} bag.", "{name} had brought {food}.",
     "{name}'s mother had given {him} some {food}."},
    {"{friend} was hungry and had nothing to eat.", "{friend} looked at the {food}.",
     "\"May I have some {food}?\" asked {friend}."},
    {"\"No, it is mine,\" said {name}.", "{name} did not want to share.", "{name} turned away and said no."},
    {"{friend} was sad and sat down alone.", "{friend} did not say a word.", "{friend} went away to sit under a tree."},
    {"Then {name} felt bad.", "The {food} did not taste good any more.", "{name} thought about it for a while."},
    {"\"I am sorry,\" {he} said. \"Let us share.\"", "So {he} gave {friend} half of the {food}.",
     "{name} sat down next to {friend} and shared the {food}."}};

// Afraid of an animal that turns out to be kind.
constexpr Step kAfraid[] = {
    {"Suddenly they heard a strange noise.", "There was a sound in the grass.", "Something moved behind a tree."},
    {"{name} was afraid.", "\"What is that?\" asked {name}.", "{name} held {friend}'s hand."},
    {"\"Let us look,\" said {friend}.", "{friend} was brave and went to see.",
     "{friend} took one step, and then another."},
    {"It was only a small {animal}.", "A {colour} bag moved, and out came {an_animal}.",
     "There sat {an_animal}, and it was afraid too."},
    {"The {animal} was cold and hungry.", "The {animal} had hurt its leg.", "The {animal} had lost its mother."},
    {"{name} gave it some {food}.", "{name} wrapped it in {his} {colour} coat.",
     "{name} took the {animal} home in {his} arms."},
    {"Soon the {animal} felt better.", "The {animal} was not afraid any more.", "\"You are safe now,\" said {name}."}};

// Rain spoils a plan, and they find another.
constexpr Step kRain[] = {{"They wanted to play with the {thing}.", "{name} wanted to eat {food} outside.",
                           "{name} had waited all week to play outside."},
                          {"But dark clouds came.", "Then it began to rain.", "All at once the sky was black."},
                          {"\"Oh no!\" said {name}. \"We are getting wet!\"", "{name} was not happy.",
                           "\"I do not like rain,\" said {name}."},
                          {"{friend} saw an old hut.", "{friend} opened {a_colour} umbrella.",
                           "They ran as fast as they could to a big tree."},
                          {"There they told each other stories.", "There they sang a song and waited.",
                           "They ate {food} and listened to the rain."},
                          {"When the sun came back, there was a rainbow.", "After an hour the rain stopped.",
                           "Then the sun came out, and everything was bright."},
                          {"\"Rain can be fun,\" said {name}.", "\"Look how the leaves shine!\" said {friend}.",
                           "They jumped over every puddle."}};

// Learning something hard by trying again.
constexpr Step kLearn[] = {
    {"{name} wanted to learn to swim.", "{name} wanted to ride {a_bike}.", "{name} wanted to climb the tall tree."},
    {"The first time {he} tried, it did not work.", "{he_up} tried once and fell down.",
     "It was hard, and {name} was tired."},
    {"\"I can not do it,\" said {name}.", "{name} wanted to give up.", "{name} sat down and began to cry."},
    {"\"Try again,\" said {friend}. \"I will help you.\"", "{friend} showed {him} how to do it.",
     "\"Nobody can do it the first time,\" said {friend}."},
    {"So {name} tried again, and again.", "{name} took a deep breath and tried once more.",
     "Every day {name} tried a little more."},
    {"And then {he} did it!", "At last it worked.", "\"I did it!\" shouted {name}."},
    {"{friend} clapped and cheered.", "Even {an_animal} stopped to look.", "{name} was so proud."}};

// A present.
constexpr Step kGift[] = {
    {"It was {friend}'s birthday.", "{friend} had a birthday that day.", "\"Today is my birthday,\" said {friend}."},
    {"{name} had no present.", "{name} had forgotten to buy a present.",
     "{name} did not have any money for a present."},
    {"{he_up} thought and thought.", "What could {he} do?", "Then {he} had an idea."},
    {"{name} found some wood and made {a_thing}.", "{name} took paper and glue and made {a_thing}.",
     "At home {name} worked until late and made {a_thing}."},
    {"{he_up} painted it {colour}.", "It was {colour}, and it was beautiful.", "It was a fine {colour} thing."},
    {"{friend} opened the box and smiled.", "\"For me?\" asked {friend}.", "{friend} could not believe it."},
    {"\"I will keep it forever,\" said {friend}.", "\"This is the best present of all,\" said {friend}.",
     "\"Thank you, {name}!\" said {friend}."}};

template <size_t N>
void tell(SequentialRng& rng, const Cast& cast, const Step (&steps)[N], std::string& text) {
  const std::string he_up = capitalised(std::string(cast.he));
  for (const Step& step : steps) {
    const std::string_view wording = rng.pick(step);
    if (!text.empty()) text += ' ';
    text += fill(wording, {{"name", cast.name},
                           {"he", cast.he},
                           {"he_up", he_up},
                           {"his", cast.his},
                           {"him", cast.him},
                           {"friend", cast.friend_name},
                           {"animal", cast.animal},
                           {"an_animal", with_article(cast.animal)},
                           {"place", cast.place},
                           {"thing", cast.thing},
                           {"a_thing", with_article(cast.thing)},
                           {"a_bike", with_article(std::string(cast.colour) + " bike")},
                           {"colour", cast.colour},
                           {"a_colour", with_article(cast.colour)},
                           {"food", cast.food}});
  }
}

}  // namespace

Document story_document(SequentialRng& rng) {
  const Cast cast = draw_cast(rng);
  Document story;
  tell(rng, cast, kOpenings, story.text);
  switch (rng.below(6)) {
    case 0: tell(rng, cast, kLost, story.text); break;
    case 1: tell(rng, cast, kShare, story.text); break;
    case 2: tell(rng, cast, kAfraid, story.text); break;
    case 3: tell(rng, cast, kRain, story.text); break;
    case 4: tell(rng, cast, kLearn, story.text); break;
    default: tell(rng, cast, kGift, story.text); break;
  }
  tell(rng, cast, kEndings, story.text);
  return story;
}

}  // namespace fathom
