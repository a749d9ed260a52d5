"""fathom data: the same seed makes the same documents; packing names what is wrong and leaves no half shard."""

import json
import resource
import time
import unittest

import support
from support import CommandLineCase


class Synth(CommandLineCase):
    def setUp(self):
        self.directory = support.fresh_directory("synth")

    def synth(self, name, *arguments):
        support.made("data", "synth", "-o", self.directory / name, *arguments)
        return (self.directory / name).read_text()

    def test_the_seed_decides_the_documents(self):
        first = self.synth("a.jsonl", "--documents", 50, "--seed", 1)
        self.assertEqual(first, self.synth("b.jsonl", "--documents", 50, "--seed", 1))
        self.assertNotEqual(first, self.synth("c.jsonl", "--documents", 50, "--seed", 2))
        self.assertTrue(self.synth("d.jsonl", "--documents", 60, "--seed", 1).startswith(first))

    def test_every_line_is_a_document(self):
        lines = self.synth("a.jsonl", "--documents", 80).splitlines()
        self.assertEqual(len(lines), 80)
        for line in lines:
            self.assertTrue({"text", "messages"} & set(json.loads(line)))

    def test_json_says_what_was_written(self):
        path = self.directory / "a.jsonl"
        found = json.loads(support.made("data", "synth", "-o", path, "--documents", 80, "--json").stdout)
        self.assertEqual((found["output"], list(found["kinds"])), (str(path), ["story", "arithmetic", "recall", "chat"]))
        self.assertEqual(sum(kind["documents"] for kind in found["kinds"].values()), 80)
        self.assertEqual(sum(kind["bytes"] for kind in found["kinds"].values()), path.stat().st_size)
        trained = json.loads(support.made("tokenizer", "train", path, "-o", self.directory / "tok", "--vocab-size", 400, "--json").stdout)
        self.assertEqual((trained["output"], trained["tokens"]), (str(self.directory / "tok"), 400))
        train, validation = self.directory / "a.shard", self.directory / "b.shard"
        pack = ("data", "pack", path, "--tokenizer", self.directory / "tok", "-o", train, "--json")
        packed = json.loads(support.made(*pack, "--validation", validation).stdout)
        self.assertEqual((packed["train"]["output"], packed["validation"]["output"]), (str(train), str(validation)))
        self.assertEqual(packed["train"]["documents"] + packed["validation"]["documents"], 80)
        self.assertGreater(packed["train"]["tokens"], packed["validation"]["tokens"])
        self.assertEqual(list(json.loads(support.made(*pack, "--validation-fraction", 0).stdout)), ["train"])

    def test_bytes_end_with_the_document_that_reaches_them(self):
        lines = self.synth("a.jsonl", "--bytes", 10_000).splitlines(keepends=True)
        size = sum(len(line.encode()) for line in lines)
        self.assertGreaterEqual(size, 10_000)
        self.assertLess(size - len(lines[-1].encode()), 10_000)

    def test_the_mixture_decides_the_kinds(self):
        stories = self.synth("a.jsonl", "--documents", 30, "--mixture", "1,0,0,0").splitlines()
        chats = self.synth("b.jsonl", "--documents", 30, "--mixture", "0,0,0,1").splitlines()
        self.assertTrue(all("text" in json.loads(line) for line in stories))
        self.assertTrue(all("messages" in json.loads(line) for line in chats))

    def test_bad_arguments_leave_nothing(self):
        out = ("-o", self.directory / "x.jsonl")
        with self.unchanged(self.directory):
            for arguments, needle in (((), "documents"), (("--documents", "0"), "documents"), (("--documents=-3",), "documents"),
                                      (("--documents", "3", "--bytes", "9"), "exactly one"), (("--seed=-1", "--documents", "3"), "--seed"),
                                      (("--documents", "3", "--mixture", "1,2,3"), "--mixture"),
                                      (("--documents", "3", "--mixture", "0,0,0,0"), "mixture"),
                                      (("--documents", "3", "--mixture=-1,1,1,1"), "mixture")):
                with self.subTest(arguments=arguments):
                    self.refused("data", "synth", *out, *arguments, needles=[needle])
            self.refused("data", "synth", "-o", self.directory / "no" / "x.jsonl", "--documents", 3, needles=["no/x.jsonl"])

    def test_a_full_disk_leaves_the_old_file(self):
        path = self.directory / "x.jsonl"
        path.write_text("old\n")
        with self.unchanged(self.directory):
            self.refused("data", "synth", "-o", path, "--documents", 5000, needles=[path, "File too large"],
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))


class Pack(CommandLineCase):
    def setUp(self):
        self.directory = support.fresh_directory("pack")
        self.tokenizer = ("--tokenizer", support.tiny_data() / "tokenizer")
        self.whole = ("-o", self.directory / "x.shard", "--validation-fraction", 0)

    def write(self, name, content):
        path = self.directory / name
        path.write_bytes(content)
        return path

    def test_packing_repeats(self):
        data = support.tiny_data()
        for name in ("a", "b"):
            support.made("data", "pack", data / "synth.jsonl", *self.tokenizer, "-o", self.directory / f"{name}.shard",
                         "--validation", self.directory / f"{name}_val.shard")
        self.assertEqual((self.directory / "a.shard").read_bytes(), (data / "train.shard").read_bytes())
        self.assertEqual((self.directory / "b_val.shard").read_bytes(), (data / "validation.shard").read_bytes())

    def test_the_report_counts_documents_and_tokens(self):
        path = self.write("two.txt", b"Hello world\n<|endoftext|>\nHello again\n")
        said = support.made("data", "pack", path, *self.tokenizer, *self.whole).stdout
        ids = [json.loads(support.made("tokenizer", "encode", support.tiny_model(), text, "--json").stdout)
               for text in ("Hello world", "Hello again")]
        tokens = sum(len(document) + 2 for document in ids)  # with the begin and the end of each
        self.assertIn(f"{tokens} tokens, 2 documents, 22 B of text", said)

    def test_bad_files_are_named_and_leave_no_shard(self):
        inputs = (("latin1.txt", b"caf\xe9\n", "UTF-8"), ("number.jsonl", b'{"text": 1}\n', "line 1"),
                  ("broken.jsonl", b'{"text": "a"}\n{"text": \n', "line 2"), ("empty.txt", b"", "no"), ("letter.doc", b"a", ".jsonl"),
                  ("role.jsonl", b'{"messages": [{"role": "king", "content": "x"}]}\n', "king"),
                  ("deep.jsonl", b"[" * 100_000 + b"\n", "line 1"))
        for name, content, _ in inputs:
            self.write(name, content)
        with self.unchanged(self.directory):
            for name, _, needle in inputs:
                with self.subTest(file=name):
                    done = support.run("data", "pack", self.directory / name, *self.tokenizer, *self.whole)
                    self.assert_refused(done, needle)
                    if name != "empty.txt":
                        self.assertIn(name, done.stderr)
            self.refused("data", "pack", self.directory / "absent.txt", *self.tokenizer, *self.whole, needles=["absent.txt"])
            # A good file first: the shard of it must not stay.
            self.refused("data", "pack", support.tiny_data() / "synth.jsonl", self.directory / "latin1.txt", *self.tokenizer,
                         *self.whole, needles=["latin1.txt"])

    def test_bad_arguments_leave_no_shard(self):
        text = self.write("a.txt", b"Hello world\n")
        out = ("-o", self.directory / "x.shard")
        with self.unchanged(self.directory):
            self.refused("data", "pack", text, *self.tokenizer, *out, needles=["--validation"])
            for fraction in ("2", "-0.5"):
                self.refused("data", "pack", text, *self.tokenizer, *out, "--validation", self.directory / "v.shard",
                             f"--validation-fraction={fraction}", needles=["--validation-fraction"])
            self.refused("data", "pack", text, "--tokenizer", self.directory, *self.whole, needles=["tokenizer.json"])
            self.refused("data", "pack", text, *self.tokenizer, "-o", self.directory / "no" / "x.shard",
                         "--validation-fraction", 0, needles=["no/x.shard"])
            # Both shards or none.
            self.refused("data", "pack", support.tiny_data() / "synth.jsonl", *self.tokenizer, *out, "--validation",
                         self.directory / "no" / "v.shard", needles=["no/v.shard"])

    def test_ctrl_c_ends_it_and_leaves_nothing(self):
        book = self.write("book.txt", b"Hello world, said the cat.\n<|endoftext|>\n" * 2500000)
        for arguments in (("data", "synth", "-o", self.directory / "s.jsonl", "--bytes", 10**12),
                          ("data", "pack", book, *self.tokenizer, *self.whole)):
            with self.subTest(verb=arguments[1]), self.unchanged(self.directory):
                process = support.start(*arguments)
                time.sleep(0.5)  # it works for many seconds
                support.interrupt(process)
                _, stderr = process.communicate(timeout=support.TIMEOUT_S)
                self.assertEqual(process.returncode, 2)
                self.check_error_line(stderr, "stopped", "nothing was written")

    def test_an_output_that_is_an_input_or_the_other_output_is_refused(self):
        text = self.write("a.txt", b"Hello world\n" * 50)
        shard = self.directory / "x.shard"
        with self.unchanged(self.directory):
            self.refused("data", "pack", text, *self.tokenizer, "-o", shard, "--validation", f"{self.directory}/./x.shard",
                         needles=["--validation"])
            self.refused("data", "pack", text, *self.tokenizer, "-o", text, "--validation-fraction", 0, needles=[text])
            self.refused("data", "pack", text, *self.tokenizer, "-o", shard, "--validation", text, needles=[text])


if __name__ == "__main__":
    unittest.main()
