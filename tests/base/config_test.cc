// Configuration: precedence, refusal of what is unknown or unfit (by name and place), and the effective file.
#include "base/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

namespace fathom {
namespace {

struct RunConfig {
  int64_t threads = 4;
  double lr = 3e-4;
  bool resume = false;
  std::string optimizer = "adamw";
  Path out = "runs/a";
  std::vector<int64_t> layers{1, 2};
  std::vector<double> betas{0.9, 0.95};
  std::vector<std::string> shards;

  template <class V>
  void fields(V& v) {
    v("threads", threads, "worker threads", between(1, 1024));
    v("train.lr", lr, "peak learning rate", at_least(0));
    v("train.resume", resume, "continue from the last snapshot");
    v("train.optimizer", optimizer, "update rule", one_of({"adamw", "muon"}));
    v("train.out", out, "folder of the run");
    v("train.betas", betas, "moment decays", between(0, 1));
    v("data.layers", layers, "layers to watch", at_least(0));
    v("data.shards", shards, "files to read");
  }
};

class ConfigFile : public testing::Test {
 protected:
  ConfigFile() : path_(testing::TempDir() + "fathom_config_test_" + std::to_string(::getpid()) + ".toml") {}
  ~ConfigFile() override { std::filesystem::remove(path_); }

  Result<RunConfig> load(std::string_view toml, std::vector<std::string> environment = {},
                         std::vector<std::string> overrides = {}) {
    EXPECT_TRUE(write_file(path_, toml));
    return load_config<RunConfig>(
        {.file = path_, .environment = std::move(environment), .overrides = std::move(overrides)});
  }
  std::string error_of(std::string_view toml, std::vector<std::string> environment = {},
                       std::vector<std::string> overrides = {}) {
    const auto config = load(toml, std::move(environment), std::move(overrides));
    if (config) return "no error";
    std::string text = config.error().text;
    if (const size_t at = text.find(path_.string()); at != std::string::npos) {
      text.replace(at, path_.string().size(), "FILE");
    }
    return text;
  }

  Path path_;
};

TEST_F(ConfigFile, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  const auto config =
      load("threads = 8\n[train]\nlr = 0.5\nresume = true\noptimizer = 'muon'\n",
           {"FATHOM_TRAIN_LR=0.25", "FATHOM_TRAIN_OPTIMIZER=adamw"}, {"train.lr=0.75", "train.lr=0.125"});
  ASSERT_TRUE(config) << config.error().text;
  EXPECT_EQ(config->lr, 0.125);
  EXPECT_EQ(config->optimizer, "adamw");
  EXPECT_EQ(config->threads, 8);
  EXPECT_TRUE(config->resume);
  EXPECT_EQ(config->out, Path("runs/a"));
}

TEST_F(ConfigFile, ReadsEveryTypeFromFileAndFromText) {
  const auto from_file =
      load("[train]\nout = 'b c'\nbetas = [0, 0.5]\nlr = 1\n[data]\nlayers = [3, 5]\nshards = [\n  'x,1', \"y\"]\n");
  ASSERT_TRUE(from_file) << from_file.error().text;
  EXPECT_EQ(from_file->out, Path("b c"));
  EXPECT_EQ(from_file->betas, (std::vector<double>{0, 0.5}));
  EXPECT_EQ(from_file->lr, 1.0);
  EXPECT_EQ(from_file->layers, (std::vector<int64_t>{3, 5}));
  EXPECT_EQ(from_file->shards, (std::vector<std::string>{"x,1", "y"}));

  const auto from_text = load("", {"FATHOM_DATA_SHARDS=a,b", "FATHOM_TRAIN_BETAS=1,0.25", "FATHOM_TRAIN_RESUME=true"},
                              {"data.layers=", "train.out=/x=y", "threads=16"});
  ASSERT_TRUE(from_text) << from_text.error().text;
  EXPECT_EQ(from_text->shards, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(from_text->betas, (std::vector<double>{1, 0.25}));
  EXPECT_TRUE(from_text->layers.empty());
  EXPECT_EQ(from_text->out, Path("/x=y"));
  EXPECT_EQ(from_text->threads, 16);

  const auto from_json = load("", {}, {R"(data.shards=["a,b", "1"])", "data.layers=[7]"});
  ASSERT_TRUE(from_json) << from_json.error().text;
  EXPECT_EQ(from_json->shards, (std::vector<std::string>{"a,b", "1"}));
  EXPECT_EQ(from_json->layers, (std::vector<int64_t>{7}));
}

TEST_F(ConfigFile, RefusesUnknownKeysByNameWithTheNearest) {
  EXPECT_EQ(error_of("threads = 2\n\n[train]\nlrr = 1\n"),
            "FILE:4: unknown key \"train.lrr\"; did you mean \"train.lr\"?");
  EXPECT_EQ(error_of("lr = 1\n"), "FILE:1: unknown key \"lr\"; did you mean \"train.lr\"?");
  EXPECT_EQ(error_of("[trian]\nlr = 1\n"), "FILE:1: unknown key \"trian\"; did you mean \"train\"?");
  EXPECT_EQ(error_of("[zzzzzzzz.q]\nlr = 1\n"), "FILE:1: unknown key \"zzzzzzzz\"; known keys: data, train");
  EXPECT_EQ(error_of("[train]\nxy = 1\n").find("did you mean"), std::string::npos) << "short words are no misspellings";
  EXPECT_EQ(error_of("", {"FATHOM_TRAIN_LRR=1"}),
            "environment: unknown key \"FATHOM_TRAIN_LRR\"; did you mean \"FATHOM_TRAIN_LR\"?");
  EXPECT_EQ(error_of("", {}, {"train.optimiser=muon"}),
            "flag \"train.optimiser=muon\": unknown key \"train.optimiser\"; did you mean \"train.optimizer\"?");
  EXPECT_EQ(error_of("", {}, {"resume"}), "flag \"resume\": expected key=value");
}

TEST_F(ConfigFile, LeavesForeignVariablesAlone) {
  const auto config = load("", {"FATHOM_SERVE_PORT=1", "FATHOM_CI=1", "PATH=/bin"});
  EXPECT_TRUE(config) << config.error().text;
}

TEST_F(ConfigFile, NamesPlaceKeyValueAndWhatIsAccepted) {
  EXPECT_EQ(error_of("[train]\nlr = 'fast'\n"),
            "FILE:2: train.lr = \"fast\" is not accepted; it must be a number >= 0");
  EXPECT_EQ(error_of("[train]\nlr = -1.5\n"), "FILE:2: train.lr = -1.5 is not accepted; it must be a number >= 0");
  EXPECT_EQ(error_of("[train]\nlr = nan\n"), "FILE:2: train.lr = nan is not accepted; it must be a number >= 0");
  EXPECT_EQ(error_of("threads = 2.0\n"), "FILE:1: threads = 2 is not accepted; it must be an integer from 1 to 1024");
  EXPECT_EQ(error_of("threads = 0\n"), "FILE:1: threads = 0 is not accepted; it must be an integer from 1 to 1024");
  EXPECT_EQ(error_of("[train]\nresume = 1\n"), "FILE:2: train.resume = 1 is not accepted; it must be true or false");
  EXPECT_EQ(error_of("[train]\noptimizer = 'sgd'\n"),
            "FILE:2: train.optimizer = \"sgd\" is not accepted; it must be one of \"adamw\", \"muon\"");
  EXPECT_EQ(error_of("[train]\nbetas = [0.5, 'x']\n"),
            "FILE:2: train.betas = a list is not accepted; it must be a list of numbers from 0 to 1");
  EXPECT_EQ(error_of("[train]\nbetas = [0.5, 2]\n"),
            "FILE:2: train.betas = a list is not accepted; it must be a list of numbers from 0 to 1");
  EXPECT_EQ(error_of("train = 3\n"), "FILE:1: train = 3 is not accepted; it must be a table [train]");
  EXPECT_EQ(error_of("[train]\nlr = 2020-01-01\n"),
            "FILE:2: train.lr = a date or time is not accepted; it must be a number >= 0");
  EXPECT_EQ(error_of("", {"FATHOM_THREADS=many"}),
            "environment FATHOM_THREADS: threads = \"many\" is not accepted; it must be an integer from 1 to 1024");
  EXPECT_EQ(error_of("", {}, {"threads=12x"}),
            "flag \"threads=12x\": threads = \"12x\" is not accepted; it must be an integer from 1 to 1024");
  EXPECT_EQ(error_of("", {}, {"threads=99999999999999999999"}),
            "flag \"threads=99999999999999999999\": threads = \"99999999999999999999\" is not accepted; it must be an "
            "integer from 1 to 1024");
}

TEST_F(ConfigFile, RefusesWhatIsNotTomlWithItsLine) {
  EXPECT_EQ(error_of("threads = 1\nthreads = \n").substr(0, 24), "FILE:2: not valid TOML: ");
  EXPECT_EQ(error_of("threads = 1\nthreads = 2\n").substr(0, 24), "FILE:2: not valid TOML: ");
  const auto missing = load_config<RunConfig>({.file = "/nonexistent/run.toml"});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
}

// The fuzzer's find: the library called these unreachable, which UndefinedBehaviorSanitizer saw and a release did not.
TEST_F(ConfigFile, RefusesLettersOfEveryBlockWhereAKeyIsExpected) {
  for (const char* letter : {"\u00e9", "\u0416", "\u2e80", "\u3001", "\ufedf", "\ufefe"}) {
    EXPECT_NE(error_of(std::string(letter) + " = 1\n").find("not valid TOML"), std::string::npos) << letter;
    EXPECT_NE(error_of("threads = 1 " + std::string(letter) + "\n").find("not valid TOML"), std::string::npos)
        << letter;
  }
}

// The fuzzer's find: such a value was taken, and the effective file that was written with it could not be read.
TEST_F(ConfigFile, RefusesTextThatIsNotUtf8) {
  EXPECT_NE(error_of("", {}, {"data.shards=caf\xe9"}).find("data.shards is not UTF-8"), std::string::npos);
  EXPECT_EQ(error_of("", {}, {"data.shards=caf\xc3\xa9"}), "no error");
}

TEST_F(ConfigFile, RefusesDeepNestingInsteadOfRecursing) {
  std::string dotted = "a", arrays;
  for (int i = 0; i < 100'000; ++i) dotted += ".a";
  for (int i = 0; i < 100'000; ++i) arrays += '[';
  EXPECT_EQ(error_of(dotted + " = 1\n"),
            "FILE:1: more than 256 dots on one line; break a long list into several lines");
  EXPECT_NE(error_of("threads = " + arrays), "no error");
  std::string mixed = "a = ";
  for (int i = 0; i < 10'000; ++i) mixed += "[\n{b.c.d.e.f = ";
  EXPECT_NE(error_of(mixed), "no error");
}

TEST_F(ConfigFile, HidesControlCharactersOfOutsideText) {
  EXPECT_EQ(error_of("\"\\u001b[2J\" = 1\n").find('\x1b'), std::string::npos);
}

TEST_F(ConfigFile, EffectiveFileReadsBackToEqualValues) {
  RunConfig config;
  config.lr = 0.1 + 0.2;
  config.optimizer = "muon";
  config.out = "a \"b\"\\\n\x7f";
  config.layers = {0, 9223372036854775807};
  config.betas = {1, 1e-300};
  config.shards = {"", "ü", "'"};
  const std::string text = to_toml(config);
  const auto again = load(text);
  ASSERT_TRUE(again) << again.error().text << "\n" << text;
  EXPECT_EQ(to_toml(*again), text);
  EXPECT_EQ(again->lr, config.lr);
  EXPECT_EQ(again->out, config.out);
  EXPECT_EQ(again->layers, config.layers);
  EXPECT_EQ(again->betas, config.betas);
  EXPECT_EQ(again->shards, config.shards);
}

TEST(Config, PrintsTheEffectiveFileInTheOrderOfTheStruct) {
  EXPECT_EQ(to_toml(RunConfig()), R"(threads = 4

[train]
lr = 3e-04
resume = false
optimizer = "adamw"
out = "runs/a"
betas = [0.9, 0.95]

[data]
layers = [1, 2]
shards = []
)");
}

TEST(Config, PrintsWhatEachSettingMeansAndAcceptsAboveIt) {
  RunConfig config;
  config.lr = 0.5;
  const std::string text = to_documented_toml(config);
  EXPECT_NE(text.find("\n# peak learning rate: a number >= 0 (FATHOM_TRAIN_LR)\nlr = 0.5\n"), std::string::npos)
      << text;
  std::string without_comments, line;
  std::istringstream lines(text);
  while (std::getline(lines, line)) {
    if (!line.starts_with("#")) without_comments += line + "\n";
  }
  EXPECT_EQ(without_comments, to_toml(config));
}

TEST(Config, ListsKeysWithVariableTypeDefaultAndHelp) {
  const auto keys = list_config_keys<RunConfig>();
  ASSERT_EQ(keys.size(), 8u);
  EXPECT_EQ(keys[1].key, "train.lr");
  EXPECT_EQ(keys[1].environment, "FATHOM_TRAIN_LR");
  EXPECT_EQ(keys[1].type, "number");
  EXPECT_EQ(keys[1].accepted, "a number >= 0");
  EXPECT_EQ(keys[1].default_value, "3e-04");
  EXPECT_EQ(keys[1].help, "peak learning rate");
}

TEST(Config, ProcessEnvironmentHasOnlyOurVariables) {
  ASSERT_EQ(::setenv("FATHOM_CONFIG_TEST", "7", 1), 0);
  const auto environment = process_environment();
  ::unsetenv("FATHOM_CONFIG_TEST");
  EXPECT_NE(std::find(environment.begin(), environment.end(), "FATHOM_CONFIG_TEST=7"), environment.end());
  for (const std::string& entry : environment) EXPECT_EQ(entry.substr(0, 7), "FATHOM_");
}

struct TwiceConfig {
  int64_t a = 0;
  template <class V>
  void fields(V& v) {
    v("a", a, "one");
    v("a", a, "two");
  }
};

TEST(ConfigDeathTest, ListingAKeyTwiceIsOurBug) {
  EXPECT_DEATH({ (void)load_config<TwiceConfig>({}); }, "listed once");
}

}  // namespace
}  // namespace fathom
