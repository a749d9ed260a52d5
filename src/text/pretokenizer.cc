#include "text/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "base/check.h"
#include "base/json.h"
#include "text/utf8.h"

namespace fathom {
namespace {

constexpr size_t kMaxPatterns = 64;
constexpr size_t kMaxPatternBytes = size_t{1} << 14;
// A match may take this many steps, plus some per byte of the text (a run of blanks is walked twice). One that needs
// more is of a hostile pattern.
constexpr size_t kMatchSteps = 10'000'000;
constexpr size_t kMatchStepsPerByte = 8;
constexpr uint32_t kHeapLimitKib = 65'536;

// Unicode White_Space and its complement, as the inside of a character class.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNonSpaces =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Rewrites one pattern from left to right; each function reads one construct at the cursor.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  Result<std::string> run() {
    while (at_ < in_.size() && !problem_) {
      if (in_class_) {
        class_character();
      } else {
        plain_character();
      }
    }
    if (!problem_ && in_class_) refuse("an open '['");
    if (problem_) return *problem_;
    return std::move(out_);
  }

 private:
  char peek(size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  void copy(size_t count) {
    out_.append(in_.substr(at_, count));
    at_ += count;
  }
  void refuse(const std::string& what) {
    problem_ = unsupported("split pattern: " + what + " at byte " + std::to_string(at_) +
                           "; accepted: literals, [..] without nesting, \\p{..}, \\s, \\d, \\n, \\r, \\t, \\x{..}, "
                           "escaped punctuation, ?, *, +, {n,m}, |, (..), (?:..), (?i:..), (?>..) and lookaround");
  }

  void plain_character() {
    const char c = peek();
    if (c == '\\') return escape();
    if (c == '[') return open_class();
    if (c == '(') return group();
    if (c == '{') return quantifier();
    // Ruby's ^ and $ are line anchors, Perl's are not.
    if (c == '\0') return refuse("a zero byte");
    if (c == '^' || c == '$' || c == '}' || c == ']') return refuse(std::string("'") + c + "'");
    copy(1);
  }

  void open_class() {
    in_class_ = true;
    copy(1);
    if (peek() == '^') copy(1);
    class_start_ = at_;
    if (peek() == ']') refuse("an empty class");
  }

  void class_character() {
    const char c = peek();
    if (c == '\\') return escape();
    if (c == '[') return refuse("'[' inside a class");
    if (c == '&' && peek(1) == '&') return refuse("'&&' inside a class");
    if (c == '\0') return refuse("a zero byte");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void group() {
    if (peek(1) == '*') return refuse("'(*'");
    if (peek(1) != '?') return copy(1);
    for (std::string_view opening : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:"}) {
      if (in_.substr(at_).starts_with(opening)) return copy(opening.size());
    }
    refuse("'(?' of another kind");
  }

  // {n}, {n,}, {n,m}. After it Ruby reads ? and + as further quantifiers, Perl as lazy and possessive.
  void quantifier() {
    size_t length = 1;
    while (is_digit(peek(length))) ++length;
    const bool has_count = length > 1;
    if (peek(length) == ',') ++length;
    while (is_digit(peek(length))) ++length;
    const char after = peek(length + 1);
    if (!has_count || peek(length) != '}' || after == '?' || after == '+' || after == '*') return refuse("'{'");
    copy(length + 1);
  }

  void escape() {
    const char c = peek(1);
    if (c == 's' || c == 'S') return space(c == 's' ? kSpaces : kNonSpaces);
    if (c == 'p' || c == 'P') return property();
    if (c == 'n' || c == 'r' || c == 't' || c == 'f' || c == 'd' || c == 'D') return copy(2);
    if (c == 'x') return code_point();
    // \< \> \' and \` are anchors in some syntaxes of Oniguruma.
    const bool punctuation =
        std::ispunct(static_cast<unsigned char>(c)) != 0 && c != '<' && c != '>' && c != '\'' && c != '`';
    if (!punctuation && c != ' ') return refuse(c > ' ' ? std::string("'\\") + c + "'" : "'\\' without a letter");
    copy(2);
  }

  void space(std::string_view members) {
    if (in_class_) {
      // Written out, a class next to a hyphen would become a range.
      const bool after_hyphen = at_ > class_start_ && in_[at_ - 1] == '-';
      const bool before_hyphen = peek(2) == '-' && peek(3) != ']';
      if (after_hyphen || before_hyphen) return refuse("'-' next to \\s");
      out_.append(members);
    } else {
      out_.append("[").append(members).append("]");
    }
    at_ += 2;
  }

  // General categories have one or two letters; longer names are scripts, which PCRE2 would match by extension.
  void property() {
    size_t length = 3;
    while (is_letter(peek(length)) || peek(length) == '_') ++length;
    if (peek(2) != '{' || length == 3 || peek(length) != '}') return refuse("\\p without {name}");
    const std::string_view name = in_.substr(at_ + 3, length - 3);
    const bool category = name.size() <= 2 && std::string_view("LMNPSZC").find(name[0]) != std::string_view::npos;
    out_.append(in_.substr(at_, 3)).append(category ? "" : "sc:").append(name).append("}");
    at_ += length + 1;
  }

  void code_point() {
    size_t length = 3;
    while (std::isxdigit(static_cast<unsigned char>(peek(length))) != 0) ++length;
    if (peek(2) != '{' || length == 3 || peek(length) != '}') return refuse("\\x without {hex}");
    copy(length + 1);
  }

  std::string_view in_;
  std::string out_;
  size_t at_ = 0;
  size_t class_start_ = 0;
  bool in_class_ = false;
  std::optional<Error> problem_;
};

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// As the file spells it, on one line.
std::string quoted(std::string_view pattern) {
  return Json(utf8_prefix(pattern, 80)).dump() + (pattern.size() > 80 ? "..." : "");
}

struct FreeCode {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
struct FreeMatchData {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
struct FreeMatchContext {
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
};
struct FreeCompileContext {
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
};

// What a match writes to and is limited by: of one split() call, so that split() is thread-safe.
struct Match {
  std::unique_ptr<pcre2_match_data, FreeMatchData> data;
  std::unique_ptr<pcre2_match_context, FreeMatchContext> context;
};

struct Regex {
  std::string pattern;
  std::unique_ptr<pcre2_code, FreeCode> code;
};

Error out_of_memory() { return {ErrorCode::kOutOfMemory, "no memory for the split patterns"}; }

Result<Regex> compile(const std::string& pattern) {
  if (pattern.empty() || pattern.size() > kMaxPatternBytes) {
    return unsupported("split pattern of " + std::to_string(pattern.size()) + " bytes; accepted: 1 to " +
                       std::to_string(kMaxPatternBytes));
  }
  if (const auto bad = first_invalid_utf8(pattern)) {
    return corrupt("split pattern: invalid UTF-8 at byte " + std::to_string(*bad));
  }
  const auto translated = to_pcre2(pattern);
  if (!translated) return Error{translated.error().code, translated.error().text + ", in " + quoted(pattern)};
  const std::unique_ptr<pcre2_compile_context, FreeCompileContext> context(pcre2_compile_context_create(nullptr));
  if (!context) return out_of_memory();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  Regex regex{pattern, nullptr};
  regex.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated->data()), translated->size(),
                                 PCRE2_UTF | PCRE2_UCP, &error, &offset, context.get()));
  if (!regex.code) return unsupported("split pattern " + quoted(pattern) + ": " + pcre2_message(error));
  // Where JIT is not available the interpreter gives the same matches, so the result does not matter.
  pcre2_jit_compile(regex.code.get(), PCRE2_JIT_COMPLETE);
  return regex;
}

}  // namespace

struct Pretokenizer::Compiled {
  std::vector<Regex> regexes;
  // Appends the pieces of one text under one pattern: its matches and what lies between them.
  Status isolate(const Regex& regex, const Match& match, std::string_view text,
                 std::vector<std::string_view>& pieces) const {
    const auto put = [&](size_t begin, size_t end) {
      if (end > begin) pieces.push_back(text.substr(begin, end - begin));
    };
    size_t done = 0;   // text up to here is in pieces
    size_t start = 0;  // where the search goes on
    std::optional<size_t> last_end;
    while (start <= text.size()) {
      const auto search = [&](uint32_t options) {
        return pcre2_match(regex.code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                           PCRE2_NO_UTF_CHECK | options, match.data.get(), match.context.get());
      };
      int rc = search(0);
      if (rc == PCRE2_ERROR_JIT_STACKLIMIT) rc = search(PCRE2_NO_JIT);  // the interpreter may use the heap
      if (rc == PCRE2_ERROR_NOMATCH) break;
      if (rc < 0) {
        return invalid("split pattern " + quoted(regex.pattern) + " gave up on a piece of " +
                       std::to_string(text.size()) + " bytes: " + pcre2_message(rc));
      }
      const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.data.get());
      const size_t begin = bounds[0], end = bounds[1];
      check(begin <= end && begin >= done && end <= text.size(), "a match lies in the text that is left");
      if (begin == end && last_end == end) {
        // An empty match right after a match is none: look on from the next character.
        if (end == text.size()) break;
        start = end + static_cast<size_t>(utf8_step(text.substr(end)).length);
        continue;
      }
      put(done, begin);
      put(begin, end);
      done = start = end;
      last_end = end;
    }
    put(done, text.size());
    return {};
  }
};

Pretokenizer::Pretokenizer() : compiled_(std::make_unique<Compiled>()) {}
Pretokenizer::Pretokenizer(Pretokenizer&&) noexcept = default;
Pretokenizer& Pretokenizer::operator=(Pretokenizer&&) noexcept = default;
Pretokenizer::~Pretokenizer() = default;

Result<Pretokenizer> Pretokenizer::create(std::span<const std::string> patterns) {
  if (patterns.size() > kMaxPatterns) {
    return unsupported(std::to_string(patterns.size()) + " split patterns; accepted: up to " +
                       std::to_string(kMaxPatterns));
  }
  Pretokenizer out;
  for (const std::string& pattern : patterns) {
    auto regex = compile(pattern);
    if (!regex) return regex.error();
    out.compiled_->regexes.push_back(std::move(*regex));
  }
  return out;
}

Result<std::vector<std::string_view>> Pretokenizer::split(std::string_view text) const {
  std::vector<std::string_view> pieces;
  if (text.empty()) return pieces;
  pieces.push_back(text);
  // One pair of offsets is enough: only the whole match matters.
  Match match;
  match.data.reset(pcre2_match_data_create(1, nullptr));
  match.context.reset(pcre2_match_context_create(nullptr));
  if (!match.data || !match.context) return out_of_memory();
  const size_t steps = std::min(kMatchSteps + kMatchStepsPerByte * text.size(), size_t{UINT32_MAX});
  pcre2_set_match_limit(match.context.get(), static_cast<uint32_t>(steps));
  pcre2_set_heap_limit(match.context.get(), kHeapLimitKib);
  for (const Regex& regex : compiled_->regexes) {
    std::vector<std::string_view> cut;
    cut.reserve(pieces.size());
    for (std::string_view piece : pieces) {
      if (auto status = compiled_->isolate(regex, match, piece, cut); !status) return status.error();
    }
    pieces = std::move(cut);
  }
  return pieces;
}

Result<std::string> to_pcre2(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace fathom
