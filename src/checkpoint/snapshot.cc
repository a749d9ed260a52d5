// Writing and verifying snapshots.
#include "checkpoint/snapshot.h"

#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <system_error>

#include "base/check.h"
#include "base/file_error.h"
#include "base/file_set.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormat = "fathom-snapshot-1";
constexpr std::string_view kManifest = "manifest.json";
constexpr std::string_view kTensors = "state.safetensors";
constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kPartial = ".partial";    // being written
constexpr std::string_view kReplaced = ".replaced";  // good, about to be deleted because its step was written again
constexpr int64_t kMaxManifestBytes = int64_t{64} << 20;
constexpr size_t kMaxFolders = 1 << 16;

std::string hex_hash(const void* data, size_t size) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(XXH3_64bits(data, size)));
  return text;
}

std::string folder_name(int64_t step) {
  char text[32];
  std::snprintf(text, sizeof text, "step-%08lld", static_cast<long long>(step));
  return text;
}

/// A folder of the directory that has the name of a snapshot.
struct Folder {
  int64_t step = 0;
  bool is_replaced = false;
  Path path;
};

std::optional<int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size());
  int64_t step = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  const bool is_number = error == std::errc{} && end == digits.data() + digits.size() && step >= 0;
  return is_number && folder_name(step) == name ? std::optional(step) : std::nullopt;
}

struct Listing {
  std::vector<Folder> folders;  // newest first; of one step the plain one first
  std::vector<Path> partials;   // left by interrupted saves
};

Result<Listing> list(const Path& directory) {
  Listing out;
  std::error_code code;
  fs::directory_iterator it(directory, code);
  if (code == std::errc::no_such_file_or_directory) return out;
  for (const fs::directory_iterator end; !code && it != end; it.increment(code)) {
    const std::string name = it->path().filename().string();
    const std::string_view view = name;
    std::error_code ignored;  // a name that cannot be examined is not ours
    if (!fs::is_directory(it->symlink_status(ignored))) continue;
    if (const auto step = step_of(view)) {
      out.folders.push_back({*step, false, it->path()});
    } else if (view.ends_with(kReplaced) && step_of(view.substr(0, view.size() - kReplaced.size()))) {
      out.folders.push_back({*step_of(view.substr(0, view.size() - kReplaced.size())), true, it->path()});
    } else if (view.ends_with(kPartial) && step_of(view.substr(0, view.size() - kPartial.size()))) {
      out.partials.push_back(it->path());
    }
    if (out.folders.size() > kMaxFolders) {
      return invalid(directory.string() + " has more than " + std::to_string(kMaxFolders) + " snapshots; remove some");
    }
  }
  if (code) return file_error("list", directory, code.value());
  std::sort(out.folders.begin(), out.folders.end(), [](const Folder& a, const Folder& b) {
    return a.step != b.step ? a.step > b.step : a.is_replaced < b.is_replaced;
  });
  return out;
}

/// Removes a folder that only snapshots use, at the end of a scope unless it was released.
class FolderGuard {
 public:
  explicit FolderGuard(Path path) : path_(std::move(path)) {}
  ~FolderGuard() {
    std::error_code ignored;  // the error that led here is the one to report
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  FolderGuard(const FolderGuard&) = delete;
  FolderGuard& operator=(const FolderGuard&) = delete;
  void release() { path_.clear(); }

 private:
  Path path_;
};

Status write_tensors(const Path& path, std::span<const SnapshotTensor> tensors) {
  std::vector<TensorDecl> declarations;
  for (const SnapshotTensor& t : tensors) {
    check(t.tensor.is_contiguous(), "a snapshot's tensors are contiguous");
    const auto rank = static_cast<size_t>(t.tensor.rank);
    declarations.push_back(
        {t.name, t.tensor.dtype, {t.tensor.extents.begin(), t.tensor.extents.begin() + static_cast<ptrdiff_t>(rank)}});
  }
  auto writer = SafetensorsWriter::create(path, std::move(declarations));
  if (!writer) return writer.error();
  for (const SnapshotTensor& t : tensors) {
    if (auto s = writer->append(t.name, t.tensor); !s) return s;
  }
  return writer->commit();
}

Result<Json> describe_file(const Path& path) {
  const auto file = MappedFile::open(path);
  if (!file) return file.error();
  const auto bytes = file->bytes();
  Json entry = Json::object();
  entry.set("name", path.filename().string());
  entry.set("bytes", static_cast<int64_t>(bytes.size()));
  entry.set("xxh3", hex_hash(bytes.data(), bytes.size()));
  return entry;
}

Status write_folder(const Path& folder, int64_t step, const Json& state, std::span<const SnapshotTensor> tensors) {
  const Path tensor_path = folder / kTensors;
  if (auto s = write_tensors(tensor_path, tensors); !s) return s;
  auto entry = describe_file(tensor_path);
  if (!entry) return entry.error();
  const std::string state_text = state.dump();
  Json manifest = Json::object();
  manifest.set("format", kFormat);
  manifest.set("step", step);
  manifest.set("state", state);
  manifest.set("state_xxh3", hex_hash(state_text.data(), state_text.size()));
  manifest.set("files", Json::Array{*std::move(entry)});
  return write_file(folder / kManifest, manifest.dump(1) + "\n");
}

Status remove_folder(const Path& path) {
  std::error_code code;
  fs::remove_all(path, code);
  if (code) return file_error("remove", path, code.value());
  return {};
}

/// Gives the finished folder its name. One of that name moves aside first and stays readable until the end.
Status publish(const Path& partial, const Path& target) {
  std::error_code code;
  Path replaced = target;
  replaced += kReplaced;
  const bool exists = fs::exists(target, code);
  if (exists) {
    if (auto s = remove_folder(replaced); !s) return s;
    fs::rename(target, replaced, code);
    if (code) return file_error("rename", target, code.value());
  }
  fs::rename(partial, target, code);
  if (code) {
    const Error error = file_error("rename to", target, code.value());
    std::error_code ignored;  // the first error is the one to report
    if (exists) fs::rename(replaced, target, ignored);
    return error;
  }
  return sync_directory(target.parent_path());
}

bool is_text(const Json* json, std::string_view text) {
  return json != nullptr && json->is_string() && json->as_string() == text;
}

Result<Snapshot> open_folder(const Folder& folder) {
  const Path manifest_path = folder.path / kManifest;
  const auto text = read_file(manifest_path, kMaxManifestBytes);
  if (!text) return text.error();
  auto manifest = Json::parse(*text, manifest_path.string());
  if (!manifest) return manifest.error();
  const std::string where = manifest_path.string() + ": ";
  if (!is_text(manifest->find("format"), kFormat))
    return corrupt(where + "not a " + std::string(kFormat) + " manifest");
  const Json* step = manifest->find("step");
  if (step == nullptr || !step->is_int() || step->as_int() != folder.step) {
    return corrupt(where + "its step is not that of its folder");
  }
  const Json* state = manifest->find("state");
  if (state == nullptr) return corrupt(where + "has no state");
  const std::string state_text = state->dump();
  if (!is_text(manifest->find("state_xxh3"), hex_hash(state_text.data(), state_text.size()))) {
    return corrupt(where + "its state does not have the recorded XXH3");
  }
  const Json* files = manifest->find("files");
  if (files == nullptr || !files->is_array() || files->items().size() != 1)
    return corrupt(where + "must list one file");
  const Path tensor_path = folder.path / kTensors;
  const auto found = describe_file(tensor_path);
  if (!found) return found.error();
  if (*found != files->items().front()) {
    return corrupt(tensor_path.string() + " does not have the recorded size and XXH3");
  }
  auto tensors = SafetensorsFile::open(tensor_path);
  if (!tensors) return tensors.error();
  return Snapshot{
      .step = folder.step, .path = folder.path, .state = *state, .tensors = *std::move(tensors), .notes = {}};
}

}  // namespace

Status save_snapshot(const Path& directory, int64_t step, const Json& state, std::span<const SnapshotTensor> tensors,
                     int64_t keep) {
  check(step >= 0 && keep >= 1, "a snapshot has a step and at least one is kept");
  if (auto s = make_directories(directory); !s) return s;
  const auto before = list(directory);
  if (!before) return before.error();
  for (const Path& path : before->partials) {
    if (auto s = remove_folder(path); !s) return s;
  }
  const Path target = directory / folder_name(step);
  Path partial = target;
  partial += kPartial;
  std::error_code code;
  if (!fs::create_directory(partial, code) || code) return file_error("create", partial, code.value());
  FolderGuard guard(partial);
  if (auto s = write_folder(partial, step, state, tensors); !s) return s;
  if (auto s = publish(partial, target); !s) return s;
  guard.release();

  const auto after = list(directory);
  if (!after) return after.error();
  int64_t kept = 0;
  for (const Folder& folder : after->folders) {
    // A later step was not good, or the run would have resumed from it; left here it would be the newest again.
    const bool keeps = !folder.is_replaced && folder.step <= step && kept < keep;
    if (keeps) {
      ++kept;
    } else if (auto s = remove_folder(folder.path); !s) {
      return s;
    }
  }
  return {};
}

Result<std::optional<Snapshot>> load_snapshot(const Path& directory) {
  const auto listing = list(directory);
  if (!listing) return listing.error();
  std::vector<std::string> notes;
  for (const Folder& folder : listing->folders) {
    auto snapshot = open_folder(folder);
    if (snapshot) {
      snapshot->notes = std::move(notes);
      return std::optional(*std::move(snapshot));
    }
    notes.push_back("snapshot " + folder.path.string() + " is not good and was passed over: " + snapshot.error().text);
  }
  if (notes.empty()) return std::optional<Snapshot>();
  return corrupt(directory.string() + ": none of its " + std::to_string(notes.size()) +
                 " snapshots is good; remove them to start anew (" + notes.front() + ")");
}

}  // namespace fathom
