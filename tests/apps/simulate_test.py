"""fathom simulate: scenarios as text, as JSON and as a page, sweeps, a second engine beside the first, and what is refused."""

import csv
import io
import json
import os
import subprocess
import unittest

import support
from support import CommandLineCase

SCENARIOS = support.ROOT / "examples" / "scenarios"


class Simulate(CommandLineCase):
    def answer(self, name, *arguments):
        done = support.run("simulate", SCENARIOS / name, *arguments, "--json")
        self.assert_success(done)
        return json.loads(done.stdout)

    def test_text_has_time_bandwidth_and_the_links_that_limit(self):
        done = support.run("simulate", SCENARIOS / "all-to-all-16384.toml")
        self.assert_success(done)
        for part in ("16,384 GPUs", "engine maxmin", "busbw", "40.0", "NIC out of node 0", "and 16,383 alike", "GB/s"):
            self.assertIn(part, done.stdout)

    def test_json_says_the_same_and_every_number_has_a_formula(self):
        answer = self.answer("plane-dead.toml")
        figures = {figure["name"]: figure for figure in answer["jobs"][0]["figures"]}
        self.assertAlmostEqual(figures["bandwidth against healthy"]["value"], -12.5, places=3)
        self.assertTrue(all(figure["formula"] and figure["source"] for figure in figures.values()))
        self.assertTrue(all(link["formula"] for link in answer["links"]))
        self.assertEqual(answer["engine"], "maxmin")

    def test_settings_and_engines_can_be_chosen(self):
        by_hand = self.answer("all-to-all-128.toml", "--set", "network.nic_gbps=50", "--engine", "bound")
        self.assertEqual(by_hand["engine"], "bound")
        self.assertAlmostEqual(by_hand["jobs"][0]["seconds"], 120 / 128 / 50, places=6)
        checked = self.answer("all-to-all-128.toml", "--engine", "bound", "--check")
        self.assertEqual(checked["check"]["engine"], "maxmin")
        self.assertLess(abs(checked["check"]["difference"]), 1e-4)

    def test_what_limits_and_what_the_fabric_costs_are_said(self):
        done = support.run("simulate", SCENARIOS / "window-ecmp.toml", "--engine", "bound")
        self.assert_success(done)
        self.assertRegex(done.stdout, r"\n  limit +window of 8 peers: the fullest link is NIC out of node 0")
        for part in ("\nfabric\n", "  switches ", "  links leaf-spine ", "  price per endpoint "):
            self.assertIn(part, done.stdout)
        answer = self.answer("window-ecmp.toml", "--set", "network.routing=adaptive", "--engine", "bound")
        self.assertRegex(answer["jobs"][0]["limit"]["resource"], "^NIC ")
        fabric = {figure["name"]: figure for figure in answer["fabric"]}
        self.assertEqual((fabric["endpoints"]["value"], fabric["switches"]["value"]), (256, 8 + 4))
        self.assertTrue(all(figure["formula"] and figure["source"] for figure in fabric.values()))
        dear = self.answer("window-ecmp.toml", "--engine", "bound", "--set", "prices.switch_port_dollars=0", "--set",
                           "prices.link_dollars=3", "--set", "prices.endpoint_dollars=2")
        self.assertEqual({figure["name"]: figure["value"] for figure in dear["fabric"]}["price per endpoint"], 5)

    def test_every_failure_on_every_tree(self):
        for fabric, gpus, leaf_gpus, is_planar in (("ft2", 2048, 32, False), ("ft3", 4096, 32, False),
                                                   ("mpft", 2048, 256, True), ("mrft", 2048, 256, True)):
            # Healthy, a NIC of 40 GB/s sends to all other nodes; with 16 uplinks of 50, the 32 NICs of a leaf send over
            # them to all that have other leaves.
            uplinks = 100 * ((gpus - 8) / 40 / (32 * (gpus - leaf_gpus) / (16 * 50)) - 1)
            base = (SCENARIOS / "all-to-all-128.toml", "--set", f"network.fabric={fabric}", "--set", f"network.gpus={gpus}")
            for failure, expected in (("uplinks=16", uplinks), ("nic=0", -12.5), ("leaf=0", -12.5 if is_planar else None),
                                      ("plane=0", -12.5 if is_planar else None)):
                with self.subTest(fabric=fabric, failure=failure):
                    done = support.run("simulate", *base, "--set", f"fail.{failure}", "--json")
                    if expected is None:
                        self.assert_refused(done, "mpft or mrft" if "leaf" in failure else "planes of mpft, or rails of mrft")
                        continue
                    self.assert_success(done)
                    figures = {figure["name"]: figure["value"] for figure in json.loads(done.stdout)["jobs"][0]["figures"]}
                    self.assertAlmostEqual(figures["bandwidth against healthy"], expected, places=2)

    def test_many_jobs_share_the_links(self):
        answer = self.answer("three-jobs.toml", "--check")
        self.assertEqual([job["name"] for job in answer["jobs"]], ["job", "also", "also2"])
        self.assertLess(abs(answer["check"]["difference"]), 1e-4)
        most = [f"--set=also{i if i > 1 else ''}.{key}" for i in range(1, 16) for key in ("op=all-gather", "bytes=1e8")]
        answer = self.answer("all-to-all-128.toml", *most)
        self.assertEqual(len(answer["jobs"]), 16)

    def test_a_second_engine_answers_small_messages_or_says_why_it_does_not(self):
        done = support.run("simulate", SCENARIOS / "small-message.toml", "--check")
        self.assert_success(done)
        self.assertEqual(done.stdout.splitlines()[0], "engine simgrid agrees within 0.01 %")
        far_apart = ("--set", "job.bytes=1", "--set", "also.op=send", "--set", "also.bytes=1e16")
        done = support.run("simulate", SCENARIOS / "small-message.toml", *far_apart, "--check")
        self.assert_success(done)
        self.assertRegex(done.stdout.splitlines()[0], "^check skipped: classes of flows from 1 to 1e.16 bytes; SimGrid counts")
        check = self.answer("small-message.toml", *far_apart, "--check")["check"]
        self.assertEqual((check["engine"], sorted(check)), ("simgrid", ["engine", "skipped"]))
        sweep = ("--sweep", "also.bytes=1e6,1e16", "--set", "job.bytes=1", "--set", "also.op=send", "--check")
        done = support.run("simulate", SCENARIOS / "small-message.toml", *sweep)
        self.assert_success(done)
        self.assertIn("agrees within 0.01 % at 1 of 2 points", done.stdout)

    def test_the_effective_scenario_can_be_printed(self):
        directory = support.fresh_directory("simulate-config")
        text = support.made("simulate", SCENARIOS / "three-jobs.toml", "--set", "job.weight=8", "--print-config").stdout
        self.assertIn("weight = 8.0", text)
        self.assertIn("[also2]", text)
        self.assertNotIn("[also3]", text)
        (directory / "printed.toml").write_text(text)
        self.assertEqual(support.made("simulate", directory / "printed.toml", "--print-config").stdout, text)

    def test_the_largest_all_to_all_needs_little_memory(self):
        for engine in ("maxmin", "simgrid"):
            process = subprocess.Popen((support.BINARY, "simulate", SCENARIOS / "all-to-all-16384.toml", "--engine", engine),
                                       stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.assertEqual(process.returncode, 0)
            self.assertLess(usage.ru_maxrss * 1024, 200e6, engine)  # 268 million flows one by one would be 500 GB

    def test_the_largest_hashed_all_to_all_is_bounded_in_seconds(self):
        process = subprocess.Popen((support.BINARY, "simulate", SCENARIOS / "all-to-all-16384.toml", "--engine", "bound", "--set",
                                    "network.routing=ecmp"), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        self.assertLess(usage.ru_maxrss * 1024, 200e6)
        self.assertLess(usage.ru_utime + usage.ru_stime, 16)  # of a core; GPU by GPU it was 48

    def test_whether_a_second_engine_is_asked_does_not_depend_on_time(self):
        for engine, second in (("maxmin", "simgrid"), ("bound", "maxmin")):
            done = support.run("simulate", SCENARIOS / "window-ecmp.toml", "--engine", engine, "--check")
            self.assert_success(done)
            self.assertEqual(done.stdout.splitlines()[0], f"engine {second} agrees within 0.01 %")

    def test_failures_over_time_are_the_plans(self):
        answer = self.answer("failures-16384.toml")
        figures = {figure["name"]: figure["value"] for figure in answer["failures"]}
        self.assertAlmostEqual(54 * figures["stops a day"], 419, places=2)
        mtbf = figures["time between stops"]
        done = support.run("plan", "--set", f"failures.gpu_mtbf_h={mtbf!r}", "--set", "failures.gpus=1", "--set",
                           "failures.checkpoint_min=0.5", "--set", "failures.restart_min=4", "--json")
        self.assert_success(done)
        planned = {figure["name"]: figure["value"] for figure in json.loads(done.stdout)["failures"]}
        for name in ("goodput", "work between checkpoints", "goodput of a drawn run"):
            self.assertAlmostEqual(figures[name], planned[name], places=6)
        directory = support.fresh_directory("simulate-failures")
        self.assert_success(support.run("simulate", SCENARIOS / "failures-16384.toml", "--report", directory / "page.html"))
        report = json.loads((directory / "page.json").read_text())
        support.assert_every_number_has_an_origin(self, report)
        blocks = {block["title"]: block for section in report["sections"] for block in section["blocks"]}
        self.assertEqual(blocks["failures"]["figures"], answer["failures"])
        self.assertGreater(len(blocks["A drawn run and its stops"]["bars"]["row"]), 8)

    def test_a_page_shows_what_the_json_says(self):
        directory = support.fresh_directory("simulate-report")
        done = support.run("simulate", SCENARIOS / "leaf-uplinks-lost.toml", "--report", directory / "page.html", "--json")
        self.assert_success(done)
        answer = json.loads(done.stdout)
        report = json.loads((directory / "page.json").read_text())
        support.assert_every_number_has_an_origin(self, report)
        blocks = {block["title"]: block for section in report["sections"] for block in section["blocks"]}
        self.assertEqual(blocks["all-to-all"]["figures"], answer["jobs"][0]["figures"])
        self.assertEqual(blocks["fabric"]["figures"], answer["fabric"])
        links = {row["name"]: row["values"] for row in blocks["The most loaded link of each kind"]["rows"]}
        self.assertEqual(links[answer["links"][0]["name"]][1], answer["links"][0]["bytes"] / 1e6)
        uplinks = blocks["Leaf uplinks: all of a leaf"]["values"]
        self.assertEqual(max(max(row) for row in uplinks), uplinks[0][0])  # the leaf that has lost some
        self.assertEqual(sorted(path.suffix for path in directory.iterdir()), [".csv"] * len(blocks) + [".html", ".json"])

    def test_a_sweep_is_the_single_answers_in_every_form(self):
        directory = support.fresh_directory("simulate-sweep")
        sweep = ("--sweep", "job.bytes=1e5,1e8", "--sweep", "network.gpus=64,128")
        done = support.run("simulate", SCENARIOS / "message-size.toml", *sweep, "--report", directory / "sizes.html", "--json")
        self.assert_success(done)
        answer = json.loads(done.stdout)
        self.assertEqual(answer["sweep"], {"job.bytes": ["1e5", "1e8"], "network.gpus": ["64", "128"]})
        single = self.answer("message-size.toml", "--set", "job.bytes=1e8", "--set", "network.gpus=64")
        point = next(p for p in answer["points"] if p["set"] == {"job.bytes": "1e8", "network.gpus": "64"})
        self.assertEqual(point["jobs"], single["jobs"])
        report = json.loads((directory / "sizes.json").read_text())
        support.assert_every_number_has_an_origin(self, report)
        blocks = {block["title"]: block for section in report["sections"] for block in section["blocks"]}
        chart = blocks["busbw against job.bytes"]
        self.assertEqual([series["name"] for series in chart["series"]], ["network.gpus=64", "network.gpus=128"])
        busbw = next(figure["value"] for figure in single["jobs"][0]["figures"] if figure["name"] == "busbw")
        self.assertEqual((chart["series"][0]["x"][1], chart["series"][0]["y"][1]), (1e8, busbw))
        done = support.run("simulate", SCENARIOS / "message-size.toml", *sweep, "--csv")
        self.assert_success(done)
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        self.assertEqual(len(rows), 4)
        self.assertEqual(float(rows[2]["busbw (GB/s)"]), busbw)
        done = support.run("simulate", SCENARIOS / "message-size.toml", *sweep, "--engine", "bound", "--check")
        self.assert_success(done)
        self.assertIn("agrees within 0.01 % at all 4 points", done.stdout)
        self.assertEqual(len(done.stdout.splitlines()), 6)

    def test_what_is_wrong_is_one_line(self):
        directory = support.fresh_directory("simulate")
        small = [SCENARIOS / "all-to-all-128.toml"]
        (directory / "typo.toml").write_text("[network]\ngpu = 128\n")
        (directory / "empty.toml").write_text("")
        (directory / "huge.toml").write_bytes(b"#" * (2 << 20))
        for arguments, *needles in (
                ([directory / "typo.toml"], "network.gpu", "network.gpus"),
                ([directory / "absent.toml"], "absent.toml"),
                ([SCENARIOS / "all-to-all-128.toml", "--set", "network.gpus=100"], "100 GPUs", "96 or 104"),
                ([SCENARIOS / "all-to-all-128.toml", "--set", "network.nic_gbps=nan"], "network.nic_gbps"),
                ([SCENARIOS / "all-to-all-128.toml", "--set", "network.nic_gbps=1e-320"], "nic_gbps", "1e-6"),
                ([SCENARIOS / "all-to-all-128.toml", "--set", "job.bytes=1e999"], "job.bytes"),
                ([SCENARIOS / "all-to-all-128.toml", "--set", "network.routing=valiant"], "slimfly, dragonfly"),
                ([SCENARIOS / "all-to-all-128.toml", "--engine", "ns3"], "ns3"),
                ([directory / "empty.toml"], "network.gpus is missing"),
                ([directory], "not a regular file"),
                ([directory / "huge.toml"], "huge.toml", "1048576"),
                ([SCENARIOS / "slim-fly-27.toml", "--set", "network.slim_fly_q=28"], "q = 27", "or q = 25"),
                ([SCENARIOS / "slim-fly-27.toml", "--set", "network.gpus=23320"], "network.gpus = 23328"),
                ([SCENARIOS / "dragonfly-72.toml", "--set", "network.dragonfly_groups=10"], "2 to 9"),
                ([SCENARIOS / "dispatch-64.toml", "--set", "job.gate_file=absent.json"], "absent.json"),
                ([*small, "--set", "fail.leaf=8"], "fail.leaf", "to 7"),
                ([SCENARIOS / "ring-ft3.toml", "--set", "fail.leaf=0"], "leaf 0", "cuts off", "network.gpus = 4064"),
                ([*small, "--set", "also.bytes=1e6"], "also.op is missing", 'also.op = "all-to-all"'),
                ([*small, "--set", "also16.op=send"], "also16.op"),
                ([*small, "--set", "job.op=none"], 'job.op is "none"', 'job.op = "all-to-all"'),
                ([*small, "--set", "failures.restart_min=4"], "no rate", "failures.gpu_mtbf_h = 50000"),
                ([*small, "--set", "failures.gpu_mtbf_h=50000"], "failures.checkpoint_min is 0", "failures.interval_min"),
                ([*small, "--set", "prices.link_dollars=5"], "prices.switch_port_dollars is missing"),
                ([*small, "--set", "job.efficiency=0"], "job.efficiency", "0.01 to 1"),
                ([SCENARIOS / "dispatch-64.toml", "--set", "job.top_k=300"], "job.top_k", "1 to 256"),
                ([*small, "--report", "page.pdf"], "page.pdf", ".html"),
                ([*small, "--report", directory / "nowhere" / "page.html"], "nowhere"),
                ([*small, "--report", directory], str(directory)),
                ([*small, "--csv"], "--csv", "--sweep"),
                ([*small, "--sweep", "job.bytes=1,2", "--csv", "--json"], "--csv", "--json"),
                ([*small, "--sweep", "job.bytes"], "job.bytes", "KEY=a,b,c"),
                ([*small, "--sweep", "job.bytes=1,,2"], "empty value"),
                ([*small, "--sweep", "job.bytes=5,5"], "\"5\" twice"),
                ([*small, "--sweep", "job.byte=1,2"], "job.byte", "job.bytes"),
                ([*small, "--sweep", "job.bytes=1e6,-1"], "job.bytes", "-1"),
                ([*small, "--sweep", "job.bytes=1e6,much"], "job.bytes", "much"),
                ([*small, "--sweep", "network.gpus=128,100"], "network.gpus=100", "96 or 104"),
                ([*small, "--sweep", "job.ranks=64,24"], "job.ranks=24"),
                ([*small, "--sweep", "job.bytes=1,2", "--set", "job.bytes=3"], "--set", "--sweep"),
                ([*small, "--sweep", "job.bytes=1", "--sweep", "job.bytes=2"], "twice"),
                ([*small, "--sweep", "job.bytes=1", "--sweep", "job.ranks=8", "--sweep", "job.seed=1"], "3 times"),
                ([*small, "--sweep", "job.bytes=" + ",".join(map(str, range(1, 300)))], "299 points", "256")):
            with self.subTest(arguments=arguments):
                done = support.run("simulate", *arguments)
                self.assert_refused(done, *needles)


if __name__ == "__main__":
    unittest.main()
