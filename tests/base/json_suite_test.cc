// Json against JSONTestSuite (github.com/nst/JSONTestSuite): y_ files must parse, n_ files must not, i_ files may do
// either but must come back. Two y_ files repeat a key, which fathom refuses on purpose.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "base/file.h"
#include "base/json.h"

namespace fathom {
namespace {

// The regular files of a .tar.xz, by name. Reads the ustar headers itself; unpacks with the xz program.
std::map<std::string, std::string> read_tar_xz(const Path& path) {
  std::string tar;
  FILE* pipe = ::popen(("xz -dc '" + path.string() + "'").c_str(), "r");
  if (!pipe) return {};
  char buffer[1 << 16];
  for (size_t got; (got = std::fread(buffer, 1, sizeof(buffer), pipe)) > 0;) tar.append(buffer, got);
  if (::pclose(pipe) != 0) return {};
  std::map<std::string, std::string> files;
  for (size_t at = 0; at + 512 <= tar.size() && tar[at] != '\0';) {
    const std::string name(tar.c_str() + at, ::strnlen(tar.c_str() + at, 100));
    const size_t size = std::strtoull(std::string(tar, at + 124, 12).c_str(), nullptr, 8);
    const char type = tar[at + 156];
    at += 512;
    if (size > tar.size() - at) return {};
    if (type == '0' || type == '\0') files[name.substr(name.rfind('/') + 1)] = tar.substr(at, size);
    at += (size + 511) / 512 * 512;
  }
  return files;
}

bool repeats_a_key(const std::string& name) {
  return name == "y_object_duplicated_key.json" || name == "y_object_duplicated_key_and_value.json";
}

TEST(Json, AgreesWithJSONTestSuite) {
  const Path archive = Path(FATHOM_SHARED_DIR) / "data/json/JSONTestSuite-parsing.tar.xz";
  if (!std::filesystem::exists(archive)) GTEST_SKIP() << "needs " << archive.string();
  const auto files = read_tar_xz(archive);
  int num_good = 0, num_bad = 0, num_either = 0, num_repeated = 0;
  for (const auto& [name, text] : files) {
    if (name.size() < 2 || name[1] != '_') continue;  // the licence
    const auto json = Json::parse(text, name);
    if (repeats_a_key(name)) {
      ++num_repeated;
      EXPECT_FALSE(json) << name;
    } else if (name[0] == 'y') {
      ++num_good;
      EXPECT_TRUE(json) << json.error().text;
    } else if (name[0] == 'n') {
      ++num_bad;
      EXPECT_FALSE(json) << name << " parsed";
    } else {
      ++num_either;
    }
    if (json) {
      EXPECT_TRUE(Json::parse(json->dump(), name)) << name << ": what dump() writes, parse() reads";
    } else {
      EXPECT_EQ(json.error().text.rfind(name + ": not valid JSON: ", 0), 0u) << json.error().text;
    }
  }
  EXPECT_EQ(num_good, 93);
  EXPECT_EQ(num_repeated, 2);
  EXPECT_EQ(num_bad, 188);
  EXPECT_EQ(num_either, 35);
}

TEST(Json, LimitsDepthTo256) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(Json::parse(nested(256), "deep"));
  const auto deeper = Json::parse(nested(257), "deep");
  ASSERT_FALSE(deeper);
  EXPECT_EQ(deeper.error().text, "deep: not valid JSON: nested deeper than 256 levels");
}

TEST(Json, KeepsIntegersExactAndWidensOnlyWhatDoesNotFit) {
  const auto json = Json::parse("[9223372036854775807, -9223372036854775808, 9223372036854775808, 1e2]", "test");
  ASSERT_TRUE(json);
  EXPECT_EQ(json->items()[0].as_int(), INT64_MAX);
  EXPECT_EQ(json->items()[1].as_int(), INT64_MIN);
  EXPECT_TRUE(json->items()[2].is_double());
  EXPECT_EQ(json->items()[2].as_double(), 9223372036854775808.0);
  EXPECT_EQ(json->items()[3].as_double(), 100.0);
}

TEST(Json, SetReplacesAndPushAppends) {
  Json json;
  json.set("a", 1).set("b", Json::array()).set("a", 2);
  json.set("c", Json().push(1).push("x"));
  EXPECT_EQ(json.dump(), R"({"a":2,"b":[],"c":[1,"x"]})");
  EXPECT_EQ(json.find("b")->kind(), "array");
  EXPECT_EQ(json.find("missing"), nullptr);
  EXPECT_EQ(Json(3).find("a"), nullptr);
}

TEST(Json, WritesInvalidUtf8AsReplacementCharacter) { EXPECT_EQ(Json("a\xff").dump(), "\"a\xEF\xBF\xBD\""); }

TEST(JsonDeathTest, ReadingTheWrongKindIsOurBug) { EXPECT_DEATH((void)Json("x").as_int(), "is an integer"); }

}  // namespace
}  // namespace fathom
