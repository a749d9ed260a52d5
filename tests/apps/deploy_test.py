"""What docs/api.md, docs/guide-production.md and examples/deploy say about the server, compared with the server."""

import json
import pathlib
import re
import shutil
import subprocess
import unittest

import support
from serve_test import CHAT, server
from support import ROOT, CommandLineCase

DEPLOY = ROOT / "examples" / "deploy"
SERVE = ROOT / "src" / "serve"
HISTOGRAM = ("_bucket", "_sum", "_count")
# The words of PromQL that the rules and the dashboard use; any other name in a query must be a metric.
PROMQL = {"sum", "by", "rate", "increase", "deriv", "histogram_quantile", "min", "or", "and", "le", "label_values", "instance"}


def section(page, title):
    text = (ROOT / "docs" / page).read_text()
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL).group(1)


def rows(text):
    """The cells of every line of a table but its head."""
    lines = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines if not line[0].startswith("---") and "`" in line[0]]


def names(text):
    return re.findall(r"`([^`]+)`", text)


def metrics_of(text):
    """{name: type} of an exposition."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def series_of(types):
    """Every name that a query may use."""
    found = set()
    for name, kind in types.items():
        found.update([name + end for end in HISTOGRAM] if kind == "histogram" else [name])
    return found


def queried(expression):
    """The names in a PromQL expression that are not its own words."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\bby \([^)]*\)", "by", bare)
    return set(re.findall(r"[A-Za-z_:][\w:]*", bare)) - PROMQL


class Api(CommandLineCase):
    def sources(self):
        return "\n".join(path.read_text() for path in sorted(SERVE.glob("*.cc")))

    def test_routes_are_those_of_the_program(self):
        table = {name.replace("NAME", "") for row in rows(section("api.md", "Routes")) for name in names(row[0])}
        program = set(re.findall(r'\{"(GET|POST)", "(/[^"]*)", &Impl::', (SERVE / "server.cc").read_text()))
        self.assertEqual(table, {f"{method} {path}" for method, path in program})

    def test_routes_answer_and_ask_for_keys_as_the_page_says(self):
        with server(env=support.environment(FATHOM_API_KEY="k")) as running:
            for row in rows(section("api.md", "Routes")):
                method, path = names(row[0])[0].split()
                path = path.replace("/v1/models/NAME", "/v1/models/model").replace("NAME", "page.css")
                with self.subTest(route=path):
                    body = "{}" if method == "POST" else None
                    self.assertEqual(running.ask(method, path, body)[0] == 401, row[1] == "yes")
                    known = running.ask(method, path, body, {"Authorization": "Bearer k", "Accept-Encoding": "gzip"}) \
                        if "/assets/" not in path and path not in ("/", "/licenses") else (200,)
                    self.assertNotIn(known[0], (401, 405, 500))
                    if path != "/v1/models/model":
                        self.assertNotEqual(known[0], 404)

    def test_limits_are_those_of_the_program(self):
        header = (SERVE / "openai_request.h").read_text() + (ROOT / "src" / "engine" / "speculate.h").read_text()
        constants = {name: int(value) for name, value in re.findall(r"constexpr int64_t (kMax\w+) = (\d+);", header)}
        table = {name: int(row[-1]) for row in rows(section("api.md", "Limits of a request")) for name in names(row[0])}
        of = {"prompt": "kMaxChoices", "n": "kMaxChoices", "input": "kMaxInputs", "stop": "kMaxStops", "stop_token_ids": "kMaxStops",
              "dry_sequence_breakers": "kMaxStops", "logit_bias": "kMaxLogitBias", "top_logprobs": "kMaxTopLogprobs",
              "logprobs": "kMaxTopLogprobs", "tools": "kMaxTools", "draft_tokens": "kMaxDraft"}
        self.assertEqual(table, {field: constants[name] for field, name in of.items()})

    def test_metrics_are_those_of_the_program(self):
        table = {row[0].strip("`"): row[1] for row in rows(section("api.md", "Metrics"))}
        with server() as running:
            self.assertEqual(table, metrics_of(running.ask("GET", "/metrics")[2]))

    def test_error_codes_are_those_of_the_program(self):
        table = {names(row[0])[0] for row in rows(section("api.md", "Errors"))}
        text = self.sources()
        program = set()
        for value in re.findall(r"\.code = ([^,}]+)", text) + re.findall(r"const char\* code = ([^;]+);", text):
            program.update(re.findall(r'"([a-z_]+)"', value))
        program.update(re.findall(r'problem\(\d+, "([a-z_]+)"', text))
        program.discard("invalid_request_error")
        self.assertEqual(table, program)

    def test_fields_are_those_of_the_program(self):
        text = section("api.md", "Fields of completions")
        tables, refused = text.split("**Not supported", 1)
        table = {name for line in tables.splitlines() if line.startswith("|")
                 for name in names(" ".join(line.split("|")[1:3]) if "/" not in line.split("|")[1] else line)}
        table = {name for name in table if re.fullmatch(r"[a-z_]+", name)}
        source = (SERVE / "openai_request.cc").read_text()
        program = set(re.findall(r'fields\.(?:text|boolean|integer|number|find)\(\s*"([a-z_]+)"', source))
        program.update(name for pair in re.findall(r'llama \? "([a-z_]+)" : "([a-z_]+)"', source) for name in pair)
        unsupported = set(re.findall(r'Unsupported\{"([a-z_]+)"', source)) | {"dimensions"}
        values = {"lookup", "mtp", "none", "id", "piece", "role", "content", "tool_calls", "tool_call_id", "include_usage", "tokens"}
        self.assertEqual(program - unsupported - table, set(), "fields that the page does not have")
        self.assertEqual(table - program - values, set(), "fields that the program does not read")
        self.assertEqual(unsupported - {*names(refused.split("**Ignored", 1)[0])}, set())


class Monitoring(CommandLineCase):
    def check_queries(self, expressions):
        self.assertGreater(len(expressions), 5)
        with server() as running:
            series = series_of(metrics_of(running.ask("GET", "/metrics")[2])) | {"up"}
        for expression in expressions:
            with self.subTest(expression=expression):
                self.assertTrue(queried(expression))
                self.assertEqual(queried(expression) - series, set(), "no metric of the server")

    def test_every_query_of_the_dashboard_names_a_metric(self):
        dashboard = json.loads((DEPLOY / "grafana.json").read_text())
        queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        queries += [entry["query"] for entry in dashboard["templating"]["list"] if entry["type"] == "query"]
        self.check_queries(queries)
        self.assertEqual(len({panel["id"] for panel in dashboard["panels"]}), len(dashboard["panels"]))

    def test_every_alert_names_metrics_and_has_an_advice(self):
        text = (DEPLOY / "alerts.yml").read_text()
        single = re.findall(r"^ +expr: (?!\|)(.+)$", text, re.MULTILINE)
        folded = re.findall(r"^ +expr: \|\n((?: {10,}.+\n)+)", text, re.MULTILINE)
        alerts = re.findall(r"^ +- alert: (\w+)$", text, re.MULTILINE)
        self.assertEqual(len(single) + len(folded), len(alerts))
        self.check_queries(single + folded)
        advised = [row.split("|")[1].strip() for row in section("guide-production.md", "Watch it").splitlines()
                   if row.startswith("| Fathom")]
        self.assertEqual(advised, alerts)

    def test_labels_of_queries_are_those_of_the_server(self):
        with server() as running:
            running.ask("POST", "/v1/chat/completions", CHAT)
            running.ask("GET", "/nothing")
            text = running.ask("GET", "/metrics")[2]
        for name, label in (("fathom_errors_total", "code"), ("fathom_http_responses_total", "status"),
                            ("fathom_finished_total", "reason")):
            self.assertRegex(text, rf'\n{name}\{{.*\b{label}="')
        for file in ("alerts.yml", "grafana.json"):
            self.assertLessEqual(set(re.findall(r"sum by \((\w+)\)", (DEPLOY / file).read_text())),
                                 {"instance", "le", "code", "status", "reason", "why"})


class Unit(CommandLineCase):
    def test_flags_in_examples_and_pages_exist(self):
        known = set(re.findall(r"--[a-z][a-z0-9-]*", support.run("serve", "--help").stdout))
        texts = {"unit": re.search(r"ExecStart=(.*?)\n#", (DEPLOY / "fathom.service").read_text(), re.DOTALL).group(1),
                 "Dockerfile": re.search(r"^CMD (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE).group(1)}
        for page in ("guide-production.md", "api.md"):
            text = (ROOT / "docs" / page).read_text()
            prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
            texts[page] = " ".join(names(prose) + re.findall(r"^fathom serve .*$", text, re.MULTILINE))
        for name, text in texts.items():
            given = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))
            self.assertTrue(given, name)
            self.assertEqual(given - known, set(), name)

    def test_the_command_of_the_unit_starts(self):
        """With our model and port: no value in it is refused."""
        command = re.search(r"ExecStart=(.*?)\n#", (DEPLOY / "fathom.service").read_text(), re.DOTALL).group(1)
        words = command.replace("\\\n", " ").split()
        self.assertEqual(words[:3], ["/usr/local/bin/fathom", "serve", "/srv/models/model"])
        flags = dict(re.findall(r"(--[a-z-]+) ([^-\s]\S*)", command))
        work = support.fresh_directory()
        (work / "keys").write_text("key\n")
        del flags["--port"]
        flags |= {"--api-key-file": str(work / "keys"), "--prefix-cache-dir": str(work / "state")}
        with server(*[word for flag in flags.items() for word in flag], "--log-requests") as running:
            self.assertEqual(running.ask("GET", "/health")[0], 200)

    def test_systemd_accepts_the_unit(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("no systemd-analyze here")
        unit = support.fresh_directory() / "fathom.service"
        text = (DEPLOY / "fathom.service").read_text()
        unit.write_text(text.replace("/usr/local/bin/fathom ", support.BINARY + " ").replace("=fathom\n", "=root\n", 2)
                        .replace("Documentation=man:systemd.exec(5)\n", ""))
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=support.TIMEOUT_S)
        said = [line for line in (done.stdout + done.stderr).splitlines() if "fathom.service" in line]
        self.assertEqual((done.returncode, said), (0, []), done.stdout + done.stderr)

    def test_the_drain_ends_before_systemd_loses_patience(self):
        text = (DEPLOY / "fathom.service").read_text()
        self.assertLess(int(re.search(r"--drain-timeout (\d+)", text).group(1)), int(re.search(r"TimeoutStopSec=(\d+)", text).group(1)))


class Container(CommandLineCase):
    def test_its_build_is_that_of_the_readme(self):
        by_hand = re.search(r"By hand: `([^`]+)`, and the program is `([^`]+)`", (ROOT / "README.md").read_text())
        dockerfile = (DEPLOY / "Dockerfile").read_text()
        self.assertIn(f"RUN {by_hand.group(1)}\n", dockerfile)
        self.assertIn(f"COPY --from=build /fathom/{by_hand.group(2)} ", dockerfile)
        install = re.search(r"^tools/install_packages\.sh .*$", (ROOT / "run").read_text(), re.MULTILINE).group(0)
        self.assertIn(f"RUN {install}\n", dockerfile)
        self.assertEqual(set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)), {"debian:12"})

    def test_its_packages_have_every_library_that_the_program_loads(self):
        if not shutil.which("dpkg-query") or not shutil.which("ldd"):
            self.skipTest("no dpkg here")
        packages = set(re.search(r"--no-install-recommends (.*) \\", (DEPLOY / "Dockerfile").read_text()).group(1).split())
        page = (ROOT / "docs" / "guide-production.md").read_text()
        self.assertEqual(packages, {*re.search(r"needs the packages (.*?) at run time", page).group(1).replace(" and ", ", ").split(", ")})
        loaded = subprocess.run(["ldd", support.BINARY], capture_output=True, text=True, check=True).stdout
        owners = set()
        for path in re.findall(r"=> (/\S+)", loaded):
            file = str(pathlib.Path(path).resolve()).removeprefix("/usr")  # packages know one of the two names
            found = subprocess.run(["dpkg-query", "-S", file, "/usr" + file], capture_output=True, text=True)
            self.assertTrue(found.stdout, f"no package has {path}")
            owners.update(line.split(":")[0] for line in found.stdout.splitlines())
        # Of debian:12 itself.
        self.assertEqual(owners - packages - {"libc6", "libgcc-s1", "gcc-12-base"}, set())


if __name__ == "__main__":
    unittest.main()
