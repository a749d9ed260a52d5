// What a report shows under a title.
#pragma once

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <variant>

#include "report/report.h"

namespace fathom::testing {

/// The block of that kind and title; a failure of the test and an empty one where there is none.
template <class Block>
const Block* find(std::span<const Report::Section> sections, const std::string& title) {
  for (const Report::Section& section : sections) {
    for (const Report::Block& block : section.blocks) {
      const auto* found = std::get_if<Block>(&block);
      if (found != nullptr && found->title == title) return found;
    }
  }
  ADD_FAILURE() << "no \"" << title << '"';
  static const Block kNone{};
  return &kNone;
}
template <class Block>
const Block* find(const Report& report, const std::string& title) {
  return find<Block>(std::span(report.sections), title);
}
template <class Block>
const Block* find(const Report::Section& section, const std::string& title) {
  return find<Block>(std::span(&section, 1), title);
}

}  // namespace fathom::testing
