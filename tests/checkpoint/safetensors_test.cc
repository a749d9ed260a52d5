#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "base/rng.h"
#include "checkpoint/bytes.h"
#include "checkpoint/temp_dir.h"

namespace fathom {
namespace {

// A file with this header (taken as it is) and this data.
std::string file_text(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  std::string text(8, '\0');
  std::memcpy(text.data(), &length, 8);
  return text.append(header).append(data);
}

std::string error_of(std::string_view header, std::string_view data) {
  const std::string text = file_text(header, data);
  const auto result = parse_safetensors(bytes_of(text), "f");
  return result ? "accepted" : result.error().text;
}

std::string one_tensor(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return R"({"w":{"dtype":")" + std::string(dtype) + R"(","shape":)" + std::string(shape) + R"(,"data_offsets":)" +
         std::string(offsets) + "}}";
}

TEST(Safetensors, ListsTensorsInDataOrderWithMetadata) {
  const std::string text = file_text(R"({"__metadata__":{"format":"pt"},
      "b":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]},
      "a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},
      "empty":{"dtype":"F32","shape":[0,7],"data_offsets":[12,12]},
      "scalar":{"dtype":"U8","shape":[],"data_offsets":[12,13]}})",
                                     "abcdefghijklm");
  const auto content = parse_safetensors(bytes_of(text), "f");
  ASSERT_TRUE(content) << content.error().text;
  ASSERT_EQ(content->tensors.size(), 4u);
  EXPECT_EQ(content->tensors[0].name, "a");
  EXPECT_EQ(content->tensors[0].dtype, DType::kBF16);
  EXPECT_EQ(content->tensors[1].name, "b");
  EXPECT_EQ(content->tensors[1].shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(std::memcmp(content->tensors[1].bytes.data(), "efghijkl", 8), 0);
  EXPECT_EQ(content->tensors[2].bytes.size(), 0u);
  EXPECT_TRUE(content->tensors[3].shape.empty());
  EXPECT_EQ(content->tensors[3].bytes.size(), 1u);
  EXPECT_EQ(content->metadata, (SafetensorsMetadata{{"format", "pt"}}));
}

TEST(Safetensors, RefusesFilesThatAreTooShortForTheirHeader) {
  EXPECT_EQ(parse_safetensors(bytes_of("1234567"), "f").error().text, "f: 7 bytes are too few for a safetensors file");
  std::string text = file_text("{}", "");
  text[0] = 3;
  EXPECT_EQ(parse_safetensors(bytes_of(text), "f").error().text,
            "f: header length 3 is longer than the file (10 bytes); is the download complete?");
  EXPECT_EQ(parse_safetensors(bytes_of(std::string(64, '\xff')), "f").error().text,
            "f: header length 18446744073709551615 is more than the accepted 100000000; is this a safetensors file?");
}

TEST(Safetensors, RefusesHeadersThatAreNotWhatTheFormatSays) {
  EXPECT_EQ(error_of("[]", ""), "f: the header must be an object, found array");
  EXPECT_NE(error_of("{", "").find("f: header: not valid JSON"), std::string::npos);
  EXPECT_NE(error_of(R"({"a":{},"a":{}})", "").find("duplicate key \"a\""), std::string::npos);
  EXPECT_EQ(error_of(R"({"w":1})", ""), "f: tensor \"w\": expected an object, found integer");
  EXPECT_EQ(error_of(R"({"__metadata__":{"n":1}})", ""), "f: __metadata__ \"n\" must be a string");
  EXPECT_EQ(error_of(R"({"w":{"dtype":"F32","shape":[1]}})", "abcd"),
            "f: tensor \"w\": \"data_offsets\" must be two integers");
  EXPECT_EQ(error_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"stride":1}})", "abcd"),
            "f: tensor \"w\": unknown key \"stride\"; accepted: dtype, shape, data_offsets");
  EXPECT_EQ(error_of(one_tensor("F32", "[1.5]", "[0,4]"), "abcd"),
            "f: tensor \"w\": \"shape\" must be an array of integers");
  EXPECT_EQ(error_of(one_tensor("F32", "[1]", "[0,4.0]"), "abcd"),
            "f: tensor \"w\": \"data_offsets\" must be two integers");
  EXPECT_EQ(error_of(one_tensor("F32", "[NaN]", "[0,4]"), "abcd").find("f: header: not valid JSON"), 0u);
}

TEST(Safetensors, RefusesUnknownDtypes) {
  EXPECT_EQ(error_of(one_tensor("F8_E5M2", "[4]", "[0,4]"), "abcd"),
            "f: tensor \"w\": dtype \"F8_E5M2\" is not supported; accepted: F64, F32, F16, BF16, F8_E4M3, F8_E8M0, "
            "I64, I32, I8, U8");
}

TEST(Safetensors, RefusesShapesThatDoNotMatchTheBytes) {
  EXPECT_EQ(error_of(one_tensor("F32", "[2]", "[0,4]"), "abcd"),
            "f: tensor \"w\": data_offsets [0, 4] hold 4 bytes, but F32 [2] needs 8");
  EXPECT_EQ(error_of(one_tensor("F32", "[-1]", "[0,4]"), "abcd"),
            "f: tensor \"w\": shape [-1] is negative or overflows");
  EXPECT_EQ(error_of(one_tensor("U8", "[4294967296, 4294967296]", "[0,4]"), "abcd"),
            "f: tensor \"w\": shape [4294967296, 4294967296] is negative or overflows");
  EXPECT_EQ(error_of(one_tensor("U8", "[0, 4294967296, 4294967296]", "[0,0]"), ""),
            "f: tensor \"w\": shape [0, 4294967296, 4294967296] is negative or overflows");
  EXPECT_EQ(error_of(one_tensor("F64", "[1152921504606846976]", "[0,4]"), "abcd"),
            "f: tensor \"w\": shape [1152921504606846976] is negative or overflows");
}

TEST(Safetensors, RefusesRangesOutsideTheFileOverlapsHolesAndTails) {
  EXPECT_EQ(error_of(one_tensor("U8", "[5]", "[0,5]"), "abcd"),
            "f: tensor \"w\": data_offsets [0, 5] do not lie inside the 4 bytes of data");
  EXPECT_EQ(error_of(one_tensor("U8", "[1]", "[-1,0]"), "abcd"),
            "f: tensor \"w\": data_offsets [-1, 0] do not lie inside the 4 bytes of data");
  EXPECT_EQ(error_of(one_tensor("U8", "[1]", "[3,2]"), "abcd"),
            "f: tensor \"w\": data_offsets [3, 2] do not lie inside the 4 bytes of data");
  EXPECT_EQ(error_of(one_tensor("U8", "[2]", "[0,2]"), "abcd"), "f: 2 bytes after the last tensor");
  EXPECT_EQ(error_of(one_tensor("U8", "[2]", "[2,4]"), "abcd"),
            "f: tensor \"w\" begins at byte 2 of the data, but the tensors before it end at 0 (hole)");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},
                         "b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
                     "abcd"),
            "f: tensor \"b\" begins at byte 2 of the data, but the tensors before it end at 3 (overlap)");
}

TEST(Safetensors, NamesInErrorsStayOnOneLine) {
  const std::string error = error_of(R"({"a\nb":1})", "");
  EXPECT_EQ(error, "f: tensor \"a\\nb\": expected an object, found integer");
  EXPECT_LT(error_of("{\"" + std::string(100000, 'x') + "\":1}", "").size(), 400u);
}

TEST(SafetensorsFile, GivesAlignedTensorsForMisalignedData) {
  const TempDir dir;
  const float values[] = {1.5f, -2.0f, 3.25f};
  std::string data = "xyz";
  data.append(reinterpret_cast<const char*>(values), sizeof values);
  // Header and first tensor both leave the floats off their alignment.
  const Path path = dir.write("f.safetensors", file_text(R"({"u":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},
      "w":{"dtype":"F32","shape":[3,1],"data_offsets":[3,15]}} )",
                                                         data));
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.error().text;
  ASSERT_NE(file->find("w"), nullptr);
  const auto tensor = file->tensor("w");
  ASSERT_TRUE(tensor);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor->data) % 4, 0u);
  const auto view = tensor->view<const float, 2>();
  EXPECT_EQ(view(0, 0), 1.5f);
  EXPECT_EQ(view(1, 0), -2.0f);
  EXPECT_EQ(view(2, 0), 3.25f);
  EXPECT_EQ(file->tensor("w")->data, tensor->data) << "the copy is made once";
  EXPECT_EQ(file->tensor("v").error().code, ErrorCode::kNotFound);
}

TEST(SafetensorsFile, ListsButDoesNotGiveTensorsOfUnusableRank) {
  const TempDir dir;
  const Path path = dir.write("f.safetensors", file_text(R"({"r4":{"dtype":"U8","shape":[1,1,2,1],"data_offsets":[0,2]},
      "r0":{"dtype":"U8","shape":[],"data_offsets":[2,3]}})",
                                                         "abc"));
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.error().text;
  EXPECT_EQ(file->tensors().size(), 2u);
  EXPECT_EQ(file->tensor("r4").error().text,
            path.string() + ": tensor \"r4\" has shape [1, 1, 2, 1]; usable are 1 to 3 dimensions");
  EXPECT_EQ(file->tensor("r0").error().code, ErrorCode::kUnsupported);
}

TEST(SafetensorsFile, RefusesEmptyAndMissingFiles) {
  const TempDir dir;
  EXPECT_EQ(SafetensorsFile::open(dir.write("e.safetensors", "")).error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(SafetensorsFile::open(dir.path() / "none").error().code, ErrorCode::kNotFound);
}

TEST(SafetensorsWriter, WritesWhatTheReaderReads) {
  const TempDir dir;
  const Path path = dir.path() / "out.safetensors";
  std::vector<float> weights(6);
  std::iota(weights.begin(), weights.end(), 0.5f);
  const auto raw = std::as_bytes(std::span(weights));
  const std::vector<TensorDecl> decls = {
      {"w", DType::kF32, {2, 3}}, {"none", DType::kBF16, {0}}, {"u", DType::kU8, {3}}, {"s", DType::kI32, {}}};
  const auto write = [&] {
    auto writer = SafetensorsWriter::create(path, decls, {{"format", "pt"}});
    ASSERT_TRUE(writer) << writer.error().text;
    ASSERT_TRUE(writer->append("w", raw.subspan(0, 5)));
    ASSERT_TRUE(writer->append("w", raw.subspan(5)));
    ASSERT_TRUE(writer->append("none", std::span<const std::byte>{}));
    ASSERT_TRUE(writer->append("u", bytes_of("xyz")));
    ASSERT_TRUE(writer->append("s", bytes_of("1234")));
    EXPECT_FALSE(std::filesystem::exists(path)) << "visible before commit";
    ASSERT_TRUE(writer->commit());
  };
  write();
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.error().text;
  EXPECT_EQ(file->metadata(), (SafetensorsMetadata{{"format", "pt"}}));
  ASSERT_EQ(file->tensors().size(), decls.size());
  const auto w = file->tensor("w");
  ASSERT_TRUE(w);
  EXPECT_EQ(std::memcmp(w->data, weights.data(), raw.size()), 0);
  EXPECT_EQ(file->find("s")->bytes.size(), 4u);
  const auto first = read_file(path);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, first->data(), 8);
  EXPECT_EQ(header_bytes % 8, 0u);
  std::filesystem::remove(path);
  write();
  EXPECT_EQ(*read_file(path), *first) << "same input, same bytes";
}

TEST(SafetensorsWriter, RefusesBadDeclarationsAndLeavesNothingWithoutCommit) {
  const TempDir dir;
  const Path path = dir.path() / "out.safetensors";
  const auto error = [&](std::vector<TensorDecl> decls) {
    const auto writer = SafetensorsWriter::create(path, std::move(decls));
    return writer ? "accepted" : writer.error().text.substr(path.string().size());
  };
  EXPECT_EQ(error({{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}}), ": tensor \"a\": declared twice");
  EXPECT_EQ(error({{"a\n", DType::kU8, {1}}}),
            ": tensor \"a\\n\": not a name to write; use printable ASCII other than __metadata__");
  EXPECT_NE(error({{"__metadata__", DType::kU8, {1}}}), "accepted");
  EXPECT_EQ(error({{"a", DType::kU8, {-1}}}), ": tensor \"a\": shape [-1] is not a size");
  EXPECT_NE(error({{"a", DType::kU8, {INT64_MAX}}, {"b", DType::kU8, {INT64_MAX}}}), "accepted");
  {
    auto writer = SafetensorsWriter::create(path, {{"a", DType::kU8, {1}}});
    ASSERT_TRUE(writer);
    ASSERT_TRUE(writer->append("a", bytes_of("x")));
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(SafetensorsWriterDeathTest, ChecksTheOrderAndTheSizeOfWhatIsAppended) {
  const TempDir dir;
  auto writer = SafetensorsWriter::create(dir.path() / "f", {{"a", DType::kU8, {1}}, {"b", DType::kU8, {1}}});
  ASSERT_TRUE(writer);
  EXPECT_DEATH((void)writer->append("b", bytes_of("x")), "declared order");
  EXPECT_DEATH((void)writer->append("a", bytes_of("xy")), "fit the declared tensor");
  EXPECT_DEATH((void)writer->commit(), "every declared tensor");
}

TEST(Safetensors, SurvivesMutationsOfAValidFile) {
  const std::string valid = file_text(R"({"__metadata__":{"format":"pt"},
      "a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},
      "b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
                                      "0123456789abcdef");
  ASSERT_TRUE(parse_safetensors(bytes_of(valid), "f"));
  SequentialRng rng(1, stream_of("mutations"));
  int rejected = 0;
  for (int round = 0; round < 300; ++round) {
    std::string text = valid;
    for (int64_t edits = rng.between(1, 4); edits > 0; --edits) {
      const auto at = static_cast<size_t>(rng.below(text.size()));
      switch (rng.below(4)) {
        case 0: text[at] = static_cast<char>(rng.below(256)); break;
        case 1: text[at] = static_cast<char>('0' + rng.below(10)); break;
        case 2: text.erase(at, 1 + static_cast<size_t>(rng.below(4))); break;
        default: text.insert(at, 1, static_cast<char>(rng.below(256)));
      }
      if (text.empty()) text.assign(1, 'x');
    }
    const auto content = parse_safetensors(bytes_of(text), "f");
    if (!content) {
      ++rejected;
      EXPECT_EQ(content.error().text.rfind("f: ", 0), 0u) << content.error().text;
      continue;
    }
    for (const StoredTensor& t : content->tensors) {
      EXPECT_EQ(static_cast<int64_t>(t.bytes.size()), *tensor_bytes(t.dtype, t.shape));
      EXPECT_LE(t.bytes.data() + t.bytes.size(), bytes_of(text).data() + text.size());
    }
  }
  EXPECT_GT(rejected, 100);
}

TEST(SafetensorsFile, ReadsTheOracle) {
  const Path dir = Path(FATHOM_SHARED_DIR) / "data" / "oracle" / "tiny-dsv3";
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << "shared data oracle/tiny-dsv3 is absent";
  const auto file = SafetensorsFile::open(dir / "golden.safetensors");
  ASSERT_TRUE(file) << file.error().text;
  EXPECT_EQ(file->tensors().size(), 24u);
  for (const char* mode : {"bf16", "fp8-dequant", "fp8-w8a8"}) {
    const auto logits = file->tensor(std::string(mode) + "/logits");
    ASSERT_TRUE(logits) << logits.error().text;
    EXPECT_EQ(logits->dtype, DType::kF32);
    EXPECT_EQ(logits->extent(0), 6);
    EXPECT_EQ(logits->extent(1), 320);
  }
  EXPECT_EQ(file->tensor("bf16/route_i.1")->dtype, DType::kI32);
}

}  // namespace
}  // namespace fathom
