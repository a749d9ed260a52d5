#!/usr/bin/env python3
"""Runs the test stages of ./test and prints the summary; ./test installs the packages first.

A check is one GoogleTest case, or one stage that is not made of such cases (a build, the layering, a fuzz target). The
last line is "N passed, M failed" over all checks; the exit status is 1 if M is not 0.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build-logs"
# The folders whose code runs on several threads.
TSAN_FOLDERS = ("base", "kernels", "parallel", "model", "engine", "train", "serve")
FAST_LIMIT_S, ALL_LIMIT_S = 8 * 60, 45 * 60

Stage = collections.namedtuple("Stage", "name passed failed skipped seconds")


class Run:
    """The stages so far. Each stage method adds one line to the summary and never raises for a failing check."""

    def __init__(self, jobs):
        self.jobs = jobs
        self.stages = []
        self.failures = []  # "stage: what"
        self.skips = []  # "stage: test: reason"
        self.kernels = []  # "preset: what kernel_levels says"
        self.start = time.monotonic()
        self.lock = threading.RLock()  # of what is printed and of the lists
        self.processes = set()  # that run
        self.interrupted = False

    def together(self, *works):
        """Stages that use one CPU each, side by side; each calls add() when it is done."""
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            try:
                for work in [pool.submit(work) for work in works]:
                    work.result()
            except BaseException:  # Ctrl-C reaches this thread alone
                pool.shutdown(wait=False, cancel_futures=True)
                with self.lock:
                    self.interrupted = True
                    for process in self.processes:
                        with contextlib.suppress(ProcessLookupError):
                            os.killpg(process.pid, signal.SIGKILL)
                raise

    def add(self, name, start, passed=0, failures=(), skips=()):
        seconds = time.monotonic() - start
        with self.lock:
            self.stages.append(Stage(name, passed, len(failures), len(skips), seconds))
            self.failures += [f"{name}: {text}" for text in failures]
            self.skips += [f"{name}: {text}" for text in skips]
            print(f"{'FAIL' if failures else 'ok':4}  {name}  ({seconds:.1f} s)", flush=True)
        return not failures

    def skip(self, name, reason):
        self.add(name, time.monotonic(), skips=[reason])

    def execute(self, command, log_name, timeout_s, env=None, cwd=ROOT):
        """Runs a command into LOGS/log_name; (exit status, output). A command past its time counts as status 124."""
        log = LOGS / log_name
        with open(log, "wb") as out:
            try:
                with self.lock:  # an interruption finds it, or comes before it
                    if self.interrupted:
                        return 130, "interrupted"
                    process = subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                               env={**os.environ, **(env or {})}, start_new_session=True)
                    self.processes.add(process)
            except OSError as error:
                return 127, f"cannot start {command[0]}: {error.strerror}"
            try:
                status = process.wait(timeout=timeout_s)
            except BaseException as error:  # the group must not outlive us, whatever ends the wait
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                out.write(f"\nstopped after {timeout_s} s\n".encode())
                status = 124
            finally:
                with self.lock:
                    self.processes.discard(process)
        return status, log.read_text(errors="replace")

    def show(self, output, num_lines=60):
        lines = output.rstrip().splitlines()
        with self.lock:
            if len(lines) > num_lines:
                print(f"      ... {len(lines) - num_lines} lines more in {LOGS.name}/")
            for line in lines[-num_lines:]:
                print("      " + line)

    def command(self, name, command, timeout_s=300, **kwargs):
        """A stage that is one check: the command succeeds."""
        start = time.monotonic()
        status, output = self.execute(command, re.sub(r"\W+", "-", name) + ".log", timeout_s, **kwargs)
        if status:
            self.show(output)
        return self.add(name, start, passed=0 if status else 1, failures=[f"exit status {status}"] if status else [])

    def build(self, preset, targets=None):
        """Configures and builds a preset, all of it or the targets that `targets` picks from the list of all."""
        name, start = f"build {preset}", time.monotonic()
        configure = ["cmake", "--preset", preset]
        if shared := os.environ.get("FATHOM_SHARED_DIR"):
            configure.append(f"-DFATHOM_SHARED_DIR={pathlib.Path(shared).resolve()}")
        status, output = self.execute(configure, f"configure-{preset}.log", 300)
        picked = []
        if not status:
            directory = build_directory(preset)
            if targets:
                picked = targets(list_targets(directory))
            if targets and not picked:
                self.add(name, start, failures=["none of its targets exists"])
                return None
            status, output = self.execute(["ninja", "-C", str(directory), f"-j{self.jobs}", *picked],
                                          f"build-{preset}.log", 40 * 60)
        if status:
            self.show(output)
        self.add(name, start, passed=0 if status else 1, failures=[f"exit status {status}"] if status else [])
        return None if status else (picked or True)

    def ctest(self, preset, pattern=None, timeout_s=120, everything=False, effort="usual"):
        """The tests of a built preset, the long ones only with `everything`; counts GoogleTest cases from their XML files.
        effort: tests/effort.h."""
        name, start = f"tests {preset}", time.monotonic()
        directory = build_directory(preset)
        results = LOGS / f"xml-{preset}"
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir(parents=True)
        junit = results / "ctest.junit"
        command = ["ctest", "--test-dir", str(directory), "--output-on-failure", "--timeout", str(timeout_s), "-j",
                   str(self.jobs), "--output-junit", str(junit), *(["-R", pattern] if pattern else [])]
        # Memory that cannot be had is an outcome that tests look at, not a fault of the program.
        env = {"FATHOM_ALL": str(int(everything)), "FATHOM_EFFORT": effort, "GTEST_OUTPUT": f"xml:{results}/", "UBSAN_OPTIONS": "print_stacktrace=1",
               "ASAN_OPTIONS": "allocator_may_return_null=1", "TSAN_OPTIONS": "allocator_may_return_null=1"}
        status, output = self.execute(command, f"tests-{preset}.log", 40 * 60, env=env)
        passed, failures, skips = count_tests(junit, results, programs_of(directory))
        if levels := kernel_levels(results):
            self.kernels.append(f"{preset}: {levels}")
        if not passed and not failures:
            failures = [f"no tests ran (exit status {status})"]
        elif status and not failures:
            failures = [f"ctest ended with status {status}"]
        if failures:
            self.show(output, 120)
        return self.add(name, start, passed, failures, skips)

    def command_line(self, everything):
        """The tests of the built program; the long ones only with `everything`."""
        name, start = "command line", time.monotonic()
        report = LOGS / "command-line.json"
        report.unlink(missing_ok=True)
        env = {"FATHOM_BINARY": str(build_directory("test") / "src" / "apps" / "fathom"), "FATHOM_ALL": str(int(everything))}
        status, output = self.execute([sys.executable, "tools/unittest_report.py", "tests/apps", str(report), str(self.jobs)],
                                      "command-line.log", (25 if everything else 8) * 60, env=env)
        try:
            found = json.loads(report.read_text())
        except (OSError, ValueError):
            found = {"passed": 0, "failures": [f"the tests left no report (exit status {status})"], "skips": []}
        if found["failures"]:
            self.show(output, 120)
        return self.add(name, start, found["passed"], found["failures"], found["skips"])

    def fuzz(self, total_seconds):
        built = self.build("dev", lambda targets: [t for t in targets if t.startswith("fuzz_")])
        if not built:
            return
        start = time.monotonic()
        seconds = max(1, min(5, total_seconds // len(built)))
        passed, failures = 0, []
        for target in built:
            corpus = ROOT / "tests" / "fuzz" / "corpus" / target.removeprefix("fuzz_")
            with tempfile.TemporaryDirectory(prefix="fathom_fuzz_") as fresh:  # new inputs go here, not into the tree
                command = [str(build_directory("dev") / "tests" / target), f"-max_total_time={seconds}", "-timeout=10",
                           "-rss_limit_mb=2048", f"-artifact_prefix={LOGS}/{target}-", fresh]
                if corpus.is_dir():
                    command.append(str(corpus))
                status, output = self.execute(command, f"{target}.log", 20 * seconds + 60)
            if status:
                self.show(output)
                failures.append(f"{target}: exit status {status}; the input is in {LOGS.name}/{target}-*")
            else:
                passed += 1
        self.add("fuzz", start, passed, failures)

    def reference(self):
        """The NumPy implementation that wrote tests/golden: its gradients, its files, and DeepSeek's own run beside it."""
        tools = "tools/reference/"
        self.command("reference gradients", ["/usr/bin/python3", tools + "check_gradients.py"])
        self.command("reference golden files", ["/usr/bin/python3", tools + "make_golden.py", "--check"])
        oracle = shared_folder() / "data" / "oracle" / "tiny-dsv3"
        if oracle.is_dir():
            self.command("reference oracle", ["/usr/bin/python3", tools + "check_oracle.py", str(oracle)])
        else:
            self.skip("reference oracle", "shared data oracle/tiny-dsv3 is absent")

    def npm(self):
        folder = ROOT / "tests" / "npm"
        if not (folder / "package.json").exists():
            self.skip("npm checks", "tests/npm/package.json is absent")
            return
        install = "ci" if (folder / "package-lock.json").exists() else "install"
        if self.command("npm install", ["npm", install, "--no-audit", "--no-fund", *(["--no-package-lock"] if install == "install" else [])], cwd=folder):
            self.command("npm checks", ["npm", "test"], timeout_s=600, cwd=folder)

    def documentation(self):
        pages = [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("guide-*.md"))) if p.exists()]
        if not pages:
            self.skip("documentation", "README.md and docs/guide-*.md are absent")
        else:  # the program of the test build: the same sources and flags as a release's
            program = build_directory("test") / "src" / "apps"
            self.command("documentation", [sys.executable, "tools/doc_test.py", "--all-blocks", "--bin", str(program)], timeout_s=600)

    def summary(self, limit_s):
        total_s = time.monotonic() - self.start
        passed = sum(stage.passed for stage in self.stages)
        failed = sum(stage.failed for stage in self.stages)
        print("\nStages")
        for stage in self.stages:
            verdict = "FAIL" if stage.failed else "pass" if stage.passed else "skip"
            skipped = f", {stage.skipped} skipped" if stage.skipped else ""
            print(f"  {verdict}  {stage.name:24} {stage.seconds:7.1f} s   {stage.passed} passed, {stage.failed} failed{skipped}")
        late = "" if total_s <= limit_s else f", longer than the {limit_s / 60:.0f} min this round should take"
        print(f"  total {total_s:.1f} s{late}")
        if self.kernels:
            print("\nKernels")
            for line in self.kernels:
                print("  " + line)
        for title, lines in (("Skipped", self.skips), ("Failed", self.failures)):
            if lines:
                print(f"\n{title} ({len(lines)})")
                for line in lines:
                    print("  " + line)
        print(f"\n{passed} passed, {failed} failed")
        return 1 if failed else 0


def build_directory(preset):
    return ROOT / ("build" if preset == "release" else f"build-{preset}")


def list_targets(directory):
    listed = subprocess.run(["ninja", "-C", str(directory), "-t", "targets", "all"], capture_output=True, text=True).stdout
    return re.findall(r"^(\w+): phony", listed, re.MULTILINE)


def programs_of(directory):
    """ctest's test names -> the names of their programs."""
    listed = subprocess.run(["ctest", "--test-dir", str(directory), "--show-only=json-v1"], capture_output=True, text=True)
    try:
        tests = json.loads(listed.stdout)["tests"]
    except (ValueError, KeyError):
        return {}
    return {test["name"]: pathlib.Path(test["command"][0]).name for test in tests if test.get("command")}


def one_line(text):
    return " ".join(text.split())


def count_tests(junit, results, programs):
    """(number passed, failures, skips). Programs without an XML file (crashed, or not GoogleTest) count as one check."""
    passed, failures, skips = 0, [], []
    failed_programs = set()
    reported = set()
    for path in sorted(results.rglob("*.xml")):
        program = re.sub(r"_\d+$", "", path.stem)
        try:
            cases = list(ElementTree.parse(path).iter("testcase"))
        except ElementTree.ParseError:
            continue  # the program ended while writing: ctest knows its fate
        reported.add(program)
        for case in cases:
            name = f"{case.get('classname')}.{case.get('name')}"
            skipped = case.find("skipped")
            if case.find("failure") is not None:
                failures.append(name)
                failed_programs.add(program)
            elif skipped is not None or case.get("status") == "notrun":
                reason = one_line(skipped.get("message") or skipped.text or "") if skipped is not None else "disabled"
                # The message starts with the place of GTEST_SKIP, which says nothing to a reader.
                skips.append(f"{name}: {re.sub(r'^[^ ]*:[0-9]+ ', '', reason) or 'no reason given'}")
            else:
                passed += 1
    if not junit.exists():
        return passed, failures + ["ctest left no report"], skips
    for case in ElementTree.parse(junit).iter("testcase"):
        name, status = case.get("name"), case.get("status")
        program = programs.get(name, name)
        failure, skipped = case.find("failure"), case.find("skipped")
        if status in ("run", "passed") and failure is None:
            passed += program not in reported
        elif skipped is not None or status in ("notrun", "disabled"):
            reason = one_line(skipped.get("message") or "") if skipped is not None else status
            # A program that was never built is not a test that chose to be skipped.
            (failures if "Unable to find executable" in reason else skips).append(f"{name}: {reason or status}")
        elif program not in failed_programs:
            message = one_line(failure.get("message") or "") if failure is not None else ""
            failures.append(f"{name}: the program failed as a whole {message}".rstrip())
    return passed, failures, skips


def kernel_levels(results):
    """Which levels of the kernels were executed, as tests/kernels/cpu_test.cc records it; None if its test did not pass."""
    for path in sorted(results.rglob("*.xml")):
        try:
            cases = list(ElementTree.parse(path).iter("testcase"))
        except ElementTree.ParseError:
            continue
        for case in cases:
            found = {p.get("name"): p.get("value") or "" for p in case.iter("property")}
            if "kernel_levels" not in found or case.find("failure") is not None:
                continue
            absent = ", ".join(found.get("absent_kernel_levels", "").split())
            return ", ".join(found["kernel_levels"].split()) + " executed" + (f"; {absent} not on this CPU" if absent else "")
    return None


def shared_folder():
    return pathlib.Path(os.environ.get("FATHOM_SHARED_DIR") or ROOT.parent / "shared")


def main():
    parser = argparse.ArgumentParser(prog="./test", description="Builds and runs the tests.")
    parser.add_argument("--all", action="store_true", help="also long training runs, sanitizers, ARM, fuzz targets, npm checks and documentation")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="parallel jobs (default: CPUs)")
    parser.add_argument("--fuzz-seconds", type=int, default=30, help="seconds for all fuzz targets together (default 30)")
    options = parser.parse_args()
    LOGS.mkdir(exist_ok=True)
    run = Run(options.jobs)

    if os.environ.get("FATHOM_CI") or os.environ.get("CI") == "true":
        there = (shared_folder() / "data").is_dir()
        run.add("shared data", time.monotonic(), passed=int(there),
                failures=[] if there else ["../shared/data is absent, and in CI no test may be skipped for want of it"])

    sources = [str(p) for folder in ("src", "tests", "bench") for p in sorted((ROOT / folder).rglob("*")) if p.suffix in (".cc", ".h")]
    run.together(
        run.reference,
        lambda: run.command("tools", [sys.executable, "-m", "unittest", "discover", "-q", "-s", "tests/tools", "-p", "*_test.py"]),
        lambda: run.command("layering", [sys.executable, "tools/layering.py"]),
        lambda: run.command("format", ["clang-format", "--dry-run", "--Werror", *sources]),
        lambda: run.command("names in docs", [sys.executable, "tools/doc_names.py"]),
        lambda: run.command("shell scripts", ["shellcheck", "run", "test", ".ci/run", "tools/install_packages.sh", "tools/make_demo.sh",
                                              "tests/npm/test.sh"]))
    if run.build("test"):
        run.ctest("test", timeout_s=600 if options.all else 120, everything=options.all)
        run.command_line(options.all)
    if options.all:
        if run.build("dev", lambda targets: [t for t in targets if t.endswith("_tests") or t.startswith("fuzz_")]):
            run.ctest("dev", timeout_s=900, effort="little")
        if run.build("tsan", lambda _: [f"{folder}_tests" for folder in TSAN_FOLDERS]):
            run.ctest("tsan", pattern="^(" + "|".join(TSAN_FOLDERS) + ")(_[01])?$", timeout_s=900, effort="little")
        if run.build("aarch64"):  # the kernels alone, in an emulator
            run.ctest("aarch64", timeout_s=900, effort="little")
        run.together(run.documentation, run.npm, lambda: run.fuzz(options.fuzz_seconds))
    return run.summary(ALL_LIMIT_S if options.all else FAST_LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
