// Shared by the tests of the text folder: test data on disk, small tokenizers, and random text.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/rng.h"
#include "text/bpe_trainer.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace fathom {

inline Path tokenizer_data(const char* name) { return Path(FATHOM_SHARED_DIR) / "data/tokenizers" / name; }

/// The unpacked contents of an .xz file; empty if the xz program fails.
inline std::string read_xz(const Path& path) {
  std::string text;
  FILE* pipe = ::popen(("xz -dc '" + path.string() + "'").c_str(), "r");
  if (!pipe) return {};
  std::vector<char> buffer(1 << 16);
  for (size_t got; (got = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) text.append(buffer.data(), got);
  return ::pclose(pipe) == 0 ? text : std::string();
}

/// A short text with words, numbers, spaces, newlines and several scripts.
inline std::string sample_text() {
  return "The latent of the query is 512 wide; the rope part is 64.\n\n  Don't cut 世界 in two, or こんにちは, or "
         "naïve "
         "café, Привет мир! 🦙🦙 the the the latent latent query\r\n\tx = y[0] + 12345678;   "
         "end\xE1\xA0\x8E.";
}

/// A spec trained on `text`, with BOS, EOS and padding as ids 0, 1, 2.
inline TokenizerSpec trained_spec(std::string_view text, int32_t vocab_size, int64_t min_frequency = 2) {
  BpeTrainerOptions options;
  options.vocab_size = vocab_size;
  options.special_tokens = {"<|begin|>", "<|end|>", "<|pad|>"};
  options.min_frequency = min_frequency;
  auto trainer = BpeTrainer::create(std::move(options));
  EXPECT_TRUE(trainer) << trainer.error().text;
  const Status added = trainer->add(text);
  EXPECT_TRUE(added) << added.error().text;
  SilentProgress silent;
  auto spec = trainer->train(silent);
  EXPECT_TRUE(spec) << spec.error().text;
  return *spec;
}

inline Tokenizer make_tokenizer(const TokenizerSpec& spec) {
  auto tokenizer = Tokenizer::create(spec);
  EXPECT_TRUE(tokenizer) << tokenizer.error().text;
  return std::move(*tokenizer);
}

/// Random characters: ASCII letters, digits and blanks mostly, and any code point of any plane sometimes.
inline std::string random_text(SequentialRng& rng, int64_t max_characters) {
  std::string text;
  for (int64_t left = rng.between(0, max_characters); left > 0; --left) {
    const uint64_t kind = rng.below(8);
    char32_t c = 0;
    if (kind < 4) {
      c = static_cast<char32_t>("abcthe  \n\t12.,'s"[rng.below(16)]);
    } else if (kind < 6) {
      c = static_cast<char32_t>(rng.below(0x250));
    } else if (kind < 7) {
      c = static_cast<char32_t>(rng.between(0x2000, 0x9FFF));
    } else {
      c = static_cast<char32_t>(rng.below(0x110000));
    }
    append_utf8(c >= 0xD800 && c <= 0xDFFF ? U'?' : c, text);
  }
  return text;
}

}  // namespace fathom
