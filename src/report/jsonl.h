// JSONL: an append-only log of JSON objects, one a line. A crash can tear only the last line: the reader ignores it and
// the next writer cuts it off.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/result.h"

namespace fathom {

class JsonlWriter {
 public:
  /// Opens or creates the log at `path` for appending. A torn last line is cut off. Errors: the file cannot be opened,
  /// is not a JSONL log, or another writer has it open.
  static Result<JsonlWriter> open(const Path& path);

  JsonlWriter(JsonlWriter&& other) noexcept;
  JsonlWriter& operator=(JsonlWriter&&) = delete;
  ~JsonlWriter();

  /// Appends one object as one line. After an error (disk full) the log ends with the last whole line.
  Status write(const Json& record);

  /// Survives a power cut once this returned.
  Status sync();

 private:
  JsonlWriter(Path path, int fd, int64_t size) : path_(std::move(path)), fd_(fd), size_(size) {}
  Path path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

/// The records of a log.
struct JsonlLog {
  std::vector<Json> records;
  bool torn = false;  // the last line had no end and was ignored
};

/// Reads a log of at most `max_bytes`. A line that ends but is not a JSON object is an error that names file and line.
Result<JsonlLog> read_jsonl(const Path& path, int64_t max_bytes = int64_t{1} << 30);

}  // namespace fathom
