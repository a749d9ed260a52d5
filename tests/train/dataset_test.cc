// Shards, packing and the dataset: what is written is what samples hold, in an order that can resume anywhere.
#include "train/dataset.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "train/pack.h"
#include "train/permutation.h"

namespace fathom {
namespace {

class Folder {
 public:
  explicit Folder(const std::string& name) : path_(Path(testing::TempDir()) / ("fathom_dataset_test_" + name)) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Path operator/(const std::string& file) const { return path_ / file; }

 private:
  Path path_;
};

// Documents of `length` tokens; token = 10 * document + place, so that a token says where it belongs.
Path write_counting_shard(const Path& path, int documents, int length, int64_t vocab_size = 70000, int base = 0) {
  ShardWriter writer(vocab_size, 99, false);
  for (int d = 0; d < documents; ++d) {
    std::vector<int32_t> tokens;
    for (int i = 0; i < length; ++i) tokens.push_back(base + 10 * d + i);
    EXPECT_TRUE(writer.add_document(tokens, {}, length));
  }
  EXPECT_TRUE(writer.write(path));
  return path;
}

Dataset open_dataset(std::vector<DatasetSource> sources, const DatasetOptions& options) {
  auto dataset = Dataset::open(sources, options);
  EXPECT_TRUE(dataset) << dataset.error().text;
  return *std::move(dataset);
}

TEST(Permutation, IsABijectionForEverySize) {
  for (uint64_t size : {1u, 2u, 3u, 4u, 5u, 16u, 17u, 100u, 1000u, 1024u, 4097u}) {
    for (uint64_t stream : {0u, 1u, 77u}) {
      const Permutation permutation(size, 3, stream);
      std::vector<bool> hit(size, false);
      for (uint64_t i = 0; i < size; ++i) {
        const uint64_t image = permutation(i);
        ASSERT_LT(image, size);
        ASSERT_FALSE(hit[image]) << size << " " << stream << " " << i;
        hit[image] = true;
      }
    }
  }
}

TEST(Permutation, DependsOnSeedAndStreamAndMixes) {
  const Permutation a(1000, 1, 1), b(1000, 2, 1), c(1000, 1, 2);
  int fixed = 0, same_b = 0, same_c = 0, neighbours = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    fixed += a(i) == i;
    same_b += a(i) == b(i);
    same_c += a(i) == c(i);
    neighbours += i > 0 && a(i) == a(i - 1) + 1;
  }
  for (int count : {fixed, same_b, same_c, neighbours}) EXPECT_LT(count, 10);
}

TEST(Shard, RoundTripsTokensDocumentsAndMask) {
  const Folder folder("round_trip");
  for (const int64_t vocab_size : {300, 70000}) {
    ShardWriter writer(vocab_size, 1234, true);
    std::vector<std::vector<int32_t>> documents;
    for (int d = 0; d < 70; ++d) {
      std::vector<int32_t> tokens;
      for (int i = 0; i <= d % 7; ++i) tokens.push_back(static_cast<int32_t>((d * 31 + i * 7919) % vocab_size));
      std::vector<uint8_t> in_loss;
      for (size_t i = 0; i < tokens.size(); ++i) in_loss.push_back(static_cast<uint8_t>(i % 2));
      ASSERT_TRUE(writer.add_document(tokens, in_loss, 3));
      documents.push_back(tokens);
    }
    ASSERT_TRUE(writer.write(folder / "s.bin"));
    const auto shard = Shard::open(folder / "s.bin");
    ASSERT_TRUE(shard) << shard.error().text;
    EXPECT_EQ(shard->info().vocab_size, vocab_size);
    EXPECT_EQ(shard->info().tokenizer_hash, 1234u);
    EXPECT_EQ(shard->info().text_bytes, 210);
    ASSERT_EQ(shard->info().num_documents, 70);
    for (int64_t d = 0; d < 70; ++d) {
      const auto& tokens = documents[static_cast<size_t>(d)];
      ASSERT_EQ(shard->document_end(d) - shard->document_begin(d), static_cast<int64_t>(tokens.size()));
      for (size_t i = 0; i < tokens.size(); ++i) {
        const int64_t at = shard->document_begin(d) + static_cast<int64_t>(i);
        EXPECT_EQ(shard->token(at), tokens[i]);
        EXPECT_EQ(shard->in_loss(at), i % 2 == 1);
        EXPECT_EQ(shard->document_of(at), d);
      }
    }
  }
}

TEST(Shard, EveryFlippedByteAndEveryTruncationIsAnErrorThatNamesTheFile) {
  const Folder folder("corrupt");
  write_counting_shard(folder / "s.bin", 5, 9);
  const auto good = read_file(folder / "s.bin");
  ASSERT_TRUE(good);
  const auto parse = [](const std::string& bytes) {
    return Shard::parse(std::as_bytes(std::span(bytes.data(), bytes.size())), "s.bin");
  };
  ASSERT_TRUE(parse(*good));
  for (size_t i = 0; i < good->size(); ++i) {
    if (i >= 72 && i < 128) continue;  // reserved zeros
    std::string bad = *good;
    bad[i] = static_cast<char>(bad[i] ^ 0x10);
    const auto shard = parse(bad);
    ASSERT_FALSE(shard) << i;
    EXPECT_TRUE(shard.error().text.starts_with("s.bin: ")) << shard.error().text;
  }
  for (size_t size = 0; size < good->size(); ++size) ASSERT_FALSE(parse(good->substr(0, size))) << size;
  EXPECT_FALSE(parse(*good + "x"));
  EXPECT_EQ(Shard::open(folder / "none.bin").error().code, ErrorCode::kNotFound);
}

TEST(Shard, RefusesIdsOutsideTheVocabularyAndEmptyFiles) {
  const Folder folder("vocab");
  ShardWriter writer(10, 0, false);
  EXPECT_FALSE(writer.add_document(std::vector<int32_t>{1, 10}, {}, 1));
  EXPECT_FALSE(writer.add_document(std::vector<int32_t>{-1}, {}, 1));
  EXPECT_FALSE(writer.write(folder / "s.bin"));
  EXPECT_FALSE(std::filesystem::exists(folder / "s.bin"));
}

TEST(Dataset, TargetsStayInsideDocumentsAndPositionsRestart) {
  const Folder folder("targets");
  write_counting_shard(folder / "s.bin", 10, 7);
  const Dataset dataset = open_dataset({{folder / "s.bin"}}, {.sequence_length = 10, .shuffle = false});
  ASSERT_EQ(dataset.num_samples(), 7);
  Microbatch batch;
  dataset.fill(0, 7, &batch);
  ASSERT_EQ(batch.tokens.size(), 70u);
  for (size_t i = 0; i < 70; ++i) {
    EXPECT_EQ(batch.tokens[i], static_cast<int32_t>(10 * (i / 7) + i % 7));
    EXPECT_EQ(batch.targets[i], i % 7 == 6 ? -1 : batch.tokens[i] + 1);  // also across the samples' edges
    EXPECT_EQ(batch.next_tokens[i], batch.targets[i]);
    EXPECT_EQ(batch.positions[i], static_cast<int32_t>(std::min(i % 7, i % 10)));
  }
  std::set<int64_t> offsets{70};
  for (int64_t i = 0; i < 70; ++i) {
    if (i % 7 == 0 || i % 10 == 0) offsets.insert(i);
  }
  EXPECT_EQ(batch.document_offsets, std::vector<int64_t>(offsets.begin(), offsets.end()));
}

TEST(Dataset, AMaskTakesTargetsAwayButNotTheNextTokens) {
  const Folder folder("masked");
  ShardWriter writer(10, 7, true);
  ASSERT_TRUE(writer.add_document(std::vector<int32_t>{1, 2, 3, 4, 5}, std::vector<uint8_t>{0, 0, 1, 0, 1}, 5));
  ASSERT_TRUE(writer.write(folder / "s.bin"));
  const Dataset dataset = open_dataset({{folder / "s.bin"}}, {.sequence_length = 5, .shuffle = false});
  Microbatch batch;
  dataset.fill(0, 1, &batch);
  EXPECT_EQ(batch.targets, (std::vector<int32_t>{-1, 3, -1, 5, -1}));
  EXPECT_EQ(batch.next_tokens, (std::vector<int32_t>{2, 3, 4, 5, -1}));
}

TEST(Dataset, AnEpochVisitsEverySampleOnceAndTheNextInAnotherOrder) {
  const Folder folder("epoch");
  write_counting_shard(folder / "s.bin", 1000, 7);
  const Dataset dataset = open_dataset({{folder / "s.bin"}}, {.sequence_length = 16, .seed = 5});
  const int64_t n = dataset.num_samples();
  EXPECT_EQ(n, (7000 - 15) / 16);
  std::vector<int64_t> orders[2];
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    std::set<int64_t> places;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t first = dataset.locate(epoch * n + i).first_token;
      ASSERT_GE(first, 0);
      ASSERT_LE(first + 16, 7000);
      orders[epoch].push_back(first);
      places.insert(first / 16);
    }
    ASSERT_EQ(places.size(), static_cast<size_t>(n));
    const auto [low, high] = std::minmax_element(orders[epoch].begin(), orders[epoch].end());
    EXPECT_EQ(*high - *low, (n - 1) * 16);
    EXPECT_FALSE(std::is_sorted(orders[epoch].begin(), orders[epoch].end()));
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[0][0] % 16, orders[1][0] % 16);  // the cuts moved (for this seed)
}

TEST(Dataset, MixedSourcesVisitEachSampleEquallyOftenInWholeBlocks) {
  const Folder folder("whole");
  write_counting_shard(folder / "a.bin", 64, 4);  // 256 tokens
  write_counting_shard(folder / "b.bin", 64, 4);
  const Dataset dataset = open_dataset({{folder / "a.bin"}, {folder / "b.bin"}}, {.sequence_length = 1, .seed = 9});
  ASSERT_EQ(dataset.num_samples(), 512);
  std::vector<int> visits[2] = {std::vector<int>(256, 0), std::vector<int>(256, 0)};
  for (int64_t i = 0; i < Dataset::kBlock; ++i) {
    const auto place = dataset.locate(i);
    ++visits[place.source][static_cast<size_t>(place.first_token)];
  }
  EXPECT_EQ(visits[0], std::vector<int>(256, 2));
  EXPECT_EQ(visits[1], std::vector<int>(256, 2));
}

TEST(Dataset, ResumingAnywhereAndAnyBatchSizeGivesTheSameSamples) {
  const Folder folder("resume");
  write_counting_shard(folder / "a.bin", 400, 7);
  write_counting_shard(folder / "b.bin", 300, 9, 70000, 40000);
  const std::vector<DatasetSource> sources{{folder / "a.bin", 1}, {folder / "b.bin", 3}};
  const DatasetOptions options{.sequence_length = 12, .seed = 1};
  const Dataset first = open_dataset(sources, options), second = open_dataset(sources, options);
  Microbatch whole, part;
  const int64_t begin = 1000, count = 60;  // across a block's edge
  first.fill(begin, count, &whole);
  std::vector<int32_t> tokens, targets;
  for (int64_t done = 0, size = 1; done < count; done += size, size = size % 7 + 1) {
    size = std::min(size, count - done);
    second.fill(begin + done, size, &part);
    tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
    targets.insert(targets.end(), part.targets.begin(), part.targets.end());
    EXPECT_EQ(part.document_offsets.front(), 0);
    EXPECT_EQ(part.document_offsets.back(), size * 12);
  }
  EXPECT_EQ(tokens, whole.tokens);
  EXPECT_EQ(targets, whole.targets);
}

TEST(Dataset, WeightsAreExactInEveryBlock) {
  const Folder folder("weights");
  write_counting_shard(folder / "a.bin", 400, 7);
  write_counting_shard(folder / "b.bin", 30, 9);
  const Dataset dataset =
      open_dataset({{folder / "a.bin", 0.25}, {folder / "b.bin", 0.75}}, {.sequence_length = 12, .seed = 1});
  for (int64_t block : {0, 1, 17}) {
    int from_b = 0;
    for (int64_t i = 0; i < Dataset::kBlock; ++i) from_b += dataset.locate(block * Dataset::kBlock + i).source == 1;
    EXPECT_EQ(from_b, 768);
  }
}

TEST(Dataset, RefusesWhatDoesNotFitTogether) {
  const Folder folder("refuse");
  write_counting_shard(folder / "a.bin", 4, 7);
  write_counting_shard(folder / "b.bin", 4, 7, 80000);
  const auto error = [&](std::vector<DatasetSource> sources, DatasetOptions options) {
    const auto dataset = Dataset::open(sources, options);
    return dataset ? std::string() : dataset.error().text;
  };
  EXPECT_EQ(error({{folder / "a.bin"}}, {.sequence_length = 28}), "");
  EXPECT_NE(error({{folder / "a.bin"}}, {.sequence_length = 29}).find("fewer than one sequence"), std::string::npos);
  EXPECT_NE(error({{folder / "a.bin"}, {folder / "b.bin"}}, {.sequence_length = 4}).find("another tokenizer"),
            std::string::npos);
  EXPECT_NE(error({}, {.sequence_length = 4}), "");
  EXPECT_NE(error({{folder / "a.bin"}}, {.sequence_length = 0}), "");
  EXPECT_NE(error({{folder / "a.bin", -1}}, {.sequence_length = 4}), "");
  EXPECT_NE(error({{folder / "a.bin", NAN}}, {.sequence_length = 4}), "");
  EXPECT_NE(error({{folder / "a.bin", 1}, {folder / "a.bin", 1e-9}}, {.sequence_length = 4}), "");
}

// Bytes as tokens: 0 BOS, 1 EOS, byte b = b + 2. Markup knows the end-of-sentence token.
PackOptions byte_options() {
  PackOptions options;
  options.encode = [](std::string_view text) -> Result<std::vector<int32_t>> {
    std::vector<int32_t> ids;
    for (char c : text) ids.push_back(static_cast<uint8_t>(c) + 2);
    return ids;
  };
  options.encode_markup = [encode = options.encode](std::string_view text) -> Result<std::vector<int32_t>> {
    if (text == "<｜end▁of▁sentence｜>") return std::vector<int32_t>{1};
    return encode(text);
  };
  options.vocab_size = 258;
  return options;
}

std::string document_text(const Shard& shard, int64_t document) {
  std::string text;
  for (int64_t i = shard.document_begin(document); i < shard.document_end(document); ++i) {
    const int32_t token = shard.token(i);
    text += token == 0 ? "^" : token == 1 ? "$" : std::string(1, static_cast<char>(token - 2));
  }
  return text;
}

TEST(Pack, SplitsTextAtSeparatorsAndKeepsTheEndForValidation) {
  const Folder folder("txt");
  std::string text;
  for (int i = 0; i < 100; ++i) text += "story " + std::to_string(1000 + i) + "\n<|endoftext|>\r\n";
  ASSERT_TRUE(write_file(folder / "a.txt", text));
  PackOptions options = byte_options();
  options.val_fraction = 0.1;
  SilentProgress progress;
  const Path inputs[] = {folder / "a.txt"};
  const auto report = pack_files(inputs, folder / "train.bin", folder / "val.bin", options, progress);
  ASSERT_TRUE(report) << report.error().text;
  EXPECT_EQ(report->train.num_documents, 90);
  EXPECT_EQ(report->validation.num_documents, 10);
  EXPECT_EQ(report->train.text_bytes, 90 * 10);
  const auto train = Shard::open(folder / "train.bin"), val = Shard::open(folder / "val.bin");
  ASSERT_TRUE(train && val);
  EXPECT_EQ(document_text(*train, 89), "^story 1089$");
  EXPECT_EQ(document_text(*val, 0), "^story 1090$");
}

TEST(Pack, CutsOneLongDocumentAtALine) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "line " + std::to_string(100 + i) + "\n";
  const size_t cut = validation_cut(text, 0.05);
  EXPECT_EQ(cut, 95u * 9);
  EXPECT_EQ(validation_cut(text, 0), text.size());
  EXPECT_EQ(validation_cut("no line feed", 0.5), 12u);
  EXPECT_EQ(validation_cut("", 0.5), 0u);
  EXPECT_EQ(split_documents("\n\n<|endoftext|>\na\nb\n<|endoftext|>\n<|endoftext|>\n\nc"),
            (std::vector<std::string_view>{"a\nb", "c"}));
}

TEST(Pack, MasksAllButTheAssistantAndKeepsSpelledOutSpecialTokensAsText) {
  const Folder folder("jsonl");
  ASSERT_TRUE(write_file(folder / "c.jsonl",
                         "{\"messages\": [{\"role\": \"user\", \"content\": \"<｜end▁of▁sentence｜>\"}, "
                         "{\"role\": \"assistant\", \"content\": \"ok\"}]}\n\n{\"text\": \"plain\"}\n"));
  PackOptions options = byte_options();
  options.val_fraction = 0;
  options.assistant_loss_only = true;
  SilentProgress progress;
  const Path inputs[] = {folder / "c.jsonl"};
  ASSERT_TRUE(pack_files(inputs, folder / "train.bin", folder / "val.bin", options, progress));
  EXPECT_FALSE(std::filesystem::exists(folder / "val.bin"));
  const auto shard = Shard::open(folder / "train.bin");
  ASSERT_TRUE(shard);
  ASSERT_EQ(shard->info().num_documents, 2);
  EXPECT_EQ(document_text(*shard, 0), "^<｜User｜><｜end▁of▁sentence｜><｜Assistant｜>ok$");
  EXPECT_EQ(document_text(*shard, 1), "^plain$");
  std::string learned;
  for (int64_t i = 0; i < shard->info().num_tokens; ++i) {
    if (shard->in_loss(i))
      learned += shard->token(i) == 1 ? "$" : std::string(1, static_cast<char>(shard->token(i) - 2));
  }
  EXPECT_EQ(learned, "ok$plain$");
}

TEST(Pack, ErrorsNameFileAndLineAndWriteNothing) {
  const Folder folder("errors");
  SilentProgress progress;
  PackOptions options = byte_options();
  options.val_fraction = 0;
  const auto error = [&](const std::string& name, const std::string& content) {
    EXPECT_TRUE(write_file(folder / name, content));
    const Path inputs[] = {folder / name};
    const auto report = pack_files(inputs, folder / "train.bin", folder / "val.bin", options, progress);
    EXPECT_FALSE(std::filesystem::exists(folder / "train.bin"));
    return report ? std::string() : report.error().text;
  };
  EXPECT_NE(error("a.jsonl", "{\"text\": \"x\"}\n{\"text\": 3}\n").find("a.jsonl line 2: text must be"),
            std::string::npos);
  EXPECT_NE(error("a.jsonl", "{\"txt\": \"x\"}\n").find("exactly one of"), std::string::npos);
  EXPECT_NE(error("a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}").find("assistant"),
            std::string::npos);
  EXPECT_NE(error("a.jsonl", "{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}").find("\"tool\""),
            std::string::npos);
  EXPECT_NE(error("a.csv", "x").find("accepted: .txt, .jsonl"), std::string::npos);
  EXPECT_NE(error("a.txt", "\n\n"), "");
  options.vocab_size = 50;
  EXPECT_NE(error("a.txt", "hello").find("outside the vocabulary"), std::string::npos);
}

}  // namespace
}  // namespace fathom
