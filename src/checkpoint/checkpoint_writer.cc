#include "checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <cstdio>

#include "base/file_error.h"
#include "base/json.h"
#include "checkpoint/hf_index.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

// In the partial directory: its lock and, of a writing that can be resumed, its identity.
constexpr std::string_view kResumeFile = "resume.txt";
constexpr std::string_view kLockFile = "fathom.lock";
constexpr int64_t kMaxIdentityBytes = int64_t{64} << 20;

Path with_suffix(const Path& path, const char* suffix) {
  Path out = path;
  out += suffix;
  return out;
}

bool is_there(const Path& path) {
  std::error_code ignored;  // unreadable counts as there: creating it will fail and say why
  return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
}

// Whether `path` is a real directory without directories inside. This and is_replaceable are the guard between a
// mistyped output directory and somebody's home.
bool holds_only_files(const Path& path) {
  std::error_code code;
  if (fs::is_symlink(path, code) || !fs::is_directory(path, code)) return false;
  for (fs::directory_iterator it(path, code), end; !code && it != end; it.increment(code)) {
    const auto type = it->symlink_status(code).type();
    if (code || (type != fs::file_type::regular && type != fs::file_type::symlink)) return false;
  }
  return !code;
}

// Whether `path` is an older checkpoint (or empty), which overwriting may delete.
bool is_replaceable(const Path& path) {
  std::error_code code;
  return holds_only_files(path) &&
         (fs::is_empty(path, code) || fs::exists(path / "config.json", code) ||
          fs::exists(path / kSingleFileName, code) || fs::exists(path / kIndexFileName, code));
}

// Whether a directory holds nothing but what begins a writing.
bool is_just_begun(const Path& path) {
  std::error_code code;
  for (fs::directory_iterator it(path, code), end; !code && it != end; it.increment(code)) {
    const Path name = it->path().filename();
    if (name != kLockFile && name != std::string(kResumeFile) + ".partial") return false;
  }
  return !code;
}

// Whether `path` is what this writer makes of a NAME.partial: nothing else may be taken over or deleted.
bool is_partial_of_ours(const Path& path) {
  std::error_code ignored;  // absent and unreadable are the same here: opening says why
  return holds_only_files(path) && (fs::exists(path / kLockFile, ignored) || is_just_begun(path));
}

// Removes the files of a directory but its lock, which somebody holds.
Status remove_files_beside_lock(const Path& directory) {
  std::error_code code;
  std::vector<Path> files;
  for (fs::directory_iterator it(directory, code), end; !code && it != end; it.increment(code)) {
    if (it->path().filename() != kLockFile) files.push_back(it->path());
  }
  if (code) return file_error("list", directory, code.value());
  for (const Path& file : files) {
    fs::remove(file, code);
    if (code) return file_error("remove", file, code.value());
  }
  return {};
}

// A writer that was killed after the directory had its name left files of its own in the complete checkpoint.
void finish_interrupted_commit(const Path& target) {
  std::error_code ignored;  // they harm nobody
  if (!holds_only_files(target) || !fs::exists(target / kLockFile, ignored)) return;
  const auto lock = FileLock::try_acquire(target / kLockFile);
  if (!lock || !*lock) return;  // one that is about to remove them
  for (const std::string_view name : {kResumeFile, kLockFile}) fs::remove(target / name, ignored);
}

// NAME without a slash at its end.
Path normal_target(const Path& model_dir) {
  Path target = model_dir.lexically_normal();
  return target.has_filename() ? target : target.parent_path();
}

bool same_declarations(const std::vector<TensorDecl>& declared, const std::vector<StoredTensor>& stored) {
  return std::equal(declared.begin(), declared.end(), stored.begin(), stored.end(),
                    [](const TensorDecl& d, const StoredTensor& s) {
                      return d.name == s.name && d.dtype == s.dtype && d.shape == s.shape;
                    });
}

}  // namespace

std::vector<CheckpointWriter::Shard> CheckpointWriter::cut_into_shards(std::vector<TensorDecl> tensors,
                                                                       int64_t max_shard_bytes) {
  std::vector<Shard> shards(1);
  for (TensorDecl& t : tensors) {
    const int64_t bytes = *tensor_bytes(t.dtype, t.shape);
    if (!shards.back().tensors.empty() && bytes > max_shard_bytes - shards.back().num_bytes) shards.emplace_back();
    shards.back().num_bytes += bytes;
    shards.back().tensors.push_back(std::move(t));
  }
  return shards;
}

Result<CheckpointWriter> CheckpointWriter::create(const Path& model_dir, std::vector<TensorDecl> tensors,
                                                  const CheckpointWriterOptions& options) {
  const Path target = normal_target(model_dir);
  if (auto s = check_target(model_dir, options.overwrite); !s) return s.error();
  if (options.max_shard_bytes < 1) {
    return invalid("max_shard_bytes " + std::to_string(options.max_shard_bytes) + " must be positive");
  }
  if (auto s = check_declarations(tensors, target.string()); !s) return s.error();
  check(options.resume_identity.empty() || !options.overwrite, "a writing that can be resumed replaces nothing");
  const Path replaced = with_suffix(target, ".replaced");
  if (is_there(replaced)) {  // beside a complete target: what an interrupted save did not come to delete
    std::error_code code;
    fs::remove_all(replaced, code);
    if (code) return file_error("remove", replaced, code.value());
  }
  CheckpointWriter out(target, with_suffix(target, ".partial"),
                       cut_into_shards(std::move(tensors), options.max_shard_bytes), options.overwrite);
  if (auto s = out.take_partial(options.resume_identity); !s) {
    if (!out.lock_) out.partial_.clear();  // it may be somebody else's
    return s.error();
  }
  if (auto s = out.finish_shard(); !s) return s.error();
  return out;
}

Status CheckpointWriter::check_target(const Path& model_dir, bool overwrite) {
  const Path target = normal_target(model_dir);
  if (!target.has_filename() || target.filename() == "." || target.filename() == "..") {
    return invalid("cannot write a checkpoint to " + in_quotes(model_dir.string()) + "; name a new directory");
  }
  const bool exists = is_there(target);
  if (exists && !overwrite) {
    finish_interrupted_commit(target);
    return invalid(target.string() + " exists; remove it or name another directory");
  }
  if (exists && !is_replaceable(target)) {
    return invalid(target.string() + " exists and is not a checkpoint directory (files only, with a config.json or " +
                   std::string(kSingleFileName) + "); it is left alone");
  }
  const Path partial = with_suffix(target, ".partial"), replaced = with_suffix(target, ".replaced");
  const bool is_free = !is_there(partial) || is_partial_of_ours(partial) || (overwrite && holds_only_files(partial));
  if (!is_free) {
    return invalid(partial.string() + " is in the way and not of an interrupted run; remove it");
  }
  if (!is_there(replaced)) return {};
  if (!exists) {
    return invalid(replaced.string() + " is the older checkpoint of an interrupted save; rename it to " +
                   target.string() + " or remove it");
  }
  if (!holds_only_files(replaced)) {
    return invalid(replaced.string() + " is in the way and not a checkpoint; remove it");
  }
  return {};
}

// Makes the partial directory ours, or takes over one that an interrupted run left: locks it, and counts the shards of
// the same identity that are complete in it. What else was there is removed.
Status CheckpointWriter::take_partial(const std::string& identity) {
  std::error_code code;
  fs::create_directory(partial_, code);
  if (code) return file_error("create", partial_, code.value());
  auto lock = FileLock::try_acquire(partial_ / kLockFile);
  if (!lock) {
    fs::remove(partial_, code);  // only if it is empty
    return lock.error();
  }
  if (!*lock) return invalid("another run is writing " + target_.string() + "; wait for it or stop it");
  const Path resume_file = partial_ / kResumeFile;
  const auto begun = read_file(resume_file, kMaxIdentityBytes);
  if (!begun && begun.error().code != ErrorCode::kNotFound) return begun.error();
  if (begun && *begun != identity && !overwrite_) {
    return invalid(partial_.string() +
                   " was begun by a run with another source or other settings; finish that one, or remove it");
  }
  lock_.emplace(std::move(**lock));
  keeps_shards_ = !identity.empty();
  if (!begun || overwrite_) {
    if (auto s = remove_files_beside_lock(partial_); !s) return s;
    return identity.empty() ? Status() : write_file(resume_file, identity);
  }
  for (; shard_ < shards_.size(); ++shard_) {
    const auto file = SafetensorsFile::open(partial_ / shard_name(shard_));
    if (!file || !same_declarations(shards_[shard_].tensors, file->tensors())) break;
    num_resumed_ += shards_[shard_].tensors.size();
  }
  return {};
}

CheckpointWriter::CheckpointWriter(CheckpointWriter&& other) noexcept
    : target_(std::move(other.target_)),
      partial_(std::exchange(other.partial_, Path())),
      shards_(std::move(other.shards_)),
      overwrite_(other.overwrite_),
      keeps_shards_(other.keeps_shards_),
      lock_(std::move(other.lock_)),
      num_resumed_(other.num_resumed_),
      shard_(other.shard_),
      tensor_(other.tensor_),
      written_bytes_(other.written_bytes_),
      file_(std::move(other.file_)) {}

CheckpointWriter::~CheckpointWriter() {
  if (partial_.empty()) return;
  file_.reset();
  if (keeps_shards_ && shard_ > 0) return;  // complete shards stay for the next run
  std::error_code ignored;                  // nobody to tell; the next save names what is left
  fs::remove_all(partial_, ignored);
}

std::string CheckpointWriter::shard_name(size_t shard) const {
  if (shards_.size() == 1) return std::string(kSingleFileName);
  char text[64];
  std::snprintf(text, sizeof text, "model-%05zu-of-%05zu.safetensors", shard + 1, shards_.size());
  return text;
}

// Brings file_ to the shard that the next bytes go to: opens the first one, and moves on from one that is complete.
Status CheckpointWriter::finish_shard() {
  if (file_ && tensor_ == shards_[shard_].tensors.size()) {
    if (auto s = file_->commit(); !s) return s;
    file_.reset();
    ++shard_;
    tensor_ = 0;
  }
  if (file_ || shard_ == shards_.size()) return {};
  auto file = SafetensorsWriter::create(partial_ / shard_name(shard_), shards_[shard_].tensors, {{"format", "pt"}});
  if (!file) return file.error();
  file_.emplace(std::move(*file));
  return {};
}

Status CheckpointWriter::append(std::string_view name, std::span<const std::byte> bytes) {
  check(file_.has_value() && tensor_ < shards_[shard_].tensors.size(), "tensors are written in declared order");
  if (auto s = file_->append(name, bytes); !s) return s;
  const TensorDecl& decl = shards_[shard_].tensors[tensor_];
  written_bytes_ += static_cast<int64_t>(bytes.size());
  if (written_bytes_ < *tensor_bytes(decl.dtype, decl.shape)) return {};
  written_bytes_ = 0;
  ++tensor_;
  return finish_shard();
}

Status CheckpointWriter::append(std::string_view name, const Tensor& contiguous) {
  check(contiguous.is_contiguous(), "a tensor to write is contiguous");
  return append(name, {static_cast<const std::byte*>(contiguous.data), static_cast<size_t>(contiguous.num_bytes())});
}

Status CheckpointWriter::add_file(std::string_view file_name, std::string_view text) {
  const bool is_plain = !file_name.empty() && file_name[0] != '.' && file_name.find('/') == std::string_view::npos &&
                        !file_name.ends_with(".safetensors") && file_name != kIndexFileName;
  if (!is_plain) return invalid("cannot add " + in_quotes(file_name) + " to a checkpoint; give a plain file name");
  return write_file(partial_ / std::string(file_name), text);
}

Status CheckpointWriter::write_index() const {
  int64_t total_bytes = 0;
  Json weight_map = Json::object();
  for (size_t s = 0; s < shards_.size(); ++s) {
    const std::string file = shard_name(s);
    for (const TensorDecl& t : shards_[s].tensors) weight_map.members().emplace_back(t.name, file);
    total_bytes += shards_[s].num_bytes;
  }
  Json metadata = Json::object();
  metadata.set("total_size", total_bytes);
  Json index = Json::object();
  index.set("metadata", std::move(metadata));
  index.set("weight_map", std::move(weight_map));
  return write_file(partial_ / kIndexFileName, index.dump(2) + "\n");
}

Status CheckpointWriter::commit() {
  if (auto s = finish_shard(); !s) return s;  // a checkpoint without tensors has one empty file
  check(shard_ == shards_.size(), "every declared tensor was written");
  if (shards_.size() > 1) {
    if (auto s = write_index(); !s) return s;
  }
  std::error_code code;
  if (auto s = sync_directory(partial_); !s) return s;
  const Path replaced = with_suffix(target_, ".replaced");
  const bool exists = is_there(target_);
  if (exists) {
    if (!overwrite_ || !is_replaceable(target_)) {
      return invalid(target_.string() + " appeared while its checkpoint was written; it is left alone");
    }
    fs::rename(target_, replaced, code);
    if (code) return file_error("rename", target_, code.value());
  }
  fs::rename(partial_, target_, code);
  if (code) {
    const Error error = file_error("rename to", target_, code.value());
    std::error_code ignored;  // the first error is the one to report
    if (exists) fs::rename(replaced, target_, ignored);
    return error;
  }
  partial_.clear();
  for (const std::string_view name : {kResumeFile, kLockFile}) {  // until here an interrupted run is known by them
    fs::remove(target_ / name, code);
    if (code) return file_error("remove", target_ / name, code.value());
  }
  if (auto s = sync_directory(target_.has_parent_path() ? target_.parent_path() : Path(".")); !s) return s;
  if (exists) {
    fs::remove_all(replaced, code);
    if (code) return file_error("remove", replaced, code.value());
  }
  return {};
}

}  // namespace fathom
