"""fathom simulate: scenarios as text, as JSON and as a page, sweeps, a second engine beside the first, and what is refused."""

import csv
import io
import json
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

    def test_a_page_shows_what_the_json_says(self):
        directory = support.fresh_directory("simulate-report")
        done = support.run("simulate", SCENARIOS / "leaf-uplinks-lost.toml", "--report", directory / "page.html", "--json")
        self.assert_success(done)
        answer = json.loads(done.stdout)
        report = json.loads((directory / "page.json").read_text())
        support.assert_every_number_has_an_origin(self, report)
        blocks = {block["title"]: block for section in report["sections"] for block in section["blocks"]}
        self.assertEqual(blocks["all-to-all"]["figures"], answer["jobs"][0]["figures"])
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
