// Fuzz target: any JSON as an earlier report of fathom bench: refused by its name, or lines that can be written, read,
// shown and compared.
#include "report/bench_lines.h"

#include "scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  const auto json = Json::parse(fuzz::text_of(data, size), "fuzz");
  if (!json) return 0;
  const auto lines = bench_lines_of(*json, "fuzz");
  if (!lines) {
    check(lines.error().text.starts_with("fuzz"), "an error names its source");
    return 0;
  }
  Json::Array written;
  for (const BenchLine& line : *lines) written.push_back(to_json(line));
  const auto again = bench_lines_of(Json::object().set("lines", written), "again");
  check(again && again->size() == lines->size(), "written lines can be read");
  const auto comparisons = compare_lines(*lines, *again);
  check(comparisons.size() == lines->size() && !bench_table(*lines).empty(), "lines can be shown");
  (void)comparison_table(comparisons);
  (void)slower_than(comparisons, 1);
  return 0;
}
