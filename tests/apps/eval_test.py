"""fathom eval: the measure is bits per byte, text of the training data scores better than noise, windows are checked."""

import array
import json
import lzma
import math
import os
import pathlib
import random
import re
import shutil
import subprocess
import unittest

import support
from support import CommandLineCase

SHARED = pathlib.Path(os.environ.get("FATHOM_SHARED_DIR") or support.ROOT.parent / "shared")


class Eval(CommandLineCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = support.fresh_directory("eval")
        documents = [json.loads(line) for line in (support.tiny_data() / "synth.jsonl").read_text().splitlines()]
        cls.stories = [d["text"] for d in documents if "text" in d][:40]

    def evaluate(self, text, *arguments, threads=1):
        path = self.directory / "text.txt"
        path.write_text(text)
        done = support.run("eval", support.tiny_model(), "--text", path, "--json", "-t", threads, *arguments)
        self.assert_success(done)
        return json.loads(done.stdout)

    def test_known_text_scores_better_than_noise_and_noise_no_better_than_it_must(self):
        known = self.evaluate("\n".join(self.stories))
        letters = random.Random(1)
        noise = self.evaluate("".join(letters.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(4000)))
        self.assertLess(known["bits_per_byte"], 0.75 * noise["bits_per_byte"])
        # Independent letters carry log2 26 bits each; no model that did not see them can score below that.
        self.assertGreater(noise["bits_per_byte"], math.log2(26) - 0.1)
        # The tiny model is better than a uniform choice of tokens.
        self.assertLess(known["perplexity"], support.TINY_VOCAB)

    def test_the_figures_agree_with_each_other(self):
        text = "\n".join(self.stories)
        found = self.evaluate(text)
        self.assertEqual(set(found), {"text", "bytes", "tokens", "bits_per_byte", "perplexity", "window", "tokens_per_second",
                                      "kv_cache_dtype"})
        self.assertEqual(found["bytes"], len(text.encode()))
        ids = json.loads(support.made("tokenizer", "encode", support.tiny_model(), text, "--json").stdout)
        self.assertEqual(found["tokens"], len(ids))
        bits = found["tokens"] * math.log2(found["perplexity"])
        self.assertAlmostEqual(found["bits_per_byte"], bits / found["bytes"], places=9)

    def test_the_text_may_come_on_standard_input(self):
        text = "\n".join(self.stories[:4])
        done = support.run("eval", support.tiny_model(), "--text", "-", "--json", "-t", 1, stdin=text)
        self.assert_success(done)
        piped, read = json.loads(done.stdout), self.evaluate(text)
        for found in (piped, read):
            del found["text"], found["tokens_per_second"]
        self.assertEqual(piped, read)
        done = support.run("eval", support.tiny_model(), "--text", "-", stdin="")
        self.assert_refused(done, "standard input holds no text")

    def test_documents_are_scored_alone(self):
        """Two documents are worth the sum of the two alone, however they are ordered."""
        first, second = self.stories[0], self.stories[1]
        def bits(text):
            found = self.evaluate(text)
            return found["bits_per_byte"] * found["bytes"]
        expected = bits(first) + bits(second)
        self.assertAlmostEqual(bits(f"{first}\n<|endoftext|>\n{second}"), expected, places=6)
        self.assertAlmostEqual(bits(f"{second}\n<|endoftext|>\n{first}"), expected, places=6)

    def test_it_agrees_with_the_trainers_validation(self):
        """One short document fits one window of the trainer too. The shard adds the end token, which eval does not score."""
        work = support.fresh_directory("agree")
        (work / "one.txt").write_text("Once upon a time there was a little cat called Tom.")
        support.made("data", "pack", work / "one.txt", "--tokenizer", support.tiny_data() / "tokenizer", "-o",
                     work / "one.shard", "--validation-fraction", 0)
        ids = json.loads(support.made("tokenizer", "encode", support.tiny_model(), (work / "one.txt").read_text(),
                                      "--json").stdout)
        done = support.run("train", support.tiny_settings(work, steps=1), "-q", "-t", 1,
                           "--set", f"model.from={support.tiny_model()}", "--set", f"data.train=[\"{work}/one.shard\"]",
                           "--set", f"data.validation=[\"{work}/one.shard\"]", "--set", "train.slots_per_step=1",
                           "--set", "train.sequences_per_slot=1", "--set", f"train.sequence_length={len(ids)}",
                           "--set", "learning_rate.peak=0", "--set", "learning_rate.final=0",
                           "--set", "train.bias_update_speed=0", "--set", "learning_rate.warmup_steps=0")
        self.assert_success(done)
        trained = support.read_log(work / "log.jsonl")[1]["validation.loss"]
        found = self.evaluate((work / "one.txt").read_text())
        self.assertEqual(found["tokens"], len(ids))
        self.assertAlmostEqual(trained, math.log(found["perplexity"]), places=4)

    def test_a_smaller_window_changes_the_score_and_every_token_is_still_scored(self):
        text = "\n".join(self.stories)
        whole, small = self.evaluate(text), self.evaluate(text, "--window", 32)
        self.assertEqual((whole["window"], small["window"]), (512, 32))
        self.assertEqual(whole["tokens"], small["tokens"])
        self.assertNotEqual(whole["bits_per_byte"], small["bits_per_byte"])

    def reference(self, model, text, window, *arguments):
        """tools/reference in float64."""
        ids = json.loads(support.made("tokenizer", "encode", model, text, "--json").stdout)
        bos = json.loads((model / "config.json").read_text())["bos_token_id"]
        (self.directory / "ids.json").write_text(json.dumps([bos, *ids]))
        done = subprocess.run(["/usr/bin/python3", support.ROOT / "tools/reference/score_text.py", model, self.directory / "ids.json",
                               str(window), *map(str, arguments)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_chunks_are_those_of_llama_perplexity(self):
        text = "\n".join(self.stories[:6])
        for window, chunks in ((32, 3), (33, 2)):
            with self.subTest(window=window):
                expected = self.reference(support.tiny_model(), text, window, "--chunks", chunks)
                found = self.evaluate(text, "--chunks", chunks, "--window", window)
                self.assertEqual((found["chunks"], found["window"]), (chunks, window))
                self.assertEqual(found["tokens"], chunks * (window - window // 2 - 1))
                self.assertEqual(found["tokens"], expected["tokens"])
                self.assertAlmostEqual(math.log(found["perplexity"]), expected["nats"] / expected["tokens"], delta=1e-5)
        both = self.evaluate(text, "--chunks", chunks, "--window", window, "--kl-against", support.tiny_model())
        self.assertAlmostEqual(both["perplexity"], found["perplexity"], places=4)
        self.assertEqual(both["bytes"], found["bytes"])
        ids = json.loads(support.made("tokenizer", "encode", support.tiny_model(), text, "--json").stdout)
        every = self.evaluate(text + "\n", "--chunks=-1", "-c", 32)  # a final newline is not read
        self.assertEqual(every["chunks"], (len(ids) + 1) // 32)
        scored = [id for begin in range(0, every["chunks"] * 32, 32) for id in [0, *ids][begin + 17:begin + 32]]
        words = support.made("tokenizer", "decode", support.tiny_model(), ",".join(map(str, scored)), "--json").stdout
        self.assertEqual(every["bytes"], len(json.loads(words).encode()))

    def test_chunks_that_cannot_be_had_are_refused(self):
        path = self.directory / "short.txt"
        path.write_text("Once upon a time")
        base = ("eval", support.tiny_model(), "--text", path)
        self.refused(*base, "--chunks", 1, needles=["short.txt", "chunk of 512", "--window"])
        self.refused(*base, "--chunks", 1, "--window", 2, needles=["--window 2", "3 to the 512"])
        self.refused("eval", support.tiny_model(), "--sums", 1, "--chunks", 1, needles=["--chunks", "--text"])

    def test_kl_and_first_choices_equal_an_independent_computation(self):
        """Against the same model with its last norm scaled: other temperatures channel by channel."""
        other = support.fresh_directory("other_model") / "model"
        shutil.copytree(support.tiny_model(), other)
        raw = (other / "model.safetensors").read_bytes()
        size = int.from_bytes(raw[:8], "little")
        norm = json.loads(raw[8:8 + size])["model.norm.weight"]
        self.assertEqual(norm["dtype"], "F32")
        begin, end = (8 + size + offset for offset in norm["data_offsets"])
        values = array.array("f", raw[begin:end])
        for i in range(len(values)):
            values[i] *= 0.7 + 0.1 * (i % 7)
        (other / "model.safetensors").write_bytes(raw[:begin] + values.tobytes() + raw[end:])
        text = "\n".join(self.stories[:4])
        expected = self.reference(support.tiny_model(), text, 64, "--against", other)
        found = self.evaluate(text, "--window", 64, "--kl-against", other)
        self.assertEqual(found["tokens"], expected["tokens"])
        self.assertGreater(expected["kl_per_token"], 1e-3)
        self.assertLess(expected["top1_agreement"], 1)
        self.assertAlmostEqual(found["against"]["kl_per_token"], expected["kl_per_token"], delta=1e-5)
        # Where FP32 cannot tell the two likeliest apart, either may be first.
        self.assertAlmostEqual(found["against"]["top1_agreement"], expected["top1_agreement"], delta=1.5 / expected["tokens"])

    def test_threads_and_kernels_do_not_change_the_score(self):
        text = self.stories[0]
        expected = self.evaluate(text)["bits_per_byte"]
        for kernels in self.available_kernels():
            self.assertEqual(self.evaluate(text, "--kernels", kernels)["bits_per_byte"], expected)
        self.assertEqual(self.evaluate(text, threads=2)["bits_per_byte"], expected)

    def test_the_text_line_has_the_same_figures(self):
        found = self.evaluate(self.stories[0])
        done = support.run("eval", support.tiny_model(), "--text", self.directory / "text.txt", "-t", 1)
        self.assert_success(done)
        self.assertTrue(done.stdout.startswith(f"{found['bits_per_byte']:.4f} bits per byte"), done.stdout)

    def test_windows_out_of_range_are_refused(self):
        (self.directory / "a.txt").write_text("Hello world")
        for window in ("1", "513", "-3"):
            with self.subTest(window=window):
                self.refused("eval", support.tiny_model(), "--text", self.directory / "a.txt", f"--window={window}",
                             needles=["--window"])

    def test_texts_that_cannot_be_scored_are_named(self):
        cases = {"empty.txt": (b"", "no text"), "latin1.txt": (b"caf\xe9", "UTF-8"),
                 "separators.txt": (b"<|endoftext|>\n<|endoftext|>\n", "no text")}
        for name, (content, needle) in cases.items():
            with self.subTest(text=name):
                (self.directory / name).write_bytes(content)
                self.refused("eval", support.tiny_model(), "--text", self.directory / name,
                             needles=[self.directory / name, needle])
        self.refused("eval", support.tiny_model(), "--text", self.directory / "absent.txt", needles=["absent.txt"])
        self.refused("eval", support.tiny_model(), "--text", self.directory, needles=[self.directory])

    def test_a_model_beside_itself_and_beside_its_quantised_form(self):
        text = "\n".join(self.stories)
        plain = self.evaluate(text)
        same = self.evaluate(text, "--kl-against", support.tiny_model())
        self.assertEqual(set(same) - set(plain), {"against"})
        self.assertEqual(same["against"]["kl_per_token"], 0)
        self.assertEqual(same["against"]["top1_agreement"], 1)
        self.assertAlmostEqual(same["bits_per_byte"], plain["bits_per_byte"], places=5)
        self.assertEqual(same["against"]["bits_per_byte"], same["bits_per_byte"])
        last = 0
        for quant in ("int8", "int4"):
            found = self.evaluate(text, "--quant", quant, "--kl-against", support.tiny_model())
            self.assertEqual(found["against"]["bits_per_byte"], same["bits_per_byte"])
            self.assertGreater(found["against"]["kl_per_token"], 3 * last)
            self.assertLess(found["against"]["top1_agreement"], 1)
            self.assertEqual(self.evaluate(text, "--quant", quant, "--kl-against", support.tiny_model(), threads=2)["against"],
                             found["against"])
            last = found["against"]["kl_per_token"]
        turned = self.evaluate(text, "--kl-against", support.tiny_model(), "--kl-quant", "int4")
        self.assertEqual(turned["against"]["bits_per_byte"], found["bits_per_byte"])
        self.assertNotEqual(turned["against"]["kl_per_token"], found["against"]["kl_per_token"])

    def test_models_that_cannot_be_compared_are_refused(self):
        (self.directory / "a.txt").write_text("Hello world")
        base = ("eval", support.tiny_model(), "--text", self.directory / "a.txt")
        self.refused(*base, "--kl-against", "no-such-model", needles=['"no-such-model"'])
        self.refused(*base, "--kl-quant", "int8", needles=["--kl-against"])
        self.refused(*base, "--kl-against", support.tiny_model(), "--kl-quant", "int9", needles=["--kl-quant", '"int9"'])
        self.refused("eval", support.tiny_model(), "--sums", 1, "--kl-against", support.tiny_model(), needles=["--text"])
        if (support.ROOT / "models" / "demo").exists():
            self.refused(*base, "--kl-against", support.ROOT / "models" / "demo", needles=["models/demo", "vocabulary of 4096"])

    def test_a_cache_in_fp8_costs_little_and_not_nothing(self):
        text = "\n".join(self.stories)
        def against_own(precision, dtype, **others):
            found = self.evaluate(text, "--precision", precision, "--kv-cache-dtype", dtype, "--kl-against",
                                  support.tiny_model(), **others)
            return found["kv_cache_dtype"], found["against"]
        for precision, own in (("f32", "FP32"), ("bf16", "BF16")):
            with self.subTest(precision=precision):
                self.assertEqual(against_own(precision, "auto"), (own, {**against_own(precision, "auto")[1], "kl_per_token": 0}))
                name, fp8 = against_own(precision, "fp8")
                self.assertEqual(name, "FP8")
                self.assertGreater(fp8["kl_per_token"], 1e-6)
                self.assertLess(fp8["kl_per_token"], 1e-2)
                self.assertGreater(fp8["top1_agreement"], 0.95)
                self.assertEqual(against_own(precision, "fp8", threads=2)[1], fp8)
        (name, bf16), (_, fp8) = against_own("f32", "bf16"), against_own("f32", "fp8")
        self.assertEqual(name, "BF16")
        self.assertGreater(bf16["kl_per_token"], 0)
        self.assertLess(10 * bf16["kl_per_token"], fp8["kl_per_token"])  # 16 times smaller roundings, squared

    def test_the_demo_model_errs_as_documented(self):
        """docs/numerics.md has the tables. The levels' orders of sums move the KL by 0.2 %."""
        demo = support.ROOT / "models" / "demo"
        if not demo.exists():
            self.skipTest("models/demo is not part of this checkout")
        work = support.fresh_directory("demo_text")
        support.made("data", "synth", "-o", work / "synth.jsonl", "--documents", 40, "--seed", 77, "--mixture", "1,0,0,0")
        documents = [json.loads(line)["text"] for line in (work / "synth.jsonl").read_text().splitlines()]
        (work / "text.txt").write_text("\n<|endoftext|>\n".join(documents))
        for line, flags in (("int4", ("--quant", "int4")), ("cache in FP8", ("--kv-cache-dtype", "fp8"))):
            with self.subTest(line=line):
                done = support.run("eval", demo, "--text", work / "text.txt", *flags, "--kl-against", demo, "--json")
                self.assert_success(done)
                found = json.loads(done.stdout)["against"]
                documented = re.search(rf"^\| {line} \| ([0-9.]+) \| ([0-9.]+) %",
                                       (support.ROOT / "docs" / "numerics.md").read_text(), re.MULTILINE)
                self.assertAlmostEqual(found["kl_per_token"] / float(documented.group(1)), 1, delta=0.02)
                self.assertAlmostEqual(100 * found["top1_agreement"], float(documented.group(2)), delta=0.2)

    def test_wikitext_equals_an_independent_computation(self):
        """tools/reference in float64, window by window; the demo model's weights are FP8, so the codec is judged as well."""
        demo, text = support.ROOT / "models" / "demo", SHARED / "data/text/wikitext-2-raw.test.txt.xz"
        if os.environ.get("FATHOM_ALL") != "1":
            self.skipTest("long; FATHOM_ALL=1 runs it")
        if not demo.exists() or not text.exists():
            self.skipTest("models/demo or shared data text/ is absent")
        chunk = lzma.open(text).read(2500).decode()
        (self.directory / "wikitext.txt").write_text(chunk)
        reference = self.reference(demo, chunk, 256)
        self.assertGreaterEqual(len(reference["nats_of_windows"]), 3)
        done = support.run("eval", demo, "--text", self.directory / "wikitext.txt", "--window", 256, "--precision", "f32", "--json")
        self.assert_success(done)
        found = json.loads(done.stdout)
        self.assertEqual(found["tokens"], reference["tokens"])
        self.assertAlmostEqual(found["bits_per_byte"], reference["nats"] / math.log(2) / len(chunk.encode()), delta=1e-4)
        # As llama-perplexity counts, and with the products that a user gets unasked (5e-5 away when this was written).
        chunk = lzma.open(text).read(5000).decode()
        (self.directory / "wikitext.txt").write_text(chunk)
        reference = self.reference(demo, chunk, 512, "--chunks", 2)
        bits = reference["nats"] / math.log(2)
        for precision, delta in (("f32", 1e-4), ("bf16", 5e-4)):
            done = support.run("eval", demo, "--text", self.directory / "wikitext.txt", "--chunks", 2, "--precision", precision, "--json")
            self.assert_success(done)
            found = json.loads(done.stdout)
            self.assertEqual((found["tokens"], found["window"]), (reference["tokens"], 512))
            self.assertAlmostEqual(math.log2(found["perplexity"]) * found["tokens"] / found["bytes"], bits / found["bytes"], delta=delta)

    def test_ctrl_c_ends_a_long_text(self):
        (self.directory / "long.txt").write_text("\n".join(self.stories) * 200)  # one document
        process = support.start("eval", support.tiny_model(), "--text", self.directory / "long.txt", "-t", 1)
        self.assertRaises(Exception, process.wait, timeout=1.5)  # it scores for many seconds
        support.interrupt(process)
        stdout, stderr = process.communicate(timeout=20)
        self.assertEqual((process.returncode, stdout), (2, ""))
        self.check_error_line(stderr, "interrupted while scoring", "long.txt")


GSM8K = """{"question": "What is 2 + 3?", "answer": "2 + 3 = 5\\n#### 5"}
{"question": "What is 4 + 4?", "answer": "4 + 4 = 8\\n#### 8"}
{"question": "What is 1 + 6?", "answer": "1 + 6 = 7\\n#### 7"}
"""
MMLU = """{"question": "Which?", "options": ["a", "b", "c", "d"], "answer": "B", "topic": "anatomy", "id": 0}
{"question": "Which of these?", "options": ["e", "f", "g", "h"], "answer": "D", "topic": "anatomy", "id": 1}
"""
HUMANEVAL = """{"task_id": "HumanEval/0", "prompt": "def one():\\n", "canonical_solution": "    return 1\\n"}
"""


class Tasks(CommandLineCase):
    """That the harness is right is shown by tests/engine/eval_task_test.cc; here a model stands behind it."""

    def ask(self, task, records, *arguments):
        path = support.fresh_directory("task") / "records.jsonl"
        path.write_text(records)
        done = support.run("eval", support.tiny_model(), "--task", task, "--file", path, "-t", 1, "--json", *arguments)
        self.assert_success(done)
        return json.loads(done.stdout)

    def test_a_choice_is_the_likeliest_letter_as_eval_text_has_it(self):
        answers = support.fresh_directory("answers") / "answers.jsonl"
        found = self.ask("mmlu_stem", MMLU, "-o", answers)
        self.assertEqual((found["questions"], found["too_long"]), (2, 0))
        records = [json.loads(line) for line in answers.read_text().splitlines()]
        self.assertEqual(found["accuracy"], sum(r["right"] for r in records) / 2)
        prompt = ("The following are multiple choice questions (with answers) about anatomy.\n\n"
                  "Which?\nA. a\nB. b\nC. c\nD. d\nAnswer:")

        def nats(text):
            path = support.fresh_directory("text") / "text.txt"
            path.write_text(text)
            done = support.made("eval", support.tiny_model(), "--text", path, "--json", "-t", 1)
            score = json.loads(done.stdout)
            return score["bits_per_byte"] * score["bytes"] * math.log(2)

        for letter, value in zip("ABCD", records[0]["log_likelihoods"]):
            self.assertAlmostEqual(value, nats(prompt) - nats(f"{prompt} {letter}"), delta=2e-3)
        self.assertEqual(records[0]["answer"], max(zip(records[0]["log_likelihoods"], "ABCD"))[1])

    def test_numbers_and_code_are_generated(self):
        found = self.ask("gsm8k", GSM8K, "--shots", 1, "-n", 8)
        self.assertEqual((found["questions"], found["shots"]), (2, 1))
        self.assertLessEqual(found["exact_match"], found["exact_match_of_last_number"])
        self.assertEqual(self.ask("gsm8k", GSM8K, "--limit", 1, "-n", 2)["questions"], 1)
        code = support.fresh_directory("code") / "samples.jsonl"
        found = self.ask("humaneval", HUMANEVAL, "-n", 8, "--output", code)
        (record,) = [json.loads(line) for line in code.read_text().splitlines()]
        self.assertEqual(set(record), {"task_id", "completion"})
        self.assertEqual(found["equal_to_reference"], 0)

    def test_prompts_beyond_the_context_are_counted(self):
        long = json.dumps({"question": "word " * 2000, "answer": "#### 1"}) + "\n" + GSM8K
        found = self.ask("gsm8k", long, "-n", 2)
        self.assertEqual((found["questions"], found["too_long"]), (4, 1))

    def test_wrong_calls_are_refused(self):
        model = support.tiny_model()
        self.refused("eval", model, "--task", "gsm8k", needles=["--file"])
        self.refused("eval", model, "--task", "gsm8k", "--file", "x.jsonl.xz", needles=["xz -dc x.jsonl.xz"])
        self.refused("eval", model, "--task", "arc", "--file", support.ROOT / "README.md", needles=["accepted: gsm8k"])
        self.refused("eval", model, "--task", "gsm8k", "--file", support.ROOT / "README.md", needles=["README.md:1"])
        self.refused("eval", model, "--limit", 1, "--text", "x", needles=["--task"])


if __name__ == "__main__":
    unittest.main()
