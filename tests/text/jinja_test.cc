// The interpreter by itself: Python's semantics against a table made with Jinja2, errors with their lines, and limits.
#include <gtest/gtest.h>

#include <thread>

#include "base/file.h"
#include "text/chat_template.h"

namespace fathom {
namespace {

Json context_of(std::string_view text) {
  auto json = Json::parse(text, "test");
  EXPECT_TRUE(json);
  return json ? *std::move(json) : Json::object();
}

std::string render(std::string_view source, const Json& context = Json::object(), const RenderOptions& options = {}) {
  const auto parsed = ChatTemplate::parse(source, "t");
  if (!parsed) return "PARSE " + parsed.error().text;
  const auto text = parsed->render(context, options);
  return text ? *text : "RENDER " + text.error().text;
}

std::string repeat(std::string_view text, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += text;
  return out;
}

// Each line of jinja_cases.jsonl holds a template and what Jinja2 3.1.6 (sandbox, trim_blocks, lstrip_blocks, tojson
// and raise_exception as in transformers) makes of it: an output, or a failure. The first line is the context.
TEST(Jinja, AgreesWithJinja2OnEveryCaseOfTheTable) {
  const auto file = read_file(Path(FATHOM_SOURCE_DIR) / "tests/text/jinja_cases.jsonl");
  ASSERT_TRUE(file) << file.error().text;
  Json context;
  int cases = 0;
  for (size_t begin = 0; begin < file->size();) {
    const size_t end = file->find('\n', begin);
    const auto line = Json::parse(file->substr(begin, end - begin), "jinja_cases.jsonl");
    ASSERT_TRUE(line) << line.error().text;
    begin = end + 1;
    if (const Json* given = line->find("context")) {
      context = *given;
      continue;
    }
    const std::string& source = line->find("source")->as_string();
    const auto parsed = ChatTemplate::parse(source, "t");
    const auto text = parsed ? parsed->render(context) : Result<std::string>(parsed.error());
    const Json* output = line->find("output");
    ASSERT_EQ(text.ok(), output != nullptr) << source << "\n" << (text ? *text : text.error().text);
    if (text) {
      EXPECT_EQ(*text, output->as_string()) << source;
    }
    ++cases;
  }
  EXPECT_GT(cases, 600);
}

TEST(Jinja, NamesTheLineAndTheAcceptedSetOfWhatItDoesNotKnow) {
  EXPECT_EQ(render("a\n{% fro x in y %}"),
            "PARSE t:2: unknown tag \"fro\"; accepted here: if, for, set, macro, generation, raw, break, continue");
  EXPECT_TRUE(render("\n\n{{ 1|uper }}").starts_with("PARSE t:3: unknown filter \"uper\"; accepted: abs, capitalize"));
  EXPECT_TRUE(render("{{ 1 is strng }}").starts_with("PARSE t:1: unknown test \"strng\"; accepted: !=, <"));
  EXPECT_TRUE(render("{{ 'x'.uper() }}").starts_with("RENDER t:1: str has no method \"uper\"; methods of str: cap"));
  EXPECT_EQ(render("{{ 'a'|trim(chrs='b') }}"), "RENDER t:1: trim: unknown argument \"chrs\"; accepted: chars");
  EXPECT_EQ(render("{{ 'a'|replace('b') }}"),
            "RENDER t:1: replace: argument \"new\" is missing; accepted: old,new,count");
}

TEST(Jinja, NamesWhatIsUndefinedAndWhere) {
  EXPECT_EQ(render("a\n\n{{ x.y }}"), "RENDER t:3: \"x\" is undefined");
  EXPECT_EQ(render("{{ m.a.b }}", context_of(R"({"m": {}})")), "RENDER t:1: dict has no attribute \"a\"");
  EXPECT_EQ(render("{{ m.a + 'x' }}", context_of(R"({"m": {}})")), "RENDER t:1: dict has no attribute \"a\"");
  EXPECT_EQ(render("{{ 'a' + 1 }}"), "RENDER t:1: \"+\" does not apply to values of type str and int");
}

TEST(Jinja, NamesTheLineOfSyntaxErrors) {
  EXPECT_EQ(render("{% if a %}\n{% for x in y %}\n{% endif %}"),
            "PARSE t:3: unknown tag \"endif\"; accepted here: if, for, set, macro, generation, raw, break, continue");
  EXPECT_EQ(render("\n{% if a %}x"), "PARSE t:2: the block that ends in {% endif %} is not closed");
  EXPECT_EQ(render("\n{{ 1\n"), "PARSE t:2: \"{{\" without \"}}\"");
  EXPECT_EQ(render("{% break %}"), "PARSE t:1: {% break %} outside of a loop");
  EXPECT_EQ(render("{# x"), "PARSE t:1: comment without \"#}\"");
}

TEST(Jinja, RaisesTheTemplatesOwnMessage) {
  EXPECT_EQ(render("{{ raise_exception('roles must ' ~ 'alternate') }}"), "RENDER roles must alternate");
}

TEST(Jinja, TellsTheTimeOfTheInjectedClock) {
  RenderOptions options;
  options.now = [] {
    std::tm time{};
    time.tm_year = 126;
    time.tm_mon = 6;
    time.tm_mday = 4;
    return time;
  };
  EXPECT_EQ(render("{{ strftime_now('%d %b %Y|%-d.%-m.|%%') }}", Json::object(), options), "04 Jul 2026|4.7.|%");
  EXPECT_TRUE(render("{{ strftime_now('%999999999d') }}").starts_with("RENDER t:1: strftime_now: unknown directive"));
}

TEST(Jinja, PassesGenerationBlocksThrough) {
  EXPECT_EQ(render("a{% generation %}b{% set x = 1 %}{% endgeneration %}c{{ x is defined }}"), "abcFalse");
}

TEST(Jinja, MakesListsWhereJinja2MakesGenerators) {
  const Json context = context_of(R"({"tools": [{"function": {"name": "f"}}]})");
  EXPECT_EQ(render("{{ tools | map(attribute='function') | tojson }}", context), R"([{"name": "f"}])");
  EXPECT_EQ(render("{{ tools | selectattr('function') | length }}", context), "1");
}

TEST(Jinja, KeepsInvalidUtf8AsItIs) {
  Json context = Json::object();
  context.set("s", std::string("a\xff\xed\xa0\x80z"));
  EXPECT_EQ(render("{{ s }}|{{ s|length }}|{{ s[-1] }}|{{ s|upper }}", context),
            "a\xff\xed\xa0\x80z|6|z|A\xff\xed\xa0\x80Z");
}

TEST(JinjaLimits, EndATemplateThatRunsForever) {
  RenderOptions options;
  options.max_steps = 1'000'000;
  EXPECT_EQ(
      render("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", Json::object(), options),
      "RENDER t:1: the template takes too many evaluation steps");
  EXPECT_EQ(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
            "RENDER t:1: macros or expressions are nested too deep");
}

TEST(JinjaLimits, EndATemplateThatWritesWithoutBound) {
  RenderOptions options;
  options.max_output_bytes = 1000;
  EXPECT_EQ(render("{% for a in range(200) %}12345{% endfor %}", Json::object(), options).size(), 1000u);
  EXPECT_EQ(render("{% for a in range(201) %}12345{% endfor %}", Json::object(), options),
            "RENDER t:1: the output is longer than 1000 bytes");
}

TEST(JinjaLimits, EndATemplateThatHoardsMemory) {
  EXPECT_TRUE(render("{% set ns = namespace(x='ab') %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}")
                  .starts_with("RENDER t:1: a string is longer than"));
  EXPECT_TRUE(render("{{ 'ab' * 99999999999 }}").starts_with("RENDER t:1: \"*\" makes a value that is too large"));
  EXPECT_TRUE(render("{{ ('a' * 9999999).replace('a', 'bbbbbbbbbbbb') }}").starts_with("RENDER t:1: a string is long"));
  EXPECT_EQ(render("{% set ns = namespace(l=[]) %}{% for a in range(99) %}{% set ns.l = ns.l + ['a' ~ 'b' * 9999999] %}"
                   "{% endfor %}"),
            "RENDER t:1: the template's values take too much memory");
  RenderOptions options;
  options.max_live_bytes = 8 << 20;
  EXPECT_EQ(render("{{ ('ab' * 2000000)|list|length }}", Json::object(), options),
            "RENDER t:1: the template's values take too much memory");
}

TEST(JinjaLimits, EndDeeplyNestedSourcesAndValues) {
  EXPECT_TRUE(render("{{ " + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}").find("nested deeper") < 100);
  EXPECT_TRUE(render("{{ " + repeat("[", 100000) + repeat("]", 100000) + " }}").find("nested deeper") < 100);
  EXPECT_TRUE(render("{{ " + repeat("not ", 100000) + "1 }}").find("nested deeper") < 100);
  EXPECT_TRUE(render("{{ " + repeat("-", 100000) + "1 }}").find("deeper than") < 100);
  EXPECT_TRUE(render("{{ 1" + repeat("+1", 100000) + " }}").find("deeper than") < 100);
  EXPECT_TRUE(render("{{ a" + repeat(".a", 100000) + " }}").find("deeper than") < 100);
  EXPECT_TRUE(render("{{ a" + repeat("|trim", 100000) + " }}").find("deeper than") < 100);
  EXPECT_TRUE(render("{{ 1" + repeat(" if 1 else 1", 50000) + " }}").find("deeper than") < 100);
  EXPECT_TRUE(render(repeat("{% if 1 %}", 20000) + repeat("{% endif %}", 20000)).find("nested deeper") < 100);
  EXPECT_TRUE(render("{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}")
                  .find("nested deeper") < 100);
  EXPECT_TRUE(render("{% set ns = namespace(x=0) %}{% for i in range(9999) %}{% for j in [ns.x] %}"
                     "{% set ns.x = loop %}{% endfor %}{% endfor %}")
                  .find("nested deeper") < 100);
  EXPECT_EQ(render("{{ 1" + repeat("+1", 250) + " }}"), "251");
}

TEST(JinjaLimits, EndValuesThatShareTheirPartsExponentially) {
  EXPECT_EQ(render("{% set ns = namespace(x=[]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
                   "{{ ns.x == [ns.x, 1][:1][0] }}{{ ns.x|tojson|length }}")
                .substr(0, 9),
            "RENDER t:");
}

TEST(JinjaLimits, AreNotMetByCyclesThroughNamespacesAndMacros) {
  EXPECT_EQ(
      render("{% set ns = namespace() %}{% set ns.self = ns %}{% set ns.l = [ns] %}{{ ns.self.l[0].l|length }}"
             "{% for i in range(2) %}{% macro m() %}{{ i }}{% endmacro %}{% set ns.m = m %}{% endfor %}{{ ns.m() }}"),
      "11");
  EXPECT_EQ(render("{% set ns = namespace(p=none) %}{% for i in range(99999) %}{% set ns.p = namespace(p=ns.p) %}"
                   "{% endfor %}{{ ns.p.p is none }}"),
            "False");
}

TEST(Jinja, RendersOneTemplateFromSeveralThreads) {
  const auto parsed = ChatTemplate::parse("{% for i in range(n) %}{{ 'x' ~ i }}{% endfor %}", "t");
  ASSERT_TRUE(parsed);
  std::vector<std::string> outputs(4);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < outputs.size(); ++i) {
    threads.emplace_back([&, i] {
      Json context = Json::object();
      context.set("n", static_cast<int>(i) + 1);
      for (int round = 0; round < 200; ++round) outputs[i] = *parsed->render(context);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(outputs, (std::vector<std::string>{"x0", "x0x1", "x0x1x2", "x0x1x2x3"}));
}

}  // namespace
}  // namespace fathom
