"""Settings of a verb from a TOML file and the environment: flag > environment > file > default, unknown keys refused."""

import re
import unittest

import support
from support import CommandLineCase

VERBS = ("chat", "generate", "serve", "eval", "bench", "quantize", "inspect", "doctor")


class Settings(CommandLineCase):
    def setUp(self):
        self.file = support.fresh_directory("settings") / "run.toml"

    def count(self, *arguments, file=None, **variables):
        """Tokens of an answer: whichever limit came through."""
        if file is not None:
            self.file.write_text(file)
            arguments = (*arguments, "--config", self.file)
        env = support.environment(**variables)
        return self.generate_json(support.endless_model("f32"), "-p", "Once", "-t", 1, *arguments, env=env)["completion_tokens"]

    def test_flag_beats_environment_beats_file_beats_default(self):
        file = "[generate]\nmax_tokens = 3\n"
        self.assertEqual(self.count(file=file), 3)
        self.assertEqual(self.count(file=file, FATHOM_GENERATE_MAX_TOKENS=4), 4)
        self.assertEqual(self.count("-n", 5, file=file, FATHOM_GENERATE_MAX_TOKENS=4), 5)
        self.assertEqual(self.count("-n", 5, FATHOM_GENERATE_MAX_TOKENS=4), 5)
        self.assertEqual(self.count(FATHOM_GENERATE_MAX_TOKENS=4), 4)
        self.file.write_text(file)
        self.assertEqual(self.count(FATHOM_CONFIG=self.file), 3)

    def test_every_kind_of_value(self):
        self.file.write_text(f"""
[generate]
model = "{support.tiny_model()}"
prompt = "Once \\"upon\\""
temperature = 0
top_p = 0.5
seed = 7
stop = ["xyzzy", "plugh"]
json = true
threads = 1
max_tokens = 2
[serve]
port = 1
[bench]
batch = [1, 4]
""")
        done = support.run("generate", "--config", self.file)
        self.assert_success(done)
        self.assertIn('"completion_tokens": 2', done.stdout)
        shown = support.made("generate", "--config", self.file, "--print-config").stdout
        for line in ('prompt = "Once \\"upon\\""', "temperature = 0", "seed = 7", 'stop = ["xyzzy", "plugh"]', "json = true",
                     "# min_p = ", "# context = 0"):
            self.assertRegex(shown, f"(?m)^{re.escape(line)}")
        shown = support.made("bench", "--config", self.file, "--print-config").stdout
        self.assertRegex(shown, r"(?m)^batch = \[1,4\]")

    def test_what_is_printed_is_read_again_and_every_key_is_documented(self):
        for verb in VERBS:
            with self.subTest(verb=verb):
                text = support.made(verb, "--print-config").stdout
                keys = re.findall(r"(?m)^(?:# )?(\w+) = ", text)
                self.assertGreaterEqual(len(keys), 3)
                for key in keys:
                    self.assertRegex(text, rf"(?m)^# .+\n(?:# )?{key} = ")
                    self.assertIn("--" + key.replace("_", "-"), support.made(verb, "--help").stdout)
        self.file.write_text(support.made("generate", "--print-config", "-n", 9, "--stop", "a b", "--temp", 0.25).stdout)
        again = support.made("generate", "--print-config", "--config", self.file).stdout
        self.assertEqual(again, self.file.read_text())
        self.assertIn("\nmax_tokens = 9\n", again)

    def test_the_help_shows_a_setting_that_the_verb_has(self):
        """It was max_tokens for all, which serve, bench, doctor and others do not have."""
        for verb in VERBS:
            with self.subTest(verb=verb):
                shown = re.search(r"as (\w+) for --([\w-]+); each is also a variable, as FATHOM_(\w+)\.", support.made(verb, "--help").stdout)
                self.assertEqual((shown[1], f"{verb}_{shown[1]}".upper()), (shown[2].replace("-", "_"), shown[3]))
                self.assertRegex(support.made(verb, "--print-config").stdout, rf"(?m)^(# )?{shown[1]} = ")

    def test_unknown_keys_and_wrong_values_are_refused_with_their_place(self):
        model = support.tiny_model()
        for text, needles in (("[generate]\nmax_token = 3\n", ("run.toml:2", "generate.max_token", "max_tokens")),
                              ("[generat]\nx = 1\n", ("run.toml:1", "generat")),
                              ("[serve]\nprt = 1\n", ("run.toml:2", "serve.prt")),
                              ("[generate]\nmax_tokens = \"many\"\n", ("run.toml:2", "max_tokens", "many")),
                              ("[generate\n", ("run.toml:1", "TOML")),
                              ("[generate]\nmax_tokens = 0\n", ("--max-tokens", "max_tokens in", "run.toml")),
                              ("[generate]\ntop_p = 2.0\n", ("--top-p", "top_p in")),
                              ("[generate]\nmax_memory = \"1GB\"\nin_place = true\n", ("--in-place", "run.toml"))):
            with self.subTest(text=text):
                self.file.write_text(text)
                self.refused("generate", model, "-p", "a", "--config", self.file, needles=needles)
        for variable, value, needles in (("FATHOM_GENERATE_MAX_TOKEN", 3, ("FATHOM_GENERATE_MAX_TOKEN",)),
                                         ("FATHOM_GENERATE_MAX_TOKENS", "x", ("FATHOM_GENERATE_MAX_TOKENS", "x")),
                                         ("FATHOM_GENERATE_MAX_TOKENS", 0, ("--max-tokens", "FATHOM_GENERATE_MAX_TOKENS")),
                                         ("FATHOM_CONFIG", "/nowhere.toml", ("/nowhere.toml",))):
            with self.subTest(variable=variable, value=value):
                self.refused("generate", model, "-p", "a", env=support.environment(**{variable: value}), needles=needles)

    def test_numbers_of_tokens_have_units_in_every_spelling_of_a_flag(self):
        """As vLLM writes them: 1k is 1,000, 1K is 1,024."""
        for arguments, tokens in ((("-c", "0.1k"), 100), (("--ctx-size=0.1K",), 102), (("--max-model-len", "0.2k"), 200)):
            with self.subTest(arguments=arguments):
                self.refused("generate", support.tiny_model(), "-p", "1 2 3 " * 200, "-n", 1, "-t", 1, *arguments,
                             needles=[f"the context holds {tokens} "])
        self.refused("generate", support.tiny_model(), "-p", "a", "-c", "1q", needles=["--context", "1q", "integer"])

    def test_the_log_level_decides_what_standard_error_gets(self):
        notes = {}
        for level in ("error", "info", "debug"):
            done = support.run("generate", support.tiny_model(), "-p", "a", "-n", 4, "--speculate", "lookup", "-t", 1,
                               env=support.environment(FATHOM_LOG_LEVEL=level))
            self.assert_success(done)
            notes[level] = done.stderr
        self.assertEqual(notes["error"], "")
        self.assertRegex(notes["info"], r"\Aspeculation lookup: .*\n\Z")
        self.assertRegex(notes["debug"], r"\A.*kernels \w+, 1 threads, KV cache FP32 of \d+ tokens.*\nspeculation lookup")
        self.refused("generate", support.tiny_model(), "-p", "a", "--log-level", "loud", needles=["--log-level", "loud"])

    def test_quiet_is_the_level_error(self):
        speculating = ("generate", support.tiny_model(), "-p", "a", "-n", 4, "--speculate", "lookup", "-t", 1)
        for arguments, variables in ((("-q",), {}), (("--quiet",), {"FATHOM_LOG_LEVEL": "debug"}), ((), {"FATHOM_GENERATE_QUIET": "true"})):
            with self.subTest(arguments=arguments, variables=variables):
                done = support.run(*speculating, *arguments, env=support.environment(**variables))
                self.assert_success(done)
                self.assertEqual(done.stderr, "")
                self.assertNotEqual(done.stdout, "")

    def test_other_names_of_a_setting_are_refused_with_its_own(self):
        for name, its_own in (("temp", "generate.temperature"), ("n_predict", "generate.max_tokens"), ("m", "generate.model")):
            with self.subTest(name=name):
                self.file.write_text(f"[generate]\n{name} = 1\n")
                self.refused("generate", support.tiny_model(), "-p", "a", "--config", self.file,
                             needles=[f'unknown key "generate.{name}"', f'it is called "{its_own}" here'])
        self.refused("generate", support.tiny_model(), "-p", "a", env=support.environment(FATHOM_GENERATE_TEMP="1"),
                     needles=["FATHOM_GENERATE_TEMP", 'it is called "FATHOM_GENERATE_TEMPERATURE" here'])

    def test_a_flag_beats_what_a_file_says_of_one_that_it_excludes(self):
        self.assertEqual(self.count("-n", 2, file='[generate]\nfile = "nowhere.txt"\n'), 2)
        self.assertEqual(self.count("-n", 2, FATHOM_GENERATE_FILE="nowhere.txt"), 2)

    def test_a_flag_beats_a_variable_that_is_wrong(self):
        done = support.run("generate", support.tiny_model(), "-p", "a", "-n", 1, "-t", 1, "--log-level", "error",
                           env=support.environment(FATHOM_LOG_LEVEL="loud"))
        self.assert_success(done)
        self.refused("generate", support.tiny_model(), "-p", "a", env=support.environment(FATHOM_LOG_LEVEL="loud"),
                     needles=["(--log-level is FATHOM_LOG_LEVEL)"])
        support.made("inspect", support.tiny_model(), env=support.environment(FATHOM_LOG_LEVEL="loud"))

    def test_variables_of_other_verbs_are_none_of_its_business(self):
        self.assertEqual(self.count("-n", 2, FATHOM_SERVE_PORT="x", FATHOM_TRAIN_STEPS="x"), 2)

    def test_a_missing_argument_is_still_named(self):
        self.refused("generate", needles=["MODEL", "is required"])
        self.file.write_text("[generate]\nmax_tokens = 3\n")
        self.refused("generate", "--config", self.file, needles=["MODEL", "is required"])

    def test_arguments_behind_two_hyphens_stay_arguments(self):
        self.file.write_text("[tokenizer]\n")
        self.file.write_text("[inspect]\njson = true\n")
        done = support.run("inspect", "--config", self.file, "--", support.tiny_model())
        self.assert_success(done)
        self.assertTrue(done.stdout.startswith("{"))


if __name__ == "__main__":
    unittest.main()
