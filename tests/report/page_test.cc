// Page: sections in order, everything escaped, nothing loaded. FATHOM_SAMPLE_PAGE=FILE writes a page to look at.
#include "report/page.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>

#include "report/chart.h"

namespace fathom {
namespace {

Page sample() {
  LineChart loss{"Training loss", "step", "loss (nats/token)", true, {}};
  for (const int64_t layers : {2, 4, 8}) {
    Series series{std::to_string(layers) + " layers", {}, {}};
    for (int i = 1; i <= 2000; ++i) {
      series.x.push_back(i);
      series.y.push_back(8.0 / std::pow(i, 0.1 + 0.02 * static_cast<double>(layers)) + 0.05 * std::sin(i * 1.7));
    }
    loss.series.push_back(std::move(series));
  }
  LineChart speed{"Decode speed", "batch (sequences)", "tokens/s", false, {{"fp8", {1, 2, 4, 8, 16}, {}}}};
  for (const double batch : speed.series[0].x) speed.series[0].y.push_back(31'000 * batch / (batch + 4));
  Page page("Run <7>");
  page.heading("Loss").paragraph("Three models & one seed.").drawing(to_svg(loss));
  page.heading("Speed")
      .drawing(to_svg(speed), {"tokens / s", "bench <1>"}, to_table(speed))
      .table({{"batch", "note"}, {{"1", "latency"}, {"16", "a<b"}}});
  page.heading("Schedule").preformatted("F0 F1 B0\n   F0 B1");
  return page;
}

TEST(Page, HoldsTheSectionsInOrder) {
  const std::string html = sample().html();
  EXPECT_EQ(html.substr(0, 15), "<!doctype html>");
  size_t at = 0;
  for (const char* part : {"<title>Run &lt;7&gt;</title>", "<h1>Run &lt;7&gt;</h1>", "<h2>Loss</h2>",
                           "<p>Three models &amp; one seed.</p>", "<svg ", "<h2>Speed</h2>", "<svg ", "<table>",
                           "<pre>F0 F1 B0\n   F0 B1</pre>", "</html>"}) {
    at = html.find(part, at);
    ASSERT_NE(at, std::string::npos) << part;
  }
}

TEST(Page, AlignsNumberColumnsAndEscapesCells) {
  const std::string html = sample().html();
  EXPECT_NE(html.find("<th class=\"n\">batch</th><th>note</th>"), std::string::npos);
  EXPECT_NE(html.find("<td class=\"n\">16</td><td>a&lt;b</td>"), std::string::npos);
}

TEST(Page, ADrawingHasItsOriginAndItsValues) {
  const std::string html = sample().html();
  EXPECT_NE(html.find("<figcaption><div>tokens / s</div><div>Source: bench &lt;1&gt;</div></figcaption>"),
            std::string::npos);
  EXPECT_NE(html.find("<details><summary>values</summary>"), std::string::npos);
  Table many{{"n"}, std::vector<std::vector<std::string>>(201, {"7"})};
  const std::string cut = Page("t").drawing("<svg></svg>", {}, many).html();
  EXPECT_NE(cut.find("<summary>the first 200 of 201 values</summary>"), std::string::npos);
}

TEST(Page, AFigureSaysItsFormulaAndSourceAndCarriesItsValue) {
  const std::string html =
      Page("t").figures({"a & b", {{"KV <cache>", 1234567.5, "B", "a * \"b\"", "table 1"}}}).html();
  EXPECT_NE(html.find("<h3>a &amp; b</h3>"), std::string::npos);
  EXPECT_NE(html.find("<td>KV &lt;cache&gt;</td><td class=\"n\" data-v=\"1234567.5\" title=\"a * &quot;b&quot;\n"
                      "table 1\">1,234,568</td><td>B</td>"),
            std::string::npos);
}

TEST(Page, AGridSaysTheOriginOfEachColumn) {
  const Grid grid{"Fabrics", "fabric", {{"price", "M$", {"switches * p", ""}}}, {{"FT2", {9.25}}, {"none", {NAN}}}};
  const std::string html = Page("t").grid(grid).html();
  EXPECT_NE(html.find("<th class=\"n\" title=\"switches * p\">price (M$)</th>"), std::string::npos);
  EXPECT_NE(html.find("<td>FT2</td><td class=\"n\" data-v=\"9.25\" title=\"switches * p\">9.25</td>"),
            std::string::npos);
  EXPECT_NE(html.find("<td>none</td><td class=\"n\" data-v=\"\" title=\"switches * p\"></td>"), std::string::npos);
}

TEST(Page, LoadsNothing) {
  const std::string html = sample().html();
  for (const char* part : {"<script", "src=\"", "href=", "url(", "@import"}) {
    EXPECT_EQ(html.find(part), std::string::npos) << part;
  }
  EXPECT_NE(html.find("default-src 'none'"), std::string::npos);
}

TEST(Page, IsWrittenWhole) {
  const char* wanted = std::getenv("FATHOM_SAMPLE_PAGE");
  const Path path =
      wanted ? Path(wanted) : Path(::testing::TempDir()) / ("page_" + std::to_string(::getpid()) + ".html");
  ASSERT_TRUE(sample().write(path));
  EXPECT_EQ(*read_file(path), sample().html());
  if (!wanted) std::filesystem::remove(path);
}

TEST(PageDeathTest, RowsOfAnotherLengthAreOurBug) {
  EXPECT_DEATH((void)Page("t").table({{"a", "b"}, {{"1"}}}), "as long as its header");
}

}  // namespace
}  // namespace fathom
