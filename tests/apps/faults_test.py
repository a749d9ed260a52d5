"""Every verb that writes, under every fault of a disk: full, over quota, failing, read-only, short writes, SIGTERM, SIGKILL.

One row a verb. A library that is preloaded (tests/faults/inject.cc) counts the calls that change files below the row's
folder and makes the n-th fail. Whatever happens, each output is the old one or the new one, byte by byte; an error is one
line that names the file and the way out; only a kill leaves anything aside; and the same command then gives the new
state. The fast round draws some calls of each row, another draw with FATHOM_SEED; FATHOM_ALL=1 takes
all that are not alike.
"""

import contextlib
import dataclasses
import fnmatch
import http.client
import itertools
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import unittest

import support
from serve_test import server
from support import CommandLineCase

LIBRARY = pathlib.Path(support.BINARY).resolve().parents[2] / "tests" / "inject_faults.so"
ALL = os.environ.get("FATHOM_ALL") == "1"
SEED = int(os.environ.get("FATHOM_SEED") or 9)
DRAWN_CASES = 9  # of a row in the fast round

TAKES_ROOM = ("open", "write", "pwrite", "writev", "fsync", "fdatasync", "mkdir", "fallocate")
CHANGES_NAMES = ("open", "mkdir", "rename", "ftruncate")
EVERY = (*TAKES_ROOM, *CHANGES_NAMES, "close")
# The fault, the calls that it can meet, and what the error line says besides the file.
FAULTS = {
    "enospc": (TAKES_ROOM, ("No space left on device", "; free some space and run it again")),
    # Handled like enospc but for its words, so not at every call.
    "edquot": (("open", "write"), ("Disk quota exceeded", "; free some space and run it again")),
    "eio": (EVERY, ("Input/output error", "; the device has failed it")),
    "erofs": (CHANGES_NAMES, ("Read-only file system", "; name a place that can be written")),
    "short": (("write", "pwrite", "writev"), None),
    "term": (EVERY, None),
    "kill": (EVERY, None),
}


@dataclasses.dataclass
class Row:
    """A verb that writes. `work` is its folder, which the faults are limited to; what it reads lies elsewhere."""

    arguments: object  # work -> command line
    before: object = lambda work: None  # makes what is there before: an older output, a run to go on with
    stdin: str = ""
    told: tuple = ()  # how lines of standard error begin that are no errors
    volatile: tuple = ()  # patterns of files that differ between runs (times); they must still be whole
    units: tuple = ()  # patterns of directories that are old or new as a whole
    kept: tuple = ()  # patterns of what an error leaves on purpose, so that the next run goes on
    older: tuple = ()  # patterns of what the next run may leave too: older states, whole ones
    refuses_to_repeat: bool = False  # a finished run is not done again: its output exists
    goes_on: str = ""  # how the note begins that tells of a fault, where the run has its result all the same


def synth(work, seed=5):
    return ("data", "synth", "-o", work / "synth.jsonl", "--documents", 60, "--seed", seed)


def tokenizer(work, size=300):
    return ("tokenizer", "train", support.tiny_data() / "synth.jsonl", "-o", work / "new" / "tokenizer", "--vocab-size", size)


def pack(work, fraction="0.1"):
    data = support.tiny_data()
    return ("data", "pack", data / "synth.jsonl", "--tokenizer", data / "tokenizer", "-o", work / "train.shard",
            "--validation", work / "validation.shard", "--validation-fraction", fraction)


def train(work, steps):
    settings = support.work_directory() / f"faults_{steps}.toml"
    if not settings.exists():
        settings.write_text(support.TINY_TOML.format(work=support.tiny_data(), run=work, steps=steps, vocab_size=support.TINY_VOCAB))
    more = ("checkpoint.every=2", "checkpoint.keep=1", "learning_rate.warmup_steps=1")
    if steps == 6:
        more = (*more, f"export.directory={work}/model", f"report.path={work}/report.html")
    return ("train", settings, "-q", "-t", 1, *itertools.chain.from_iterable(("--set", m) for m in more))


def quantize(work):
    return ("quantize", support.tiny_model(), work / "out", "--quant", "int4", "--max-shard-bytes", "60KB", "-t", 1, "--json")


def evaluate(work, limit=2):
    records = support.work_directory() / "faults_gsm8k.jsonl"
    if not records.exists():
        records.write_text("".join(json.dumps({"question": f"{i} + {i}?", "answer": f"#### {2 * i}"}) + "\n" for i in range(3)))
    return ("eval", support.tiny_model(), "--task", "gsm8k", "--file", records, "-t", 1, "-n", 2, "--limit", limit,
            "-o", work / "answers.jsonl")


def pipeline(*outputs, ranks=4):
    return ("plan", "--set", f"training.pipeline={ranks}", "--set", "training.micro_batches=8", *outputs)


def emit(work, gpus=1024):
    config = support.work_directory() / "faults_config.json"
    if not config.exists():
        shutil.copy(support.ROOT / "tests" / "fuzz" / "corpus" / "config" / "deepseek-v3.1.json", config)
    return ("plan", config, "--hardware", "h800", "--search", "training", "--gpus", gpus, "--set", "search.batch=2048",
            "--set", "search.utilisation=0.5", "--emit", work / "best.toml")


def simulate(work, gpus=16, sweep=()):
    scenario = support.ROOT / "examples" / "scenarios" / "message-size.toml"
    return ("simulate", scenario, "--set", f"network.gpus={gpus}", *sweep, "--report", work / "network.html")


def experts(work, quant="int8"):
    from max_memory_test import least_memory
    return ("generate", support.tiny_model(), "-p", "Once", "-n", 2, "--temp", 0, "-c", 128, "--prompt-chunk", 64, "-t", 1,
            "--quant", quant, "--max-memory", least_memory("--quant", quant), "--expert-dir", work / "new" / "experts")


def weights(work):
    return ("generate", support.tiny_model("bf16"), "-p", "Once", "-n", 2, "--temp", 0, "-c", 128, "-t", 1, "--keep-prepared",
            "--prepared-dir", work / "new" / "weights")


ROWS = {
    "data synth": Row(synth, lambda work: support.made(*synth(work, 6))),
    "data pack": Row(pack, lambda work: support.made(*pack(work, "0.2"))),
    "tokenizer train": Row(tokenizer, lambda work: support.made(*tokenizer(work, 320))),
    "tokenizer train, first": Row(tokenizer),
    "train": Row(lambda work: train(work, 6), lambda work: support.made(*train(work, 2)), volatile=("log.jsonl", "report.html"),
                 units=("checkpoints/step-*", "model"), kept=("checkpoints/step-*",), older=("checkpoints/step-*",), refuses_to_repeat=True),
    "quantize": Row(quantize, units=("out",), kept=("out.partial", "out.partial/*"), refuses_to_repeat=True),
    "eval --output": Row(evaluate, lambda work: support.made(*evaluate(work, 1))),
    "expert file": Row(experts, told=("preparing experts, once: ", "experts: ")),
    "weights file": Row(weights, told=("prepared weights: ",), goes_on="note: prepared weights are not kept: "),
    "plan --svg --trace": Row(lambda work: pipeline("--svg", work / "pipe.svg", "--trace", work / "trace.json"),
                              lambda work: support.made(*pipeline("--svg", work / "pipe.svg", "--trace", work / "trace.json", ranks=2))),
    "plan --report": Row(lambda work: pipeline("--report", work / "plan.html"),
                         lambda work: support.made(*pipeline("--report", work / "plan.html", ranks=2))),
    "simulate --report": Row(simulate, lambda work: support.made(*simulate(work, 32))),
    "simulate --sweep --report": Row(lambda work: simulate(work, sweep=("--sweep", "job.bytes=1e5,1e6"))),
    "plan --emit": Row(emit, lambda work: support.made(*emit(work, 512))),
    "chat /save": Row(lambda work: ("chat", support.tiny_model(), "-t", 1, "-n", 2), lambda work: (work / "talk.json").write_text("{}"),
                      stdin="/system Be brief.\n/save {work}/talk.json\n", told=("System message set", "Saved 1 messages")),
    "reference": Row(lambda work: ("reference", work / "share"), lambda work: support.made("reference", work / "share")),
}


def listing(work):
    """Relative paths of files -> hash of their bytes."""
    return {str(pathlib.Path(path).relative_to(work)): found for path, found in support.listing(work).items() if found != "directory"}


def matches(path, patterns):
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)


def aside(path):
    """What a killed run may leave beside its outputs: the names say that it is nothing finished."""
    return any(part.endswith((".partial", ".replaced", ".lock")) for part in pathlib.PurePath(path).parts)


class Case:
    """A row in its folder: the old state, the new state, and the calls between them."""

    def __init__(self, name, row):
        self.row, self.root = row, support.fresh_directory("faults")
        self.work, self.old, self.log = self.root / "work", self.root / "old", self.root / "calls"
        self.work.mkdir()
        row.before(self.work)
        shutil.copytree(self.work, self.old)
        self.before = listing(self.work)
        done = self.run()
        if done.returncode:
            raise AssertionError(f"{name} ended with {done.returncode}: {done.stderr}")
        self.after = listing(self.work)
        self.calls = [line.split(" ", 1) for line in self.log.read_text().splitlines()]

    def reset(self):
        shutil.rmtree(self.work)
        shutil.copytree(self.old, self.work)

    def run(self, at=0, fault="", injects=True):
        self.log.unlink(missing_ok=True)
        env = support.environment()
        if injects:
            env |= {"LD_PRELOAD": str(LIBRARY), "INJECT_UNDER": str(self.work), "INJECT_LOG": str(self.log),
                    "INJECT_AT": str(at), "INJECT_FAULT": fault}
        done = subprocess.run([support.BINARY, *map(str, self.row.arguments(self.work))], capture_output=True, text=True,
                              input=self.row.stdin.format(work=self.work), env=env, timeout=support.TIMEOUT_S)
        done.stderr = "".join(line for line in done.stderr.splitlines(True) if not line.startswith(self.row.told or "\n"))
        return done

    def loses_nothing(self, at):
        """The call closes a file (a lock, a log that was synced, one that is dropped) that nothing was written to since."""
        name, path = self.calls[at - 1]
        before = [call for call, of in self.calls[: at - 1] if of == path.removesuffix(" (deleted)")]
        return name == "close" and before[-1:] != ["write"]

    def cases(self):
        """(fault, n): of calls that are alike (the name, the directory, the kind of file) the first, one in between, the last."""
        alike = {}
        for i, (name, path) in enumerate(self.calls):
            place = pathlib.PurePath(path)
            alike.setdefault((name, place.parent, tuple(place.suffixes)), []).append(i)
        picked = sorted({i for group in alike.values() for i in (group[0], group[len(group) // 2], group[-1])})
        return [(fault, i + 1) for fault, (met, _) in FAULTS.items() for i in picked if self.calls[i][0] in met]


@unittest.skipUnless(LIBRARY.exists(), f"{LIBRARY.name} is not built")
class Matrix(CommandLineCase):
    def check_state(self, case, killed, failed):
        """Everything below the folder is old or new; whole units; nothing aside unless killed."""
        row, found = case.row, listing(case.work)
        for path, digest in found.items():
            if matches(path, row.volatile) and path in (case.before | case.after):
                continue
            if (killed and aside(path)) or (failed and matches(path, row.kept)):
                continue
            self.assertIn(path, case.before | case.after, "a file that belongs to no finished run")
            self.assertIn(digest, (case.before.get(path), case.after.get(path)), f"{path} is neither old nor new")
        for path in case.before:
            if path not in found:
                self.assertNotIn(path, case.after, "an old file is gone")
        for pattern in row.units:
            units = {parts for path in case.after for parts in ancestors(path) if fnmatch.fnmatch(parts, pattern)}
            for unit in units:
                there = {p for p in found if p.startswith(unit + "/") and not (killed and aside(p))}
                wanted = {p for p in case.after if p.startswith(unit + "/")}
                self.assertIn(there - {f"{unit}/resume.txt"} if killed else there, (set(), wanted), f"{unit} is not whole")
        for path in case.work.glob("**/*.html"):  # volatile, but whole
            self.assertTrue(path.read_text().rstrip().endswith("</html>"), f"{path} is not whole")
        for path in case.work.glob("**/log.jsonl"):
            for line in path.read_text().splitlines()[: None if not killed else -1]:
                json.loads(line)

    def check_case(self, case, fault, at):
        row, (name, path) = case.row, case.calls[at - 1]
        case.reset()
        done = case.run(at, fault)
        said = FAULTS[fault][1]
        if fault == "short":
            self.assertEqual((done.returncode, listing_without(case, row)), (0, new_without(case, row)), done.stderr)
            return
        killed = fault == "kill"
        if killed:
            self.assertEqual(done.returncode, -signal.SIGKILL)
        elif fault == "term":
            if done.returncode:  # a short run may end well before it looks
                self.assertGreater(done.returncode, 0, "SIGTERM ends a run in order")
                self.check_error_line(done.stderr)
        elif row.goes_on:
            self.assertEqual(done.returncode, 0, done.stderr)
            if done.stderr or not case.loses_nothing(at):
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                for needle in (row.goes_on, str(case.work), *said):
                    self.assertIn(needle, done.stderr)
        elif done.returncode or not case.loses_nothing(at):
            self.assertEqual(done.returncode, 2, f"stdout {done.stdout!r}, stderr {done.stderr!r}")
            self.check_error_line(done.stderr, str(case.work), *said)
        self.check_state(case, killed, done.returncode != 0)
        again = case.run(injects=False)
        if row.refuses_to_repeat and again.returncode == 2 and "exists" in again.stderr:
            self.assertIn(str(case.work), again.stderr)
        else:
            self.assertEqual(again.returncode, 0, f"the next run: {again.stderr}")
        # An older snapshot that a fault kept from being deleted goes with the next one that is saved.
        found = {path: digest for path, digest in listing_without(case, row).items()
                 if path in case.after or aside(path) or not matches(path, row.older)}
        self.assertEqual(found, new_without(case, row), "the next run gives the new state")

    def check_durable(self, case):
        """What the run left is on the disk when it ends: bytes before the name, then the directory that has the name."""
        synced, unsynced = set(), set()
        for name, path in case.calls:
            parent = str(pathlib.PurePath(path).parent)
            if name == "fsync":
                synced.add(path)
                unsynced = {p for p in unsynced if str(pathlib.PurePath(p).parent) != path}
            elif name == "write":
                synced.discard(path)
            elif name == "rename":
                self.assertIn(f"{path}.partial", synced, "renamed before its bytes are on the disk")
                unsynced.add(path)
            elif name == "mkdir" and not path.endswith(".partial"):
                unsynced.add(path)
            elif name == "open" and path.endswith(".jsonl") and str(pathlib.Path(path).relative_to(case.work)) not in case.before:
                unsynced.add(path)
        self.assertEqual(unsynced, set(), "a power cut may take the name away")

    def test_a_first_run_survives_a_power_cut(self):
        self.check_durable(Case("train, first", Row(lambda work: train(work, 2))))

    def check_row(self, name):
        case = Case(name, ROWS[name])
        self.assertGreater(len(case.calls), 2, "the row writes")
        self.check_durable(case)
        cases = case.cases()
        if not ALL:
            cases = random.Random(f"{SEED} {name}").sample(cases, min(DRAWN_CASES, len(cases)))
        for fault, at in cases:
            with self.subTest(row=name, fault=fault, at=at, call=" ".join(case.calls[at - 1])):
                self.check_case(case, fault, at)


@unittest.skipUnless(LIBRARY.exists(), f"{LIBRARY.name} is not built")
class ServedPrefixes(CommandLineCase):
    """serve writes pages of its prefix cache behind the work: what cannot be written is told once, costs no answer and
    none of the pages that are there."""

    NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.page")

    def serve(self, directory, at=0, fault="", text="fox"):
        """The answer (None of a server that was killed), exit status, output and errors."""
        env = support.environment(LD_PRELOAD=LIBRARY, INJECT_UNDER=directory, INJECT_AT=at, INJECT_FAULT=fault,
                                  INJECT_LOG=directory.parent / "calls")
        (directory.parent / "calls").unlink(missing_ok=True)
        with server("--prefix-cache-dir", directory, env=env) as running:
            answer = None
            with contextlib.suppress(*([OSError, http.client.HTTPException] if fault == "kill" else [])):
                status, _, body = running.ask("POST", "/v1/completions", {"prompt": f"Once upon a time a {text}. " * 12,
                                                                          "max_tokens": 4, "temperature": 0, "logprobs": 1})
                self.assertEqual(status, 200, body)
                answer = json.loads(body)["choices"]
            return answer, *running.end()

    def test_every_call_of_the_writer(self):
        work = support.fresh_directory("prefixes")
        directory, old = work / "cache", work / "old"
        directory.mkdir()
        self.assertEqual(self.serve(directory)[1], 0)
        shutil.copytree(directory, old)
        expected, code, _, _ = self.serve(directory, text="hedgehog")
        self.assertEqual(code, 0)
        calls = [line.split(" ", 1)[0] for line in (work / "calls").read_text().splitlines()]
        cases = [(fault, i + 1) for i, call in enumerate(calls) for fault in ("enospc", "eio", "erofs", "kill") if call in FAULTS[fault][0]]
        self.assertGreater(len(cases), 10, "it writes")
        if not ALL:
            cases = random.Random(f"{SEED} serve").sample(cases, min(5, len(cases)))
        for fault, at in cases:
            with self.subTest(fault=fault, at=at, call=calls[at - 1]):
                shutil.rmtree(directory)
                shutil.copytree(old, directory)
                answer, code, out, err = self.serve(directory, at, fault, "hedgehog")
                if fault == "kill":
                    self.assertEqual(code, -signal.SIGKILL)
                else:
                    self.assertEqual((answer, code, err), (expected, 0, ""))
                    self.assertRegex(out, r"(?m)^prefix cache: cannot .*; serving goes on$")
                    self.assertIn(FAULTS[fault][1][1], out)
                    self.check_pages(directory, old)
                answer, code, out, err = self.serve(directory, text="hedgehog")
                self.assertEqual((answer, code, err), (expected, 0, ""))
                self.check_pages(directory, old)

    def check_pages(self, directory, old):
        for page in directory.iterdir():
            self.assertRegex(page.name, self.NAME, "nothing half written stays")
        for page in old.iterdir():
            self.assertEqual((directory / page.name).read_bytes(), page.read_bytes())


def limited(num_bytes=1000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


class RealDisks(CommandLineCase):
    """The same faults as a kernel makes them: a file system that is full, one that is read-only, a limit, permissions."""

    ROWS = ("data synth", "data pack", "tokenizer train, first", "quantize", "plan --report", "simulate --report")

    def run_in(self, name, work, wrap=(), **options):
        return subprocess.run([*wrap, support.BINARY, *map(str, ROWS[name].arguments(work))], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, env=support.environment(), timeout=support.TIMEOUT_S, **options)

    def mounted(self, directory, options, then=""):
        """The command in a mount namespace of its own, where `directory` is a file system of its own."""
        if not shutil.which("unshare"):
            self.skipTest("no unshare here")
        script = f'mount -t tmpfs -o {options} full "$0" && {then or "true"} && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, str(directory)]
        if subprocess.run([*command, "true"], capture_output=True).returncode:
            self.skipTest("no small file system can be mounted here")
        return command

    def test_a_full_file_system(self):
        for name in self.ROWS:
            work = support.fresh_directory("full")
            # What is left is looked at inside, where the file system is.
            look = self.mounted(work, "size=4k") + ["sh", "-c", '"$@"; code=$?; find "$0" -type f -size +0 >&2; exit $code', str(work)]
            with self.subTest(row=name):
                done = self.run_in(name, work, look)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.check_error_line(done.stderr, str(work), "No space left on device; free some space")

    def test_a_read_only_file_system(self):
        for name in self.ROWS:
            work = support.fresh_directory("read_only")
            with self.subTest(row=name):
                done = self.run_in(name, work, self.mounted(work, "size=1m,ro"))
                self.assertEqual(done.returncode, 2, done.stderr)
                self.check_error_line(done.stderr, str(work), "Read-only file system; name a place that can be written")

    def test_a_limit_of_a_files_size(self):
        for name in self.ROWS:
            work = support.fresh_directory("limit")
            with self.subTest(row=name):
                done = self.run_in(name, work, preexec_fn=limited)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.check_error_line(done.stderr, str(work), "File too large; raise the limit")
                self.assertEqual(listing(work), {})

    def test_standard_output_that_is_a_file(self):
        """What --json and the like print; the library above does not see the calls of the C library itself."""
        model, scenario = support.tiny_model(), support.ROOT / "examples" / "scenarios" / "message-size.toml"
        text = support.work_directory() / "faults_text.txt"
        text.write_text("Once upon a time there was a cat.\n" * 4)
        sweep = ("simulate", scenario, "--sweep", "job.bytes=1e5,1e6,1e7")
        for arguments in (("plan", "--paper", "--json"), ("inspect", model, "--json"), ("train", "--help"), ("train", "--print-config"),
                          ("simulate", scenario, "--json"), (*sweep, "--csv"), ("doctor", "--no-measure", "--json"),
                          ("eval", model, "--text", text, "-t", 1, "--json"), ("generate", model, "-p", "Once", "-n", 2, "-t", 1, "--json"),
                          ("bench", model, "--prompt", 8, "--decode", 2, "--batch", 1, "--repeat", 1, "--read-mib", 1, "-t", 1, "--json"),
                          ("tokenizer", "encode", model, "Once upon a time " * 40, "--json")):
            with self.subTest(arguments=arguments), open(support.fresh_directory("limit") / "out", "wb") as out:
                done = subprocess.run([support.BINARY, *map(str, arguments)], stdout=out, stderr=subprocess.PIPE, text=True,
                                      env=support.environment(), preexec_fn=lambda: limited(100), timeout=support.TIMEOUT_S)
                self.assertEqual(done.returncode, 2)
                self.check_error_line(done.stderr, "cannot write to standard output: ")
            with self.subTest(arguments=arguments, to="/dev/full"), open("/dev/full", "wb") as out:
                done = subprocess.run([support.BINARY, *map(str, arguments)], stdout=out, stderr=subprocess.PIPE, text=True,
                                      env=support.environment(), timeout=support.TIMEOUT_S)
                self.assertEqual(done.returncode, 2)
                self.check_error_line(done.stderr, "cannot write to standard output: ")

    def test_a_directory_of_somebody_else(self):
        if os.geteuid() == 0:
            self.skipTest("root may write everywhere")
        for name in self.ROWS:
            work = support.fresh_directory("denied")
            work.chmod(0o555)
            with self.subTest(row=name):
                done = self.run_in(name, work)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.check_error_line(done.stderr, str(work), "Permission denied; give this user access")
            work.chmod(0o755)


def ancestors(path):
    return {str(parent) for parent in pathlib.PurePath(path).parents} - {"."}


def listing_without(case, row):
    return {path: digest for path, digest in listing(case.work).items() if not matches(path, row.volatile)}


def new_without(case, row):
    return {path: digest for path, digest in case.after.items() if not matches(path, row.volatile)}


def add_row_test(name):
    def test(self):
        self.check_row(name)

    method = "test_" + "".join(c if c.isalnum() else "_" for c in name)
    setattr(Matrix, method, test)


for row_name in ROWS:
    add_row_test(row_name)

if __name__ == "__main__":
    unittest.main()
