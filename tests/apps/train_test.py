"""fathom train: runs that were stopped or killed go on with the same bits; settings, their errors, and full disks."""

import json
import re
import resource
import shutil
import signal
import tomllib
import unittest

import support
from support import CommandLineCase

STEPS = 60  # more than a second: time to stop a run in its middle


def started(settings, *arguments):
    return support.start("train", settings, "-q", "-t", 1, *arguments)


def num_logged(directory):
    """Whole lines that are steps: validation has lines of its own."""
    log = directory / "log.jsonl"
    return sum(b'"loss.main"' in line for line in log.read_bytes().split(b"\n")[:-1]) if log.exists() else 0


class Resume(CommandLineCase):
    @classmethod
    def setUpClass(cls):
        directory = support.fresh_directory("uninterrupted")
        support.made("train", support.tiny_settings(directory, STEPS), "-q", "-t", 1)
        cls.expected = support.losses(directory / "log.jsonl")

    def test_json_is_the_result_alone(self):
        directory = support.fresh_directory("train_json")
        done = support.run("train", support.tiny_settings(directory, 6), "-t", 1, "--json")
        self.assert_success(done)
        found = json.loads(done.stdout)
        self.assertEqual((found["steps"], list(found)), (6, ["steps", "tokens", "validation"]))
        self.assertEqual(set(found["validation"]), {"nats_per_token", "bits_per_byte"})

    def stop(self, directory, number, after):
        """Starts the run, sends the signal once `after` steps are logged; (exit code, standard error)."""
        settings = support.tiny_settings(directory, STEPS)
        process = started(settings)
        support.wait_until(lambda: num_logged(directory) >= after or process.poll() is not None, "steps")
        support.interrupt(process, number)
        _, stderr = process.communicate(timeout=support.TIMEOUT_S)
        return process.returncode, stderr

    def resume(self, directory):
        done = support.run("train", support.tiny_settings(directory, STEPS), "-q", "-t", 1)
        self.assert_success(done)
        self.assertIn("resumed from", done.stdout)
        self.assertEqual(support.losses(directory / "log.jsonl"), self.expected)

    def test_ctrl_c_saves_and_the_same_command_goes_on_with_the_same_bits(self):
        directory = support.fresh_directory("interrupted")
        code, stderr = self.stop(directory, signal.SIGINT, 7)
        self.assertEqual(code, 2)
        self.check_error_line(stderr, "stopped after step", f"of {STEPS}", "run again to resume", directory)
        stopped = max(support.losses(directory / "log.jsonl"))
        self.assertLess(stopped, STEPS)
        self.assertTrue((directory / "checkpoints" / f"step-{stopped:08}").is_dir())
        self.resume(directory)

    def test_kill_9_goes_on_from_the_last_snapshot_with_the_same_bits(self):
        directory = support.fresh_directory("killed")
        code, _ = self.stop(directory, signal.SIGKILL, 16)
        self.assertEqual(code, -signal.SIGKILL)
        self.resume(directory)

    def test_ctrl_c_without_snapshots_says_that_nothing_was_kept(self):
        directory = support.fresh_directory("kept_nothing")
        process = started(support.tiny_settings(directory, 100000), "--set", "checkpoint.directory=")
        support.wait_until(lambda: num_logged(directory) >= 2, "steps")
        support.interrupt(process)
        _, stderr = process.communicate(timeout=support.TIMEOUT_S)
        self.assertEqual(process.returncode, 2)
        self.check_error_line(stderr, "stopped after step", "nothing was kept")

    def test_a_finished_run_repeats_without_training(self):
        directory = support.fresh_directory("finished")
        shutil.copytree(support.tiny_run() / "checkpoints", directory / "checkpoints")
        done = support.run("train", support.tiny_settings(directory), "-q", "-t", 1)
        self.assert_success(done)
        self.assertEqual((directory / "log.jsonl").read_bytes().count(b"\n"), 1)  # the event that it resumed

    def test_a_damaged_snapshot_is_passed_over_and_named(self):
        directory = support.fresh_directory("damaged")
        shutil.copytree(support.tiny_run() / "checkpoints", directory / "checkpoints")
        newest = directory / "checkpoints" / f"step-{support.TINY_STEPS:08}" / "state.safetensors"
        content = bytearray(newest.read_bytes())
        content[-1] ^= 1
        newest.write_bytes(content)
        done = support.run("train", support.tiny_settings(directory), "-q", "-t", 1)
        self.assert_success(done)
        self.assertIn("step-00000060", done.stdout)
        self.assertIn("resumed from", done.stdout)
        resumed, expected = (support.losses(d / "log.jsonl") for d in (directory, support.tiny_run()))
        self.assertEqual(resumed, {step: expected[step] for step in range(51, 61)})

    def test_only_damaged_snapshots_are_refused_and_left_as_they_are(self):
        directory = support.fresh_directory("all_damaged")
        shutil.copytree(support.tiny_run() / "checkpoints", directory / "checkpoints")
        for state in (directory / "checkpoints").glob("step-*/state.safetensors"):
            state.write_bytes(state.read_bytes()[:-1])
        settings = support.tiny_settings(directory)
        with self.unchanged(directory):
            self.refused("train", settings, "-q", needles=[directory / "checkpoints"])

    def test_a_setting_that_would_change_the_run_is_refused(self):
        directory = support.fresh_directory("changed")
        shutil.copytree(support.tiny_run() / "checkpoints", directory / "checkpoints")
        settings = support.tiny_settings(directory)
        for change, needle in (("train.seed=9", "train.seed"), ("model.hidden_size=64", "hidden_size")):
            with self.subTest(change=change), self.unchanged(directory):
                self.refused("train", settings, "-q", "--set", change, needles=[needle])


class Determinism(CommandLineCase):
    def test_threads_and_kernels_do_not_change_a_loss(self):
        expected = support.losses(support.tiny_run() / "log.jsonl")
        variants = [("-t", 1, "--kernels", kernels) for kernels in self.available_kernels()]
        variants += [("-t", threads) for threads in (2, 3)]
        for variant in variants:
            with self.subTest(variant=variant):
                directory = support.fresh_directory("variant")
                # The schedule looks ahead: the same number of steps, stopped early.
                process = support.start("train", support.tiny_settings(directory), "-q", *variant)
                support.wait_until(lambda: num_logged(directory) >= 5 or process.poll() is not None, "steps")
                support.interrupt(process)
                process.communicate(timeout=support.TIMEOUT_S)
                found = support.losses(directory / "log.jsonl")
                self.assertGreaterEqual(len(found), 5)
                self.assertEqual(found, {step: expected[step] for step in found})


class Settings(CommandLineCase):
    def printed(self, *arguments, env=None):
        done = support.run("train", support.tiny_settings(self.directory), "--print-config", *arguments, env=env)
        self.assert_success(done)
        self.assertEqual(done.stderr, "")
        return tomllib.loads(done.stdout)

    def setUp(self):
        self.directory = support.fresh_directory("settings")

    def test_print_config_is_a_whole_configuration_and_trains_nothing(self):
        first = self.printed()
        self.assertEqual(first["model"]["hidden_size"], 48)
        self.assertEqual(first["adamw"]["beta2"], 0.95)  # a default
        self.assertEqual([path.name for path in self.directory.iterdir()], ["train.toml"])
        text = support.made("train", self.directory / "train.toml", "--print-config").stdout
        (self.directory / "whole.toml").write_text(text)
        self.assertEqual(support.made("train", self.directory / "whole.toml", "--print-config").stdout, text)

    def test_print_config_says_what_each_setting_means_and_needs_no_file(self):
        text = support.made("train", "--print-config").stdout
        keys = re.findall(r"(?m)^(\w+) = ", text)
        self.assertGreater(len(keys), 60)
        section = ""
        for before, line in zip(text.splitlines(), text.splitlines()[1:]):
            if header := re.fullmatch(r"\[(\w+)\]", before):
                section = header[1]
            if key := re.match(r"(\w+) = ", line):
                self.assertRegex(before, rf"^# \w.+: .+ \(FATHOM_{section.upper()}_{key[1].upper()}\)$")
        self.assertEqual(tomllib.loads(text)["train"]["seed"], tomllib.loads(support.made(
            "train", "--print-config", "--set", "train.steps=3").stdout)["train"]["seed"])
        self.refused("train", needles=["CONFIG is required", "--print-config", "fathom train --help"])

    def test_set_beats_the_file(self):
        self.assertEqual(self.printed("--set", "train.steps=7")["train"]["steps"], 7)
        changed = self.printed("--set", "train.steps=7", "--set", "adamw.beta2=0.9", "--set", "model.preset=nano")
        self.assertEqual((changed["train"]["steps"], changed["adamw"]["beta2"], changed["model"]["preset"]), (7, 0.9, "nano"))

    def test_unknown_keys_are_refused_with_a_suggestion(self):
        settings = support.tiny_settings(self.directory)
        self.refused("train", settings, "--set", "train.stesp=7", needles=['"train.stesp"', "train.steps"])
        settings.write_text(settings.read_text() + "\n[optimiser]\nname = 'adamw'\n")
        self.refused("train", settings, needles=[settings, "optimiser", "optimizer"])

    def test_values_out_of_range_are_refused(self):
        settings = support.tiny_settings(self.directory)
        for change, needle in (("train.steps=0", "train.steps"), ("train.steps=many", "train.steps"),
                               ("train.precision=fp8", "f32"), ("model.preset=micro", "pico"),
                               ("model.num_attention_heads=0", "num_attention_heads"), ("train.steps", "train.steps"),
                               ("model.hidden_size=1000000000000", "hidden_size"), ("export.format=int4", "export.format"),
                               ("model.vocab_size=16", "vocab"), ("model.num_experts_per_tok=9", "num_experts_per_tok"),
                               ("learning_rate.peak=nan", "learning_rate.peak"), ("train.sequence_length=1000000000000", "sequence_length")):
            with self.subTest(change=change), self.unchanged(self.directory):
                self.refused("train", settings, "-q", "--set", change, needles=[needle])

    def test_files_that_are_no_configuration_are_refused(self):
        broken = self.directory / "broken.toml"
        broken.write_text("[train\nsteps = 1\n")
        self.refused("train", broken, needles=[f"{broken}:1: not valid TOML"])
        self.refused("train", self.directory / "absent.toml", needles=["absent.toml"])
        self.refused("train", self.directory, needles=[self.directory])
        (self.directory / "binary.toml").write_bytes(bytes(range(256)))
        self.refused("train", self.directory / "binary.toml", needles=["binary.toml"])

    def test_shards_that_are_missing_or_no_shards_are_refused(self):
        settings = support.tiny_settings(self.directory)
        (self.directory / "text.shard").write_text("no shard")
        whole = (support.tiny_data() / "train.shard").read_bytes()
        (self.directory / "cut.shard").write_bytes(whole[: len(whole) // 2])
        for name in ("absent.shard", "text.shard", "cut.shard"):
            for key in ("data.train", "data.validation"):
                with self.subTest(shard=name, key=key), self.unchanged(self.directory):
                    self.refused("train", settings, "-q", "--set", f'{key}=["{self.directory}/{name}"]', needles=[name])

    def test_an_export_that_cannot_be_is_refused_before_training(self):
        settings = support.tiny_settings(self.directory)
        (self.directory / "taken").mkdir()
        with self.unchanged(self.directory):
            self.refused("train", settings, "-q", "--set", f"export.directory={self.directory}/taken", needles=["taken"])
        with self.unchanged(self.directory):
            self.refused("train", settings, "-q", "--set", f"export.directory={self.directory}/model", "--set",
                         f"export.tokenizer={self.directory}", needles=["tokenizer.json"])
            self.refused("train", settings, "-q", "--set", f"report.path={self.directory}/no/report.html",
                         needles=["report.path", "no/report.html"])


class FullDisk(CommandLineCase):
    """The file size limit stands for a disk that fills up: a write fails in the middle."""

    def limited(self, num_bytes, *arguments):
        return support.run("train", *arguments, "-q", "-t", 1,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes)))

    def test_a_snapshot_that_does_not_fit_leaves_nothing(self):
        for num_bytes in (20_000, 300_000):
            with self.subTest(bytes=num_bytes):
                directory = support.fresh_directory("full")
                done = self.limited(num_bytes, support.tiny_settings(directory, 12))
                self.assert_refused(done, "step-00000010", "File too large")
                self.assertEqual([path.name for path in (directory / "checkpoints").iterdir()], ["settings.toml"])

    def test_older_snapshots_stay_and_the_run_goes_on_when_there_is_room(self):
        directory = support.fresh_directory("full_later")
        support.made("train", support.tiny_settings(directory, 10), "-q", "-t", 1)
        settings = support.tiny_settings(directory, 30)
        with self.unchanged(directory / "checkpoints" / "step-00000010"):
            self.assert_refused(self.limited(300_000, settings), "File too large")
        self.assertEqual(sorted(path.name for path in (directory / "checkpoints").iterdir()), ["settings.toml", "step-00000010"])
        support.made("train", settings, "-q", "-t", 1)

    def test_an_export_that_does_not_fit_leaves_nothing(self):
        directory = support.fresh_directory("full_export")
        settings = support.tiny_settings(support.tiny_run())
        with self.unchanged(directory):
            done = self.limited(100_000, settings, "--set", f"export.directory={directory}/model")
            self.assert_refused(done, f"{directory}/model", "File too large")

    def test_an_export_into_a_place_that_cannot_be_written_leaves_nothing(self):
        """/proc refuses new files to everyone, root too."""
        settings = support.tiny_settings(support.tiny_run())
        done = support.run("train", settings, "-q", "-t", 1, "--set", "export.directory=/proc/fathom_model")
        self.assert_refused(done, "/proc/fathom_model")
        directory = support.fresh_directory("file")
        (directory / "file").write_text("")
        with self.unchanged(directory):
            done = support.run("train", settings, "-q", "-t", 1, "--set", f"export.directory={directory}/file/model")
            self.assert_refused(done, f"{directory}/file/model")


if __name__ == "__main__":
    unittest.main()
