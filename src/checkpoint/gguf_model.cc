#include "checkpoint/gguf_model.h"

#include <algorithm>
#include <charconv>

#include "checkpoint/safetensors.h"

namespace fathom {
namespace {

constexpr int64_t kMaxParts = 99'999;  // what the five digits of a part's name can say

// "NAME-00002-of-00003.gguf" taken apart.
struct PartName {
  std::string stem;  // NAME
  int64_t number = 0;
  int64_t count = 0;
};

std::optional<PartName> part_name(std::string_view file) {
  constexpr std::string_view kPattern = "-00000-of-00000.gguf";
  if (file.size() <= kPattern.size()) return std::nullopt;
  const std::string_view tail = file.substr(file.size() - kPattern.size());
  for (size_t i = 0; i < tail.size(); ++i) {
    const bool matches = kPattern[i] == '0' ? tail[i] >= '0' && tail[i] <= '9' : tail[i] == kPattern[i];
    if (!matches) return std::nullopt;
  }
  PartName name{std::string(file.substr(0, file.size() - kPattern.size())), 0, 0};
  std::from_chars(tail.data() + 1, tail.data() + 6, name.number);
  std::from_chars(tail.data() + 10, tail.data() + 15, name.count);
  return name;
}

std::string part_file(const PartName& name, int64_t number) {
  const auto five = [](int64_t n) {
    const std::string digits = std::to_string(n);
    return std::string(5 - std::min<size_t>(5, digits.size()), '0') + digits;
  };
  return name.stem + "-" + five(number) + "-of-" + five(name.count) + ".gguf";
}

/// split.* of one part against its place.
Status check_part(const GgufMetadata& metadata, int64_t number, int64_t count, int64_t total_tensors) {
  for (const auto& [key, wanted] : {std::pair<std::string_view, int64_t>{"split.no", number - 1},
                                    {"split.count", count},
                                    {"split.tensors.count", total_tensors}}) {
    const auto found = metadata.integer(key);
    if (!found) return found.error();
    if (*found != wanted) {
      return corrupt(metadata.where() + ": " + std::string(key) + " is " + std::to_string(*found) + ", but part " +
                     std::to_string(number) + " of " + std::to_string(count) + " needs " + std::to_string(wanted));
    }
  }
  return {};
}

}  // namespace

Result<GgufModel> GgufModel::open(const Path& path) {
  auto state = std::make_shared<State>();
  state->path = path;
  const auto add = [&](const Path& file) -> Status {
    auto mapped = MappedFile::open(file);
    if (!mapped) return mapped.error();
    auto content = parse_gguf(mapped->bytes(), file.string());
    if (!content) return content.error();
    state->files.push_back(*std::move(mapped));
    state->parts.push_back(*std::move(content));
    return {};
  };
  if (auto s = add(path); !s) return s.error();
  const GgufMetadata& first = state->parts.front().metadata;
  int64_t num_parts = 1;
  if (first.has("split.count")) {
    const auto count = first.integer("split.count");
    if (!count) return count.error();
    if (*count < 0 || *count > kMaxParts) {
      return corrupt(path.string() + ": split.count is " + std::to_string(*count) + "; accepted: 0 to " +
                     std::to_string(kMaxParts));
    }
    num_parts = std::max<int64_t>(1, *count);
  }
  if (num_parts > 1) {
    const auto name = part_name(path.filename().string());
    if (!name || name->count != num_parts) {
      return invalid(path.string() + " is part of a model in " + std::to_string(num_parts) +
                     " files, whose names must end in -00001-of-NNNNN.gguf and so on");
    }
    if (name->number != 1) {
      return invalid(path.string() + " is not the first part; give " +
                     (path.parent_path() / part_file(*name, 1)).string());
    }
    const auto total = first.integer("split.tensors.count");
    if (!total) return total.error();
    if (auto s = check_part(first, 1, num_parts, *total); !s) return s.error();
    for (int64_t number = 2; number <= num_parts; ++number) {
      const Path file = path.parent_path() / part_file(*name, number);
      if (auto s = add(file); !s) {
        if (s.error().code != ErrorCode::kNotFound) return s.error();
        return not_found(path.string() + ": part " + in_quotes(file.filename().string()) +
                         " is missing; is the download complete?");
      }
      if (auto s = check_part(state->parts.back().metadata, number, num_parts, *total); !s) return s.error();
    }
    int64_t found = 0;
    for (const GgufContent& part : state->parts) found += static_cast<int64_t>(part.tensors.size());
    if (found != *total) {
      return corrupt(path.string() + ": split.tensors.count is " + std::to_string(*total) + ", but the parts hold " +
                     std::to_string(found) + " tensors");
    }
  }
  for (const GgufContent& part : state->parts) {
    for (const GgufTensor& tensor : part.tensors) {
      if (!state->by_name.emplace(tensor.name, &tensor).second) {
        return corrupt(part.metadata.where() + ": tensor " + in_quotes(tensor.name) + " is in two parts");
      }
      state->tensors.push_back(&tensor);
    }
  }
  return GgufModel(std::move(state));
}

const GgufTensor* GgufModel::find(std::string_view name) const {
  const auto found = state_->by_name.find(name);
  return found == state_->by_name.end() ? nullptr : found->second;
}

Result<std::optional<Path>> find_gguf(const Path& model) {
  std::error_code ignored;  // what cannot be read is no GGUF; opening it in another way says why
  if (std::filesystem::is_regular_file(model, ignored)) {
    return model.extension() == ".gguf" ? std::optional<Path>(model) : std::nullopt;
  }
  if (!std::filesystem::is_directory(model, ignored) || std::filesystem::exists(model / "config.json", ignored)) {
    return std::optional<Path>();
  }
  std::vector<Path> found;
  std::filesystem::directory_iterator entry(model, ignored);
  for (; entry != std::filesystem::directory_iterator(); entry.increment(ignored)) {
    if (entry->path().extension() != ".gguf") continue;
    const auto part = part_name(entry->path().filename().string());
    if (!part || part->number == 1) found.push_back(entry->path());
  }
  std::sort(found.begin(), found.end());
  if (found.size() > 1) {
    return invalid(model.string() + " holds several GGUF models (" + in_quotes(found[0].filename().string()) + ", " +
                   in_quotes(found[1].filename().string()) + "); give the file");
  }
  return found.empty() ? std::optional<Path>() : std::optional<Path>(found[0]);
}

}  // namespace fathom
