// A model directory that was damaged on its way: a thousand mutations of its config.json and a thousand of its
// model.safetensors. Each is an error that names the file, or a model whose config and bytes are what the files say and
// that computes. In a process of their own, which may not take more memory than the undamaged model took; none may
// crash or hang.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/rng.h"
#include "checkpoint/temp_dir.h"
#include "checkpoint_dir.h"
#include "kernels/registry.h"
#include "model/transformer.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FATHOM_TEST_SHADOW_MEMORY
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FATHOM_TEST_SHADOW_MEMORY
#endif
#endif

namespace fathom {
namespace {

constexpr int64_t kMutations = 1000;
constexpr int kHangSeconds = 20;  // of the processor: a machine may be slow

/// What a mutation draws, one after the other.
class Draws {
 public:
  explicit Draws(uint64_t mutation) : rng_(9, mutation) {}
  size_t below(size_t bound) { return static_cast<size_t>(rng_.below(next_++, bound)); }

 private:
  Rng rng_;
  uint64_t next_ = 0;
};

void flip_bits(std::string& text, Draws& draw) {
  for (size_t n = 1 + draw.below(4); n > 0; --n) text[draw.below(text.size())] ^= static_cast<char>(1 << draw.below(8));
}

/// A piece of the text goes to another place of it, over what is there or between.
void splice(std::string& text, Draws& draw) {
  const size_t from = draw.below(text.size()), to = draw.below(text.size());
  const std::string piece = text.substr(from, 1 + draw.below(40));
  draw.below(2) == 0 ? text.insert(to, piece) : text.replace(to, piece.size(), piece);
}

/// The number at or behind a random place becomes another one, or something else.
void edit_number(std::string& text, Draws& draw) {
  constexpr const char* kOthers[] = {
      "0",     "1",     "-1",   "2",   "7",  "65536", "2147483648", "9223372036854775807",
      "1e308", "1e999", "-0.0", "0.5", "{}", "[]",    "null",       "18446744073709551616",
      "true",  "\"8\""};
  constexpr std::string_view kDigits = "0123456789";
  size_t at = text.find_first_of(kDigits, draw.below(text.size()));
  if (at == std::string::npos) at = text.find_first_of(kDigits);
  if (at == std::string::npos) return;
  const size_t end = std::min(text.find_first_not_of("0123456789.eE+-", at), text.size());
  text.replace(at, end - at, kOthers[draw.below(std::size(kOthers))]);
}

/// A member stands there twice, the second time with another value as often as not.
void repeat_member(std::string& text, Draws& draw) {
  size_t at = text.find("\":", draw.below(text.size()));
  if (at == std::string::npos) at = text.find("\":");
  if (at == std::string::npos) return;
  const size_t begin = text.rfind('"', at - 1), end = text.find(',', at);
  if (begin == std::string::npos || end == std::string::npos) return;
  std::string member = text.substr(begin, end + 1 - begin);
  if (draw.below(2) == 0) edit_number(member, draw);
  text.insert(begin, member);
}

void mutate(std::string& text, Draws& draw) {
  if (text.empty()) return;
  switch (draw.below(7)) {
    case 0: return flip_bits(text, draw);
    case 1: return text.resize(draw.below(text.size()));
    case 2: return splice(text, draw);
    case 3:
    case 4: return edit_number(text, draw);
    case 5: return repeat_member(text, draw);
    default: text.erase(draw.below(text.size()), 1 + draw.below(20));
  }
}

std::string with_length(const std::string& header, std::string_view data) {
  const uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out.append(header).append(data);
}

/// Mostly the header, which is a thousandth of the file; its length is as often right as not.
void mutate_safetensors(std::string& file, Draws& draw) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  std::string header = file.substr(8, length), data = file.substr(8 + length);
  switch (draw.below(8)) {
    case 0: return flip_bits(file, draw);
    case 1: return file.resize(draw.below(file.size()));
    case 2: file[draw.below(8)] ^= static_cast<char>(1 << draw.below(8)); return;
    case 3: mutate(data, draw); break;
    default: mutate(header, draw);
  }
  const std::string old = file.substr(0, 8);
  file = with_length(header, data);
  if (draw.below(4) == 0) file.replace(0, 8, old);
}

/// The first value of `file` that stands otherwise in `taken`, as "key is 1 and was taken as 2"; members that `taken`
/// does not have are ignored ones.
std::string difference(const Json& file, const Json& taken, const std::string& key) {
  if (file.is_object() && taken.is_object()) {
    for (const auto& [name, value] : file.members()) {
      // Written for others: model_type says the one, the tensors the other.
      if (name == "architectures" || name == "torch_dtype" || name == "dtype") continue;
      if (const Json* used = taken.find(name)) {
        if (auto found = difference(value, *used, key.empty() ? name : key + "." + name); !found.empty()) return found;
      }
    }
    return {};
  }
  if (file.is_null()) return {};  // not given
  // 0 of something is none of it.
  const bool is_none = taken.is_null() && file.is_number() && file.as_double() == 0;
  const bool is_equal =
      file.is_number() && taken.is_number() ? file.as_double() == taken.as_double() : file == taken || is_none;
  return is_equal ? "" : key + " is " + file.dump() + " and was taken as " + taken.dump();
}

class MutatedModel : public ::testing::Test {
 protected:
  MutatedModel() {
    const auto model = testing::random_model(testing::awkward_config(), 3, DType::kBF16);
    testing::write_model(*model, dir());
    config_ = *read_file(dir() / "config.json");
    weights_ = *read_file(dir() / "model.safetensors");
  }
  Path dir() const { return directory_.path() / "model"; }

  /// Not by write_file: what is here need not survive a power cut.
  void put(const char* name, const std::string& text) const { std::ofstream(dir() / name, std::ios::binary) << text; }

  /// What is wrong with how the directory was taken; empty: nothing. Counts the models that could be used.
  std::string judge(Kernels& kernels, int64_t& num_used) const {
    const auto model = load_model(dir());
    if (!model) {
      return model.error().text.find(dir().string()) == std::string::npos ? "no file: " + model.error().text : "";
    }
    ++num_used;
    const auto config = ModelConfig::load(dir());  // the model's own has no MTP modules where the weights have none
    if (!config) return "the config of a model that loads cannot be read";
    if (std::string wrong = judge_config(*config); !wrong.empty()) return wrong;
    if (std::string wrong = judge_bytes((*model)->checkpoints.at(0)); !wrong.empty()) return wrong;
    Arena arena;
    const fathom::Run run{.k = kernels, .arena = arena, .activation = DType::kF32};
    const std::vector<int32_t> tokens = {1, 2, 3};
    const DocumentLayout layout(std::vector<int64_t>{0, 3});
    const Transformer transformer((*model)->config, (*model)->weights);
    const Tensor out =
        transformer.forward(run, {.tokens = tokens, .positions = layout.positions, .segments = layout.segments});
    return out.extent(0) == 3 ? "" : "three tokens give three states";
  }

  /// No value of the file is silently replaced.
  std::string judge_config(const ModelConfig& config) const {
    const auto file = Json::parse(*read_file(dir() / "config.json"), "file");
    const Json taken = config.to_json();
    if (!file) return "a config that is no JSON was taken";
    return difference(*file, taken, "");
  }

  /// The tensors are the bytes at their offsets, read by hand.
  std::string judge_bytes(const Checkpoint& checkpoint) const {
    const std::string file = *read_file(dir() / "model.safetensors");
    uint64_t length = 0;
    std::memcpy(&length, file.data(), 8);
    const auto header = Json::parse(std::string_view(file).substr(8, length), "header");
    if (!header) return "a header that is no JSON was taken";
    for (const std::string_view name : checkpoint.names()) {
      const StoredTensor& tensor = *checkpoint.find(name);
      const Json* entry = header->find(name);
      if (entry == nullptr) return std::string(name) + " is not in the header";
      const size_t begin = static_cast<size_t>(entry->find("data_offsets")->items()[0].as_int());
      if (std::memcmp(file.data() + 8 + length + begin, tensor.bytes.data(), tensor.bytes.size()) != 0) {
        return std::string(name) + " is not what the file has at its offsets";
      }
    }
    return {};
  }

  /// A thousand mutations in a child; `mutate_files` writes the directory for one.
  template <class MutateFiles>
  void expect_all_good(const MutateFiles& mutate_files);

  testing::TemporaryDirectory directory_;
  std::string config_, weights_;
};

/// What the child tells, also when it ends where it must not.
struct Told {
  int64_t mutation = -1, num_used = 0;
  char wrong[600] = {};
};

[[maybe_unused]] int64_t address_space_bytes() {  // not under a sanitizer
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * ::sysconf(_SC_PAGESIZE);
}

template <class MutateFiles>
void MutatedModel::expect_all_good(const MutateFiles& mutate_files) {
  void* shared = ::mmap(nullptr, sizeof(Told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  Told& told = *new (shared) Told;
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ThreadPool pool(1);
    const auto kernels = make_kernels("cpu", pool);
    const auto judge_one = [&] {
      const std::string wrong = judge(**kernels, told.num_used);
      std::snprintf(told.wrong, sizeof(told.wrong), "%s", wrong.c_str());
      if (!wrong.empty()) ::_exit(1);
    };
    judge_one();  // the undamaged one: what it needed, malloc has now
#ifndef FATHOM_TEST_SHADOW_MEMORY
    // Twice its memory: the file in a map and as read for the test, the weights, and the grain of malloc.
    constexpr int64_t kGrain = int64_t{4} << 20;
    const auto most = static_cast<rlim_t>(address_space_bytes() + 4 * std::ssize(weights_) + kGrain);
    const rlimit limit{.rlim_cur = most, .rlim_max = most};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) ::_exit(2);
#endif
    const itimerval patience{.it_interval = {}, .it_value = {.tv_sec = kHangSeconds, .tv_usec = 0}};
    told.num_used = 0;
    for (told.mutation = 0; told.mutation < kMutations; ++told.mutation) {
      ::setitimer(ITIMER_PROF, &patience, nullptr);
      Draws draw(static_cast<uint64_t>(told.mutation));
      mutate_files(draw);
      judge_one();
    }
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0)
      << "mutation " << told.mutation << (WIFSIGNALED(status) ? std::string(", ") + ::strsignal(WTERMSIG(status)) : "")
      << ": " << told.wrong;
  EXPECT_GT(told.num_used, 0) << "a test of errors alone";
  EXPECT_LT(told.num_used, kMutations / 2) << "mutations that change nothing";
  ::munmap(shared, sizeof(Told));
}

TEST_F(MutatedModel, ConfigIsRefusedOrTakenAsItIs) {
  expect_all_good([&](Draws& draw) {
    std::string text = config_;
    mutate(text, draw);
    put("config.json", text);
  });
}

// Those of published models: an error that names the file, or a config with the file's values.
TEST(MutatedConfigs, AreRefusedOrTakenAsTheyAre) {
  int64_t num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(Path(FATHOM_SOURCE_DIR) / "tests/model/configs")) {
    ++num_files;
    const std::string name = entry.path().filename(), original = *read_file(entry.path());
    int64_t num_taken = 0;
    for (int64_t mutation = -1; mutation < kMutations; ++mutation) {  // -1: as it is
      std::string text = original;
      Draws draw(static_cast<uint64_t>(mutation + 1));
      if (mutation >= 0) mutate(text, draw);
      const auto json = Json::parse(text, name);
      const auto config = json ? ModelConfig::parse(*json, name) : Result<ModelConfig>(json.error());
      if (!config) {
        ASSERT_EQ(config.error().text.find(name), 0u) << mutation << ": " << config.error().text;
        continue;
      }
      ++num_taken;
      ASSERT_EQ(difference(*json, config->to_json(), ""), "") << name << ", mutation " << mutation << "\n" << text;
    }
    EXPECT_GT(num_taken, 10) << name;
  }
  EXPECT_GE(num_files, 7);
}

TEST_F(MutatedModel, WeightsAreRefusedOrTakenAsTheyAre) {
  expect_all_good([&](Draws& draw) {
    std::string file = weights_;
    mutate_safetensors(file, draw);
    put("model.safetensors", file);
  });
}

}  // namespace
}  // namespace fathom
