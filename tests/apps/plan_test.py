"""fathom plan: published figures, fabrics, pipelines and models, as text and as JSON, and what is refused."""

import json
import unittest
import xml.dom.minidom

import support
from support import CommandLineCase

V3 = support.ROOT / "tests" / "model" / "configs" / "deepseek-v3.json"


def settings(*pairs):
    return [argument for pair in pairs for argument in ("--set", pair)]


class Plan(CommandLineCase):
    def plan_json(self, *arguments):
        done = support.run("plan", *arguments, "--json")
        self.assert_success(done)
        return json.loads(done.stdout)

    def figures(self, *arguments):
        return {figure["name"]: figure for group in self.plan_json(*arguments).values() for figure in group}

    def test_every_published_figure_holds_in_json_and_in_text(self):
        figures = self.plan_json("--paper")
        self.assertGreater(len(figures), 70)
        for figure in figures:
            with self.subTest(figure=figure["name"]):
                self.assertTrue(figure["holds"])
                self.assertTrue(figure["source"] and figure["formula"])
        done = support.run("plan", "--paper")
        self.assert_success(done)
        self.assertIn(f"{len(figures)} of {len(figures)} within their tolerance", done.stdout)
        self.assertIn("70,272", done.stdout)

    def test_a_config_alone_has_parameters_cache_and_flops(self):
        found = self.figures(V3, "--hardware", "h800")
        self.assertEqual(found["KV cache per token"]["value"], 70272)
        self.assertAlmostEqual(found["training FLOPs per token, causal"]["value"], 250.4, places=1)
        self.assertNotIn("TPOT at least", found)

    def test_settings_come_from_a_file_and_from_flags(self):
        directory = support.fresh_directory("plan")
        (directory / "plan.toml").write_text("[serving]\ngpus = 144\nredundant_experts = 32\nbatch = 32\n")
        found = self.figures(V3, "--hardware", "h800", "--config", directory / "plan.toml")
        wide = self.figures(V3, "--hardware", "h800", "--config", directory / "plan.toml",
                            *settings("hardware.nic_effective_gbps=80", "serving.batch=64"))
        self.assertAlmostEqual(found["step bound by network"]["value"], wide["step bound by network"]["value"])
        self.assertGreater(wide["step bound by memory"]["value"], found["step bound by memory"]["value"])

    def test_a_model_directory_works_as_its_config(self):
        done = support.run("plan", support.tiny_model(), "--hardware", "h200", *settings("serving.gpus=4"))
        self.assert_success(done)
        self.assertIn("TPOT at least", done.stdout)

    def test_the_pipeline_as_text_and_as_a_picture(self):
        directory = support.fresh_directory("timeline")
        arguments = settings("training.pipeline=4", "training.schedule=dualpipe", "training.micro_batches=10")
        done = support.run("plan", "--timeline", "--svg", directory / "pipeline.svg", *arguments)
        self.assert_success(done)
        self.assertEqual(len(done.stdout.splitlines()), 5)
        self.assertIn("time 32, of which the rank that waits most idles 2; at most 5 micro-batches", done.stdout)
        picture = xml.dom.minidom.parse(str(directory / "pipeline.svg"))
        titles = [node.firstChild.data for node in picture.getElementsByTagName("title")]
        self.assertIn("Fa3&Bb1: 7 to 10", titles)

    def test_the_pipeline_as_trace_events(self):
        directory = support.fresh_directory("trace")
        arguments = settings("training.pipeline=4", "training.schedule=dualpipe", "training.micro_batches=10")
        self.assert_success(support.run("plan", "--trace", directory / "trace.json", *arguments))
        events = json.loads((directory / "trace.json").read_text())["traceEvents"]
        tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
        self.assertEqual(list(tracks.values()), ["rank 0", "rank 1", "rank 2", "rank 3"])
        spans = [event for event in events if event["ph"] == "X"]
        self.assertEqual(max(span["ts"] + span["dur"] for span in spans), 32)
        pair = next(span for span in spans if span["name"] == "Fa3&Bb1")
        self.assertEqual((tracks[pair["tid"]], pair["ts"], pair["dur"]), ("rank 0", 7, 3))

    def test_a_report_has_a_page_json_and_csv(self):
        directory = support.fresh_directory("report")
        arguments = [V3, "--hardware", "h800", *settings("serving.gpus=144", "serving.redundant_experts=32")]
        done = support.run("plan", "--report", directory / "v3.html", *arguments)
        self.assert_success(done)
        self.assertIn("TPOT at least", done.stdout)
        report = json.loads((directory / "v3.json").read_text())
        blocks = {block["title"]: block for section in report["sections"] for block in section["blocks"]}
        shown = {figure["name"]: figure["value"] for figure in blocks["serving"]["figures"]}
        tornado = blocks["What moves the bound on TPOT"]
        self.assertEqual(tornado["base"], shown["TPOT at least"])
        self.assertIn(f'data-v="{shown["sequences that fit"]:.0f}"', (directory / "v3.html").read_text())
        self.assertEqual(sorted(path.suffix for path in directory.iterdir()), [".csv"] * len(blocks) + [".html", ".json"])
        # A pipeline needs no model.
        self.assert_success(support.run("plan", "--report", directory / "pipe.html", *settings("training.pipeline=4")))
        self.assertIn("Pipeline 1f1b: 4 ranks", (directory / "pipe.html").read_text())

    def test_refusals(self):
        for arguments, needles in (
                ([], ["nothing to plan"]),
                ([V3], ["--hardware is missing", "h800"]),
                ([V3, "--hardware", "tpu"], ["tpu", "h100"]),
                (["nowhere.json", "--hardware", "h800"], ["nowhere.json"]),
                (settings("fabric.kind=slimfly", "fabric.q=28"), ["2 * 2 * 7", "q = 27", "q = 25"]),
                (settings("fabric.kind=mpft", "fabric.endpoints=100"), ["96 or 104"]),
                (settings("fabric.radixx=64"), ["fabric.radixx", "fabric.radix"]),
                (settings("fabric.radix=nan"), ["fabric.radix"]),
                (settings("serving.gpus=8"), ["MODEL is missing"]),
                (["--timeline"], ["training.pipeline is missing"]),
                (["--trace", "trace.json"], ["training.pipeline is missing"]),
                (["--report", "plan.html"], ["nothing to plan"]),
                (["--report", "plan.pdf", *settings("training.pipeline=2")], ["plan.pdf", ".html"]),
                (["--report", "nowhere/plan.html", *settings("training.pipeline=2")], ["nowhere"]),
                (["--paper", V3], ["--paper"]),
                (["--timeline", "--json"], ["--timeline"]),
        ):
            with self.subTest(arguments=arguments):
                self.refused("plan", *arguments, needles=needles)


if __name__ == "__main__":
    unittest.main()
