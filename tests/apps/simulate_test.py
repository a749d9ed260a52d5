"""fathom simulate: scenarios as text and as JSON, a second engine beside the first, and what is refused."""

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

    def test_what_is_wrong_is_one_line(self):
        directory = support.fresh_directory("simulate")
        (directory / "typo.toml").write_text("[network]\ngpu = 128\n")
        for arguments, *needles in (
                ([directory / "typo.toml"], "network.gpu", "network.gpus"),
                ([directory / "absent.toml"], "absent.toml"),
                ([SCENARIOS / "all-to-all-128.toml", "--set", "network.gpus=100"], "100 GPUs", "96 or 104"),
                ([SCENARIOS / "all-to-all-128.toml", "--set", "network.nic_gbps=nan"], "network.nic_gbps"),
                ([SCENARIOS / "all-to-all-128.toml", "--engine", "ns3"], "ns3"),
                ([SCENARIOS / "slim-fly-27.toml", "--set", "network.slim_fly_q=28"], "q = 27", "or q = 25"),
                ([SCENARIOS / "slim-fly-27.toml", "--set", "network.gpus=23320"], "network.gpus = 23328"),
                ([SCENARIOS / "dragonfly-72.toml", "--set", "network.dragonfly_groups=10"], "2 to 9"),
                ([SCENARIOS / "dispatch-64.toml", "--set", "job.gate_file=absent.json"], "absent.json")):
            with self.subTest(arguments=arguments):
                done = support.run("simulate", *arguments)
                self.assert_refused(done, *needles)


if __name__ == "__main__":
    unittest.main()
