"""fathom bench: it measures what it says, and refuses what it cannot measure."""

import json
import unittest

import support
from support import CommandLineCase


class Bench(CommandLineCase):
    def test_a_model(self):
        arguments = ("bench", support.tiny_model(), "--prompt", 20, "--decode", 5, "--repeat", 2, "-t", 1)
        done = support.run(*arguments, "--json")
        self.assert_success(done)
        found = json.loads(done.stdout)
        self.assertEqual((found["prompt_tokens"], found["decode_tokens"], found["repeat"], found["threads"]), (20, 5, 2, 1))
        self.assertGreater(found["prompt_tokens_per_second"], 0)
        self.assertGreater(found["decode_tokens_per_second"], 0)
        text = support.made(*arguments).stdout
        self.assertIn("prompt of 20", text)
        self.assertIn(found["kernels"], text)

    def test_training(self):
        done = support.run("bench", "--train", "pico", "--repeat", 1, "-t", 1, "--precision", "f32", "--json")
        self.assert_success(done)
        found = json.loads(done.stdout)
        self.assertEqual((found["preset"], found["precision"]), ("pico", "f32"))
        self.assertGreater(found["train_tokens_per_second"], 0)

    def test_what_cannot_be_measured_is_refused(self):
        model = support.tiny_model()
        for arguments, needle in (((), "MODEL"), ((model, "--prompt", 0), "--prompt"), ((model, "--decode", 0), "--decode"),
                                  ((model, "--repeat", 0), "--repeat"), ((model, "--prompt", 1000), "512"),
                                  ((model, "--train", "pico"), "--train"), (("--train", "micro"), "micro"),
                                  (("--train", "pico", "--precision", "fp8"), "fp8"), (("--train", "pico", "--prompt", 3), "--prompt"),
                                  ((model, "--prompt", 9223372036854775806), "--prompt"), ((model, "--decode", 2147483647), "512")):
            with self.subTest(arguments=arguments):
                self.refused("bench", *arguments, needles=[needle])


if __name__ == "__main__":
    unittest.main()
