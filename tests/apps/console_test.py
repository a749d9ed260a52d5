"""The console: Ctrl-C at any moment ends a verb in one line, nothing is coloured off a terminal, lost output is said."""

import contextlib
import fcntl
import os
import pty
import random
import shutil
import signal
import struct
import subprocess
import termios
import time
import unittest

import support
from support import CommandLineCase


def slow_model():
    """The tiny model with a tokenizer that takes a while to read: a big vocabulary of words that never occur."""
    model = support.copy_of_model()
    path = model / "tokenizer.json"
    data = support.json.loads(path.read_text())
    next_id = support.TINY_VOCAB
    for i in range(200_000):
        data["model"]["vocab"][f"qz{i:06}zq"] = next_id + i
    path.write_text(support.json.dumps(data))
    return model


class Interrupts(CommandLineCase):
    def assert_ends(self, process, *needles):
        """Ended by the signal before the program took it over (then in silence), or in one line."""
        stdout, stderr = process.communicate(timeout=support.TIMEOUT_S)
        if process.returncode in (-signal.SIGINT, -signal.SIGTERM):
            self.assertEqual((stdout, stderr), ("", ""))
        else:
            self.assertEqual(process.returncode, 2, stderr)
            self.check_error_line(stderr, *needles)
        return stdout

    def test_ctrl_c_while_loading(self):
        model = slow_model()
        for verb, arguments in (("generate", ("-p", "a", "-n", 5)), ("chat", ()), ("eval", ("--text", support.ROOT / "LICENSE"))):
            with self.subTest(verb=verb):
                process = support.start(verb, model, *arguments, "-t", 1)
                support.wait_until(lambda: support.catches_interrupts(process), "the program to start")
                support.interrupt(process)
                self.assertEqual(self.assert_ends(process, "interrupted while loading", model), "")

    def test_ctrl_c_at_any_moment(self):
        """The program may have answered already; else it ends in one line, and never twice or in between."""
        model = support.endless_model("f32")
        moments = random.Random(4)
        for _ in range(25):
            process = support.start("generate", model, "-p", "Once", "-n", 300, "-t", 1)
            time.sleep(moments.uniform(0, 0.06))
            support.interrupt(process, moments.choice((signal.SIGINT, signal.SIGTERM)))
            stdout, stderr = process.communicate(timeout=support.TIMEOUT_S)
            if process.returncode == 2:
                self.check_error_line(stderr, "interrupted while")
            else:
                self.assertEqual(stderr, "")
                self.assertIn(process.returncode, (0, -signal.SIGINT, -signal.SIGTERM))

    def test_ctrl_c_at_any_moment_of_training_leaves_whole_snapshots(self):
        moments = random.Random(5)
        for _ in range(8):
            directory = support.fresh_directory("moment")
            process = support.start("train", support.tiny_settings(directory), "-q", "-t", 1, "--set", "checkpoint.every=1")
            time.sleep(moments.uniform(0.01, 0.4))
            support.interrupt(process)
            self.assert_ends(process, "stopped after step")
            leftovers = [path for path in directory.rglob("*") if "partial" in path.name]
            self.assertEqual(leftovers, [])

    def test_ctrl_c_while_a_tokenizer_reads_one_long_file(self):
        """It was asked for between files only."""
        work = support.fresh_directory("long_file")
        support.made("data", "synth", "-o", work / "text.jsonl", "--documents", 60000)
        process = support.start("tokenizer", "train", work / "text.jsonl", "-o", work / "tok")
        support.wait_until(lambda: support.catches_interrupts(process), "the program to start")
        support.interrupt(process)
        self.assert_ends(process, "interrupted while reading", "text.jsonl")
        self.assertFalse((work / "tok").exists())

    def test_a_second_ctrl_c_ends_at_once(self):
        process = support.start("train", support.tiny_settings(support.fresh_directory("twice"), 100_000), "-q", "-t", 1)
        support.wait_until(lambda: support.catches_interrupts(process), "the program to start")
        for _ in range(2):
            support.interrupt(process)
            time.sleep(0.01)
        process.communicate(timeout=10)
        self.assertIn(process.returncode, (2, -signal.SIGINT))


class Output(CommandLineCase):
    def test_nothing_is_coloured_off_a_terminal(self):
        model = support.tiny_model()
        for arguments in (("inspect", model), ("generate", model, "-p", "a", "-n", 3), ("--help",), ("generate", "absent", "-p", "a"),
                          ("train", support.tiny_settings(support.tiny_run()), "-t", 1)):
            done = support.run(*arguments)
            self.assertNotIn("\x1b", done.stdout + done.stderr)

    def test_the_log_level_silences_progress(self):
        """Of all verbs that draw it, those of training data too."""
        work, data = support.fresh_directory("progress"), support.tiny_data()
        text = work / "text.jsonl"
        support.made("data", "synth", "-o", text, "--documents", 20000)
        for name, arguments in {
                "documents": ("data", "synth", "-o", work / "again.jsonl", "--documents", 60000),
                "packing": ("data", "pack", text, "--tokenizer", data / "tokenizer", "-o", work / "a.shard", "--validation-fraction", 0),
                "reading": ("tokenizer", "train", text, "-o", work / "tok", "--vocab-size", 2000)}.items():
            drawn = {}
            for level in ("info", "error"):
                with self.subTest(verb=arguments[:2], level=level):
                    drawn[level] = self.on_terminal(*arguments, level=level)
            self.assertRegex(drawn["info"], name + r" \[#*\.*\] +\d+ %")
            self.assertEqual(drawn["error"], "")

    def test_a_bar_fits_its_row_and_a_dumb_terminal_gets_lines(self):
        arguments = ("data", "synth", "-o", support.fresh_directory("bars") / "a.jsonl", "--documents", 60000)
        for columns in (30, 47):
            with self.subTest(columns=columns):
                rows = self.on_terminal(*arguments, columns=columns).split("\r\x1b[K")
                self.assertGreater(len(rows), 2)
                self.assertLess(max(map(len, rows)), columns)
        self.assertNotIn("\x1b", self.on_terminal(*arguments, terminal="dumb"))

    def on_terminal(self, *arguments, level="info", columns=80, terminal="xterm"):
        """What standard error, a terminal, gets of a verb that succeeds."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen([support.BINARY, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
                                   env=support.environment(FATHOM_LOG_LEVEL=level, TERM=terminal))
        os.close(theirs)
        drawn = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while got := os.read(ours, 1 << 16):
                drawn += got
        os.close(ours)
        self.assertEqual(process.wait(support.TIMEOUT_S), 0)
        return drawn.decode()

    def test_output_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "w") as full:
            done = support.subprocess.run([support.BINARY, "inspect", str(support.tiny_model())], stdout=full,
                                          stderr=support.subprocess.PIPE, text=True, env=support.environment())
        self.assertEqual(done.returncode, 2)
        self.check_error_line(done.stderr, "standard output")

    def test_a_fifo_in_the_place_of_a_file_does_not_hang(self):
        model = support.copy_of_model()
        for name in ("config.json", "tokenizer.json", "model.safetensors", "generation_config.json"):
            with self.subTest(file=name):
                whole = support.fresh_directory("fifo") / "model"
                shutil.copytree(model, whole)
                (whole / name).unlink()
                os.mkfifo(whole / name)
                self.refused("generate", whole, "-p", "a", "-n", 2, "-t", 1, timeout=20, needles=[name, "not a regular file"])


if __name__ == "__main__":
    unittest.main()
