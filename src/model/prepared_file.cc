#include "model/prepared_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "base/direct_file.h"
#include "base/file_set.h"
#include "base/machine.h"
#include "base/rng.h"

namespace fathom {
namespace {

/// Of the panels' layout and of how codes are made: raised when either changes, so that older files are not used.
constexpr int kVersion = 1;

/// "PATH SIZE TIME", a line for each file that the model was read from.
Result<std::string> sources_of(const Model& model) {
  std::vector<Path> files;
  for (const Checkpoint& checkpoint : model.checkpoints) {
    for (const SafetensorsFile& shard : checkpoint.shards()) files.push_back(shard.path());
  }
  for (const GgufModel& gguf : model.ggufs) {
    for (const MappedFile& part : gguf.files()) files.push_back(part.path());
  }
  if (files.empty()) return invalid("the model was not read from a file");
  std::string text;
  for (const Path& file : files) {
    std::error_code failed;
    const Path path = std::filesystem::canonical(file, failed);
    struct stat info {};
    if (failed || ::stat(path.c_str(), &info) != 0) return io_error("cannot stat " + file.string());
    text += path.string() + " " + std::to_string(info.st_size) + " " + std::to_string(info.st_mtim.tv_sec) + "." +
            std::to_string(info.st_mtim.tv_nsec) + "\n";
  }
  return text;
}

std::string form_text(const Weight& form) {
  return std::to_string(static_cast<int>(form.codes.dtype)) + "," + std::to_string(static_cast<int>(form.groups)) +
         "," + std::to_string(static_cast<int>(form.layout)) + "," +
         std::to_string(static_cast<int>(form.scale_format));
}

}  // namespace

std::string form_text(const Weight& from, const Weight& target) { return form_text(from) + ">" + form_text(target); }

Result<PreparedFile> PreparedFile::of(PreparedKind kind, const Model& model, std::string_view layout,
                                      int64_t content_bytes, const Path& directory) {
  const auto sources = sources_of(model);
  if (!sources) return sources.error();
  std::string head = "fathom " + std::string(kind.name) + " " + std::to_string(kVersion) + "\n" + *sources;
  head += layout;
  char hash[32];
  std::snprintf(hash, sizeof(hash), "%016llx.", static_cast<unsigned long long>(stream_of(head)));
  constexpr auto kBlock = static_cast<size_t>(DirectFile::kAlignment);
  head.resize((head.size() + kBlock) / kBlock * kBlock, '\0');  // with one zero at least, which ends the text
  return PreparedFile(kind, std::move(head), content_bytes, directory / (hash + std::string(kind.name)));
}

bool PreparedFile::is_there() const {
  const auto file = DirectFile::open(path_);
  if (!file || (*file)->num_bytes() != num_bytes()) return false;
  constexpr size_t kPiece = size_t{2} << 20;  // such memory is aligned as direct reads need it
  const Storage piece = Storage::uninitialized(kPiece);
  auto* const bytes = static_cast<std::byte*>(piece.data());
  for (size_t at = 0; at < head_.size(); at += kPiece) {
    const size_t size = std::min(kPiece, head_.size() - at);
    if (!(*file)->read(static_cast<int64_t>(at), {bytes, size})) return false;
    if (std::memcmp(bytes, head_.data() + at, size) != 0) return false;
  }
  return true;
}

Result<std::optional<FileLock>> PreparedFile::claim(Progress& progress) const {
  if (is_there()) return std::optional<FileLock>();
  if (auto s = make_directories(path_.parent_path()); !s) return s.error();
  const std::string name(kind_.name);
  Path lock_path = path_;
  lock_path += ".lock";
  for (;;) {
    auto lock = FileLock::try_acquire(lock_path);
    if (!lock) return lock.error();
    if (*lock) return is_there() ? std::optional<FileLock>() : std::move(*lock);
    if (progress.stop_requested()) return cancelled("stopped while another process prepares the " + name);
    progress.update("waiting for another process that prepares the " + name, 0, 1, "");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

Result<AtomicFile> PreparedFile::create() const {
  const Path directory = path_.parent_path();
  std::error_code failed;
  const auto space = std::filesystem::space(directory, failed);
  if (!failed && space.available < static_cast<uintmax_t>(num_bytes())) {
    return io_error("the prepared " + std::string(kind_.name) + " need " + bytes_text(num_bytes()) + ", and " +
                    directory.string() + " has " + bytes_text(static_cast<int64_t>(space.available)) +
                    " free; name another with " + std::string(kind_.flag));
  }
  auto out = AtomicFile::create(path_);
  if (!out) return out.error();
  if (auto s = out->write(head_); !s) return s.error();
  return out;
}

Result<MappedFile> PreparedFile::map() const {
  auto map = MappedFile::open(path_);
  if (map && std::ssize(map->bytes()) != num_bytes()) {
    return corrupt(path_.string() + " was changed while it was opened");
  }
  return map;
}

std::byte* PreparedFile::content(const MappedFile& map) const {
  // Read-only in truth, as with checkpoints: Tensor has one pointer type.
  return const_cast<std::byte*>(map.bytes().data()) + head_bytes();
}

}  // namespace fathom
