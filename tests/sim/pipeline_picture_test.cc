// PipelinePicture: the text to the character, the SVG's boxes, axis and limits.
#include "sim/pipeline_picture.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(PipelinePicture, TextIsDrawnToTime) {
  const Schedule s = *make_schedule("1f1b", 2, 2);
  const PipelineRun run = *simulate_pipeline(s, {});
  EXPECT_EQ(to_text(s, run, 1),
            "rank 0   F0- F1- ........B0----- ....B1----- \n"
            "rank 1   ....F0- B0----- F1- B1----- ........\n");
  EXPECT_EQ(to_text(s, run, 1, 10), "rank 0   F0- F1- .>\nrank 1   ....F0- B>\n");
}

TEST(PipelinePicture, HasABarPerInstructionWithItsKind) {
  const Schedule s = *make_schedule("dualpipe", 4, 10);
  const PipelineRun run = *simulate_pipeline(s, {});
  const Gantt gantt = to_gantt(s, run, "time (chunks)");
  EXPECT_EQ(gantt.title, "dualpipe: 4 ranks, 10 micro-batches");
  EXPECT_EQ(gantt.rows, (std::vector<std::string>{"rank 0", "rank 1", "rank 2", "rank 3"}));
  ASSERT_EQ(gantt.bars.size(), 2u * (18 + 17));
  double busy = 0;
  int num_faded = 0;
  for (const Gantt::Bar& bar : gantt.bars) {
    busy += bar.row == 0 ? bar.end - bar.start : 0;
    num_faded += bar.faded;
    const char first = bar.name[0];
    const bool pair = bar.name.find('&') != std::string::npos;
    EXPECT_EQ(gantt.kinds[bar.kind][0], first) << bar.name;
    EXPECT_EQ(bar.kind == 4, pair) << bar.name;
    EXPECT_EQ(bar.faded, !pair && bar.name[1] == 'b') << bar.name;
  }
  EXPECT_EQ(busy, run.busy[0]);
  EXPECT_GT(num_faded, 10);
  EXPECT_NE(to_svg(gantt).find("<title>Fa3&amp;Bb1: 7 to 10</title><rect class=\"fc-edge fc-p4\""), std::string::npos);
}

}  // namespace
}  // namespace fathom
