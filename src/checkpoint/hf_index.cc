#include "checkpoint/hf_index.h"

#include <algorithm>
#include <map>
#include <string>

#include "base/json.h"

namespace fathom {
namespace {

constexpr int64_t kMaxIndexBytes = int64_t{256} << 20;
constexpr size_t kMaxFileName = 255;

// A file name that cannot leave the model directory.
bool is_plain_name(std::string_view name) {
  constexpr std::string_view kSuffix = ".safetensors";
  return name.size() > kSuffix.size() && name.size() <= kMaxFileName && name.ends_with(kSuffix) && name[0] != '.' &&
         std::none_of(name.begin(), name.end(),
                      [](char c) { return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20; });
}

// Shard file name -> the tensors that the index expects in it.
using ShardMap = std::map<std::string, std::vector<std::string>, std::less<>>;

Result<ShardMap> read_index(const Path& path) {
  const auto text = read_file(path, kMaxIndexBytes);
  if (!text) return text.error();
  const auto json = Json::parse(*text, path.string());
  if (!json) return json.error();
  const Json* weight_map = json->find("weight_map");
  if (!weight_map || !weight_map->is_object()) {
    return corrupt(path.string() + ": \"weight_map\" must be an object of tensor name to file name");
  }
  ShardMap shards;
  for (const auto& [tensor, file] : weight_map->members()) {
    if (!file.is_string()) {
      return corrupt(path.string() + ": weight_map " + in_quotes(tensor) + " must be a file name, found " +
                     std::string(file.kind()));
    }
    if (!is_plain_name(file.as_string())) {
      return corrupt(path.string() + ": weight_map " + in_quotes(tensor) + " names " + in_quotes(file.as_string()) +
                     "; accepted are plain names *.safetensors inside the directory");
    }
    shards[file.as_string()].push_back(tensor);
  }
  if (shards.empty()) return corrupt(path.string() + ": \"weight_map\" is empty");
  return shards;
}

// The tensors of `shard` are exactly those that the index expects there.
Status check_shard(const SafetensorsFile& shard, const std::vector<std::string>& expected) {
  for (const std::string& name : expected) {
    if (!shard.find(name)) {
      return corrupt(shard.path().string() + ": tensor " + in_quotes(name) + " is missing, though " +
                     std::string(kIndexFileName) + " lists it there");
    }
  }
  if (expected.size() == shard.tensors().size()) return {};
  std::vector<std::string_view> known(expected.begin(), expected.end());
  std::sort(known.begin(), known.end());
  const StoredTensor* first = nullptr;
  for (const StoredTensor& t : shard.tensors()) {
    if (!first && !std::binary_search(known.begin(), known.end(), std::string_view(t.name))) first = &t;
  }
  check(first != nullptr, "a shard with more tensors than listed has one that is not listed");
  return corrupt(shard.path().string() + ": " + std::to_string(shard.tensors().size() - expected.size()) +
                 " tensors that " + std::string(kIndexFileName) + " does not list there; the first is " +
                 in_quotes(first->name));
}

}  // namespace

Result<Checkpoint> Checkpoint::open(const Path& model_dir) {
  Checkpoint out;
  out.model_dir_ = model_dir;
  std::error_code ignored;  // exists() is false on an error, and then opening the file says why
  const bool has_single = std::filesystem::exists(model_dir / kSingleFileName, ignored);
  const bool has_index = std::filesystem::exists(model_dir / kIndexFileName, ignored);
  if (has_single && has_index) {
    return invalid(model_dir.string() + " holds both " + std::string(kSingleFileName) + " and " +
                   std::string(kIndexFileName) + "; remove the one that is out of date");
  }
  if (!has_single && !has_index) {
    return not_found(model_dir.string() + " holds neither " + std::string(kSingleFileName) + " nor " +
                     std::string(kIndexFileName));
  }
  if (has_single) {
    auto shard = SafetensorsFile::open(model_dir / kSingleFileName);
    if (!shard) return shard.error();
    out.add_shard(std::move(*shard));
    return out;
  }
  const auto index = read_index(model_dir / kIndexFileName);
  if (!index) return index.error();
  for (const auto& [file, tensors] : *index) {
    auto shard = SafetensorsFile::open(model_dir / file);
    if (!shard) {
      if (shard.error().code != ErrorCode::kNotFound) return shard.error();
      return not_found(model_dir.string() + ": shard " + in_quotes(file) + " is missing, though " +
                       std::string(kIndexFileName) + " names it; is the download complete?");
    }
    if (auto s = check_shard(*shard, tensors); !s) return s.error();
    out.add_shard(std::move(*shard));
  }
  return out;
}

void Checkpoint::add_shard(SafetensorsFile shard) {
  for (const StoredTensor& t : shard.tensors()) {
    shard_of_.emplace(t.name, shards_.size());
    total_bytes_ += static_cast<int64_t>(t.bytes.size());
  }
  shards_.push_back(std::move(shard));
}

const StoredTensor* Checkpoint::find(std::string_view name) const {
  const auto it = shard_of_.find(name);
  return it == shard_of_.end() ? nullptr : shards_[it->second].find(name);
}

Result<Tensor> Checkpoint::tensor(std::string_view name) const {
  const auto it = shard_of_.find(name);
  if (it == shard_of_.end()) return not_found(model_dir_.string() + ": no tensor " + in_quotes(name));
  return shards_[it->second].tensor(name);
}

std::vector<std::string_view> Checkpoint::names() const {
  std::vector<std::string_view> out;
  out.reserve(shard_of_.size());
  for (const SafetensorsFile& shard : shards_) {
    for (const StoredTensor& t : shard.tensors()) out.push_back(t.name);
  }
  return out;
}

}  // namespace fathom
