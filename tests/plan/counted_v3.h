// DeepSeek-V3, counted once for the tests of a program.
#pragma once

#include "plan/decode.h"
#include "plan/paper.h"

namespace fathom {

inline const CountedModel& v3() {
  static const CountedModel model(paper_input().v3);
  return model;
}

}  // namespace fathom
