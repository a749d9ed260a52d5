"""fathom bench serve: what it sends and counts, against our own server, other servers' habits, and the engine without one.

No test asserts how fast anything is. FATHOM_ALL=1 adds a thousand open streams on the demo model.
"""

import contextlib
import http.server
import itertools
import json
import os
import pathlib
import re
import resource
import selectors
import socket
import threading
import time
import unittest

import support
from serve_test import server
from support import CommandLineCase

LONG = os.environ.get("FATHOM_ALL") == "1"
DEMO = support.ROOT / "models" / "demo"
SMALL = ("--concurrency", 3, "--num-prompts", 7, "--input-len", 20, "--output-len", 6)
LATENCIES = ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")


class BenchServeCase(CommandLineCase):
    def report(self, *arguments, code=0):
        done = support.run("bench", "serve", *arguments, "--json")
        self.assertEqual(done.returncode, code, f"stdout {done.stdout!r}, stderr {done.stderr!r}")
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout)

    def check_counts(self, found, requests, input_len, output_len):
        self.assertEqual((found["requests"], found["answered"], found["errors"]), (requests, requests, {}))
        self.assertEqual(found["input_tokens"], requests * input_len)
        self.assertEqual(found["output_tokens"], requests * output_len)
        for key in LATENCIES:
            with self.subTest(latency=key):
                at = found[key]
                self.assertTrue(0 <= at["p50"] <= at["p90"] <= at["p95"] <= at["p99"], at)
        self.assertGreater(found["ttft_ms"]["p50"], 0)
        self.assertAlmostEqual(found["output_tokens_per_s"] * found["duration_s"] / found["output_tokens"], 1)


class Loads(BenchServeCase):
    def test_a_model_served_in_process_and_without_a_server(self):
        model = support.tiny_model()
        served = self.report(model, *SMALL, "-t", 1, "--goodput", "ttft:1e9,itl:1e9")
        self.check_counts(served, 7, 20, 6)
        self.assertEqual((served["settings"]["server"], served["most_in_flight"]), ("in process", 3))
        self.assertEqual((served["good_requests"], served["tokens_are_pieces"]), (7, False))
        offline = self.report(model, *SMALL, "-t", 1, "--offline")
        self.check_counts(offline, 7, 20, 6)
        self.assertEqual(offline["settings"]["server"], "none")

    def test_a_running_server(self):
        with server() as running:
            url = f"http://127.0.0.1:{running.port}"
            self.check_counts(self.report("--url", url, *SMALL), 7, 20, 6)
            self.assertEqual(running.metric("fathom_prompt_tokens_total"), 8 * 20, "seven requests and a warm-up")
            self.check_counts(self.report("--url", url, *SMALL, "--rate", 200, "--num-warmups", 0), 7, 20, 6)
            words = self.report("--url", url, *SMALL, "--words")
            self.assertGreater(words["input_tokens"], 7 * 20, "words are several tokens here")
            found = self.report("--url", url, *SMALL, "--extra-body", '{"max_tokens": 2}')
            self.assertEqual(found["output_tokens"], 7 * 2)
            self.refused("bench", "serve", "--url", url, "--input-len", 600, needles=["600", "664 tokens", "512"])
            found = support.run("bench", "serve", "--url", url, *SMALL, "--model-name", "nobody")
            self.assert_refused(found, "warm-up", "http 404", "nobody")
            code, _, err = running.end()
            self.assertEqual((code, err), (0, ""))

    def test_keys(self):
        with server("--api-key", "sesame") as running:
            url = f"http://127.0.0.1:{running.port}"
            self.refused("bench", "serve", "--url", url, *SMALL, needles=["--api-key"])
            self.check_counts(self.report("--url", url, *SMALL, "--api-key", "sesame"), 7, 20, 6)

    def test_traces(self):
        path = support.fresh_directory() / "trace"
        lines = [{"timestamp": 40 * i, "input_length": 1024 + 8 * i, "output_length": 40, "hash_ids": [1, 2, 10 + i]} for i in range(5)]
        path.write_text("\n".join(map(json.dumps, lines)))
        found = self.report(support.tiny_model(), "--trace", path, "--length-scale", 0.125, "--speed-up", 2, "-t", 1,
                            "--concurrency", 1)
        self.assertEqual((found["answered"], found["output_tokens"]), (5, 25))
        self.assertEqual(found["input_tokens"], sum(128 + i for i in range(5)))
        # Blocks of 512 tokens become pages of 64, and the first two are the same in all.
        self.assertEqual(found["cached_tokens"], 4 * 128)
        path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6,10,4\n2023-11-16 18:15:46.7,20,3\n")
        found = self.report(support.tiny_model(), "--trace", path, "--limit", 2, "-t", 1)
        self.check_counts(found, 2, 15, 3.5)

    def test_a_shared_prefix_is_computed_once(self):
        for mode in ((), ("--offline",)):
            with self.subTest(mode=mode):
                found = self.report(support.tiny_model(), "--shared-prefix-len", 200, "--input-len", 10, "--output-len", 4,
                                    "--num-prompts", 4, "--concurrency", 1, "-t", 1, *mode)
                self.check_counts(found, 3, 210, 4)
                self.assertEqual(found["cached_tokens"], 3 * 200, "three pages of 64 and the 8 tokens of the fourth")
                self.assertGreater(found["cold_ttft_ms"], 0)
                self.assertAlmostEqual(found["cold_ratio"] * found["ttft_ms"]["p50"] / found["cold_ttft_ms"], 1)

    def test_the_table_and_the_comparison(self):
        model = support.tiny_model()
        path = support.fresh_directory() / "old.json"
        path.write_text(json.dumps(self.report(model, *SMALL, "-t", 1)))
        done = support.made("bench", "serve", model, *SMALL, "-t", 1, "--seed", 5, "--compare", path)
        lines = done.stdout.splitlines()
        self.assertRegex(lines[0], r"tiny_model_f32: 3 at the same time, 7 prompts of 20 random tokens, answers of 6$")
        self.assertRegex(lines[2], r"^7 of 7 requests answered in [\d.]+ s: [\d.]+ requests/s, [\d.]+ output tokens/s")
        self.assertRegex(done.stdout, r"(?m)^TTFT( +[\d.]+){5}$")
        self.assertIn("  another seed 0, now 5\n", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^output_tokens_per_s +[\d.]+ +[\d.]+ +[\d.]+$")
        old = json.loads(path.read_text())
        path.write_text(json.dumps(old | {"output_tokens_per_s": 1e9}))
        done = support.run("bench", "serve", model, *SMALL, "-t", 1, "--compare", path, "--fail-below", 0.5)
        self.assertEqual(done.returncode, 1)
        self.check_error_line(done.stderr, "--fail-below", "0.000")
        for text in ("{}", "", "[1]"):
            path.write_text(text)
            self.refused("bench", "serve", model, *SMALL, "--compare", path, needles=["--compare", "old.json"])


class OtherServer(http.server.BaseHTTPRequestHandler):
    """A server of llama.cpp's habits: its own event shape, no usage, no list of models; every third request is refused."""

    protocol_version = "HTTP/1.1"
    number = 0

    def do_GET(self):
        self.send_error(404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).number += 1
        if type(self).number % 3 == 0:
            text = b'{"error":{"message":"slot unavailable"}}'
            self.send_response(503)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for i in range(body["n_predict"]):
            self.wfile.write(b'data: {"content":"a","stop":%s}\n\n' % (b"true" if i + 1 == body["n_predict"] else b"false"))
            self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_):
        pass


class OtherServers(BenchServeCase):
    def test_llama_cpp_s_habits(self):
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OtherServer) as other:
            thread = threading.Thread(target=other.serve_forever)
            thread.start()
            try:
                url = f"http://127.0.0.1:{other.server_port}"
                self.refused("bench", "serve", "--url", url, needles=["--vocab-size", "--words"])
                OtherServer.number = 0
                found = self.report("--url", url, "--vocab-size", 1000, "--num-prompts", 8, "--concurrency", 1, "--output-len", 5,
                                    code=1)
                self.assertEqual((found["answered"], found["errors"]), (5, {"http 503": 3}))
                self.assertEqual((found["output_tokens"], found["tokens_are_pieces"]), (25, True))
                OtherServer.number = 0
                done = support.run("bench", "serve", "--url", url, "--words", "--num-prompts", 8, "--concurrency", 1)
                self.assertEqual(done.returncode, 1)
                self.assertIn("\n3 x http 503: slot unavailable\n", done.stdout)
            finally:
                other.shutdown()
                thread.join()

    def test_a_server_that_says_nothing(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            self.refused("bench", "serve", "--url", url, "--timeout-s", 1, needles=[url, "timeout"])


class Refusals(BenchServeCase):
    def test_what_cannot_be_sent_is_refused(self):
        model = support.tiny_model()
        csv = support.fresh_directory() / "trace.csv"
        csv.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n")
        for arguments, needle in (((), "MODEL"), ((model, "--url", "http://127.0.0.1:1"), "--url"),
                                  (("--url", "http://example.org"), "only the loopback"), (("--url", "https://127.0.0.1"), "http://"),
                                  (("--url", "http://127.0.0.1:1"), "no server at"), ((model, "--rate", 0), "--rate"),
                                  ((model, "--rate", "x"), "--rate"), ((model, "--concurrency", 0), "--concurrency"),
                                  ((model, "--concurrency", "2,3"), '"2,3"'), ((model, "--num-prompts", 0), "--num-prompts"),
                                  ((model, "--input-len", 500), "the context of"), ((model, "--goodput", "speed:3"), "--goodput"),
                                  ((model, "--shared-prefix-len", 10, "--num-prompts", 1), "--num-prompts"),
                                  ((model, "--trace", "absent.jsonl"), "absent.jsonl"), ((model, "--trace", csv), "line 2"),
                                  ((model, "--trace", csv, "--rate", 1), "--rate"), ((model, "--speed-up", 2), "--trace"),
                                  ((model, "--trace", csv, "--speed-up", 0), "--speed-up"),
                                  ((model, "--trace", csv, "--input-len", 3), "--trace"), ((model, "--offline", "--rate", 1), "--rate"),
                                  ((model, "--extra-body", "[]"), "--extra-body"), ((model, "--extra-body", "{"), "--extra-body"),
                                  ((model, "--endpoint", "v1"), "--endpoint"), ((model, "--fail-below", 1), "--compare"),
                                  ((model, "--timeout-s", 0), "--timeout-s"), (("absent-model",), "absent-model")):
            with self.subTest(arguments=arguments):
                self.refused("bench", "serve", *arguments, needles=[needle])
        self.refused("bench", "--repeat", 3, "serve", model, needles=["--repeat", "serve"])

    def test_more_connections_than_files_may_be_open(self):
        def few_files():
            import resource
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        done = support.run("bench", "serve", support.tiny_model(), "--concurrency", 500, "--num-prompts", 500, preexec_fn=few_files)
        self.assert_refused(done, "--concurrency 500", "1064 open files", "200")


@unittest.skipUnless(LONG, "set FATHOM_ALL=1 for a thousand streams")
@unittest.skipUnless(DEMO.is_dir(), "needs models/demo")
class ThousandStreams(BenchServeCase):
    STREAMS = 1000

    @staticmethod
    def resident_kib(pid):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))

    def test_a_thousand_open_streams(self):
        """1,000 streams for 80 seconds, each one on its own connection, where the next request follows the last: all are open at
        every look, /health answers within a second, and from the first minute on memory does not grow."""
        seconds, tokens = 80, 40  # with the prompt less than a page: all are as long as they get well within the first minute
        numbers = itertools.count()

        def request():  # each one of its own
            body = json.dumps({"prompt": f"Once upon a time {next(numbers)}", "max_tokens": tokens, "ignore_eos": True,
                               "stream": True}).encode()
            return b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        with server("--max-num-seqs", self.STREAMS, "--prompt-chunk", 2 * self.STREAMS, "--cache-tokens", 512 * self.STREAMS,
                    model=DEMO) as running, contextlib.ExitStack() as sockets:
            looks = []  # (seconds, of /health, connections, running sequences, resident KiB)
            stop = threading.Event()

            def look():
                begin = time.monotonic()
                while not stop.wait(1):
                    asked = time.monotonic()
                    status = running.ask("GET", "/health")[0]
                    took = time.monotonic() - asked
                    if status != 200:
                        took = float("inf")
                    text = running.ask("GET", "/metrics")[2]
                    metric = {name: float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE).group(1))
                              for name in ("fathom_connections", "fathom_sequences_running")}
                    looks.append((asked - begin, took, *metric.values(), self.resident_kib(running.process.pid)))
            selector = sockets.enter_context(selectors.DefaultSelector())
            ends = {}
            for _ in range(self.STREAMS):
                client = sockets.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=support.TIMEOUT_S))
                client.sendall(request())
                client.setblocking(False)
                selector.register(client, selectors.EVENT_READ)
                ends[client] = b""
            looking = threading.Thread(target=look)
            looking.start()
            finished, deadline = 0, time.monotonic() + seconds
            try:
                while time.monotonic() < deadline:
                    for key, _ in selector.select(timeout=1):
                        client = key.fileobj
                        got = client.recv(1 << 16)
                        self.assertTrue(got, "a stream was closed")
                        self.assertNotIn(b'"error"', got)
                        ends[client] = (ends[client] + got)[-40:]
                        if ends[client].endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
                            finished += 1
                            ends[client] = b""
                            client.sendall(request())
            finally:
                stop.set()
                looking.join()
            self.assertGreater(len(looks), seconds / 4)
            self.assertEqual({look[2] for look in looks}, {self.STREAMS + 1}, "all of them, and the one that asks")
            self.assertLess(max(look[1] for look in looks), 1, "seconds for /health")
            self.assertGreaterEqual(max(look[3] for look in looks), 0.9 * self.STREAMS, "computed at the same time")
            minute = min((look for look in looks if look[0] >= 60), default=looks[-1])
            self.assertLess(looks[-1][4], 1.01 * minute[4] + 4096, f"resident KiB: {[look[4] for look in looks]}")
            self.assertGreater(finished, 0, "streams end and begin again")


if __name__ == "__main__":
    unittest.main()
