// The GGUF reader: every kind of metadata, tensors in row-major order, and one error for each way to lie.
#include "checkpoint/gguf.h"

#include <gtest/gtest.h>

#include <string>

#include "base/rng.h"
#include "gguf_builder.h"

namespace fathom {
namespace {

using testing::GgufBuilder;

std::span<const std::byte> as_bytes(const std::string& file) {
  return std::as_bytes(std::span<const char>(file.data(), file.size()));
}

std::string error_of(const std::string& file) {
  const auto content = parse_gguf(as_bytes(file), "f");
  return content ? "no error" : content.error().text;
}

std::string floats(size_t count) { return std::string(count * 4, '\0'); }

TEST(Gguf, ReadsEveryKindOfValue) {
  GgufBuilder builder;
  builder.integer("u32", 7)
      .number("f32", 1e-6f)
      .boolean("yes", true)
      .text("text", "a\0b")
      .texts("list", {"x", "", "yz"});
  builder.integers("ids", {3, -1}).pair("i64", GgufBuilder::kI64, GgufBuilder::raw(int64_t{-5}));
  builder.pair("u64", GgufBuilder::kU64, GgufBuilder::raw(uint64_t{1} << 63));
  builder.pair("f64", GgufBuilder::kF64, GgufBuilder::raw(0.25)).pair("i8", GgufBuilder::kI8, std::string(1, '\xFF'));
  builder.pair("u16", GgufBuilder::kU16, GgufBuilder::raw(uint16_t{65535}));
  const std::string inner = GgufBuilder::raw(uint32_t{GgufBuilder::kU8}) + GgufBuilder::raw(uint64_t{2}) + "ab";
  builder.pair("nested", GgufBuilder::kArray,
               GgufBuilder::raw(uint32_t{GgufBuilder::kArray}) + GgufBuilder::raw(uint64_t{2}) + inner + inner);
  builder.text("after", "end");
  const std::string file = builder.build();
  const auto content = parse_gguf(as_bytes(file), "f");
  ASSERT_TRUE(content) << content.error().text;
  const GgufMetadata& m = content->metadata;
  EXPECT_EQ(m.pairs().size(), 13u);
  EXPECT_EQ(*m.integer("u32"), 7);
  EXPECT_EQ(*m.integer("i64"), -5);
  EXPECT_EQ(*m.integer("i8"), -1);
  EXPECT_EQ(*m.integer("u16"), 65535);
  EXPECT_EQ(*m.number("f32"), 1e-6);  // the decimal, not the float next to it
  EXPECT_EQ(*m.number("f64"), 0.25);
  EXPECT_EQ(*m.number("u32"), 7);
  EXPECT_TRUE(*m.boolean("yes"));
  EXPECT_EQ(*m.texts("list"), (std::vector<std::string_view>{"x", "", "yz"}));
  EXPECT_EQ(*m.integers("ids"), (std::vector<int64_t>{3, -1}));
  EXPECT_EQ(*m.text("after"), "end");
  EXPECT_TRUE(m.has("nested"));

  EXPECT_EQ(m.integer("none").error().text, "f: metadata key \"none\" is missing");
  EXPECT_EQ(m.integer("none").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(m.integer("u64").error().text,
            "f: metadata key \"u64\" is the integer 9223372036854775808; accepted: an integer of at most 63 bits");
  EXPECT_EQ(m.text("u32").error().text, "f: metadata key \"u32\" is the integer 7; accepted: a text");
  EXPECT_EQ(m.boolean("text").error().text, "f: metadata key \"text\" is the text \"a\"; accepted: true, false");
  EXPECT_EQ(m.integers("list").error().text,
            "f: metadata key \"list\" is an array of string; accepted: an array of integers");
  EXPECT_EQ(m.texts("ids").error().text, "f: metadata key \"ids\" is an array of I32; accepted: an array of texts");
  EXPECT_EQ(m.number("yes").error().text, "f: metadata key \"yes\" is true; accepted: a number");
}

TEST(Gguf, TensorsAreRowMajorAndPointIntoTheFile) {
  for (uint32_t version : {2u, 3u}) {
    GgufBuilder builder;
    builder.version = version;
    builder.tensor("b", 0, {2, 3}, std::string("\0\0\x80\x3f", 4) + floats(5));
    builder.tensor("a", 8, {4, 5, 32}, std::string(4 * 5 * 34, 'q'));
    const std::string file = builder.build();
    const auto content = parse_gguf(as_bytes(file), "f");
    ASSERT_TRUE(content) << content.error().text;
    ASSERT_EQ(content->tensors.size(), 2u);
    const GgufTensor& b = content->tensors[0];
    EXPECT_EQ(b.name, "b");
    EXPECT_EQ(b.shape, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(b.bytes.size(), 24u);
    EXPECT_EQ(b.row_bytes(), 12);
    const GgufTensor& a = content->tensors[1];
    EXPECT_EQ(a.type, GgmlType::kQ8_0);
    EXPECT_EQ(a.shape, (std::vector<int64_t>{4, 5, 32}));
    EXPECT_EQ(a.row_bytes(), 34);
    EXPECT_EQ(static_cast<char>(a.bytes[0]), 'q');
    EXPECT_EQ(reinterpret_cast<const char*>(a.bytes.data()) + a.bytes.size() - file.data(),
              static_cast<std::ptrdiff_t>(file.size() - (32 - 680 % 32) % 32));
  }
}

TEST(Gguf, AlignmentIsTheFiles) {
  GgufBuilder builder;
  builder.alignment = 64;
  builder.integer("general.alignment", 64).tensor("a", 0, {1}, floats(1)).tensor("b", 0, {1}, "\1\2\3\4");
  const std::string file = builder.build();
  const auto content = parse_gguf(as_bytes(file), "f");
  ASSERT_TRUE(content) << content.error().text;
  EXPECT_EQ(content->tensors[1].bytes.data() - content->tensors[0].bytes.data(), 64);
  EXPECT_EQ(static_cast<int>(content->tensors[1].bytes[0]), 1);
  for (uint32_t bad : {0u, 4u, 12u, 1u << 21}) {
    EXPECT_EQ(error_of(GgufBuilder().integer("general.alignment", bad).build()),
              "f: general.alignment is " + std::to_string(bad) + "; accepted: multiples of 8 up to 1048576");
  }
}

TEST(Gguf, HeadersThatLie) {
  EXPECT_EQ(error_of(""), "f: does not begin with GGUF; is this a GGUF file?");
  EXPECT_EQ(error_of("GGML    "), "f: does not begin with GGUF; is this a GGUF file?");
  GgufBuilder old;
  old.version = 1;
  EXPECT_EQ(error_of(old.build()), "f: GGUF version 1 is not supported; accepted: 2, 3 (little-endian)");
  old.version = 0x03000000;
  EXPECT_NE(error_of(old.build()).find("(a big-endian file)"), std::string::npos);
  const GgufBuilder empty;
  EXPECT_EQ(error_of(empty.build()), "no error");
  EXPECT_EQ(error_of(empty.build(0, uint64_t{1} << 60)),
            "f: 1152921504606846976 metadata keys do not fit into the 0 bytes of the file");
  EXPECT_EQ(error_of(empty.build(uint64_t{1} << 60, 0)),
            "f: 1152921504606846976 tensors do not fit into the 0 bytes of the file");
}

TEST(Gguf, CountsAreBoundedHoweverLargeTheFile) {
  std::string many = GgufBuilder().build(0, (uint64_t{1} << 20) + 1);
  many.resize(many.size() + (size_t{14} << 20));
  EXPECT_EQ(error_of(many), "f: 1048577 metadata keys; accepted: at most 1048576");
  many = GgufBuilder().build((uint64_t{1} << 20) + 1, 0);
  many.resize(many.size() + (size_t{34} << 20));
  EXPECT_EQ(error_of(many), "f: 1048577 tensors; accepted: at most 1048576");
  const std::string items = GgufBuilder::raw(uint32_t{GgufBuilder::kU8}) + GgufBuilder::raw((uint64_t{1} << 26) + 1);
  many = GgufBuilder().pair("k", GgufBuilder::kArray, items).build();
  many.resize(many.size() + (size_t{65} << 20));
  EXPECT_EQ(error_of(many), "f: metadata key \"k\" has 67108865 items; accepted: at most 67108864");
}

TEST(Gguf, MetadataThatLies) {
  EXPECT_EQ(error_of(GgufBuilder().integer("k", 1).integer("k", 2).build()), "f: metadata key \"k\" is there twice");
  EXPECT_EQ(error_of(GgufBuilder().pair("k", 13, "12345678").build()),
            "f: metadata key \"k\" has the unknown value type 13");
  EXPECT_EQ(
      error_of(GgufBuilder().pair("k", GgufBuilder::kString, GgufBuilder::raw(uint64_t{1} << 62) + "abc").build()),
      "f: metadata key \"k\" is 4611686018427387904 bytes long, but only 3 are left in the file");
  const auto array = [](uint32_t item, uint64_t count, const std::string& items) {
    return error_of(
        GgufBuilder().pair("k", GgufBuilder::kArray, GgufBuilder::raw(item) + GgufBuilder::raw(count) + items).build());
  };
  EXPECT_EQ(
      array(GgufBuilder::kU64, uint64_t{1} << 61, "12345678"),
      "f: metadata key \"k\" has 2305843009213693952 items of type U64, more than the 8 bytes that are left in the "
      "file hold");
  EXPECT_EQ(array(GgufBuilder::kString, 2, GgufBuilder::text_bytes("a") + GgufBuilder::raw(uint64_t{100})),
            "f: metadata key \"k\" is 100 bytes long, but only 0 are left in the file");
  EXPECT_EQ(array(99, 0, "        "), "f: metadata key \"k\" has the unknown value type 99");
  std::string deep = GgufBuilder::raw(uint32_t{GgufBuilder::kU8}) + GgufBuilder::raw(uint64_t{0});
  for (int i = 0; i < 4; ++i)
    deep = GgufBuilder::raw(uint32_t{GgufBuilder::kArray}) + GgufBuilder::raw(uint64_t{1}) + deep;
  EXPECT_EQ(error_of(GgufBuilder().pair("k", GgufBuilder::kArray, deep).build()),
            "f: metadata key \"k\" nests arrays more than 4 deep");
}

TEST(Gguf, TensorsThatLie) {
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 0, {1}, floats(1)).tensor("t", 0, {1}, floats(1)).build()),
            "f: tensor \"t\" is there twice");
  EXPECT_EQ(error_of(GgufBuilder().tensor("", 0, {1}, floats(1)).build()), "f: tensor 0 has no name");
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 0, {1, 1, 1, 1, 1}, floats(1)).build()),
            "f: tensor \"t\": 5 dimensions; accepted: 1 to 4");
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 0, {}, floats(1)).build()),
            "f: tensor \"t\": 0 dimensions; accepted: 1 to 4");
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 0, {0}, floats(1)).build()), "f: tensor \"t\": an extent of 0");
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 0, {-1}, floats(1)).build()),
            "f: tensor \"t\": an extent of 18446744073709551615");
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 0, {int64_t{1} << 32, int64_t{1} << 32}, floats(1)).build()),
            "f: tensor \"t\": its size overflows");
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 0, {int64_t{1} << 62}, floats(1)).build()),
            "f: tensor \"t\": its size overflows");
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 12, {2, 128}, std::string(144, '\0')).build()),
            "f: tensor \"t\": rows of 128 numbers are no whole blocks of 256 (Q4_K)");
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 4, {32}, std::string(20, '\0')).build()),
            "f: tensor \"t\": type number 4 is unknown; accepted: " + decodable_ggml_types());
  EXPECT_EQ(error_of(GgufBuilder().tensor_at("t", 0, {8}, 0).build()),
            "f: tensor \"t\": 32 bytes at offset 0 do not lie inside the 0 bytes of data; is the download complete?");
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 0, {8}, floats(8)).tensor_at("u", 0, {1}, ~uint64_t{31}).build()),
            "f: tensor \"u\": 4 bytes at offset 18446744073709551584 do not lie inside the 32 bytes of data; is the "
            "download complete?");
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 0, {8}, floats(8)).tensor_at("u", 0, {1}, 4).build()),
            "f: tensor \"u\": offset 4 is no multiple of the alignment 32");
  EXPECT_EQ(error_of(GgufBuilder().tensor("t", 0, {16}, floats(16)).tensor_at("u", 0, {1}, 32).build()),
            "f: tensor \"u\": begins at byte 32 of the data, but the tensor before it ends at 64 (overlap)");
}

TEST(Gguf, EveryCutOfAFileIsAnErrorOrWhole) {
  GgufBuilder builder;
  builder.integer("n", 1)
      .texts("list", {"ab", "c"})
      .integers("ids", {1, 2})
      .tensor("t", 8, {2, 32}, std::string(68, 'x'));
  const std::string file = builder.build();
  const size_t needed = file.size() - (32 - 68 % 32) % 32;
  for (size_t length = 0; length < file.size(); ++length) {
    const std::string cut = file.substr(0, length);
    EXPECT_EQ(parse_gguf(as_bytes(cut), "f").ok(), length >= needed) << length;
  }
}

TEST(Gguf, RandomBytesInTheHeaderNeverReadOutside) {
  GgufBuilder builder;
  builder.integer("n", 1).texts("list", {"ab", "c"}).tensor("t", 8, {2, 32}, std::string(68, 'x'));
  const std::string file = builder.build();
  SequentialRng rng(1, 2);
  for (int round = 0; round < 20000; ++round) {
    std::string broken = file;
    for (uint64_t changes = 1 + rng.below(3); changes > 0; --changes) {
      broken[rng.below(broken.size())] = static_cast<char>(rng.below(256));
    }
    const auto content = parse_gguf(as_bytes(broken), "f");
    if (!content) continue;
    for (const GgufTensor& t : content->tensors) {
      ASSERT_GE(reinterpret_cast<const char*>(t.bytes.data()), broken.data());
      ASSERT_LE(reinterpret_cast<const char*>(t.bytes.data()) + t.bytes.size(), broken.data() + broken.size());
    }
  }
}

}  // namespace
}  // namespace fathom
