"""fathom plan: published figures, fabrics, pipelines and models, as text and as JSON, and what is refused."""

import json
import pathlib
import re
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

    def test_a_published_figure_of_other_inputs_is_not_compared(self):
        figures = self.plan_json("--paper", *settings("model.kv_lora_rank=256", "hardware.nic_gbps=100"))
        of = {figure["name"]: figure for figure in figures}
        latent = of["KV per token, DeepSeek-V3"]
        self.assertEqual((latent["value"], latent["with_published_inputs"], latent["comparable"]), (39040, 70272, False))
        self.assertNotIn("holds", latent)
        self.assertAlmostEqual(of["TPOT, 400G InfiniBand"]["value"], 14.7571 / 2, places=3)
        self.assertTrue(of["KV per token, LLaMA-3.1 405B"]["holds"])
        directory = support.fresh_directory("paper")
        (directory / "paper.toml").write_text("[fabric]\nplanes = 4\n")
        done = support.run("plan", "--paper", "--config", directory / "paper.toml")
        self.assert_success(done)
        self.assertRegex(done.stdout, r"MPFT endpoints +16,384 +8,192 +other  not to be compared, the inputs differ; "
                                      r"with the published ones 16,384")
        total = len(figures)
        self.assertIn(f"{total - 4} of {total - 4} within their tolerance", done.stdout)
        self.assertIn("4 follow the inputs that were changed", done.stdout)

    def test_every_setting_is_listed(self):
        done = support.run("plan", "--keys")
        self.assert_success(done)
        rows = {line.split()[0]: line for line in done.stdout.splitlines()[1:]}
        self.assertRegex(rows["fabric.radix"], r"fabric.radix +64 +ports of a switch +an integer from 4 to 1024")
        of_paper = support.run("plan", "--keys", "--paper")
        self.assertRegex(of_paper.stdout, r"model.kv_lora_rank +512 ")
        self.assertNotIn("serving.gpus", of_paper.stdout)
        for key in ("hardware.nic_gbps", "machine.quant", "energy.pue", "failures.gpus"):
            self.assertIn(key, rows)

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
                            *settings("hardware.nic_gbps=100", "serving.batch=64"))
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
        support.assert_every_number_has_an_origin(self, report)
        blocks = {block["title"]: block for section in report["sections"] for block in section["blocks"]}
        shown = {figure["name"]: figure["value"] for figure in blocks["serving"]["figures"]}
        tornado = blocks["What moves the bound on TPOT"]
        self.assertEqual(tornado["base"], shown["TPOT at least"])
        self.assertIn(f'data-v="{shown["sequences that fit"]:.0f}"', (directory / "v3.html").read_text())
        self.assertEqual(sorted(path.suffix for path in directory.iterdir()), [".csv"] * len(blocks) + [".html", ".json"])
        # A pipeline needs no model.
        self.assert_success(support.run("plan", "--report", directory / "pipe.html", *settings("training.pipeline=4")))
        self.assertIn("Pipeline 1f1b: 4 ranks", (directory / "pipe.html").read_text())

    def test_failures_are_drawn_beside_their_expectation(self):
        directory = support.fresh_directory("failures")
        arguments = settings("failures.gpu_mtbf_h=50677", "failures.gpus=16384", "failures.checkpoint_min=0.5",
                             "failures.restart_min=4")
        done = support.run("plan", "--report", directory / "page.html", *arguments, *settings("failures.stops=400"))
        self.assert_success(done)
        lines = done.stdout.splitlines()
        at = lines.index("the drawn run's first stops")
        self.assertRegex(lines[at + 1], r"^ +0 h  [=cxr!]{96}$")
        self.assertIn("!", "".join(lines[at + 1:at + 5]))
        report = json.loads((directory / "page.json").read_text())
        support.assert_every_number_has_an_origin(self, report)
        blocks = {block["title"]: block for section in report["sections"] for block in section["blocks"]}
        shown = {figure["name"]: figure["value"] for figure in blocks["failures"]["figures"]}
        self.assertAlmostEqual(sum(shown[name] for name in shown if name.startswith("of the rest")) + shown["goodput"], 100)
        self.assertAlmostEqual(shown["goodput"], shown["goodput of a drawn run"], delta=3)
        drawn = blocks["Goodput of a drawn run so far"]["series"][0]
        self.assertEqual(len(drawn["y"]), 400)
        self.assertAlmostEqual(drawn["y"][-1], shown["goodput of a drawn run"])
        other = self.figures(*arguments, *settings("failures.stops=400", "failures.seed=2"))
        self.assertNotEqual(other["goodput of a drawn run"]["value"], shown["goodput of a drawn run"])

    def test_a_search_has_a_page(self):
        directory = support.fresh_directory("search-report")
        serving = ("serving", "--gpus", "64", *settings("search.max_tpot_ms=50"))
        front = self.search(*serving, "--report", directory / "serving.html")["pareto"]
        report = json.loads((directory / "serving.json").read_text())
        support.assert_every_number_has_an_origin(self, report)
        blocks = {block["title"]: block for section in report["sections"] for block in section["blocks"]}
        series = {s["name"]: s for s in blocks["Tokens per GPU against tokens per user, all that fit"]["series"]}
        self.assertEqual(series["front"]["x"], [point["tokens_per_s_per_user"] for point in front])
        self.assertEqual(series["front"]["y"], [point["tokens_per_s_per_gpu"] for point in front])
        self.assertIn("serving", blocks)  # the figures of the best
        training = ("training", "--gpus", "2048", *settings("search.batch=15360", "search.utilisation=0.52"))
        layouts = self.search(*training, "--report", directory / "training.html")["layouts"]
        report = json.loads((directory / "training.json").read_text())
        support.assert_every_number_has_an_origin(self, report)
        blocks = {block["title"]: block for section in report["sections"] for block in section["blocks"]}
        steps = [sum(parts) for parts in zip(*(part["values"] for part in blocks["Step of the fastest layouts"]["parts"]))]
        self.assertEqual(len(steps), len(layouts))
        for step, layout in zip(steps, layouts):
            self.assertAlmostEqual(step, layout["step_s"], places=9)

    def search(self, *arguments):
        return self.plan_json(V3, "--hardware", "h800", "--search", *arguments)

    def test_ranked_layouts_of_the_v3_run(self):
        run = ("training", "--gpus", "2048", *settings("search.batch=15360", "search.utilisation=0.52", "search.rows=10000"))
        layouts = self.search(*run)["layouts"]
        speeds = [layout["tokens_per_s_per_gpu"] for layout in layouts]
        self.assertEqual(speeds, sorted(speeds, reverse=True))
        v3 = next(layout for layout in layouts if (layout["pipeline"], layout["expert"], layout["schedule"],
                                                   layout["sequences"]) == (16, 64, "dualpipe", 1))
        self.assertEqual(v3["micro_batches"], 120)
        self.assertAlmostEqual(v3["step_s"] / 19.926, 1, delta=0.08)
        done = support.run("plan", V3, "--hardware", "h800", "--search", *run, *settings("search.rows=3"))
        self.assert_success(done)
        self.assertIn("tokens/s/GPU", done.stdout.splitlines()[0])
        self.assertIn(layouts[0]["schedule"], done.stdout.splitlines()[1])

    def test_the_best_layout_is_written_and_read_back(self):
        file = support.fresh_directory("emit") / "best.toml"
        run = ("training", "--gpus", "512,1024", *settings("search.batch=15360", "search.utilisation=0.5"))
        best = self.search(*run, "--emit", file)["layouts"][0]
        self.assertIn("--config best.toml", file.read_text().splitlines()[0])
        found = self.figures(V3, "--hardware", "h800", "--config", file)
        self.assertEqual(found["GPUs"]["value"], best["gpus"])
        self.assertAlmostEqual(found["memory of the rank"]["value"], best["memory_gb"], places=6)
        self.assertAlmostEqual(found["time of the pipeline"]["value"] / (best["step_s"] - best["reduce_s"]), 1, places=4)
        timeline = support.run("plan", "--timeline", "--config", file)
        self.assert_success(timeline)

    def test_every_example_answers_its_question(self):
        model = [V3, "--hardware", "h800"]
        # Of the publications, but the last: that of its own groups. The paper takes 7000 for a hidden size of 7168.
        # GPU-hours: of table 4's tokens per day.
        known = {"fabric": ([], {"switches": (96, 0), "price per endpoint": (4390, 0.008)}),
                 "decode": (model, {"the same as the paper counts it": (14.76 * 7168 / 7000, 0.001),
                                    "weights per GPU": (24.187, 0.001)}),
                 "training": (model, {"GPU-hours": (14.8e12 / 272.80e9 * 24 * 2048, 0.003), "time of the pipeline": (19.926 - 0.29, 0.02),
                                      "GPUs at least": (1024, 0), "step": (19.926, 0.005)}),
                 # Questions 11 to 13: the micro-batch, the token, and 73 + 93 us of the 58 layers with experts.
                 "tpot-400g": (model, {"one micro-batch as the paper counts it": (120.96 * 7168 / 7000, 1e-4),
                                       "the same as the paper counts it": (14.76 * 7168 / 7000, 0.001)}),
                 "tpot-nvl72": ([V3, "--hardware", "gb200-nvl72"],
                                {"one micro-batch as the paper counts it": (6.72 * 7168 / 7000, 1e-4),
                                 "the same as the paper counts it": (0.82 * 7168 / 7000, 0.001)}),
                 "tpot-measured": (model, {"TPOT at least": ((73 + 93) * 2 * 58 / 1e3, 0.005)}),
                 # Questions 24 and 25.
                 "service-day": ([], {"nodes": (226.9, 0.0005), "prefill nodes": (95.5, 0.001), "decode nodes": (131.4, 0.001),
                                      "price of a day": (87072, 0.001)}),
                 "price-per-token": ([], {"price per million output tokens": (0.199, 0.003)}),
                 "least-gpus": (model, {"GPUs at least": (1024, 0), "GPUs": (1024, 0)}),
                 "failures": ([], {"goodput": (91, 0.011), "time between stops": (54 * 24 / 419, 0.001)}),
                 # 200 requests of 4000 and 1000 tokens a second: 2.8 prefill groups of 24 GPUs, 0.9 decode groups of 48; 2 $ an hour.
                 "service": (model, {"prefill groups for the load": (3, 0), "decode groups for the load": (1, 0),
                                     "nodes for the load": ((3 * 24 + 48) / 8, 0), "price of a day": ((3 * 24 + 48) * 2 * 24, 1e-9),
                                     "prefill tokens per second and node": (95090, 0.001)})}
        files = {path.stem: path for path in (support.ROOT / "examples" / "plan").glob("*.toml")}
        self.assertEqual(sorted(files), sorted(known))
        for name, (arguments, figures) in known.items():
            command = ["plan", *arguments, "--config", files[name], "--json"]
            with self.subTest(example=name):
                done = support.run(*command)
                self.assert_success(done)
                found = json.loads(done.stdout)
                groups = found["summary"] if "summary" in found else found
                values = {figure["name"]: figure["value"] for group in groups.values() for figure in group}
                for figure, (value, relative) in figures.items():
                    self.assertAlmostEqual(values[figure], value, delta=relative * value)

    def test_energy_and_carbon_of_a_layout(self):
        run = [V3, "--hardware", "h800", "--config", support.ROOT / "examples" / "plan" / "training.toml"]
        found = self.figures(*run, *settings("energy.pue=1.3", "energy.kg_per_kwh=0.4"))
        self.assertAlmostEqual(found["energy of the site"]["value"], found["GPU-hours"]["value"] * 0.7 * 1.3 / 1e3)
        self.assertAlmostEqual(found["carbon of the run"]["value"], found["energy of the site"]["value"] * 0.4)
        self.assertNotIn("carbon of the run", self.figures(*run))
        self.refused("plan", *run, *settings("energy.pue=0.9"), needles=["energy.pue is 0.9"])

    def test_serving_has_a_front_and_nodes_for_a_load(self):
        load = settings("search.qps=200", "search.isl=4000", "search.osl=1000", "search.utilisation=0.5",
                        "search.max_tpot_ms=50", "serving.gpu_hour_dollars=2", "energy.pue=1.3")
        found = self.search("serving", "--gpus", "2048", *load)
        front = found["pareto"]
        for a, b in zip(front, front[1:]):
            self.assertLess(b["tokens_per_s_per_user"], a["tokens_per_s_per_user"])
            self.assertGreater(b["tokens_per_s_per_gpu"], a["tokens_per_s_per_gpu"])
        names = {figure["name"]: figure["value"] for figure in found["summary"]["serving layouts"]}
        gpus = names["GPUs for the load"]
        self.assertEqual(gpus, names["decode groups for the load"] * names["GPUs of a decode group"]
                         + names["prefill groups for the load"] * names["GPUs of a prefill group"])
        self.assertEqual(names["nodes for the load"], -(-gpus // 8))
        self.assertAlmostEqual(names["power of the site"], gpus * 0.7 * 1.3)
        self.assertAlmostEqual(names["energy of a year"], names["power of the site"] * 8.76)
        self.assertAlmostEqual(names["price of a day"], gpus * 24 * 2)
        self.refused("plan", V3, "--hardware", "h800", "--search", "serving", "--gpus", "2048", "--max-kw", "1", *load,
                     needles=["search.max_kw 1"])

    def test_what_if_prints_before_after_and_ratio(self):
        decode = settings("serving.gpus=144", "serving.redundant_experts=32", "serving.batch=64")
        found = self.plan_json(V3, "--hardware", "h800", "--what-if", "nic-800g", *decode)
        ratios = {figure["name"]: figure["ratio"] for figure in found["figures"]}
        self.assertAlmostEqual(ratios["step bound by network"], 0.5)
        self.assertNotIn("step bound by memory", ratios)
        done = support.run("plan", V3, "--hardware", "h800", "--what-if", "fp8-kv", *decode)
        self.assert_success(done)
        self.assertRegex(done.stdout, r"KV cache per token as served\s+70,272 B\s+40,016 B\s+0.5694")
        shown = support.run("plan", "--help")
        for name in ("nic-800g", "nvl72", "linear-hybrid"):
            self.assertIn(name + ":", shown.stdout)

    def peak_at_first_character(self, model, prompt, quant):
        """VmHWM, not ru_maxrss: that remembers the Python process before exec. A small model may have ended before its
        status is read, which then has no memory: it is started again."""
        for _ in range(20):
            with support.start("generate", model, "-p", prompt, "-n", 200, "--temp", 0,
                               *(("--quant", quant) if quant else ())) as process:
                process.stdout.read(1)
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                process.kill()
            peak = re.search(r"VmHWM:\s+(\d+) kB", status)
            if peak:
                return int(peak.group(1)) * 1024
        self.fail("the process always ended before its memory was read")

    def test_loading_takes_the_memory_that_was_said(self):
        demo = support.ROOT / "models" / "demo"
        said = self.figures(demo, "--hardware", "this")
        self.assertGreater(said["decode at most"]["value"], 0)
        self.assertGreater(said["prefill at most"]["value"], 0)
        short, long, longer = "Once " * 16, "Once " * 100, "Once " * 280  # two tokens each
        # The longer one takes two chunks: what the first computed in must be gone when the second needs more.
        for model, quant, prompt in ((demo, "", short), (demo, "fp8", short), (demo, "int8", short), (demo, "int4", short),
                                     (demo, "", long), (demo, "", longer), (demo, "int8", longer), (demo, "int4", longer)):
            with self.subTest(model=model.name, quant=quant, prompt=len(prompt)):
                ids = json.loads(support.made("tokenizer", "encode", model, prompt, "--json").stdout)
                planned = self.figures(model, "--hardware", "this",
                                       *settings(f"machine.quant={quant}", f"machine.prompt={len(ids)}"))
                peak = self.peak_at_first_character(model, prompt, quant)
                self.assertAlmostEqual(planned["peak of loading"]["value"] * 1e9 / peak, 1, delta=0.1)
        quantised = self.figures(demo, "--hardware", "this", *settings("machine.quant=int4"))
        self.assertLess(quantised["weights"]["value"], said["weights"]["value"])

    def test_a_huge_or_broken_config_is_one_line(self):
        directory = support.fresh_directory("broken")
        (directory / "huge.json").write_bytes(b" " * (17 << 20))
        (directory / "half.json").write_text(V3.read_text()[:200])
        (directory / "huge.toml").write_bytes(b"#" * (2 << 20))
        for name in ("huge.json", "half.json"):
            self.refused("plan", directory / name, "--hardware", "h800", needles=[name])
        self.refused("plan", V3, "--hardware", "h800", "--config", directory / "huge.toml", needles=["huge.toml"])

    def test_refusals(self):
        for arguments, needles in (
                ([], ["nothing to plan"]),
                ([V3], ["--hardware is missing", "h800"]),
                ([V3, "--hardware", "tpu"], ["tpu", "h100", "or this"]),
                (["nowhere.json", "--hardware", "h800"], ["nowhere.json"]),
                (settings("fabric.kind=slimfly", "fabric.q=28"), ["2 * 2 * 7", "q = 27", "q = 25"]),
                (settings("fabric.kind=mpft", "fabric.endpoints=100"), ["96 or 104"]),
                (settings("fabric.radixx=64"), ["fabric.radixx", "fabric.radix"]),
                (settings("fabric.radix=nan"), ["fabric.radix"]),
                (settings("fabric.kind=mpft", "fabric.link_dollars=5"), ["fabric.switch_port_dollars is missing"]),
                ([V3, "--hardware", "h800", *settings("hardware.nic_gbps=1e-320")], ["nic_gbps", "1e-6"]),
                ([V3, "--hardware", "h800", *settings("training.pipeline=16", "training.expert=64", "training.data=128",
                                                        "training.mfu=1e-320")], ["training.mfu"]),
                ([V3, "--hardware", "h800", *settings("serving.gpus=144", "serving.host_gbps=1e-320",
                  "serving.redundant_experts=32")], ["serving.host_gbps"]),
                (settings("serving.gpus=8"), ["MODEL is missing"]),
                (["--timeline"], ["training.pipeline is missing"]),
                (["--trace", "trace.json"], ["training.pipeline is missing"]),
                (["--report", "plan.html"], ["nothing to plan"]),
                (["--report", "plan.pdf", *settings("training.pipeline=2")], ["plan.pdf", ".html"]),
                (["--report", "nowhere/plan.html", *settings("training.pipeline=2")], ["nowhere"]),
                (["--report", "plan.html", *settings("search.kind=training")], ["MODEL is missing"]),
                ([V3, "--hardware", "h800", "--report", "p.html", "--search", "training"], ["search.gpus is missing"]),
                ([V3, "--hardware", "h800", "--report", "p.pdf", "--search", "serving", "--gpus", "64"], ["p.pdf", ".html"]),
                (settings("failures.gpu_mtbf_h=1e5", "failures.gpus=8", "failures.checkpoint_min=1", "failures.stops=0"),
                 ["failures.stops"]),
                ([V3, "--hardware", "h800", "--report", "p.html", "--what-if", "nic-800g"], ["--report", "--what-if"]),
                ([V3, "--hardware", "this", "--report", "p.html"], ["--report", "preset"]),
                (["--paper", V3], ["--paper"]),
                (["--paper", *settings("model.layers=60")], ["model.layers", "model.num_hidden_layers"]),
                (["--paper", *settings("model.n_routed_experts=250")], ["n_routed_experts", "n_group"]),
                (["--paper", *settings("fabric.radix=63")], ["63"]),
                (["--paper", *settings("fabric.groups=514")], ["514", "513"]),
                ([V3, "--hardware", "h800", *settings("machine.quant=int4")], ["--hardware this", "serving.weights"]),
                ([V3, "--hardware", "h800", *settings("serving.batch=64")], ["serving.batch", "serving.gpus"]),
                ([V3, "--hardware", "h800", *settings("search.batch=15360")], ["search.batch", "--search"]),
                (settings("fabric.kind=mpft", "fabric.q=27"), ["fabric.q", "slimfly; it is mpft"]),
                (settings("fabric.kind=ft2", "fabric.planes=4"), ["fabric.planes", "mpft or mrft"]),
                ([V3, "--hardware", "h800", *settings("training.pipeline=16", "training.tokens=1e12")],
                 ["training.tokens", "training.mfu"]),
                ([V3, "--hardware", "h800", "--search", "training", "--gpus", "64", *settings("training.pipeline=16")],
                 ["training.pipeline", "tries every layout"]),
                ([V3, "--hardware", "h800", *settings("serving.gpus=8", "serving.codec_overhead=0")],
                 ["serving.codec_overhead", "logfmt"]),
                (settings("service.output_tokens_per_day=1e9"), ["service.node_output_tokens_per_s"]),
                (settings("service.node_output_tokens_per_s=1e4"), ["service.gpu_hour_dollars"]),
                (settings("fabric.planes=4"), ["fabric.planes", "fabric.kind"]),
                ([support.ROOT / "models" / "demo", "--hardware", "this", *settings("serving.batch=4")],
                 ["serving.batch", "machine.quant"]),
                (["--timeline", "--json"], ["--timeline"]),
                ([V3, "--hardware", "h800", "--search", "training"], ["search.gpus is missing"]),
                ([V3, "--hardware", "h800", "--search", "training", "--gpus", "2048"], ["search.batch is missing"]),
                ([V3, "--hardware", "h800", "--search", "training", "--gpus", "-4"], ["search.gpus", "-4"]),
                ([V3, "--hardware", "h800", "--search", "training", "--gpus", "2048",
                  *settings("search.batch=15361", "search.utilisation=0.5")], ["15361"]),
                ([V3, "--hardware", "h800", "--search", "both", "--gpus", "8"], ["search.kind", "both"]),
                ([V3, "--hardware", "h800", "--gpus", "8"], ["--search"]),
                ([V3, "--hardware", "h800", "--search", "training", "--gpus", "2048", "--max-kw", "nan"], ["max_kw"]),
                ([V3, "--hardware", "h800", "--search", "training", "--gpus", "2048", "--max-kw", "100",
                  *settings("search.batch=15360", "search.utilisation=0.5")], ["energy.pue"]),
                (["--search", "training", "--gpus", "8"], ["MODEL is missing"]),
                ([V3, "--hardware", "h800", "--what-if", "faster"], ["faster", "nic-800g"]),
                ([V3, "--hardware", "h800", "--what-if", "roce-128"], ["nothing that was asked depends on it"]),
                (["--hardware", "this"], ["MODEL is missing"]),
                ([V3.parent / "nowhere", "--hardware", "this"], ["nowhere"]),
                ([support.ROOT / "models" / "demo", "--hardware", "this", *settings("machine.context=100000")],
                 ["machine.context"]),
                ([support.ROOT / "models" / "demo", "--hardware", "this", *settings("machine.quant=int3")], ["int3"]),
        ):
            with self.subTest(arguments=arguments):
                self.refused("plan", *arguments, needles=needles)


if __name__ == "__main__":
    unittest.main()
