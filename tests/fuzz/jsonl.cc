// Fuzz target: any bytes as a log of JSON lines: what can be read can be continued, and has one record more then.
#include "report/jsonl.h"

#include "scratch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  const fuzz::MemoryFile file(fuzz::text_of(data, size));
  const auto before = read_jsonl(file.path());
  auto writer = JsonlWriter::open(file.path());
  if (!writer) {
    check(writer.error().text.starts_with(file.path().string()), "an error names its file");
    return 0;
  }
  check(writer->write(Json::object().set("step", 1)).ok(), "a log takes a record");
  const auto after = read_jsonl(file.path());
  check(before.ok() == after.ok(), "a log that can be read can be continued");
  if (!after) return 0;
  check(after->records.size() == before->records.size() + 1 && !after->torn, "the torn line is gone, the record there");
  return 0;
}
