"""--max-memory: experts from a file give the answer of a model in memory; the file is kept; what is too little is told."""

import json
import re
import unittest

import support

PROMPT = ("-p", "Once upon a time", "-n", 24, "--temp", 0)


def answer(*flags):
    done = support.made("generate", support.tiny_model(), *PROMPT, "--json", "-c", 128, "--prompt-chunk", 64, *flags)
    return json.loads(done.stdout)


def bytes_of(text):
    number, unit = text.split()
    return float(number) * {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]


def least_memory(*flags):
    """What an error asks for at least, rounded up by 20 kB (it prints hundredths of MiB)."""
    done = support.run("generate", support.tiny_model(), *PROMPT, "-c", 128, "--prompt-chunk", 64, "--max-memory", "1",
                       "--expert-dir", "/nowhere", *flags)
    found = re.search(r"experts of a token are ([0-9.]+ \w+);", done.stderr)
    assert found, done.stderr
    return int(bytes_of(found.group(1))) + 20000


class MaxMemory(unittest.TestCase):
    def test_experts_from_a_file_give_the_same_answer(self):
        directory = support.fresh_directory("experts")
        for quant in ("none", "int8", "experts=int4"):
            least = least_memory("--quant", quant)
            for flags in ((), ("-t", 1), ("--speculate", "mtp", "--always-draft"), ("--precision", "f32")):
                streamed = answer("--quant", quant, "--max-memory", least, "--expert-dir", directory, *flags)
                in_memory = answer("--quant", quant, *flags)
                self.assertEqual(streamed["tokens"], in_memory["tokens"], (quant, flags))
                experts = streamed["experts"]
                self.assertLess(experts["slots"], experts["records"])
                self.assertGreater(experts["bytes_read"], 0)
                self.assertLessEqual(experts["hits"], experts["uses"])
                self.assertLessEqual(experts["prefetched_used"], experts["prefetched"])

    def test_the_file_is_made_once_and_told(self):
        directory = support.fresh_directory("experts")
        flags = (*PROMPT, "-c", 128, "--prompt-chunk", 64, "--max-memory", least_memory(), "--expert-dir", directory)
        first = support.made("generate", support.tiny_model(), *flags)
        self.assertRegex(first.stderr, r"preparing experts, once: [0-9.]+ \w+ in .*\.experts\n")
        self.assertRegex(first.stderr, r"experts: \d+ of \d+ in memory \(.*\), [0-9.]+ % of uses found there")
        before = support.listing(directory)
        self.assertEqual(len([name for name in before if name.endswith(".experts")]), 1)
        second = support.made("generate", support.tiny_model(), *flags)
        self.assertNotIn("preparing", second.stderr)
        self.assertEqual(second.stdout, first.stdout)
        self.assertEqual(support.listing(directory), before)

    def test_a_model_that_fits_needs_no_file(self):
        directory = support.fresh_directory("experts")
        self.assertNotIn("experts", answer("--max-memory", "1GB", "--expert-dir", directory))
        self.assertEqual(support.listing(directory), {})

    def test_eval_gives_the_same_score(self):
        directory = support.fresh_directory("experts")
        text = directory / "text.txt"
        text.write_text("Once upon a time there was a fox. " * 20)
        # 512 tokens of a prompt at a time need more than the 64 above.
        flags = ("eval", support.tiny_model(), "--text", text, "--window", 64, "--json")
        told = support.run(*flags, "--max-memory", "1", "--expert-dir", directory)
        least = int(bytes_of(re.search(r"a token are ([0-9.]+ \w+);", told.stderr).group(1))) + 20000
        score = json.loads(support.made(*flags).stdout)["bits_per_byte"]
        streamed = support.made(*flags, "--max-memory", least, "--expert-dir", directory)
        self.assertEqual(json.loads(streamed.stdout)["bits_per_byte"], score)

    def test_wrong_amounts_and_places_are_told_in_one_line(self):
        for flags, said in ((("--max-memory", "lots"), "lots"), (("--max-memory", "120%"), "120%"),
                            (("--max-memory", "100kB"), "are too little"),
                            (("--expert-dir", "/nowhere"), "--max-memory"),
                            (("--max-memory", least_memory(), "--expert-dir", "/dev/null/x"), "/dev/null/x"),
                            (("--in-place", "--quant", "int8"), "--quant")):
            done = support.run("generate", support.tiny_model(), *PROMPT, "-c", 128, "--prompt-chunk", 64, *flags)
            self.assertEqual(done.returncode, 2, flags)
            self.assertIn(said, done.stderr)
            lines = [line for line in done.stderr.splitlines() if not line.startswith("preparing experts, once: ")]
            self.assertEqual(len(lines), 1, done.stderr)

    def test_weights_in_place_give_the_same_answer(self):
        self.assertEqual(answer("--in-place")["tokens"], answer()["tokens"])


if __name__ == "__main__":
    unittest.main()
