"""The command line itself: help, examples, version, and what is refused before a verb begins."""

import os
import re
import resource
import shlex
import shutil
import subprocess
import unittest

import support
from support import CommandLineCase

VERBS = (["chat"], ["generate"], ["serve"], ["inspect"], ["plan"], ["simulate"], ["quantize"], ["train"], ["eval"], ["tokenizer"],
         ["tokenizer", "train"], ["tokenizer", "encode"], ["tokenizer", "decode"], ["data"], ["data", "synth"], ["data", "pack"],
         ["bench"], ["bench", "serve"], ["doctor"])


def example_of(*verb):
    """The commands of the help's example; the last is the verb's own."""
    help_text = support.made(*verb, "--help").stdout
    return re.search(r"Example:\n((?:  .*\n?)+)", help_text).group(1).strip("\n").splitlines()


class Help(CommandLineCase):
    def test_every_verb_has_help_with_an_example(self):
        listed = support.made("--help").stdout
        for verb in VERBS:
            with self.subTest(verb=verb):
                done = support.run(*verb, "--help")
                self.assert_success(done)
                self.assertEqual(done.stderr, "")
                self.assertIn("Example:\n", done.stdout)
                self.assertTrue(shlex.split(example_of(*verb)[-1])[1 : 1 + len(verb)] == verb)
                self.assertIn(verb[0], listed)

    def test_the_help_lists_exactly_these_verbs(self):
        section = support.made("--help").stdout.split("Subcommands:\n")[1].split("\n\n")[0]
        self.assertEqual({line.split()[0] for line in section.splitlines() if line.strip()},
                         {verb[0] for verb in VERBS if len(verb) == 1})

    def test_the_examples_work(self):
        """Run as printed, each in an empty directory but for links to what a checkout has there."""
        for verb in VERBS:
            if verb == ["serve"]:  # does not end by itself: serve_test.py
                continue
            with self.subTest(verb=verb):
                work = support.fresh_directory("examples")
                for name in ("examples", "README.md"):
                    (work / name).symlink_to(support.ROOT / name)
                (work / "models").mkdir()
                (work / "models" / "demo").symlink_to(support.tiny_model())  # quicker than the demo model itself
                for line in example_of(*verb):
                    command = shlex.split(line)
                    if command[0] == "mkdir":
                        (work / command[-1]).mkdir(parents=True)
                        continue
                    self.assertEqual(command[0], "fathom")
                    extra = ["--threads", "1"] if command[1] in ("bench", "generate", "chat", "train", "eval") else []
                    if command[1] == "train":
                        extra += ["--set", "train.steps=3", "--set", "learning_rate.warmup_steps=1"]
                    done = support.run(*command[1:], *extra, stdin="Hello\n", cwd=work)
                    self.assert_success(done)
                    self.assertNotEqual(done.stdout, "")

    def test_version_names_commit_kernels_and_compiler(self):
        done = support.run("--version")
        self.assert_success(done)
        self.assertRegex(done.stdout, r"\Afathom \d+\.\d+\.\d+ \((unknown|[0-9a-f]{12}(-dirty)?)\)\n"
                                      r"kernels generic .*; this machine: \w+\ncompiler \w+ [\d.]+, \w+.*\n\Z")


class Refusals(CommandLineCase):
    def test_no_verb(self):
        self.refused(needles=["give a verb: chat, generate", "--help"])
        self.refused("tokenizer", needles=["tokenizer needs a verb: train, encode, decode", "fathom tokenizer --help"])

    def test_unknown_verbs_are_named(self):
        self.refused("generat", "model", needles=['"generat"', "fathom --help"])
        self.refused("data", "sinth", needles=['"sinth"', "fathom data --help"])

    def test_verbs_that_were_meant_are_named(self):
        self.refused("chatt", "model", needles=['"chatt"; did you mean chat?'])
        self.refused("data", "sinth", needles=['"sinth"; did you mean synth?'])
        for theirs, ours in (("run", "chat"), ("perplexity", "eval"), ("convert", "quantize"), ("version", "--version"), ("-v", "--version"), ("-V", "--version")):
            with self.subTest(theirs=theirs):
                self.refused(theirs, needles=[f'"{theirs}"; here it is {ours}'])
        self.assertNotIn("here it is", self.refused("data", "run", needles=['"run"']).stderr)
        self.refused("paint", needles=['"paint"; see'])

    def test_help_is_a_verb_too(self):
        self.assertEqual(support.made("help").stdout, support.made("--help").stdout)
        self.assertEqual(support.made("help", "data", "pack").stdout, support.made("data", "pack", "--help").stdout)

    def test_a_model_has_the_same_names_everywhere(self):
        model = support.tiny_model()
        printed = [support.made("tokenizer", "encode", *names, "1 2", "--json").stdout for names in ((model,), ("-m", model), ("--model", model))]
        self.assertEqual(len(set(printed)), 1)
        support.made("quantize", "--model-path", model, support.fresh_directory("named") / "out", "--quant", "int8", "-t", 1)
        support.made("plan", "-m", support.ROOT / "tests/model/configs/deepseek-v3.json", "--hardware", "h800")

    def test_flags_of_other_programs_are_answered(self):
        """-ngl 99 was "--max-tokens: "gl" is not an integer"."""
        model = support.tiny_model()
        nothing = "it changes nothing here; leave it away"
        for flag, advice in (("-ngl", nothing), ("--n-gpu-layers=99", nothing), ("-fa", nothing), ("--no-mmap", nothing),
                             ("--mlock", nothing), ("-ub", nothing), ("-ctk", "its name here is --kv-cache-dtype"),
                             ("-hf", "its name here is --model"), ("-cnv", "fathom chat is the conversation; leave it away"),
                             ("-no-cnv", "fathom generate continues a text; leave it away"), ("-sys", "its name here is --system"),
                             ("-co", nothing), ("--dtype", "its name here is --precision"), ("-i", "fathom chat is the conversation; leave it away")):
            for verb in (("generate", "-p", "hi"), ("chat",), ("eval", "--text", "x.txt")):
                with self.subTest(flag=flag, verb=verb[0]):
                    self.refused(verb[0], model, *verb[1:], flag, "99",
                                 needles=[f"fathom {verb[0]} has no flag {flag.split('=')[0]}: {advice}; see fathom {verb[0]} --help"])
        for flag in ("-n3", "-p-fa"):  # of our own, with their value
            self.assertNotIn("has no flag", support.run("generate", model, "-p", "a", flag).stderr)

    def test_an_argument_that_is_a_flag_here_is_answered_with_it(self):
        self.refused("generate", support.tiny_model(), "Once upon", needles=['"Once upon" is one argument too many', "; the prompt goes behind -p;"])
        self.refused("quantize", support.tiny_model(), "out", "Q8_0", needles=['"Q8_0" is one argument too many', "; the formats go behind --quant;"])

    def test_tokens_have_the_names_of_other_programs(self):
        for name in ("-n", "--n-predict", "--max-new-tokens"):
            with self.subTest(name=name):
                self.assertEqual(self.generate_json(support.tiny_model(), "-p", "a", "-t", 1, name, 1)["completion_tokens"], 1)

    def test_unknown_flags_are_named(self):
        self.refused("--colour", needles=["--colour"])
        for verb in VERBS:
            with self.subTest(verb=verb):
                done = support.run(*verb, "--no-such-flag")
                self.assert_refused(done, "--help")

    def test_an_unknown_flag_beside_good_ones_is_named(self):
        self.refused("generate", support.tiny_model(), "-p", "a", "--bogus", needles=["--bogus", "fathom generate --help"])

    def test_a_mistyped_flag_is_answered_with_the_one_that_was_meant(self):
        for given, meant in (("--prot", "--port"), ("--max-num-seq=4", "--max-num-seqs"), ("--apikey", "--api-key")):
            with self.subTest(given=given):
                self.refused("serve", support.tiny_model(), given, "8", needles=[given.split("=")[0] + "; did you mean " + meant + "?"])
        done = self.refused("serve", support.tiny_model(), "--mixture-of-depths", "2", needles=["--mixture-of-depths;"])
        self.assertNotIn("did you mean", done.stderr)

    def test_a_missing_argument_and_one_too_many_are_named(self):
        self.refused("serve", needles=["MODEL is required: model directory", "fathom serve --help"])
        self.refused("serve", support.tiny_model(), "another", needles=['"another" is one argument too many'])

    def test_flags_that_would_do_nothing_are_refused(self):
        self.refused("train", "x.toml", "--precision", "f32", needles=["--precision"])
        self.refused("eval", support.tiny_model(), "--text", "x.txt", "--mla", "naive", needles=["--mla"])

    def test_values_that_do_not_parse_name_the_flag(self):
        model = support.tiny_model()
        for flag, value in (("--max-tokens", "x"), ("--temperature", "warm"), ("--seed", "-1"), ("--context", "-4"),
                            ("--prompt-chunk", "0"), ("--prompt-chunk", "-7"), ("--top-k", "-1"), ("--top-p", "1.5"),
                            ("--threads", "99999999999999999999"), ("--seed", "99999999999999999999"), ("--threads", "-1"),
                            ("--top-p", "nan"), ("--min-p", "-NaN"), ("--temperature", "nan"), ("--threads", "5000"), ("--max-tokens", "0"), ("--max-tokens", "1e3")):
            with self.subTest(flag=flag, value=value):
                self.refused("generate", model, "-p", "a", f"{flag}={value}", needles=[flag])

    def test_values_out_of_range_name_what_is_accepted(self):
        model = support.tiny_model()
        for flag, value, needle in (("--kernels", "sse", "use one of"), ("--mla", "x", "accepted: absorbed, naive"),
                                    ("--kv-cache-dtype", "fp4", "accepted: auto, bf16, fp8"),
                                    ("--precision", "int4", "accepted: f32, bf16, fp8"), ("--stop", "", "--stop"),
                                    ("--context", "513", "512"), ("--temperature", "nan", "temperature"),
                                    ("--top-p", "0", "top_p"), ("--top-p", "3", '"3" is not a number from 0 to 1'),
                                    ("--repeat-penalty", "0", "is not a number from 0.01 to 100")):
            with self.subTest(flag=flag, value=value):
                self.refused("generate", model, "-p", "a", flag, value, needles=[needle])

    def test_output_that_cannot_be_written_is_an_error(self):
        for arguments in (("--help",), ("inspect", support.tiny_model()), ("chat", support.tiny_model())):
            with self.subTest(arguments=arguments), open("/dev/full", "wb") as full:
                done = subprocess.run([support.BINARY, *map(str, arguments)], input=b"Hello!\n", stdout=full,
                                      stderr=subprocess.PIPE, env=support.environment(), timeout=support.TIMEOUT_S)
                self.assertEqual(done.returncode, 2)
                self.check_error_line(done.stderr.decode(), "standard output")

    def test_closed_standard_output_is_an_error_of_what_prints(self):
        for arguments, code in ((("tokenizer", "encode", support.tiny_model(), "a"), 2), (("--version",), 2),
                                (("tokenizer", "encode", support.tiny_model() / "nowhere", "a"), 2)):
            with self.subTest(arguments=arguments):
                done = subprocess.run([support.BINARY, *map(str, arguments)], preexec_fn=lambda: os.close(1),
                                      stderr=subprocess.PIPE, env=support.environment(), timeout=support.TIMEOUT_S)
                self.assertEqual(done.returncode, code)
                self.check_error_line(done.stderr.decode(), "nowhere" if "nowhere" in str(arguments) else "standard output")

    def test_a_git_lfs_pointer_is_called_one(self):
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n"
        for name, verb, rest in (("model.safetensors", ("generate",), ("-p", "a")), ("tokenizer.json", ("tokenizer", "encode"), ("a",)),
                                 ("config.json", ("inspect",), ())):
            with self.subTest(name=name):
                model = support.fresh_directory("lfs") / "model"
                shutil.copytree(support.tiny_model(), model)
                (model / name).write_text(pointer)
                self.refused(*verb, model, *rest, needles=[name, "Git LFS pointer", "git lfs pull"])
        file = support.fresh_directory("lfs") / "model.gguf"
        file.write_text(pointer)
        self.refused("inspect", file, needles=["model.gguf", "Git LFS pointer"])

    def test_closed_standard_input_is_an_empty_one(self):
        for arguments in (("chat", support.tiny_model()), ("tokenizer", "encode", support.tiny_model())):
            with self.subTest(arguments=arguments):
                done = subprocess.run([support.BINARY, *map(str, arguments)], preexec_fn=lambda: os.close(0),
                                      capture_output=True, env=support.environment(), timeout=support.TIMEOUT_S)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_too_little_memory_is_one_line(self):
        """Whichever allocation it strikes: the weights' widened vectors, the scratch, a thread."""
        limits = [2**20 * n for n in (40, 60, 100, 200)]
        codes = set()
        for limit in limits:
            done = support.run("generate", support.tiny_model(), "-p", "a", "-n", 3, "-t", 64,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
            codes.add(done.returncode)
            if done.returncode:
                self.assert_refused(done)
        self.assertIn(2, codes)

    def test_the_back_end_of_the_environment_is_checked_like_the_flag(self):
        self.refused("generate", support.tiny_model(), "-p", "a", env=support.environment(FATHOM_KERNELS="sse"),
                     needles=['"sse"', "use one of"])


if __name__ == "__main__":
    unittest.main()
