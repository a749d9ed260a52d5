// PipelinePicture: the text to the character, the SVG's boxes, axis and limits.
#include "sim/pipeline_picture.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

TEST(PipelinePicture, TextIsDrawnToTime) {
  const Schedule s = *make_schedule("1f1b", 2, 2);
  const PipelineRun run = *simulate_pipeline(s, {});
  EXPECT_EQ(to_text(s, run, 1),
            "rank 0   F0- F1- ........B0----- ....B1----- \n"
            "rank 1   ....F0- B0----- F1- B1----- ........\n");
  EXPECT_EQ(to_text(s, run, 1, 10), "rank 0   F0- F1- .>\nrank 1   ....F0- B>\n");
}

TEST(PipelinePicture, SvgHasABoxPerInstructionAnAxisAndItsUnit) {
  const Schedule s = *make_schedule("dualpipe", 4, 10);
  const PipelineRun run = *simulate_pipeline(s, {});
  const std::string svg = to_svg(s, run, "time (chunks)");
  EXPECT_EQ(count(svg, "<g><title>"), 2u * (18 + 17));
  EXPECT_NE(svg.find("<title>Fa3&amp;Bb1: 7 to 10</title><rect class=\"pair\""), std::string::npos);
  EXPECT_NE(svg.find(">time (chunks)</text>"), std::string::npos);
  EXPECT_EQ(count(svg, ">rank "), 4u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(PipelinePicture, SvgOfALongRunEndsAtItsLimitAndSaysSo) {
  const Schedule s = *make_schedule("1f1b", 4, 1000);
  const PipelineRun run = *simulate_pipeline(s, {});
  const std::string svg = to_svg(s, run, "time", 100);
  EXPECT_LE(count(svg, "<g><title>"), 104u);
  EXPECT_GE(count(svg, "<g><title>"), 96u);
  EXPECT_NE(svg.find("the first 100 instructions"), std::string::npos);
}

}  // namespace
}  // namespace fathom
