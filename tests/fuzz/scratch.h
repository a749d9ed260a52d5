// What fuzz targets of readers that take a path share: the input as a file in memory, or as files of a directory.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/file.h"

namespace fathom::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// The part of `rest` before the first zero byte, which is taken off it.
inline std::string_view cut(std::string_view& rest) {
  const size_t end = rest.find('\0');
  const std::string_view part = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
  return part;
}

/// A regular file that only this process has and that has no name on a disk.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    const bool written = ::write(fd_, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
    check(fd_ >= 0 && written, "a file in memory takes its bytes");
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  Path path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

/// A directory for the files of one input after the other; removed when the fuzzer ends.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::error_code ignored;
    const bool in_memory = std::filesystem::is_directory("/dev/shm", ignored);
    std::string name = (in_memory ? Path("/dev/shm") : std::filesystem::temp_directory_path()) / "fathom_fuzz_XXXXXX";
    check(::mkdtemp(name.data()) != nullptr, "a directory for the input can be made");
    path_ = name;
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  const Path& path() const { return path_; }

  /// Not by write_file: what is here need not survive a power cut.
  void put(const Path& name, std::string_view bytes) const {
    FILE* file = std::fopen((path_ / name).c_str(), "wb");
    const bool written = file != nullptr && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
    check(written && std::fclose(file) == 0, "the directory takes the input");
  }

 private:
  Path path_;
};

/// A safetensors file of scalars F32 with the names.
inline std::string safetensors_of(std::initializer_list<std::string_view> names) {
  std::string header = "{";
  size_t at = 0;
  for (const std::string_view name : names) {
    header += (at > 0 ? ",\"" : "\"") + std::string(name) + R"(":{"dtype":"F32","shape":[1],"data_offsets":[)" +
              std::to_string(at) + "," + std::to_string(at + 4) + "]}";
    at += 4;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  uint64_t size = header.size();
  std::string out;
  for (int i = 0; i < 8; ++i, size >>= 8) out += static_cast<char>(size & 255);
  return out + header + std::string(at, '\0');
}

}  // namespace fathom::fuzz
