// The report draws what the log says, each step once.
#include "train/training_report.h"

#include <gtest/gtest.h>

#include <vector>

#include "../count.h"

namespace fathom {
namespace {

using testing::count;

Json record(int64_t step, double loss) {
  Json json = Json::object();
  json.set("step", step);
  json.set("tokens", step * 64);
  json.set("loss.main", loss);
  json.set("loss.mtp", loss + 1);
  json.set("lr", 1e-3);
  json.set("grad_norm", 2.0);
  json.set("max_vio", 0.5);
  return json;
}

TEST(RecordsOfRun, AreThoseOfTheLastRunWithoutWhatAResumeTookBack) {
  const auto event = [](const char* name, int64_t step) { return Json::object().set("event", name).set("step", step); };
  const std::vector<Json> log = {event("start", 0),  record(1, 9), record(2, 8), record(3, 7),
                                 event("start", 0),  record(1, 5), record(2, 4), record(3, 3),
                                 event("resume", 2), record(3, 2), record(4, 1)};
  const std::vector<Json> expected = {event("start", 0),  record(1, 5), record(2, 4),
                                      event("resume", 2), record(3, 2), record(4, 1)};
  const auto kept = records_of_run(log);
  ASSERT_EQ(kept.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(kept[i], expected[i]) << i;
}

TEST(TrainingReport, ShowsLossRateNormAndLoad) {
  const std::vector<Json> records = {record(1, 3.5), record(2, 3.25), record(3, 3.125)};
  const std::string html = training_report_html("Run <1>", "[train]\nsteps = 3\n", records);
  EXPECT_EQ(count(html, "<svg"), 4u);
  for (const char* text : {"Run &lt;1&gt;", "Learning rate", "Gradient norm", "MaxVio", "3.125", "steps = 3"}) {
    EXPECT_NE(html.find(text), std::string::npos) << text;
  }
}

TEST(TrainingReport, ValidationHasItsOwnCurve) {
  std::vector<Json> records = {record(1, 3.5), record(2, 3.25)};
  records[1].set("validation.loss", 3.75);
  records[1].set("validation.bits_per_byte", 1.625);
  const std::string html = training_report_html("Run", "", records);
  EXPECT_EQ(count(html, "<svg"), 5u);
  EXPECT_NE(html.find("1.625"), std::string::npos);
}

TEST(TrainingReport, TheLastRecordOfAStepCountsAndOtherLinesAreIgnored) {
  Json event = Json::object();
  event.set("event", "resume");
  event.set("step", 1);
  const std::vector<Json> whole = {record(1, 3.5), record(2, 3.25)};
  const std::vector<Json> resumed = {record(1, 3.5), record(2, 9.0), event, Json(3), record(2, 3.25)};
  EXPECT_EQ(training_report_html("Run", "", whole), training_report_html("Run", "", resumed));
}

TEST(TrainingReport, SaysWhenThereIsNothing) {
  EXPECT_NE(training_report_html("Run", "", {}).find("No step is on record."), std::string::npos);
}

}  // namespace
}  // namespace fathom
