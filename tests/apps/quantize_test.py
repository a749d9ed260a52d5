"""fathom quantize: what it writes gives the answers of --quant at load, chosen formats keep their promise, refusals."""

import json
import os
import resource
import shutil
import signal
import subprocess
import unittest

import support
from support import CommandLineCase


class Quantize(CommandLineCase):
    def setUp(self):
        self.work = support.fresh_directory("quantize")
        self.model = support.tiny_model("bf16")
        self.text = self.work / "text.txt"
        documents = [json.loads(line) for line in (support.tiny_data() / "synth.jsonl").read_text().splitlines()]
        self.text.write_text("\n<|endoftext|>\n".join(d["text"] for d in documents if "text" in d)[:3000])

    def quantize(self, out, *arguments, model=None):
        done = support.run("quantize", model or self.model, self.work / out, "--json", "-t", 1, *arguments)
        self.assert_success(done)
        return json.loads(done.stdout)

    def score(self, model, *arguments):
        done = support.run("eval", model, "--text", self.text, "--json", "-t", 1, *arguments)
        self.assert_success(done)
        return json.loads(done.stdout)

    def test_it_gives_what_quantising_at_load_gives(self):
        for quant in ("int8", "int4", "mxfp4,attention=iq4_nl", "fp8",
                      "int4,experts.down=int8,experts.1.up=mxfp4,attention.o=fp8"):
            with self.subTest(quant=quant):
                found = self.quantize(quant, "--quant", quant)
                self.assertEqual(found["resumed_tensors"], 0)
                scored = self.score(self.work / quant, "--kl-against", self.model, "--kl-quant", quant)
                self.assertEqual(scored["against"]["kl_per_token"], 0)
                self.assertEqual(scored["against"]["logits_relative_l2"], 0)
                arguments = ("-p", "Once upon a time", "-n", 20, "--temp", 0, "-t", 1)
                self.assertEqual(support.made("generate", self.work / quant, *arguments).stdout,
                                 support.made("generate", self.model, "--quant", quant, *arguments).stdout)

    def test_a_second_rounding_is_told(self):
        self.quantize("eight", "--quant", "int8")
        for quant, twice in (("int4", True), ("int8", False), ("bf16", False)):
            done = support.run("generate", self.work / "eight", "--quant", quant, "-p", "a", "-n", 1, "-t", 1)
            self.assert_success(done)
            self.assertEqual("quantised already a second time" in done.stderr, twice, quant)

    def test_inspect_knows_what_was_written(self):
        self.quantize("q", "--quant", "int8,experts=int4")
        found = json.loads(support.made("inspect", self.work / "q", "--json").stdout)
        for what in ("missing_tensors", "unexpected_tensors", "wrong_tensors"):
            self.assertEqual(found[what], [])
        header, data = support.read_safetensors(self.work / "q" / "model.safetensors")
        self.assertEqual(found["weight_bytes"], len(data))
        self.assertEqual(header["model.layers.1.mlp.experts.0.up_proj.weight"]["dtype"], "U8")
        self.assertEqual(found["config"]["quantization_config"]["formats"]["experts"], "int4")

    def test_a_target_is_kept_and_what_was_chosen_is_told(self):
        smallest = self.quantize("small", "--quant", "mxfp4,head=mxfp4")["bytes"]
        target = smallest + 12000
        found = self.quantize("target", "--target-bytes", target, "--calibration", self.text)
        self.assertLessEqual(found["bytes"], target)
        self.assertGreater(found["bytes"], smallest)
        self.assertEqual(found["bytes"], found["choice"]["bytes"])
        self.assertGreater(found["choice"]["kl_per_token"], 0)
        self.assertGreater(found["choice"]["predicted_kl_per_token"], 0)
        formats = {row["format"] for row in found["choice"]["groups"]}
        self.assertGreater(len(formats), 1)
        # It is a policy like any other, and its KL is what eval finds.
        scored = self.score(self.work / "target", "--kl-against", self.model, "--kl-quant", found["quant"],
                            "--precision", "bf16")
        self.assertEqual(scored["against"]["kl_per_token"], 0)
        scored = self.score(self.work / "target", "--kl-against", self.model, "--precision", "bf16")
        self.assertAlmostEqual(scored["against"]["kl_per_token"], found["choice"]["kl_per_token"], places=12)
        # More bytes, less error.
        more = self.quantize("more", "--target-bytes", target + 30000, "--calibration", self.text)
        error = lambda result: sum(row["error"] for row in result["choice"]["groups"])
        self.assertLess(error(more), error(found))
        done = support.run("quantize", self.model, self.work / "table", "--target-bytes", target, "-t", 1)
        self.assert_success(done)
        self.assertRegex(done.stdout, r"\Aclass +matrix +layers +format +size")

    def test_a_bound_on_the_kl_is_kept(self):
        coarse = self.quantize("coarse", "--max-kl", 1000, "--calibration", self.text)
        bound = coarse["choice"]["kl_per_token"] / 20
        found = self.quantize("fine", "--max-kl", bound, "--calibration", self.text)
        self.assertLessEqual(found["choice"]["kl_per_token"], bound)
        self.assertGreater(found["bytes"], coarse["bytes"])
        self.refused("quantize", self.model, self.work / "none", "--max-kl", bound / 1e6, "--calibration", self.text,
                     "--target-bytes", coarse["bytes"], "-t", 1, needles=["no choice of formats", "the closest has"])
        self.assertFalse((self.work / "none").exists())

    def test_a_full_disk_is_one_line_and_nothing_half_written(self):
        out = self.work / "full"
        done = subprocess.run([support.BINARY, "quantize", str(self.model), str(out), "--quant", "int4", "-t", "1"],
                              capture_output=True, text=True, env=support.environment(), timeout=support.TIMEOUT_S,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)))
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.check_error_line(done.stderr, "model.safetensors", "File too large")
        self.assertEqual(os.listdir(self.work), ["text.txt"])

    def test_a_killed_run_goes_on(self):
        arguments = ("--quant", "int4", "--max-shard-bytes", "3KB")
        whole = self.quantize("whole", *arguments)
        out, partial = self.work / "killed", self.work / "killed.partial"
        for _ in range(20):  # it may be quicker than we are
            shutil.rmtree(out, ignore_errors=True)
            process = subprocess.Popen([support.BINARY, "quantize", str(self.model), str(out), *arguments, "-t", "1"],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       env=support.environment())
            while process.poll() is None and len(list(partial.glob("*.safetensors"))) < 3:
                pass
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=support.TIMEOUT_S)
            if not out.exists():
                break
        self.assertFalse(out.exists(), "twenty runs ended before they were killed")
        found = self.quantize("killed", *arguments)
        self.assertGreaterEqual(found["resumed_tensors"], 3)
        self.assertEqual(found["bytes"], whole["bytes"])
        self.assertEqual(sorted(os.listdir(out)), sorted(os.listdir(self.work / "whole")))
        for path in (self.work / "whole").iterdir():
            self.assertEqual(path.read_bytes(), (out / path.name).read_bytes(), path.name)

    def test_what_cannot_be_is_refused(self):
        out = self.work / "out"
        refuse = lambda *arguments, needles: self.refused("quantize", *arguments, needles=needles)
        refuse(self.model, out, needles=["--quant", "--target-bytes", "--max-kl"])
        refuse(self.model, out, "--quant", "int8", "--target-bytes", "1MB", needles=["either --quant"])
        refuse(self.model, out, "--quant", "int9", needles=["--quant", '"int9"', "accepted"])
        refuse(self.model, out, "--quant", "router=int8", needles=["--quant", '"router"', "accepted"])
        refuse(self.model, out, "--quant", "int8,experts.77=int4", needles=["experts.77", "layers 0 to"])
        refuse(self.model, out, "--quant", "none", needles=["changes no tensor"])
        refuse(self.model, out, "--target-bytes", "much", needles=["--target-bytes", '"much"', "accepted"])
        refuse(self.model, out, "--target-bytes", "1XB", needles=["--target-bytes", "accepted"])
        refuse(self.model, out, "--target-bytes", "-5", needles=["--target-bytes"])
        refuse(self.model, out, "--target-bytes", "1000", needles=["--target-bytes", "smallest formats"])
        refuse(self.model, out, "--max-kl", "0.1", needles=["--max-kl needs --calibration"])
        refuse(self.model, out, "--quant", "int8", "--calibration", self.text, needles=["--calibration needs"])
        (self.work / "empty.txt").write_text("")
        refuse(self.model, out, "--max-kl", "0.1", "--calibration", self.work / "empty.txt", needles=["empty.txt", "no text"])
        refuse(self.model, self.model / "out", "--quant", "int8", needles=["lies inside"])
        refuse(self.model, self.work, "--quant", "int8", needles=[self.work, "exists"])
        self.refused("generate", self.model, "-p", "a", "--quant", "experts.77=int4", needles=["experts.77", "layers 0 to"])
        (self.work / "a.gguf").write_bytes(b"GGUF")
        refuse(self.work / "a.gguf", out, "--quant", "int8", needles=["a.gguf is a GGUF file"])
        os.remove(self.work / "a.gguf")
        refuse("no-such-model", out, "--quant", "int8", needles=['"no-such-model"'])
        self.quantize("once", "--quant", "int8")
        refuse(self.work / "once", out, "--quant", "int4", needles=["once", "is quantised already"])
        self.assertEqual(sorted(os.listdir(self.work)), ["empty.txt", "once", "text.txt"])


if __name__ == "__main__":
    unittest.main()
