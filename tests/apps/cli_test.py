"""The command line itself: help, examples, version, and what is refused before a verb begins."""

import re
import shlex
import unittest

import support
from support import CommandLineCase

VERBS = (["chat"], ["generate"], ["inspect"], ["train"], ["eval"], ["tokenizer"], ["tokenizer", "train"],
         ["tokenizer", "encode"], ["tokenizer", "decode"], ["data"], ["data", "synth"], ["data", "pack"], ["bench"])


def example_of(*verb):
    """The command in the help's example."""
    help_text = support.made(*verb, "--help").stdout
    return re.search(r"Example:\n\s*(fathom .*)", help_text).group(1)


class Help(CommandLineCase):
    def test_every_verb_has_help_with_an_example(self):
        listed = support.made("--help").stdout
        for verb in VERBS:
            with self.subTest(verb=verb):
                done = support.run(*verb, "--help")
                self.assert_success(done)
                self.assertEqual(done.stderr, "")
                self.assertIn("Example:\n", done.stdout)
                self.assertTrue(shlex.split(example_of(*verb))[1 : 1 + len(verb)] == verb)
                self.assertIn(verb[0], listed)

    def test_the_help_lists_exactly_these_verbs(self):
        section = support.made("--help").stdout.split("Subcommands:\n")[1].split("\n\n")[0]
        self.assertEqual({line.split()[0] for line in section.splitlines() if line.strip()},
                         {verb[0] for verb in VERBS if len(verb) == 1})

    def test_the_examples_work(self):
        """Run as printed, in a directory that has the files they name; models/demo is the tiny model."""
        work = support.fresh_directory("examples")
        (work / "models").mkdir()
        (work / "models" / "demo").symlink_to(support.tiny_model())
        (work / "examples").mkdir()
        (work / "examples" / "pico.toml").write_text(support.tiny_settings(work).read_text())
        for name in ("a.txt", "book.txt"):
            (work / name).write_text("Once upon a time there was a cat. The cat was happy.\n" * 40)
        (work / "b.jsonl").write_text('{"text": "Hello world"}\n')
        # Later examples use what earlier ones make: synth.jsonl, then tok.
        for verb in (["data", "synth"], ["data"], ["tokenizer", "train"], ["data", "pack"], ["tokenizer"],
                     ["tokenizer", "encode"], ["tokenizer", "decode"], ["inspect"], ["eval"], ["bench"], ["generate"],
                     ["chat"], ["train"]):
            with self.subTest(verb=verb):
                command = shlex.split(example_of(*verb))
                self.assertEqual(command[0], "fathom")
                extra = ["--threads", "1"] if verb[0] in ("bench", "generate", "chat", "train", "eval") else []
                done = support.run(*command[1:], *extra, stdin="Hello\n", cwd=work)
                self.assert_success(done)
                self.assertNotEqual(done.stdout, "")

    def test_version(self):
        done = support.run("--version")
        self.assert_success(done)
        self.assertRegex(done.stdout, r"\Afathom \d+\.\d+\.\d+\n\Z")


class Refusals(CommandLineCase):
    def test_no_verb(self):
        self.refused(needles=["fathom needs a verb", "--help"])
        self.refused("tokenizer", needles=["fathom tokenizer needs a verb", "fathom tokenizer --help"])

    def test_unknown_verbs_are_named(self):
        self.refused("generat", "model", needles=['"generat"', "fathom --help"])
        self.refused("data", "sinth", needles=['"sinth"', "fathom data --help"])

    def test_unknown_flags_are_named(self):
        self.refused("--colour", needles=["--colour"])
        for verb in VERBS:
            with self.subTest(verb=verb):
                done = support.run(*verb, "--no-such-flag")
                self.assert_refused(done, "--help")

    def test_an_unknown_flag_beside_good_ones_is_named(self):
        self.refused("generate", support.tiny_model(), "-p", "a", "--bogus", needles=["--bogus", "fathom generate --help"])

    def test_flags_that_would_do_nothing_are_refused(self):
        self.refused("train", "x.toml", "--precision", "f32", needles=["--precision"])
        self.refused("eval", support.tiny_model(), "--text", "x.txt", "--mla", "naive", needles=["--mla"])

    def test_values_that_do_not_parse_name_the_flag(self):
        model = support.tiny_model()
        for flag, value in (("--max-tokens", "x"), ("--temperature", "warm"), ("--seed", "-1"), ("--context", "-4"),
                            ("--prompt-chunk", "0"), ("--prompt-chunk", "-7"), ("--top-k", "-1"), ("--top-p", "1.5"),
                            ("--threads", "99999999999999999999")):
            with self.subTest(flag=flag, value=value):
                self.refused("generate", model, "-p", "a", f"{flag}={value}", needles=[flag])

    def test_values_out_of_range_name_what_is_accepted(self):
        model = support.tiny_model()
        for flag, value, needle in (("--threads", "-1", "accepted"), ("--threads", "5000", "accepted"),
                                    ("--kernels", "sse", "use one of"), ("--mla", "x", "accepted: absorbed, naive"),
                                    ("--precision", "int4", "accepted: f32, bf16, fp8"), ("--max-tokens", "0", "at least 1"),
                                    ("--context", "513", "512"), ("--temperature", "nan", "temperature"),
                                    ("--top-p", "0", "top_p")):
            with self.subTest(flag=flag, value=value):
                self.refused("generate", model, "-p", "a", flag, value, needles=[needle])

    def test_the_back_end_of_the_environment_is_checked_like_the_flag(self):
        self.refused("generate", support.tiny_model(), "-p", "a", env=support.environment(FATHOM_KERNELS="sse"),
                     needles=['"sse"', "use one of"])


if __name__ == "__main__":
    unittest.main()
