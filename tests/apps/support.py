"""What the command-line tests share: the program, a tiny model that it made itself, and what an error must look like.

The program is FATHOM_BINARY, or build-test/src/apps/fathom. Only the Python standard library is used.
"""

import atexit
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("FATHOM_BINARY") or str(ROOT / "build-test" / "src" / "apps" / "fathom")
KERNELS = ("generic", "avx2", "avx512")
TIMEOUT_S = 120

# Settings of the tiny model: two layers (one of experts) and an MTP module, 60 k parameters. Steps take milliseconds.
TINY_TOML = """
[model]
preset = "pico"
vocab_size = {vocab_size}
hidden_size = 48
num_hidden_layers = 2
intermediate_size = 64
moe_intermediate_size = 24
n_routed_experts = 4
num_attention_heads = 2
q_lora_rank = 24
kv_lora_rank = 24
qk_nope_head_dim = 12
qk_rope_head_dim = 8
v_head_dim = 16
max_position_embeddings = 512

[data]
train = ["{work}/train.shard"]
validation = ["{work}/validation.shard"]

[train]
steps = {steps}
sequence_length = 64
sequences_per_slot = 4
precision = "f32"

[learning_rate]
peak = 5e-3
warmup_steps = 5

[checkpoint]
directory = "{run}/checkpoints"
every = 10

[log]
path = "{run}/log.jsonl"

[export]
tokenizer = "{work}/tokenizer"
"""

TINY_VOCAB = 384
TINY_STEPS = 60


def environment(**changes):
    """The environment of a run: ours without what would steer the program. A change to None removes a variable."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("FATHOM_", "HF_")) and k != "NO_COLOR"}
    env["TERM"] = "xterm"  # a terminal that shows colours; where output is a pipe it means nothing
    for key, value in changes.items():
        env.pop(key, None)
        if value is not None:
            env[key] = str(value)
    return env


def run(*arguments, stdin=None, env=None, cwd=None, timeout=TIMEOUT_S, preexec_fn=None):
    """Runs fathom to its end; stdout and stderr are bytes decoded as UTF-8 (invalid bytes become U+FFFD)."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run([BINARY, *map(str, arguments)], input=data if data is not None else b"",
                          capture_output=True, env=env or environment(), cwd=cwd, timeout=timeout, preexec_fn=preexec_fn)
    done.stdout = done.stdout.decode(errors="replace")
    done.stderr = done.stderr.decode(errors="replace")
    return done


def start(*arguments, stdin=subprocess.DEVNULL, env=None, cwd=None, wrap=()):
    """Starts fathom with pipes for its output, by the command `wrap` if there is one."""
    return subprocess.Popen([*wrap, BINARY, *map(str, arguments)], stdin=stdin, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=env or environment(), cwd=cwd, text=True)


def wait_until(condition, what, timeout=TIMEOUT_S):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(0.005)


def listing(*directories):
    """Every file below the directories with its bytes' hash, every directory and every link: what "unchanged" means."""
    found = {}
    for directory in directories:
        for path in sorted(pathlib.Path(directory).rglob("*")):
            if path.is_symlink():
                found[str(path)] = f"-> {os.readlink(path)}"
            else:
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"
    return found


def assert_every_number_has_an_origin(case, report):
    """Walks the JSON of a report: every number has a formula or a source, its own or that of what it is part of."""
    num_seen = 0

    def walk(node, where, has_origin):
        nonlocal num_seen
        if isinstance(node, dict):
            has_origin = has_origin or bool(node.get("formula") or node.get("source"))
            if node.get("kind") == "grid":
                case.assertTrue(all(column.get("formula") or column.get("source") for column in node["columns"]), where)
                has_origin = True
            for key, value in node.items():
                walk(value, f"{where}.{key}", has_origin)
        elif isinstance(node, list):
            for at, value in enumerate(node):
                walk(value, f"{where}[{at}]", has_origin)
        elif isinstance(node, (int, float)) and not isinstance(node, bool):
            num_seen += 1
            case.assertTrue(has_origin, f"{where} = {node} has neither formula nor source")

    for section in report["sections"]:
        for block in section["blocks"]:
            walk(block, block["title"], False)
    case.assertGreater(num_seen, 20)


def read_log(path):
    """The records of a training log that are steps, by step."""
    records = [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]
    return {record["step"]: record for record in records if "loss.main" in record}


def losses(path):
    """{step: the three losses, gradient norm} of a log: what two equal runs share to the last bit."""
    keys = ("loss.main", "loss.mtp", "loss.balance", "grad_norm")
    return {step: tuple(record[key] for key in keys) for step, record in read_log(path).items()}


@functools.cache
def work_directory():
    """A directory of this test process; removed at its end."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="fathom_cli_"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def fresh_directory(prefix="case"):
    return pathlib.Path(tempfile.mkdtemp(prefix=prefix + "_", dir=work_directory()))


def made(*arguments, **options):
    """Runs a command that the tests need; its failure fails whatever test asked for it."""
    done = run(*arguments, **options)
    if done.returncode:
        raise AssertionError(f"fathom {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stderr}")
    return done


@functools.cache
def tiny_data():
    """A directory with synth.jsonl, tokenizer/, train.shard and validation.shard."""
    work = work_directory() / "tiny"
    work.mkdir()
    made("data", "synth", "-o", work / "synth.jsonl", "--documents", 1500, "--seed", 5)
    made("tokenizer", "train", work / "synth.jsonl", "-o", work / "tokenizer", "--vocab-size", TINY_VOCAB)
    made("data", "pack", work / "synth.jsonl", "--tokenizer", work / "tokenizer", "-o", work / "train.shard",
         "--validation", work / "validation.shard")
    return work


def tiny_settings(directory, steps=TINY_STEPS):
    """Writes the TOML file of a tiny run into `directory`, which also gets the run's log and snapshots."""
    path = pathlib.Path(directory) / "train.toml"
    path.write_text(TINY_TOML.format(work=tiny_data(), run=directory, steps=steps, vocab_size=TINY_VOCAB))
    return path


@functools.cache
def tiny_run():
    """A finished training run; its directory holds log.jsonl and checkpoints/."""
    directory = work_directory() / "tiny_run"
    directory.mkdir()
    made("train", tiny_settings(directory), "-q", "-t", 1)
    return directory


def tiny_model(export_format="f32"):
    """The trained tiny model, exported as f32, bf16 or fp8."""
    target = work_directory() / f"tiny_model_{export_format}"
    if not target.exists():  # the run is complete: it resumes at its end and only exports
        made("train", tiny_settings(tiny_run()), "-q", "-t", 1, "--set", f"export.directory={target}", "--set",
             f"export.format={export_format}")
    return target


@functools.cache
def endless_model(export_format):
    """The tiny model with the padding token as the end of a text, so that answers are as long as a test asks."""
    target = copy_of_model(export_format)
    edit_json(target / "generation_config.json", eos_token_id=2)
    return target


def copy_of_model(export_format="f32"):
    """A model directory that a test may damage."""
    target = fresh_directory("model") / "model"
    shutil.copytree(tiny_model(export_format), target)
    return target


def edit_json(path, **changes):
    """Changes members of a JSON file; the value None removes one."""
    path = pathlib.Path(path)
    data = json.loads(path.read_text())
    for key, value in changes.items():
        data.pop(key, None)
        if value is not None:
            data[key] = value
    path.write_text(json.dumps(data))


def read_safetensors(path):
    """(header, bytes of the tensors)."""
    data = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def write_safetensors(path, header, data):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


class CommandLineCase(unittest.TestCase):
    """Assertions about a finished run of the program."""

    maxDiff = 2000

    def check_error_line(self, stderr, *needles):
        lines = stderr.splitlines()
        self.assertEqual(len(lines), 1, f"standard error is one line: {stderr!r}")
        self.assertTrue(lines[0].startswith("fathom: "), stderr)
        for needle in needles:
            self.assertIn(str(needle), lines[0])

    def assert_refused(self, done, *needles):
        """Exit code 2 and one line on standard error that begins "fathom: " and names each needle."""
        self.assertEqual(done.returncode, 2, f"stdout {done.stdout!r}, stderr {done.stderr!r}")
        self.check_error_line(done.stderr, *needles)

    def refused(self, *arguments, needles=(), **options):
        done = run(*arguments, **options)
        self.assert_refused(done, *needles)
        return done

    def assert_success(self, done):
        self.assertEqual(done.returncode, 0, f"stdout {done.stdout!r}, stderr {done.stderr!r}")

    @contextlib.contextmanager
    def unchanged(self, *directories):
        """Nothing below the directories differs afterwards: no new file, no partial one, no byte of an old one."""
        before = listing(*directories)
        yield
        self.assertEqual(listing(*directories), before)

    def generate_json(self, model, *arguments, **options):
        done = run("generate", model, "--json", *arguments, **options)
        self.assert_success(done)
        return json.loads(done.stdout)

    def available_kernels(self):
        """The levels that this machine runs; the others are skipped by name, each as a sub-test."""
        levels = []
        for name in KERNELS:
            done = run("generate", tiny_model(), "-p", "a", "-n", "1", "--kernels", name)
            if done.returncode == 2 and "cannot run on this CPU" in done.stderr:
                with self.subTest(kernels=name):
                    self.skipTest(f"this CPU has no {name}")
            else:
                self.assert_success(done)
                levels.append(name)
        return levels


def catches_interrupts(process):
    """Whether the program has come to where Ctrl-C is its own business (or has ended)."""
    try:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return True
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), None)
    return caught is None or bool(int(caught, 16) >> (signal.SIGINT - 1) & 1)


def interrupt(process, number=signal.SIGINT):
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
