#include "apps/foreign_flags.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/json.h"

namespace fathom::apps {
namespace {

enum class Kind {
  kRenamed,   // the same under our name
  kSwitch,    // changes nothing here
  kValue,     // with a value, which changes nothing here
  kMaybe,     // with on, off or auto behind it, or without
  kOne,       // 1 is what this server does
  kCacheType  // llama.cpp's types of K and V
};

struct Foreign {
  std::string_view name;
  Kind kind;
  std::string_view ours = {};  // of kRenamed
};

constexpr Foreign kForeign[] = {
    // llama.cpp
    {"-np", Kind::kRenamed, "--max-num-seqs"},
    {"-hf", Kind::kRenamed, "--model"},
    {"-hfr", Kind::kRenamed, "--model"},
    {"--hf-repo", Kind::kRenamed, "--model"},
    {"-ctk", Kind::kCacheType},
    {"-ctv", Kind::kCacheType},
    {"--cache-type-k", Kind::kCacheType},
    {"--cache-type-v", Kind::kCacheType},
    {"-ub", Kind::kValue},
    {"--ubatch-size", Kind::kValue},
    {"-ngl", Kind::kValue},
    {"--gpu-layers", Kind::kValue},
    {"--n-gpu-layers", Kind::kValue},
    {"-ot", Kind::kValue},
    {"--override-tensor", Kind::kValue},
    {"-cmoe", Kind::kSwitch},
    {"--cpu-moe", Kind::kSwitch},
    {"-ncmoe", Kind::kValue},
    {"--n-cpu-moe", Kind::kValue},
    {"-sm", Kind::kValue},
    {"--split-mode", Kind::kValue},
    {"-ts", Kind::kValue},
    {"--tensor-split", Kind::kValue},
    {"-mg", Kind::kValue},
    {"--main-gpu", Kind::kValue},
    {"-fit", Kind::kMaybe},
    {"--fit", Kind::kMaybe},
    {"-fa", Kind::kMaybe},
    {"--flash-attn", Kind::kMaybe},
    {"-cb", Kind::kSwitch},
    {"--cont-batching", Kind::kSwitch},
    {"--mmap", Kind::kSwitch},
    {"--no-mmap", Kind::kSwitch},
    {"--mlock", Kind::kSwitch},
    {"--numa", Kind::kValue},
    {"--warmup", Kind::kSwitch},
    {"--no-warmup", Kind::kSwitch},
    {"--draft-max", Kind::kRenamed, "--draft-tokens"},
    // vLLM
    {"--tensor-parallel-size", Kind::kOne},
    {"-tp", Kind::kOne},
    {"--pipeline-parallel-size", Kind::kOne},
    {"-pp", Kind::kOne},
    {"--data-parallel-size", Kind::kOne},
    {"-dp", Kind::kOne},
    {"--enable-expert-parallel", Kind::kSwitch},
    {"--trust-remote-code", Kind::kSwitch},
    {"--enforce-eager", Kind::kSwitch},
    {"--swap-space", Kind::kValue},
    {"--block-size", Kind::kValue},
    {"--disable-log-requests", Kind::kSwitch},
    {"--no-enable-log-requests", Kind::kSwitch},
    {"--enable-log-requests", Kind::kRenamed, "--log-requests"},
    {"--disable-log-stats", Kind::kSwitch},
    {"--disable-custom-all-reduce", Kind::kSwitch},
    {"--uvicorn-log-level", Kind::kValue},
    // SGLang
    {"--tp", Kind::kOne},
    {"--tp-size", Kind::kOne},
    {"--dp", Kind::kOne},
    {"--dp-size", Kind::kOne},
    {"--pp-size", Kind::kOne},
    {"--ep", Kind::kOne},
    {"--ep-size", Kind::kOne},
    {"--enable-dp-attention", Kind::kSwitch},
    {"--disable-cuda-graph", Kind::kSwitch},
    {"--page-size", Kind::kValue},
    {"--speculative-num-steps", Kind::kRenamed, "--draft-tokens"},
    {"--speculative-num-draft-tokens", Kind::kValue},
    {"--speculative-eagle-topk", Kind::kOne},
};

class Translator {
 public:
  explicit Translator(const std::vector<std::string>& words) : words_(words) {}

  Result<std::vector<std::string>> run() && {
    for (; next_ < words_.size(); ++next_) {
      if (words_[next_] == "--") {  // what follows is no flag
        ours_.insert(ours_.end(), words_.begin() + static_cast<int64_t>(next_), words_.end());
        break;
      }
      if (auto s = translate(words_[next_]); !s) return s.error();
    }
    return std::move(ours_);
  }

 private:
  Status translate(const std::string& word) {
    const size_t equals = word.starts_with("-") ? word.find('=') : word.npos;
    name_ = word.substr(0, equals);
    value_.reset();
    if (equals != word.npos) value_ = word.substr(equals + 1);
    if (name_ == "--dtype") return take_dtype();
    if (name_ == "--device") return take_device();
    if (name_ == "--speculative-config") return take_speculative_config();
    if (name_ == "--speculative-algorithm" || name_ == "--spec-type") return take_speculation();
    const auto found = std::ranges::find_if(kForeign, [&](const Foreign& f) { return f.name == name_; });
    if (found != std::end(kForeign)) return take(*found);
    const bool letters = name_.size() > 2 && name_[0] == '-' && std::all_of(name_.begin() + 1, name_.end(), [](char c) {
                           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
                         });
    if (letters)
      return invalid("fathom serve has no flag " + name_ + "; names of several letters have two dashes here");
    ours_.push_back(word);
    return {};
  }

  Status take(const Foreign& flag) {
    switch (flag.kind) {
      case Kind::kSwitch: without_effect(name_); return {};
      case Kind::kMaybe: {
        constexpr std::string_view kStates[] = {"on", "off", "auto", "0", "1"};
        const bool follows =
            !value_ && next_ + 1 < words_.size() && std::ranges::find(kStates, words_[next_ + 1]) != std::end(kStates);
        if (follows) value_ = words_[++next_];
        without_effect(value_ ? name_ + " " + *value_ : name_);
        return {};
      }
      case Kind::kRenamed: ours_.push_back(std::string(flag.ours) + (value_ ? "=" + *value_ : "")); return {};
      default: break;
    }
    if (auto s = take_value(); !s) return s;
    if (flag.kind == Kind::kCacheType) return take_cache_type();
    if (flag.kind == Kind::kOne && *value_ != "1") {
      return refuse("this server is one process on one machine; accepted: 1");
    }
    without_effect(name_ + " " + *value_);
    return {};
  }

  /// One cache holds what K and V are computed from, so both have its type.
  Status take_cache_type() {
    if (*value_ != "bf16" && *value_ != "fp8" && *value_ != "auto") {
      return refuse("accepted: bf16 (or --kv-cache-dtype auto, bf16, fp8)");
    }
    if (cache_type_ && *cache_type_ != *value_) {
      return refuse("K and V are in one cache of type " + *cache_type_ + "; give both the same");
    }
    if (!cache_type_) ours_.push_back("--kv-cache-dtype=" + *value_);
    cache_type_ = value_;
    return {};
  }

  Status take_dtype() {
    if (auto s = take_value(); !s) return s;
    if (*value_ == "auto") {
      without_effect(name_ + " auto");
    } else if (*value_ == "bfloat16" || *value_ == "bf16") {
      ours_.push_back("--precision=bf16");
    } else if (*value_ == "float32" || *value_ == "float") {
      ours_.push_back("--precision=f32");
    } else {
      return refuse("accepted: auto, bfloat16, float32");
    }
    return {};
  }

  Status take_device() {
    if (auto s = take_value(); !s) return s;
    if (*value_ != "cpu" && *value_ != "auto") return refuse("this server computes on the CPU; accepted: cpu, auto");
    without_effect(name_ + " " + *value_);
    return {};
  }

  Status take_speculation() {
    if (auto s = take_value(); !s) return s;
    const std::string& kind = *value_;
    const bool mtp = kind == "EAGLE" || kind == "NEXTN" || kind == "draft-mtp";
    if (!mtp && kind != "NGRAM" && kind != "none") {
      return refuse("accepted: EAGLE, NEXTN, draft-mtp (the model's own module), NGRAM, none; or --speculate");
    }
    ours_.push_back(std::string("--speculate=") + (mtp ? "mtp" : kind == "none" ? "none" : "lookup"));
    return {};
  }

  Status take_speculative_config() {
    if (auto s = take_value(); !s) return s;
    const auto json = Json::parse(*value_, name_);
    if (!json) return json.error();
    const Json* method = json->is_object() ? json->find("method") : nullptr;
    const std::string kind = method != nullptr && method->is_string() ? method->as_string() : "";
    const bool mtp = kind == "mtp" || kind == "deepseek_mtp";
    if (!mtp && kind != "ngram") {
      return refuse(R"(accepted: {"method": "mtp" or "ngram", "num_speculative_tokens": N}; or --speculate)");
    }
    ours_.push_back(mtp ? "--speculate=mtp" : "--speculate=lookup");
    const Json* count = json->find("num_speculative_tokens");
    if (count != nullptr && !count->is_int()) return refuse("num_speculative_tokens is no integer");
    if (count != nullptr) ours_.push_back("--draft-tokens=" + std::to_string(count->as_int()));
    return {};
  }

  Status take_value() {
    if (value_) return {};
    if (next_ + 1 >= words_.size()) return invalid(name_ + " needs a value");
    value_ = words_[++next_];
    return {};
  }
  Status refuse(const std::string& why) const { return invalid(name_ + " " + value_->substr(0, 200) + ": " + why); }
  void without_effect(const std::string& what) { ours_.push_back("--without-effect=" + what); }

  const std::vector<std::string>& words_;
  size_t next_ = 0;
  std::string name_;
  std::optional<std::string> value_;
  std::optional<std::string> cache_type_;
  std::vector<std::string> ours_;
};

/// Flags of llama.cpp's command line and of Transformers, which no server has.
constexpr std::pair<std::string_view, std::string_view> kForeignOfTools[] = {
    {"-cnv", "fathom chat is the conversation; leave it away"},
    {"--conversation", "fathom chat is the conversation; leave it away"},
    {"-i", "fathom chat is the conversation; leave it away"},
    {"--interactive", "fathom chat is the conversation; leave it away"},
    {"-no-cnv", "fathom generate continues a text; leave it away"},
    {"--no-conversation", "fathom generate continues a text; leave it away"},
    {"-st", "echo TEXT | fathom chat MODEL is one turn"},
    {"--single-turn", "echo TEXT | fathom chat MODEL is one turn"},
    {"-sys", "its name here is --system"},
    {"-r", "its name here is --stop, of fathom generate"},
    {"--reverse-prompt", "its name here is --stop, of fathom generate"},
    {"-co", "it changes nothing here; leave it away"},
    {"--color", "it changes nothing here; leave it away"},
    {"--do-sample", "--temperature 0 takes the most probable token, any other draws"},
    {"--do_sample", "--temperature 0 takes the most probable token, any other draws"},
    {"--dtype", "its name here is --precision"},
    {"--torch-dtype", "its name here is --precision"},
    {"--torch_dtype", "its name here is --precision"},
    {"--device", "fathom computes on the CPU; leave it away"}};

}  // namespace

Result<std::vector<std::string>> in_our_words(const std::vector<std::string>& words) { return Translator(words).run(); }

std::optional<std::string> advice_on_foreign_flag(std::string_view flag) {
  const auto advice = std::ranges::find(kForeignOfTools, flag, &std::pair<std::string_view, std::string_view>::first);
  if (advice != std::end(kForeignOfTools)) return std::string(advice->second);
  const auto found = std::ranges::find_if(kForeign, [&](const Foreign& f) { return f.name == flag; });
  if (found == std::end(kForeign)) return std::nullopt;
  if (found->kind == Kind::kCacheType) return "its name here is --kv-cache-dtype";
  if (!found->ours.empty()) return "its name here is " + std::string(found->ours);
  return "it changes nothing here; leave it away";
}

Status refuse_foreign_letters(const std::vector<std::string>& words) {
  if (words.empty() || words.front() == "serve") return {};
  for (const std::string& word : words) {
    if (word == "--") break;
    const std::string flag = word.substr(0, word.find('='));
    if (flag.size() < 3 || flag[0] != '-' || flag[1] == '-') continue;
    if (const auto advice = advice_on_foreign_flag(flag)) {
      const std::string verb = "fathom " + words.front();
      return invalid(verb + " has no flag " + flag + ": " + *advice + "; see " + verb + " --help");
    }
  }
  return {};
}

}  // namespace fathom::apps
