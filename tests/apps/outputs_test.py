"""An output that is an input, or another output, is refused before anything is written."""

import shutil
import unittest

import support
from support import CommandLineCase


class Outputs(CommandLineCase):
    def setUp(self):
        self.work = support.fresh_directory("outputs")

    def refused_unchanged(self, *arguments, needles):
        with self.unchanged(self.work):
            self.refused(*arguments, needles=needles)

    def test_answers_do_not_replace_the_questions(self):
        records = self.work / "records.jsonl"
        records.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
        (self.work / "link.jsonl").symlink_to(records)
        for output in (records, self.work / "." / "records.jsonl", self.work / "link.jsonl"):
            self.refused_unchanged("eval", support.tiny_model(), "--task", "gsm8k", "--file", records, "-o", output, "-t", 1,
                                   needles=["--output", "is an input"])

    def test_plans_do_not_replace_what_they_read_or_each_other(self):
        config = self.work / "config.json"
        shutil.copy(support.ROOT / "tests/model/configs/deepseek-v3.json", config)
        settings, page = self.work / "plan.toml", self.work / "page"
        settings.write_text("[training]\npipeline = 4\n")
        self.refused_unchanged("plan", config, "--hardware", "h800", "--search", "training", "--gpus", 1024, "--emit", config,
                               needles=["--emit", "is an input"])
        self.refused_unchanged("plan", self.work, "--hardware", "h800", "--report", config, needles=["--report", "is an input"])
        self.refused_unchanged("plan", "--config", settings, "--svg", settings, needles=["--svg", "is an input"])
        self.refused_unchanged("plan", "--svg", page, "--trace", page, needles=["--trace", "is the file of --svg"])

    def test_a_page_does_not_replace_its_scenario(self):
        scenario = self.work / "scenario.toml"
        shutil.copy(support.ROOT / "examples/scenarios/message-size.toml", scenario)
        self.refused_unchanged("simulate", scenario, "--report", scenario, needles=["--report", "is an input"])

    def test_a_shard_does_not_replace_its_tokenizer_and_is_not_asked_for_in_vain(self):
        tokenizer = self.work / "tokenizer"
        shutil.copytree(support.tiny_data() / "tokenizer", tokenizer)
        text = support.tiny_data() / "synth.jsonl"
        base = ("data", "pack", text, "--tokenizer", tokenizer)
        self.refused_unchanged(*base, "-o", tokenizer / "tokenizer.json", "--validation-fraction", 0,
                               needles=["--output", "is an input"])
        self.refused_unchanged(*base, "-o", self.work / "a.shard", "--validation", self.work / "b.shard", "--validation-fraction", 0,
                               needles=["--validation", "--validation-fraction"])

    def test_a_directory_that_is_not_there_is_named(self):
        missing = self.work / "missing"
        self.refused_unchanged("data", "synth", "-o", missing / "a.jsonl", "--documents", 3,
                               needles=[f"cannot create {missing}/a.jsonl", f"no directory {missing}", "make it first"])

    def test_a_tokenizer_learns_nothing_from_nothing(self):
        (self.work / "empty.txt").write_text("")
        self.refused_unchanged("tokenizer", "train", self.work / "empty.txt", "-o", self.work / "new", "--vocab-size", 300,
                               needles=["nothing was learnt"])


if __name__ == "__main__":
    unittest.main()
