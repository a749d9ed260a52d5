"""fathom tokenizer: what is encoded decodes to itself; a trained tokenizer has the asked size; bad input is named."""

import json
import subprocess
import time
import unittest

import support
from support import CommandLineCase

TEXTS = ("Hello world", "  two  blanks\tand a tab", "line\nbreaks\n\n", "1234567890 and 3.14", "naïve café — über",
         "日本語のテキスト", "emoji 👩‍👩‍👧 done", "a\u0301 combining", "x" * 3000, '{"json": [1, 2]}')


class Code(CommandLineCase):
    def encode(self, text, **options):
        done = support.run("tokenizer", "encode", support.tiny_model(), "--json", stdin=text, **options)
        self.assert_success(done)
        return json.loads(done.stdout)

    def test_decoding_gives_the_text_back(self):
        for text in TEXTS:
            with self.subTest(text=text[:40]):
                ids = self.encode(text)
                self.assertTrue(all(0 <= i < support.TINY_VOCAB for i in ids))
                decoded = support.run("tokenizer", "decode", support.tiny_model(), "--json", stdin=json.dumps(ids))
                self.assert_success(decoded)
                self.assertEqual(json.loads(decoded.stdout), text)

    def test_argument_and_standard_input_are_the_same(self):
        for text in TEXTS[:5]:
            by_argument = json.loads(support.made("tokenizer", "encode", support.tiny_model(), text, "--json").stdout)
            self.assertEqual(by_argument, self.encode(text))
        ids = " ".join(map(str, self.encode(TEXTS[0])))
        plain = support.made("tokenizer", "encode", support.tiny_model(), TEXTS[0]).stdout
        self.assertEqual(plain, ids + "\n")
        for written in (ids, ids.replace(" ", ","), f"[{ids.replace(' ', ', ')}]"):
            self.assertEqual(support.made("tokenizer", "decode", support.tiny_model(), written).stdout, TEXTS[0] + "\n")
            self.assertEqual(support.made("tokenizer", "decode", support.tiny_model(), stdin=written).stdout, TEXTS[0] + "\n")

    def test_a_long_standard_input_is_read_whole(self):
        text = "The cat sat on the mat. " * 40_000
        short, long = self.encode(text[:24]), self.encode(text)
        self.assertGreater(len(long), 30_000 * (len(short) - 1))

    def test_special_tokens_are_recognised(self):
        self.assertEqual(self.encode("<｜begin▁of▁sentence｜><｜User｜>"), [0, 3])

    def test_an_empty_input_is_no_tokens(self):
        self.assertEqual(self.encode(""), [])

    def test_what_is_no_text_or_no_id_is_refused(self):
        model = support.tiny_model()
        self.refused("tokenizer", "encode", model, stdin=b"caf\xe9", needles=["UTF-8", "offset 3"])
        for ids, needle in (("1 two 3", '"two"'), ("99999", "99999"), ("99999999999999999999", "99999999999999999999"), ("1.5", '"1.5"')):
            with self.subTest(ids=ids):
                self.refused("tokenizer", "decode", model, ids, needles=[needle])

    def test_a_directory_without_tokenizer_is_named(self):
        directory = support.fresh_directory("no_tokenizer")
        self.refused("tokenizer", "encode", directory, "x", needles=[f"{directory}/tokenizer.json"])

    def test_ctrl_c_while_reading_encodes_nothing(self):
        """What was read so far is not the whole text: no ids of it may be printed."""
        process = support.start("tokenizer", "encode", support.tiny_model(), stdin=subprocess.PIPE)
        process.stdin.write("half a text")
        process.stdin.flush()
        support.wait_until(lambda: support.catches_interrupts(process), "the program")
        time.sleep(0.2)  # now it reads; the pipe stays open
        support.interrupt(process)
        self.assertEqual(process.wait(timeout=support.TIMEOUT_S), 2)
        self.assertEqual(process.stdout.read(), "")
        self.check_error_line(process.stderr.read(), "interrupted")
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


class Train(CommandLineCase):
    def setUp(self):
        self.directory = support.fresh_directory("tokenizer")
        self.corpus = support.tiny_data() / "synth.jsonl"

    def vocabulary(self, *arguments):
        done = support.run("tokenizer", "train", self.corpus, "-o", self.directory / "out", *arguments)
        self.assert_success(done)
        return json.loads((self.directory / "out" / "tokenizer.json").read_text())["model"]["vocab"], done.stdout

    def test_the_vocabulary_has_the_asked_size(self):
        for size in (320, 512):
            vocabulary, said = self.vocabulary("--vocab-size", size)
            self.assertEqual(sorted(vocabulary.values()), list(range(size)))
            self.assertTrue(said.startswith(f"{size} tokens"), said)

    def test_training_repeats(self):
        self.vocabulary("--vocab-size", 400)
        first = support.listing(self.directory)
        self.vocabulary("--vocab-size", 400)
        self.assertEqual(support.listing(self.directory), first)

    def test_digits_are_split_or_grouped(self):
        for flag, accepted in (("--split-digits", {1}), ("--group-digits", {2, 3})):
            vocabulary, _ = self.vocabulary("--vocab-size", 512, flag)
            self.assertIn(max(len(token) for token in vocabulary if token.isdigit()), accepted)

    def test_bad_input_is_named_and_nothing_is_written(self):
        (self.directory / "latin1.txt").write_bytes(b"caf\xe9")
        (self.directory / "number.jsonl").write_text('{"text": 1}\n')
        (self.directory / "broken.jsonl").write_text('{"text": "a"}\n{"text": \n')
        (self.directory / "file").write_text("")
        out = ("-o", self.directory / "out")
        with self.unchanged(self.directory):
            for name, needle in (("latin1.txt", "UTF-8"), ("number.jsonl", "line 1"), ("broken.jsonl", "line 2"), ("absent.txt", "absent")):
                with self.subTest(input=name):
                    self.refused("tokenizer", "train", self.directory / name, *out, needles=[name, needle])
            for size in ("10", "-1", "99999999999"):
                with self.subTest(size=size):
                    self.refused("tokenizer", "train", self.corpus, *out, f"--vocab-size={size}", needles=["--vocab-size"])
            self.refused("tokenizer", "train", self.corpus, "-o", self.directory / "file" / "out", needles=["file/out"])


if __name__ == "__main__":
    unittest.main()
