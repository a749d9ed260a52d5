// Phrases: what the text generators share: filling patterns, choosing, articles, and the word lists.
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/rng.h"

namespace fathom {

/// One of the options, uniformly.
std::string_view one_of(SequentialRng& rng, std::initializer_list<std::string_view> options);

/// `pattern` with every "{name}" replaced by its value; an unknown name is our bug.
std::string fill(std::string_view pattern, std::initializer_list<std::pair<std::string_view, std::string_view>> values);

/// "a kite", "an apple".
std::string with_article(std::string_view noun_phrase);

/// The first letter in upper case (ASCII).
std::string capitalised(std::string text);

/// `count` different indexes below `size`, in random order.
std::vector<size_t> distinct(SequentialRng& rng, size_t size, size_t count);

// --- Word lists. Every noun takes a plain "s"; every list has different entries.

inline constexpr auto kGirls = std::to_array<std::string_view>(
    {"Anna", "Mia", "Lily", "Emma", "Sara", "Lucy", "Nina", "Rosa", "Ella", "Kate",  "Zoe",   "Amy",
     "Eva",  "Ivy", "Jane", "Lena", "Mary", "Nora", "Ruth", "Tina", "Vera", "Clara", "Alice", "Grace"});
inline constexpr auto kBoys = std::to_array<std::string_view>(
    {"Tom",  "Ben", "Max",  "Sam",  "Tim",  "Leo",  "Jack", "Paul", "Adam",  "Carl", "Dan",   "Finn",
     "Hugo", "Ian", "John", "Karl", "Luke", "Mark", "Nick", "Omar", "Peter", "Ravi", "Simon", "Oscar"});
inline constexpr auto kColours = std::to_array<std::string_view>(
    {"red", "blue", "green", "yellow", "orange", "purple", "pink", "brown", "black", "white"});
inline constexpr auto kThings = std::to_array<std::string_view>(
    {"kite",  "ball", "hat", "book", "cup", "drum", "boat", "coat",  "lamp",  "bag",     "bell",  "bike",
     "chair", "doll", "key", "map",  "pen", "ring", "rope", "scarf", "spoon", "toy car", "train", "umbrella"});
inline constexpr auto kCountables =
    std::to_array<std::string_view>({"apple", "egg", "coin", "stone", "shell", "marble", "button", "card", "flower",
                                     "carrot", "pear", "plum", "stamp", "star", "sticker", "nut"});
inline constexpr auto kAnimals = std::to_array<std::string_view>(
    {"cat", "dog", "rabbit", "bird", "frog", "duck", "bear", "owl", "pony", "turtle", "squirrel", "hedgehog"});
inline constexpr auto kPlaces = std::to_array<std::string_view>(
    {"park", "garden", "forest", "river", "hill", "beach", "farm", "school", "market", "lake", "meadow", "village"});
inline constexpr auto kFoods = std::to_array<std::string_view>(
    {"bread", "cake", "soup", "cheese", "rice", "honey", "pizza", "salad", "fish", "pie", "jam", "milk"});
inline constexpr auto kCities =
    std::to_array<std::string_view>({"Paris", "London", "Rome", "Madrid", "Berlin", "Oslo", "Vienna", "Athens",
                                     "Dublin", "Lisbon", "Prague", "Cairo", "Tokyo", "Seoul", "Delhi", "Boston"});

/// Any of the girls' and boys' names.
std::string_view any_name(SequentialRng& rng);
/// Its index space, for distinct(): names [0, kNumNames).
inline constexpr size_t kNumNames = kGirls.size() + kBoys.size();
std::string_view name_at(size_t index);

}  // namespace fathom
