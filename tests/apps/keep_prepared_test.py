"""--keep-prepared: the first start writes a file, later ones map it, to the same answer; what cannot be kept costs nothing."""

import json
import os
import pathlib
import re
import signal
import unittest

import support
from support import CommandLineCase

DEMO = support.ROOT / "models" / "demo"
PROMPT = ("-p", "Once upon a time", "-n", 12, "--temp", 0, "-c", 256)
NOT_KEPT = "note: prepared weights are not kept: "


def files_in(directory):
    return sorted(path for path in pathlib.Path(directory).rglob("*") if path.suffix == ".weights")


class KeepPrepared(CommandLineCase):
    def setUp(self):
        self.directory = support.fresh_directory("kept")
        self.keep = ("--keep-prepared", "--prepared-dir", self.directory / "sub")

    def answer(self, model, *flags, **options):
        """(text, what standard error says)."""
        done = support.made("generate", model, *PROMPT, *flags, **options)
        return done.stdout, done.stderr

    def kept(self, model, how, *flags):
        """The answer of a start that says "kept in" or "mapped from", and the file that it names."""
        text, told = self.answer(model, *self.keep, *flags)
        found = re.fullmatch(rf"prepared weights: [0-9.]+ \w+ {how} (.*\.weights)\n", told)
        self.assertTrue(found, told)
        return text, pathlib.Path(found.group(1))

    def test_the_first_start_writes_and_the_second_maps(self):
        for model in (DEMO, support.tiny_model("bf16"), support.tiny_model("fp8")):
            for flags in ((), ("--quant", "int4"), ("--quant", "fp8")):
                with self.subTest(model=model, flags=flags):
                    wanted, told = self.answer(model, *flags)
                    self.assertEqual(told, "")
                    first = self.kept(model, "kept in", *flags)
                    before = support.listing(self.directory)
                    second = self.kept(model, "mapped from", *flags)
                    self.assertEqual((first, second), ((wanted, first[1]), (wanted, first[1])))
                    self.assertEqual(support.listing(self.directory), before)
                    self.assertEqual(first[1].parent, self.directory / "sub")
        self.assertEqual(len(files_in(self.directory)), 9)

    def test_inspect_says_how_large_the_file_is(self):
        for model in (support.tiny_model("bf16"), support.tiny_model("fp8")):
            for quant in ("none", "int4", "fp8"):
                _, path = self.kept(model, "kept in", "--quant", quant)
                whole = path.read_bytes()
                head = (whole.index(b"\0") // 4096 + 1) * 4096
                told = json.loads(support.made("inspect", model, "--quant", quant, "--json").stdout)
                self.assertEqual(told["prepared_file_bytes"], len(whole) - head, (model, quant))

    def test_a_gguf_file_is_kept_too(self):
        from gguf_test import gguf_of
        model = gguf_of(support.tiny_model("bf16"))
        wanted, _ = self.answer(model)
        first, second = self.kept(model, "kept in"), self.kept(model, "mapped from")
        self.assertEqual((first, second), ((wanted, first[1]), (wanted, first[1])))

    def test_every_verb_maps_what_one_has_written(self):
        model = support.tiny_model("bf16")
        text = self.directory / "text.txt"
        text.write_text("Once upon a time there was a fox.\n")
        _, path = self.kept(model, "kept in")
        for arguments in (("chat", model), ("eval", model, "--text", text),
                          ("bench", model, "--prompt", 4, "--decode", 2, "--batch", 1, "--repeat", 1, "--read-mib", 1)):
            with self.subTest(verb=arguments[0]):
                told = support.made(*arguments, "-t", 1, *self.keep).stderr
                self.assertIn(f"mapped from {path}\n", told)
        report = support.made("bench", model, "--prompt", 4, "--only", "prefill", "--repeat", 1, "--read-mib", 1, "--json", *self.keep)
        self.assertTrue(json.loads(report.stdout)["mapped"])
        from serve_test import server
        with server(*self.keep, model=model) as running:
            status, _, body = running.ask("POST", "/v1/completions", {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0})
            self.assertEqual(status, 200, body)
            self.assertEqual(json.loads(body)["choices"][0]["text"], self.answer(model)[0].rstrip("\n"))
            self.assertIn(f"mapped from {path}\n", running.end()[2])
        self.assertEqual(files_in(self.directory), [path])

    def test_a_damaged_file_is_made_again(self):
        model = support.tiny_model("bf16")
        wanted, path = self.kept(model, "kept in")
        whole = path.read_bytes()
        for damaged in (whole[:-1], whole + b"\0", whole.replace(b"fathom weights", b"fathom weighty"), b""):
            with self.subTest(bytes=len(damaged)):
                path.write_bytes(damaged)
                self.assertEqual(self.kept(model, "kept in"), (wanted, path))
                self.assertEqual(path.read_bytes(), whole)

    def test_a_changed_checkpoint_makes_a_new_file(self):
        model = support.copy_of_model("bf16")
        _, first = self.kept(model, "kept in")
        header, data = support.read_safetensors(model / "model.safetensors")
        begin, end = header["lm_head.weight"]["data_offsets"]
        data = data[:begin] + bytes(end - begin) + data[end:]  # every token is as probable as any other
        support.write_safetensors(model / "model.safetensors", header, data)
        wanted, _ = self.answer(model)
        second = self.kept(model, "kept in")
        self.assertEqual(second[0], wanted)
        self.assertNotEqual(second[1], first)
        self.assertEqual(self.kept(model, "mapped from"), second)

    def test_without_a_place_it_goes_on(self):
        model = support.tiny_model("bf16")
        wanted, _ = self.answer(model)
        (self.directory / "file").write_text("")
        for place, said in ((self.directory / "file" / "sub", str(self.directory / "file")), ("/proc/nowhere", "/proc/nowhere")):
            with self.subTest(place=place):
                text, told = self.answer(model, "--keep-prepared", "--prepared-dir", place)
                self.assertEqual(text, wanted)
                self.assertEqual(told.count("\n"), 1, told)
                self.assertTrue(told.startswith(NOT_KEPT) and said in told, told)
        text, told = self.answer(model, "--keep-prepared", "--prepared-dir", "/proc/nowhere", "--log-level", "error")
        self.assertEqual((text, told), (wanted, ""))

    def test_a_read_only_directory_that_has_the_file_will_do(self):
        if os.geteuid() == 0:
            self.skipTest("root may write everywhere")
        model = support.tiny_model("bf16")
        first = self.kept(model, "kept in")
        first[1].with_name(first[1].name + ".lock").unlink()
        (self.directory / "sub").chmod(0o555)
        try:
            self.assertEqual(self.kept(model, "mapped from"), first)
            first_int8 = self.answer(model, *self.keep, "--quant", "int8")
            self.assertTrue(first_int8[1].startswith(NOT_KEPT), first_int8[1])
        finally:
            (self.directory / "sub").chmod(0o755)

    def test_several_that_start_at_once_write_one_file(self):
        model = support.tiny_model("bf16")
        wanted, _ = self.answer(model)
        running = [support.start("generate", model, *PROMPT, *self.keep) for _ in range(4)]
        done = [process.communicate(timeout=support.TIMEOUT_S) for process in running]
        self.assertEqual([text for text, _ in done], [wanted] * 4)
        self.assertEqual([process.returncode for process in running], [0] * 4)
        self.assertEqual(sum("kept in" in told for _, told in done), 1, done)
        self.assertEqual(sum("mapped from" in told for _, told in done), 3, done)
        self.assertEqual(len(files_in(self.directory)), 1)

    def test_the_default_is_the_users_cache(self):
        model = support.tiny_model("bf16")
        for variables, place in (({"XDG_CACHE_HOME": self.directory / "xdg"}, self.directory / "xdg" / "fathom"),
                                 ({"XDG_CACHE_HOME": None, "HOME": self.directory}, self.directory / ".cache" / "fathom")):
            _, told = self.answer(model, "--keep-prepared", env=support.environment(**variables))
            self.assertIn(f" kept in {place}/", told)
        done = support.run("generate", model, *PROMPT, "--keep-prepared", env=support.environment(XDG_CACHE_HOME=None, HOME=None))
        self.assert_refused(done, "no cache directory for prepared weights", "--prepared-dir")

    def test_it_is_a_setting_too(self):
        model = support.tiny_model("bf16")
        file = self.directory / "run.toml"
        file.write_text(f'[generate]\nkeep_prepared = true\nprepared_dir = "{self.directory}/toml"\n')
        self.assertIn(f"kept in {self.directory}/toml/", self.answer(model, "--config", file)[1])
        env = support.environment(FATHOM_GENERATE_KEEP_PREPARED="true", FATHOM_GENERATE_PREPARED_DIR=self.directory / "toml")
        self.assertIn(f"mapped from {self.directory}/toml/", self.answer(model, env=env)[1])

    def test_experts_from_a_file_of_their_own(self):
        """Beside --max-memory the file has the other matrices."""
        from max_memory_test import least_memory
        flags = ("-c", 128, "--prompt-chunk", 64, "--quant", "int8")
        model, least = support.tiny_model(), least_memory("--quant", "int8")
        command = ("generate", model, "-p", "Once upon a time", "-n", 12, "--temp", 0, *flags)
        wanted = support.made(*command).stdout
        sizes = {}
        for experts in ((), ("--max-memory", least, "--expert-dir", self.directory / "experts")):
            for how in ("kept in", "mapped from"):
                done = support.made(*command, *experts, *self.keep)
                self.assertEqual(done.stdout, wanted)
                path = pathlib.Path(re.search(rf"{how} (.*\.weights)\n", done.stderr).group(1))
                sizes[bool(experts)] = path.stat().st_size
                self.assertEqual("experts: " in done.stderr, bool(experts), done.stderr)
        self.assertLess(sizes[True], sizes[False])

    def test_what_has_nothing_to_keep_is_told(self):
        text, told = self.answer(support.tiny_model("f32"), *self.keep)
        self.assertEqual(told, "note: --keep-prepared has nothing to keep: these weights are used as they are stored\n")
        self.assertEqual(text, self.answer(support.tiny_model("f32"))[0])
        self.assertEqual(support.listing(self.directory), {})
        for flags, needle in ((("--keep-prepared", "--in-place"), "--in-place"), (("--prepared-dir", "x"), "--keep-prepared")):
            self.refused("generate", support.tiny_model(), *PROMPT, *flags, needles=(needle,))

    def test_an_interrupt_while_waiting_ends_in_order(self):
        import fcntl
        model = support.tiny_model("bf16")
        _, path = self.kept(model, "kept in")
        path.unlink()
        with open(path.with_name(path.name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = support.start("generate", model, *PROMPT, *self.keep)
            support.wait_until(lambda: support.catches_interrupts(process), "its own handling of Ctrl-C")
            self.assertIsNone(process.poll(), "it waits")
            support.interrupt(process, signal.SIGINT)
            _, told = process.communicate(timeout=support.TIMEOUT_S)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn("interrupted", told)
        self.assertEqual(files_in(self.directory), [])


if __name__ == "__main__":
    unittest.main()
