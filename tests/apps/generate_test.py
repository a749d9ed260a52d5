"""fathom generate: one greedy answer whatever the threads, chunks and kernels; seeds, stops and limits."""

import unittest

import support
from support import CommandLineCase

# Longer than a page of the cache (64 tokens) and than the chunks below.
PROMPT = "Once upon a time there was a little cat called Tom. Tom liked to play in the garden with his friend Anna. " * 2
GREEDY = ("-p", PROMPT, "-n", "48", "--temperature", "0")


def answer(result):
    return result["text"], result["tokens"], result["finish_reason"]


class Determinism(CommandLineCase):
    def test_threads_chunks_and_kernels_do_not_change_a_greedy_answer(self):
        model = support.endless_model("f32")
        expected = self.generate_json(model, *GREEDY, "-t", 1)
        self.assertGreater(expected["prompt_tokens"], 64)
        self.assertEqual(expected["completion_tokens"], 48)
        variants = [("-t", threads) for threads in (2, 3)]
        variants += [("-t", 1, "--prompt-chunk", chunk) for chunk in (1, 7, 64)]
        variants += [("-t", 1, "--kernels", kernels) for kernels in self.available_kernels()]
        for variant in variants:
            with self.subTest(variant=variant):
                self.assertEqual(answer(self.generate_json(model, *GREEDY, *variant)), answer(expected))

    def test_the_environment_chooses_kernels_like_the_flag(self):
        model = support.endless_model("f32")
        expected = answer(self.generate_json(model, *GREEDY, "-t", 1))
        for kernels in self.available_kernels():
            with self.subTest(kernels=kernels):
                env = support.environment(FATHOM_KERNELS=kernels)
                self.assertEqual(answer(self.generate_json(model, *GREEDY, "-t", 1, env=env)), expected)

    def test_threads_chunks_and_guesses_do_not_change_an_answer_in_bf16_and_fp8(self):
        for export_format, precision, cache in (("bf16", "bf16", "auto"), ("fp8", "bf16", "auto"), ("fp8", "fp8", "auto"),
                                                ("bf16", "bf16", "fp8")):
            model = support.endless_model(export_format)
            flags = (*GREEDY, "--precision", precision, "--kv-cache-dtype", cache)
            expected = answer(self.generate_json(model, *flags, "-t", 1))
            for variant in (("-t", 2), ("-t", 1, "--prompt-chunk", 7), ("-t", 1, "--speculate", "mtp", "--always-draft")):
                with self.subTest(format=export_format, precision=precision, cache=cache, variant=variant):
                    self.assertEqual(answer(self.generate_json(model, *flags, *variant)), expected)

    def test_naive_attention_gives_the_same_answer(self):
        model = support.endless_model("f32")
        absorbed, naive = (self.generate_json(model, *GREEDY, "-t", 1, "--mla", form) for form in ("absorbed", "naive"))
        self.assertEqual(answer(absorbed), answer(naive))

    def test_a_seed_repeats_an_answer_and_another_seed_does_not(self):
        model = support.endless_model("f32")
        sampled = ("-p", PROMPT, "-n", "32", "--temperature", "1.5", "-t", 1, "--seed")
        answers = {seed: answer(self.generate_json(model, *sampled, seed)) for seed in (1, 2, 3)}
        for seed, expected in answers.items():
            self.assertEqual(answer(self.generate_json(model, *sampled, seed)), expected)
        self.assertEqual(len({text for text, _, _ in answers.values()}), 3)


class Output(CommandLineCase):
    def test_the_streamed_text_is_the_text_of_the_json(self):
        model = support.endless_model("f32")
        streamed = support.run("generate", model, *GREEDY, "-t", 1)
        self.assert_success(streamed)
        self.assertEqual(streamed.stderr, "")
        self.assertEqual(streamed.stdout, self.generate_json(model, *GREEDY, "-t", 1)["text"] + "\n")

    def test_the_tokens_decode_to_the_text(self):
        model = support.endless_model("f32")
        result = self.generate_json(model, *GREEDY, "-t", 1)
        self.assertEqual(len(result["tokens"]), result["completion_tokens"])
        ids = " ".join(str(token) for token in result["tokens"] if token >= 5)  # without the special tokens
        self.assertEqual(support.made("tokenizer", "decode", model, ids).stdout, result["text"] + "\n")

    def test_max_tokens_ends_with_length(self):
        for limit in (1, 5):
            result = self.generate_json(support.endless_model("f32"), "-p", PROMPT, "-n", limit, "--temp", 0, "-t", 1)
            self.assertEqual((result["completion_tokens"], result["finish_reason"]), (limit, "length"))

    def test_a_stop_string_ends_before_it(self):
        model = support.endless_model("f32")
        text = self.generate_json(model, *GREEDY, "-t", 1)["text"]
        self.assertGreater(len(text), 40)
        for stop in (text[10:13], text[0], text[20:21]):
            with self.subTest(stop=stop):
                result = self.generate_json(model, *GREEDY, "-t", 1, "--stop", "never seen", "--stop", stop)
                self.assertEqual(result["text"], text[: text.index(stop)])
                self.assertEqual(result["finish_reason"], "stop")

    def test_the_end_of_the_context_ends_an_answer(self):
        model = support.endless_model("f32")
        prompt_tokens = self.generate_json(model, *GREEDY, "-t", 1)["prompt_tokens"]
        result = self.generate_json(model, *GREEDY, "-t", 1, "-c", prompt_tokens + 10)
        self.assertEqual((result["completion_tokens"], result["finish_reason"]), (10, "context"))

    def test_a_prompt_file_is_the_prompt(self):
        path = support.fresh_directory() / "prompt.txt"
        path.write_text(PROMPT)
        model = support.endless_model("f32")
        from_file = self.generate_json(model, "--file", path, "-n", 8, "--temp", 0, "-t", 1)
        self.assertEqual(answer(from_file), answer(self.generate_json(model, "-p", PROMPT, "-n", 8, "--temp", 0, "-t", 1)))

    def test_the_end_token_ends_an_answer(self):
        model = support.copy_of_model()
        tokens = self.generate_json(support.endless_model("f32"), *GREEDY, "-t", 1)["tokens"]
        support.edit_json(model / "generation_config.json", eos_token_id=[tokens[5], 2])
        result = self.generate_json(model, *GREEDY, "-t", 1)
        self.assertEqual(result["finish_reason"], "stop")
        self.assertEqual(result["tokens"], tokens[: tokens.index(tokens[5]) + 1])

    def test_one_new_token_is_the_first_of_many(self):
        model = support.endless_model("f32")
        many = self.generate_json(model, *GREEDY, "-t", 1)["tokens"]
        self.assertEqual(self.generate_json(model, "-p", PROMPT, "-n", 1, "--temp", 0, "-t", 1)["tokens"], many[:1])


class Speculation(CommandLineCase):
    def test_guesses_do_not_change_an_answer(self):
        model = support.endless_model("f32")
        for sampling in (("--temperature", 0), ("--temperature", 0.3, "--seed", 4)):
            arguments = ("-p", PROMPT, "-n", 40, "-t", 1, *sampling)
            expected = self.generate_json(model, *arguments)
            self.assertNotIn("speculation", expected)
            for kind, draft in (("mtp", 1), ("mtp", 3), ("lookup", 4)):
                with self.subTest(sampling=sampling, kind=kind, draft=draft):
                    result = self.generate_json(model, *arguments, "--speculate", kind, "--draft-tokens", draft, "--always-draft")
                    self.assertEqual(answer(result), answer(expected))
                    counts = result["speculation"]
                    self.assertEqual(counts["kind"], kind)
                    self.assertGreater(counts["accepted"], 0)
                    self.assertEqual(sum(counts["proposed_by_position"]), counts["proposed"])
                    self.assertEqual(sum(counts["accepted_by_position"]), counts["accepted"])
                    self.assertLessEqual(len(counts["proposed_by_position"]), draft)
                    # Steps that draft bring one token and the right guesses; the first token comes from the prompt.
                    self.assertLessEqual(counts["steps"] + counts["accepted"], 39)
                    adaptive = self.generate_json(model, *arguments, "--speculate", kind)
                    self.assertEqual(answer(adaptive), answer(expected))

    def test_what_a_stop_string_cuts_off_is_not_counted(self):
        model = support.endless_model("f32")
        text = self.generate_json(model, *GREEDY, "-t", 1)["text"]
        for stop in (text[10:13], text[20:21]):
            expected = self.generate_json(model, *GREEDY, "-t", 1, "--stop", stop)
            guessed = self.generate_json(model, *GREEDY, "-t", 1, "--stop", stop, "--speculate", "mtp", "--draft-tokens", 4,
                                         "--always-draft")
            self.assertEqual(answer(guessed), answer(expected))
            self.assertEqual(guessed["completion_tokens"], expected["completion_tokens"])

    def test_the_share_of_right_guesses_is_said_on_standard_error(self):
        # Without a guess it says why, where waiting is why.
        for flags, ending in (((), r"; the first is tried after 56 tokens, .* --always-draft guesses at once\n"), (("--always-draft",), r"\n")):
            done = support.run("generate", support.endless_model("f32"), "-p", "a", "-n", 2, "-t", 1, "--speculate", "lookup", *flags)
            self.assertRegex(done.stderr, r"^speculation lookup: no guesses" + ending + "$")
        done = support.run("generate", support.endless_model("f32"), *GREEDY, "-t", 1, "--speculate", "mtp", "--always-draft")
        self.assert_success(done)
        self.assertRegex(done.stderr, r"^speculation mtp: \d+ of \d+ guesses right \(\d+\.\d %\), \d\.\d\d tokens in each of \d+ drafted steps\n"
                         r"\d+\.\d tokens/s; a drafted step beside a plain one: \d\.\d\d by bytes: \d\.\d\d tokens / "
                         r"\(1 \+ \d\.\d\d to guess \+ \d\.\d\d for experts\)\n$")

    def test_what_cannot_be_is_refused(self):
        model = support.tiny_model()
        self.refused("generate", model, "-p", "a", "--speculate", "eagle", needles=["eagle", "none, mtp, lookup"])
        self.refused("generate", model, "-p", "a", "--draft-tokens", 2, needles=["--draft-tokens", "--speculate"])
        self.refused("generate", model, "-p", "a", "--speculate", "lookup", "--draft-tokens", 17, needles=["--draft-tokens", "17"])
        without = support.copy_of_model()
        support.edit_json(without / "config.json", num_nextn_predict_layers=0)
        self.refused("generate", without, "-p", "a", "--speculate", "mtp", needles=[without, "MTP module"])


class Refusals(CommandLineCase):
    def test_an_empty_prompt(self):
        path = support.fresh_directory() / "empty.txt"
        path.write_text("")
        for arguments in ((), ("-p", ""), ("-f", path)):
            with self.subTest(arguments=arguments):
                self.refused("generate", support.tiny_model(), *arguments, needles=["the prompt is empty"])

    def test_two_prompts(self):
        self.refused("generate", support.tiny_model(), "-p", "a", "-f", "b.txt", needles=["--prompt", "--file"])

    def test_a_prompt_that_is_not_utf8(self):
        path = support.fresh_directory() / "latin1.txt"
        path.write_bytes(b"caf\xe9 au lait")
        self.refused("generate", support.tiny_model(), "-f", path, needles=[path, "UTF-8", "offset 3"])
        done = support.run("generate", support.tiny_model(), "-p", b"caf\xe9".decode(errors="surrogateescape"))
        self.assert_refused(done, "the prompt", "UTF-8", "offset 3")

    def test_a_prompt_longer_than_the_context(self):
        self.refused("generate", support.tiny_model(), "-p", PROMPT * 20, needles=["the prompt has", "512"])
        self.refused("generate", support.tiny_model(), "-p", PROMPT, "-c", 20, needles=["the prompt has", "20"])

    def test_a_missing_prompt_file(self):
        self.refused("generate", support.tiny_model(), "-f", "/no/such/file", needles=["/no/such/file"])


if __name__ == "__main__":
    unittest.main()
