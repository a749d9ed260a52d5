"""fathom bench: it measures what it says, and refuses what it cannot measure. No test asserts how fast anything is."""

import json
import unittest

import support
from support import CommandLineCase

SMALL = ("--prompt", 20, "--decode", 4, "--batch", 2, "--repeat", 2, "-t", 1, "--read-mib", 8)


class Bench(CommandLineCase):
    def bench_json(self, *arguments):
        done = support.run("bench", *arguments, "--json")
        self.assert_success(done)
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout)

    def test_lines_of_every_asked_kind(self):
        found = self.bench_json(support.tiny_model(), "--prompt", "20,7", "--decode", 4, "--batch", "1,3", "--depth", "0,70",
                                "--threads", "1,2", "--repeat", 2, "--read-mib", 8)
        self.assertEqual((found["precision"], found["repeat"]), ("f32", 2))
        work = [tuple(line[key] for key in ("work", "threads", "batch", "depth", "tokens")) for line in found["lines"]]
        one = [("prefill", 1, 0, 20), ("prefill", 1, 0, 7), ("decode", 1, 0, 4), ("decode", 1, 70, 4), ("decode", 3, 0, 4),
               ("decode", 3, 70, 4)]
        self.assertEqual(work, [(kind, threads, *rest) for threads in (1, 2) for kind, *rest in one])
        for line in found["lines"]:
            with self.subTest(line=line):
                self.assertGreater(line["lowest"], 0)
                self.assertLessEqual(line["lowest"], line["tokens_per_s"])
                self.assertLessEqual(line["tokens_per_s"], line["highest"])
                self.assertEqual(line["unit"], "GFLOP/s" if line["work"] == "prefill" else "GB/s")
                self.assertAlmostEqual(line["share"], line["reached"] / line["limit"])
        self.assertEqual([limits["threads"] for limits in found["limits"]], [1, 2])

    def test_shares_are_of_the_limits_of_the_same_run(self):
        """What a line reached is the model's own arithmetic times the speed; the limit is the larger measurement."""
        found = self.bench_json(support.tiny_model(), *SMALL)
        limits = found["limits"][0]
        parameters = json.loads(support.made("inspect", support.tiny_model(), "--json").stdout)["parameters"]
        self.assertEqual(found["active_parameters"], parameters["active"])
        head = parameters["active"] - parameters["active_without_head"]
        config = json.loads((support.tiny_model() / "config.json").read_text())
        expert = 3 * config["moe_intermediate_size"] * config["hidden_size"]
        heads, hidden, rank = config["num_attention_heads"], config["hidden_size"], config.get("q_lora_rank")
        query = heads * (config["qk_nope_head_dim"] + config["qk_rope_head_dim"])
        asking = rank * (hidden + query) if rank else hidden * query
        # The last layer's, but for latents and what kv_b makes of them.
        last_layer = (asking + heads * config["v_head_dim"] * hidden + config["n_routed_experts"] * hidden +
                      (config["n_shared_experts"] + config["num_experts_per_tok"]) * expert)
        for line in found["lines"]:
            key = "f32_ops_per_s" if line["work"] == "prefill" else "read_bytes_per_s"
            self.assertAlmostEqual(line["limit"] * 1e9 / max(limits[key]["before"], limits[key]["after"]), 1)
            if line["work"] == "prefill":
                operations = 2 * (20 * parameters["active_without_head"] - 19 * last_layer + head)
                self.assertAlmostEqual(line["reached"] * 1e9 / (operations * line["tokens_per_s"] / 20), 1)
            else:  # two sequences touch more experts than one, but do not read the other weights twice
                bytes_per_token = line["reached"] * 1e9 / line["tokens_per_s"]
                self.assertLess(bytes_per_token, found["decode_bytes_per_token"])
                self.assertGreater(bytes_per_token, found["decode_bytes_per_token"] / 2)

    def test_every_sequence_decodes_in_every_step(self):
        """Where fewer fitted the cache, or the ends of the prompts a step, half of a batch was measured; the program checks it now."""
        for arguments in (("--batch", "16,40"), ("--batch", 16, "--prompt-chunk", 16)):
            with self.subTest(arguments=arguments):
                found = self.bench_json(support.tiny_model(), "--only", "decode", "--decode", 6, "--depth", "4,64,120", *arguments,
                                        "--repeat", 1, "-t", 1, "--read-mib", 8)
                self.assertEqual({line["depth"] for line in found["lines"]}, {4, 64, 120})

    def test_the_table(self):
        text = support.made("bench", support.tiny_model(), *SMALL).stdout
        lines = text.splitlines()
        self.assertRegex(lines[0], r"^\S+tiny_model_f32: \w+ on .*, f32, .* active parameters, medians of 2$")
        self.assertRegex(lines[2], r"^limits \(before, after\) .*read GB/s")
        self.assertRegex(text, r"(?m)^prefill +1 +1 +0 +20 +[\d.]+ +[\d.]+ % +[\d.]+ +[\d.]+  GFLOP/s +\d+ %$")
        self.assertRegex(text, r"(?m)^decode +1 +2 +0 +4 +[\d.]+ +[\d.]+ % +[\d.]+ +[\d.]+ +GB/s +\d+ %$")

    def test_only_one_kind(self):
        for kind in ("prefill", "decode"):
            found = self.bench_json(support.tiny_model(), *SMALL, "--only", kind)
            self.assertEqual({line["work"] for line in found["lines"]}, {kind})

    def test_the_circumstances_are_in_the_report(self):
        found = self.bench_json(support.tiny_model(), *SMALL, "--quant", "int8", "--only", "prefill")
        self.assertEqual((found["quant"], found["in_place"], found["max_memory"]), ("int8", False, None))
        self.assertEqual(found["lines"][0]["unit"], "GOP/s")
        text = support.made("bench", support.tiny_model(), *SMALL, "--only", "prefill", "--in-place").stdout
        self.assertRegex(text.splitlines()[0], r", f32, weights as stored, in place, cache \w+, ")

    def test_several_weights_in_one_run(self):
        arguments = (*SMALL, "--also-quant", "int8", "--also-quant", "int8,experts=int4")
        found = self.bench_json(support.tiny_model(), *arguments)
        weights = ["as stored", "int8", "int8,experts=int4"]
        self.assertEqual((found["quant"], found["also_quant"]), (weights[0], weights[1:]))
        self.assertEqual([line.get("weights") for line in found["lines"]],
                         [w for w in (None, *weights[1:]) for _ in range(len(found["lines"]) // 3)])
        bytes_read = [line["reached"] / line["tokens_per_s"] * line["batch"] for line in found["lines"] if line["work"] == "decode"]
        self.assertEqual(len(set(bytes_read)), len(bytes_read), "each with its own bytes")
        text = support.made("bench", support.tiny_model(), *arguments, "--only", "prefill").stdout
        self.assertIn(", weights as stored and int8 and int8,experts=int4, cache ", text.splitlines()[0])
        self.assertRegex(text, r"(?m)^prefill int8,experts=int4 +1 +1 +0 +20 +[\d.]+ .* GOP/s ")
        # Beside an earlier report that has the second weights alone, and a plain one, that of the first.
        path = support.fresh_directory("several") / "old.json"
        path.write_text(json.dumps({**found, "lines": [line for line in found["lines"] if line.get("weights") == "int8"]}))
        compared = self.bench_json(support.tiny_model(), *arguments, "--compare", path)["compare"]
        self.assertEqual([line["line"] for line in compared if line["ratio"]],
                         [line["line"] for line in compared if line["line"].endswith(", int8")])
        for quant, needles in (("int9", ["--also-quant", "int9", "accepted"]), ("none", ["none", "already"]),
                               ("experts.99=int8", ["--also-quant", "experts.99", "layers 0 to"])):
            self.refused("bench", support.tiny_model(), *SMALL, "--also-quant", quant, needles=needles)
        self.refused("bench", support.tiny_model(), *SMALL, "--also-quant", "int8", "--in-place", needles=["--in-place"])

    def test_the_kernels_that_are_forced(self):
        found = self.bench_json(support.tiny_model(), *SMALL, "--kernels", "generic", "--only", "prefill")
        self.assertEqual((found["kernels"], found["limits"][0]["level"]), ("generic", "generic"))

    def test_comparison(self):
        """Against reports whose figures make every ratio tiny or huge, whatever the machine does."""
        model = support.tiny_model()
        report = self.bench_json(model, *SMALL)
        path = support.fresh_directory() / "old.json"

        def compare_with(factor, *arguments, keep=2):
            old = json.loads(json.dumps(report))
            old["lines"] = old["lines"][:keep]
            old.update(kernels="abacus", quant="int8", in_place=True, max_memory="1GB", kv_cache_dtype="fp8")
            for line in old["lines"]:
                line["tokens_per_s"] *= factor
            path.write_text(json.dumps(old))
            return support.run("bench", model, *SMALL, "--compare", path, *arguments)

        done = compare_with(1e9, keep=1)
        self.assert_success(done)
        self.assertRegex(done.stdout, r'(?m)^  another kernels "abacus", now "\w+"$')
        self.assertIn('  another quant "int8", now "as stored"\n  another in_place true, now false\n'
                      '  another max_memory "1GB", now null\n  another kv_cache_dtype "fp8", now "', done.stdout)
        self.assertRegex(done.stdout, r"(?m)^prefill +1 +1 +0 +20 +[\d.]+ +[\d.]+ +0\.000$")
        self.assertRegex(done.stdout, r"(?m)^decode +1 +2 +0 +4 +- +[\d.]+ +-$")
        done = compare_with(1e9, "--fail-below", 0.5)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.splitlines(),
                         ["fathom: below --fail-below: prefill, 1 thread, batch 1, depth 0, 20 tokens",
                          "fathom: below --fail-below: decode, 1 thread, batch 2, depth 0, 4 tokens"])
        done = compare_with(1e-9, "--fail-below", 0.5, "--json")
        self.assert_success(done)
        self.assertEqual([d.split()[0] for d in json.loads(done.stdout)["compare_differences"]],
                         ["kernels", "quant", "in_place", "max_memory", "kv_cache_dtype"])
        comparison = json.loads(done.stdout)["compare"]
        self.assertEqual([line["line"].split(",")[0] for line in comparison], ["prefill", "decode"])
        for line in comparison:
            self.assertAlmostEqual(line["ratio"] / (line["new_tokens_per_s"] / line["old_tokens_per_s"]), 1)

    def test_reports_that_are_none_are_refused(self):
        path = support.fresh_directory() / "old.json"
        line = {"work": "decode", "threads": 1, "batch": 1, "depth": 0, "tokens": 4, "tokens_per_s": 1, "lowest": 1, "highest": 1,
                "reached": 1, "limit": 1, "unit": "GB/s"}
        for text, needle in (("", "old.json"), ("{", "old.json"), ("{}", "lines"), ('{"lines": [{}]}', "work"),
                             (json.dumps({"lines": [{**line, "tokens_per_s": "fast"}]}), "tokens_per_s"),
                             (json.dumps({"lines": [line, line]}), "twice"), (json.dumps({"lines": [line]}), "none of the lines")):
            with self.subTest(text=text):
                path.write_text(text)
                self.refused("bench", support.tiny_model(), *SMALL, "--compare", path, needles=[needle])
        self.refused("bench", support.tiny_model(), *SMALL, "--compare", path.parent / "absent.json", needles=["absent.json"])

    def test_training(self):
        found = self.bench_json("--train", "pico", "--repeat", 1, "-t", 1, "--precision", "f32")
        self.assertEqual((found["preset"], found["precision"], found["threads"]), ("pico", "f32", 1))
        self.assertGreater(found["train_tokens_per_second"], 0)

    def test_what_cannot_be_measured_is_refused(self):
        model = support.tiny_model()
        short = (model, "--prompt", 20)
        train = ("--train", "pico")
        for arguments, needle in (((), "MODEL"), ((model, "--prompt", 0), "--prompt"), ((model, "--prompt", 1000), "512"),
                                  ((model, "--prompt", 9223372036854775806), "--prompt"), ((*short, "--decode", 0), "--decode"),
                                  ((*short, "--decode", 2147483647), "512"), ((*short, "--repeat", 0), "--repeat"),
                                  ((model, *train), "--train"), (("--train", "micro"), "micro"),
                                  ((*train, "--precision", "fp8"), "fp8"), ((*train, "--prompt", 3), "--prompt"),
                                  ((*train, "--threads", "1,2"), "--threads"), ((*train, "--batch", 3), "--batch"),
                                  ((*short, "--batch", "1,,2"), "--batch"), ((*short, "--batch", "1,"), "--batch"),
                                  ((*short, "--batch", "1,x"), '"x"'), ((*short, "--batch", "0"), "--batch"),
                                  ((*short, "--batch", ",".join("1" * 70)), "64"), ((*short, "--batch", "4,4"), "twice"),
                                  ((*short, "--batch", 600), "--prompt-chunk"), ((*short, "--depth", 510), "--depth"),
                                  ((*short, "--depth", -1), "--depth"), ((*short, "--threads", "1,1"), "twice"),
                                  ((*short, "--only", "both"), "--only"), ((*short, "--fail-below", 0.5), "--compare"),
                                  ((*short, "--read-mib", 1 << 20), "--read-mib"), ((*short, "--read-mib", -1), "--read-mib"),
                                  ((*short, "--compare", "old.json", "--fail-below", "x"), "--fail-below")):
            with self.subTest(arguments=arguments):
                self.refused("bench", *arguments, needles=[needle])


if __name__ == "__main__":
    unittest.main()
