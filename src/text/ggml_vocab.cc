#include "text/ggml_vocab.h"

#include <array>
#include <limits>
#include <unordered_map>

#include "base/json.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace fathom {
namespace {

// Token types of the format.
constexpr int64_t kNormal = 1;
constexpr int64_t kControl = 3;
constexpr int64_t kUserDefined = 4;
constexpr int64_t kUnused = 5;

std::vector<std::string> gpt2_split_patterns() { return {std::string(kGpt2SplitPattern)}; }

struct Pre {
  std::string_view name;
  std::vector<std::string> (*patterns)();
  bool ignore_merges;  // as in the model's own tokenizer
};
constexpr std::array<Pre, 6> kPres = {{{"deepseek-v3", deepseek_v3_split_patterns, false},
                                       {"deepseek-llm", deepseek_llm_split_patterns, false},
                                       {"deepseek-coder", deepseek_coder_split_patterns, false},
                                       {"gpt-2", gpt2_split_patterns, false},
                                       {"kimi-k2", kimi_split_patterns, true},
                                       {"glm4", glm4_split_patterns, true}}};

std::string shown(std::string_view text) { return Json(utf8_prefix(text, 80)).dump(); }

Status add_pre(std::string_view pre, const std::string& where, TokenizerSpec& spec) {
  std::string accepted;
  for (const Pre& known : kPres) {
    if (known.name == pre) {
      spec.split_patterns = known.patterns();
      spec.ignore_merges = known.ignore_merges;
      return {};
    }
    accepted.append(accepted.empty() ? "" : ", ").append(known.name);
  }
  return unsupported(where + ": tokenizer.ggml.pre " + shown(pre) + " is not supported; accepted: " + accepted);
}

Status add_tokens(const GgmlVocab& vocab, const std::string& where, TokenizerSpec& spec) {
  if (vocab.tokens.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return corrupt(where + ": tokenizer.ggml.tokens has " + std::to_string(vocab.tokens.size()) + " entries");
  }
  if (!vocab.token_type.empty() && vocab.token_type.size() != vocab.tokens.size()) {
    return corrupt(where + ": tokenizer.ggml.token_type has " + std::to_string(vocab.token_type.size()) +
                   " entries for " + std::to_string(vocab.tokens.size()) + " tokens");
  }
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    const std::string_view text = vocab.tokens[i];
    const int64_t type = vocab.token_type.empty() ? kNormal : vocab.token_type[i];
    switch (type) {
      case kNormal: spec.vocab.push_back(vocab_entry(text, id)); break;
      case kControl:
      case kUserDefined: spec.added_tokens.push_back({std::string(text), id, type == kControl, false}); break;
      case kUnused: break;
      default:
        return unsupported(where + ": token " + std::to_string(id) + " " + shown(text) + " has type " +
                           std::to_string(type) + "; accepted: 1 (normal), 3 (control), 4 (user-defined), 5 (unused)");
    }
  }
  return {};
}

Status add_merges(const GgmlVocab& vocab, const std::string& where, TokenizerSpec& spec) {
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(vocab.tokens.size());
  for (size_t i = 0; i < vocab.tokens.size(); ++i) ids.emplace(vocab.tokens[i], static_cast<int32_t>(i));
  spec.merges.reserve(vocab.merges.size());
  for (std::string_view merge : vocab.merges) {
    const auto rank = static_cast<int32_t>(spec.merges.size());
    const std::string at = where + ": tokenizer.ggml.merges[" + std::to_string(rank) + "] is " + shown(merge);
    // The alphabet has no blank, so the first one is between the two.
    const size_t blank = merge.find(' ');
    if (blank == std::string_view::npos || blank == 0 || blank + 1 == merge.size()) {
      return corrupt(at + "; accepted: \"a b\"");
    }
    const auto left = ids.find(merge.substr(0, blank));
    const auto right = ids.find(merge.substr(blank + 1));
    if (left == ids.end() || right == ids.end()) {
      return corrupt(at + ", but the vocabulary has no " +
                     shown(left == ids.end() ? merge.substr(0, blank) : merge.substr(blank + 1)));
    }
    spec.merges.push_back({left->second, right->second, rank});
  }
  return {};
}

}  // namespace

Result<TokenizerSpec> spec_from_ggml_vocab(const GgmlVocab& vocab, std::string_view source) {
  const std::string where(source);
  if (vocab.model != "gpt2") {
    return unsupported(where + ": tokenizer.ggml.model " + shown(vocab.model) + " is not supported; accepted: gpt2");
  }
  TokenizerSpec spec;
  if (auto s = add_pre(vocab.pre, where, spec); !s) return s.error();
  if (auto s = add_tokens(vocab, where, spec); !s) return s.error();
  if (auto s = add_merges(vocab, where, spec); !s) return s.error();
  return spec;
}

}  // namespace fathom
