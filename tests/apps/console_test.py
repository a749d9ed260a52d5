"""The console: Ctrl-C at any moment ends a verb in one line, nothing is coloured off a terminal, lost output is said."""

import os
import random
import shutil
import signal
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
