"""fathom serve: start and end of the program, what it prints and refuses, and a conversation over HTTP."""

import contextlib
import http.client
import json
import pathlib
import re
import signal
import socket
import threading
import unittest

import support
from support import CommandLineCase

CHAT = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "max_tokens": 8}


class Running:
    """A started server; lines of its standard output as they come."""

    def __init__(self, *arguments, model=None, env=None, wrap=()):
        """`wrap`: a command that runs the program, which it gets as its further arguments."""
        self.process = support.start("serve", model or support.endless_model("f32"), "--port", 0, "-t", 1, *arguments, env=env, wrap=wrap)
        self.lines = []
        while not self.lines or not self.lines[-1].startswith("ready on "):
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(f"the server ended: {self.process.stderr.read()}")
            self.lines.append(line.rstrip("\n"))
        self.port = int(self.lines[-1].rsplit(":", 1)[1])

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=support.TIMEOUT_S)
        with contextlib.closing(connection):
            data = json.dumps(body) if isinstance(body, dict) else body
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()

    def metric(self, name):
        for line in self.ask("GET", "/metrics")[2].splitlines():
            if line.startswith(name + " "):
                return float(line.split()[-1])
        return None

    def end(self, number=signal.SIGTERM):
        support.interrupt(self.process, number)
        out, err = self.process.communicate(timeout=support.TIMEOUT_S)
        return self.process.returncode, out, err


@contextlib.contextmanager
def server(*arguments, **options):
    running = Running(*arguments, **options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


class Life(CommandLineCase):
    def test_it_says_what_it_serves_answers_and_ends_with_0(self):
        with server("--served-model-name", "pet", "--served-model-name", "other") as running:
            text = "\n".join(running.lines)
            self.assertRegex(text, r"\Alistening on http://127\.0\.0\.1:\d+, loading ")
            self.assertRegex(text, r"\nmodel pet: deepseek_v3, F32 weights, context 512 tokens\n")
            self.assertRegex(text, r"\ncache \d+ tokens, \d+ full-length requests, FP32\nweights 0 MiB, checked every 600 s\nready on http://127\.0\.0\.1:\d+\Z")
            self.assertEqual(running.ask("GET", "/health")[0], 200)
            models = json.loads(running.ask("GET", "/v1/models")[2])
            self.assertEqual([m["id"] for m in models["data"]], ["pet", "other"])
            status, headers, body = running.ask("POST", "/v1/chat/completions", CHAT)
            self.assertEqual(status, 200, body)
            self.assertIn("X-Request-Id", headers)
            answer = json.loads(body)
            self.assertEqual(answer["usage"]["completion_tokens"], 8)
            status, _, body = running.ask("POST", "/v1/chat/completions", CHAT | {"stream": True})
            self.assertEqual(status, 200)
            pieces = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
            self.assertEqual("".join(p["choices"][0]["delta"].get("content", "") for p in pieces),
                             answer["choices"][0]["message"]["content"])
            self.assertTrue(body.endswith("data: [DONE]\n\n"))
            code, out, err = running.end()
            self.assertEqual((code, err), (0, ""))
            self.assertIn("ending", out)

    def test_it_gives_the_answers_of_generate(self):
        model = support.endless_model("f32")
        expected = self.generate_json(model, "-p", "Once upon a time", "-n", 20, "--temperature", 0, "-t", 1)["text"]
        with server() as running:
            body = {"prompt": "Once upon a time", "max_tokens": 20, "temperature": 0}
            answer = json.loads(running.ask("POST", "/v1/completions", body)[2])
            self.assertEqual(answer["choices"][0]["text"], expected)

    def test_sigterm_lets_requests_finish(self):
        with server() as running:
            answers = []
            asking = threading.Thread(
                target=lambda: answers.append(running.ask("POST", "/v1/chat/completions", CHAT | {"max_tokens": 400})))
            asking.start()
            support.wait_until(lambda: running.metric("fathom_sequences_running") or answers, "the request to run")
            code, _, _ = running.end()
            asking.join()
            self.assertEqual(code, 0)
            self.assertEqual(answers[0][0], 200)
            self.assertEqual(json.loads(answers[0][2])["usage"]["completion_tokens"], 400)

    def test_the_drain_timeout_ends_what_does_not_finish(self):
        with server("--drain-timeout", 0) as running:
            with socket.create_connection(("127.0.0.1", running.port)) as silent:
                silent.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
                support.wait_until(lambda: running.metric("fathom_connections") == 2, "the connection")
                code, out, _ = running.end()
                self.assertEqual(code, 0)
                self.assertIn("not finished after 0 s", out)

    def test_a_client_that_leaves_frees_its_pages(self):
        with server() as running:
            with socket.create_connection(("127.0.0.1", running.port)) as client:
                body = json.dumps(CHAT | {"max_tokens": 450, "n": 4, "stream": True}).encode()
                client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200"))
            support.wait_until(lambda: running.metric("fathom_cache_pages_in_use") == 0, "the pages")


class PrefixCacheDirectory(CommandLineCase):
    BODY = {"prompt": "Once upon a time there was a fox. " * 8, "max_tokens": 8, "temperature": 0, "logprobs": 1}

    def ask(self, running):
        answer = json.loads(running.ask("POST", "/v1/completions", self.BODY)[2])
        return answer["choices"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    def test_pages_are_found_after_a_restart_and_never_when_damaged(self):
        directory = support.fresh_directory() / "new" / "pages"
        with server("--prefix-cache-dir", directory) as running:
            choices, cached = self.ask(running)
            self.assertEqual(cached, 0)
            code, out, _ = running.end()
            self.assertEqual(code, 0)
            self.assertIn(f"prefix cache: kept in {directory}", out)
        files = sorted(directory.iterdir())
        with server("--prefix-cache-dir", directory) as running:
            self.assertIn(f"prefix cache: {len(files)} pages in {directory}", running.lines)
            again, cached = self.ask(running)
            self.assertEqual(again, choices)
            self.assertGreaterEqual(cached, 64)
            running.process.kill()
        for file in files:
            whole = bytearray(file.read_bytes())
            whole[len(whole) // 2] ^= 1
            file.write_bytes(whole)
        with server("--prefix-cache-dir", directory) as running:
            again, cached = self.ask(running)
            self.assertEqual((again, cached), (choices, 0))
            self.assertEqual(running.end()[0], 0)
        with server("--prefix-cache-dir", directory) as running:
            again, cached = self.ask(running)
            self.assertEqual(again, choices)
            self.assertGreaterEqual(cached, 64, "pages that were damaged have been written again")

    def test_wrong_sizes_of_the_directory(self):
        directory = support.fresh_directory()
        for wrong in ("0", "-1", "ten", "50%", "1e99TB"):
            done = support.run("serve", support.tiny_model(), "--port", 0, "--prefix-cache-dir", directory, f"--prefix-cache-size={wrong}")
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.check_error_line(done.stderr, f"--prefix-cache-size: \"{wrong}\"")
        done = support.run("serve", support.tiny_model(), "--port", 0, "--prefix-cache-dir", directory, "--prefix-cache-size", "1kB")
        self.assertEqual(done.returncode, 2)
        self.check_error_line(done.stderr, "--prefix-cache-size: 1000 bytes have no room for a page of this model; give ")
        done = support.run("serve", support.tiny_model(), "--port", 0, "--prefix-cache-size", "1GB")
        self.assertEqual(done.returncode, 2)
        self.check_error_line(done.stderr, "--prefix-cache-dir")

    def test_another_precision_or_dtype_does_not_use_them(self):
        directory = support.fresh_directory()
        with server("--prefix-cache-dir", directory) as running:
            self.ask(running)
            self.assertEqual(running.end()[0], 0)
        for flags in (("--precision", "bf16"), ("--precision", "bf16", "--kv-cache-dtype", "fp8")):
            with self.subTest(flags=flags), server("--prefix-cache-dir", directory, *flags) as running:
                self.assertIn(f"prefix cache: 0 pages in {directory}", running.lines)
                self.assertEqual(self.ask(running)[1], 0)
        with server("--prefix-cache-dir", directory) as running:
            self.assertRegex("\n".join(running.lines), r"prefix cache: [1-9]\d* pages in ", "nothing was lost")

    def test_one_server_at_a_time_has_the_directory(self):
        directory = support.fresh_directory()
        with server("--prefix-cache-dir", directory) as running:
            done = support.run("serve", support.tiny_model(), "--port", 0, "--prefix-cache-dir", directory)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.check_error_line(done.stderr, f"--prefix-cache-dir: {directory} is in use by another server")
            if pathlib.Path("/proc/locks").exists() and f":{directory.stat().st_ino} " in pathlib.Path("/proc/locks").read_text():
                self.assertIn(f"(process {running.process.pid})", done.stderr)
            running.process.kill()
            running.process.wait()
            with server("--prefix-cache-dir", directory):
                pass  # a kill leaves no lock


class Ends(CommandLineCase):
    """A stream that is not finished when the server has to end."""

    def stream(self, running):
        client = socket.create_connection(("127.0.0.1", running.port), timeout=support.TIMEOUT_S)
        body = json.dumps(CHAT | {"max_tokens": 450, "n": 100, "stream": True}).encode()
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        got = b""
        while b'"content":"' not in got:
            got += client.recv(65536)
        return client

    def rest(self, client):
        got = b""
        while True:
            piece = client.recv(65536)
            if not piece:
                return got.decode()
            got += piece

    def check_told(self, text, out, err, why):
        self.assertIn('"code":"shutting_down"', text)
        self.assertRegex(text, r"data: \[DONE\]\n\n\r\n0\r\n\r\n\Z")
        self.assertIn(f"ended requests that were not finished {why}", out)
        self.assertEqual(err, "ended 1 unfinished requests with the error shutting_down\n")

    def test_the_drain_timeout_ends_a_stream_with_an_error(self):
        with server("--drain-timeout", 0, "--max-num-seqs", 2) as running, contextlib.closing(self.stream(running)) as client:
            support.interrupt(running.process, signal.SIGTERM)
            text = self.rest(client)
            out, err = running.process.communicate(timeout=support.TIMEOUT_S)
            self.assertEqual(running.process.returncode, 0)
            self.check_told(text, out, err, "after 0 s")

    def test_a_second_signal_does_so_too_and_probes_hear_of_the_first(self):
        with server("--max-num-seqs", 2) as running, contextlib.closing(self.stream(running)) as client:
            support.interrupt(running.process, signal.SIGTERM)

            def ends():
                status, _, body = running.ask("GET", "/health")
                return status == 503 and "shutting_down" in body
            support.wait_until(ends, "the drain")
            running.process.send_signal(signal.SIGTERM)
            text = self.rest(client)
            out, err = running.process.communicate(timeout=support.TIMEOUT_S)
            self.assertEqual(running.process.returncode, 0)
            self.check_told(text, out, err, "at the second signal")


class Verification(CommandLineCase):
    def test_weights_are_hashed_and_checked_again(self):
        with server("--weight-check-interval", 1) as running:
            support.wait_until(lambda: running.metric("fathom_weight_passes_total") >= 2, "two passes")
            self.assertEqual(running.metric("fathom_weight_damages_total"), 0)
        with server("--weight-check-interval", 0) as running:
            self.assertNotIn("checked every", "\n".join(running.lines))

    def test_every_answer_is_computed_again(self):
        with server("--verify", "100%") as running:
            for _ in range(3):
                running.ask("POST", "/v1/chat/completions", CHAT | {"temperature": 1, "n": 2})
            support.wait_until(lambda: running.metric("fathom_verified_total") == 6, "the replays")
            self.assertEqual(running.metric("fathom_verify_mismatches_total"), 0)
            self.assertEqual(running.ask("GET", "/health")[0], 200)


class Flags(CommandLineCase):
    def test_rates_are_limited(self):
        with server("--rate-limit", 1) as running:
            self.assertEqual(running.ask("POST", "/v1/chat/completions", CHAT)[0], 200)
            status, headers, _ = running.ask("POST", "/v1/chat/completions", CHAT)
            self.assertEqual(status, 429)
            self.assertTrue(1 <= int(headers["Retry-After"]) <= 60)

    def test_metrics_speak_other_dialects_if_asked(self):
        with server("--metrics-compat", "vllm,sglang", "--enable-metrics", "--speculate", "lookup") as running:
            text = running.ask("GET", "/metrics")[2]
            self.assertIn("\nvllm:num_requests_running{", text)
            self.assertIn("\nsglang:num_running_reqs{", text)
        with server() as running:
            self.assertNotIn("vllm:", running.ask("GET", "/metrics")[2])

    def test_the_names_of_other_servers_work(self):
        for flags in (("--max-model-len=0.256k", "--max-num-seqs", 4), ("-c", 256, "-np", 4),
                      ("--context-length", 256, "--max-running-requests", 4), ("--ctx-size", 256, "--parallel", 4)):
            with self.subTest(flags=flags), server(*flags, "--alias", "x") as running:
                self.assertIn("context 256 tokens", running.lines[1])
                self.assertEqual(running.lines[2], "cache 1024 tokens, 4 full-length requests, FP32")

    def test_flags_of_others_without_effect_are_told(self):
        config = '{"method": "ngram", "num_speculative_tokens": 3}'
        with server("-ngl", 99, "--no-mmap", "--mlock", "-ub", 512, "-fa", "on", "-cb", "--dtype", "float32", "--trust-remote-code",
                    "--tensor-parallel-size", 1, "--swap-space=4", "--disable-log-requests", "-ctk", "auto", "-ctv", "auto",
                    "--speculative-config", config) as running:
            self.assertEqual(running.lines[0], "without effect here: -ngl 99, --no-mmap, --mlock, -ub 512, -fa on, -cb, "
                             "--trust-remote-code, --tensor-parallel-size 1, --swap-space 4, --disable-log-requests")
            running.ask("POST", "/v1/completions", {"prompt": [1, 2, 3, 1, 2, 3, 1, 2], "max_tokens": 100, "ignore_eos": True,
                                                    "logit_bias": {"1": 100}})  # repeats, and goes on until a trial is affordable
            self.assertGreater(running.metric("fathom_draft_tokens_total"), 0, "by --speculative-config")

    def test_no_flag_of_ours_is_taken_for_one_without_effect(self):
        listed = support.made("serve", "--help").stdout
        ours = {name for line in re.findall(r"^  (-\S+)", listed, re.MULTILINE) for name in line.split(",")}
        self.assertIn("--log-level", ours)
        source = (support.ROOT / "src" / "apps" / "foreign_flags.cc").read_text()
        swallowed = set(re.findall(r'\{"(-[^"]+)", Kind::k(?:Switch|Value|Maybe|One)\}', source))
        self.assertIn("--no-mmap", swallowed)
        self.assertEqual(ours & swallowed, set())
        self.refused("serve", support.tiny_model(), "--port", 0, "--log-level", "loud", needles=["--log-level", "debug"])

    def test_flags_of_others_that_cannot_be_had_are_refused_by_name(self):
        model = support.tiny_model()
        for flags, needles in ((("--tensor-parallel-size", 2), ["--tensor-parallel-size 2", "accepted: 1"]), (("-tp=4",), ["-tp 4"]),
                               (("--dtype", "float16"), ["--dtype float16", "bfloat16"]), (("-ctk", "q8_0"), ["-ctk q8_0", "fp8"]),
                               (("-ctk", "bf16", "-ctv", "fp8"), ["-ctv fp8"]), (("-xyz", 3), ["no flag -xyz"]), (("-ub",), ["-ub needs"]),
                               (("--speculative-config", '{"method": "medusa"}'), ["--speculative-config", '"ngram"']),
                               (("--speculative-config", "{"), ["--speculative-config"]), (("--max-model-len", "many"), ["many"]),
                               (("--device", "cuda"), ["--device cuda", "cpu"]), (("--no-cont-batching",), ["--no-cont-batching"])):
            with self.subTest(flags=flags):
                self.refused("serve", model, "--port", 0, *flags, needles=needles)
        self.refused("serve", "-hf", "nobody/none", "--port", 0, needles=["nobody/none"])

    def test_wrong_values_are_known_before_it_listens(self):
        model = support.tiny_model()
        for flag, value in (("--kv-cache-dtype", "int3"), ("--precision", "f64"), ("--quant", "int9"), ("--mla", "no"), ("--speculate", "x")):
            done = support.run("serve", model, "--port", 0, flag, value)
            self.assertEqual((done.returncode, done.stdout), (2, ""), flag)
            self.check_error_line(done.stderr, flag)

    def test_priorities_above_the_usual_are_for_those_who_are_let(self):
        body = {"prompt": "a", "max_tokens": 1, "priority": -3}
        with server() as running:
            status, _, answer = running.ask("POST", "/v1/completions", body)
            self.assertEqual((status, json.loads(answer)["error"]["param"]), (400, "priority"))
        with server("--min-client-priority", -3) as running:
            self.assertEqual(running.ask("POST", "/v1/completions", body)[0], 200)

    def test_cache_tokens_are_as_given(self):
        with server("--cache-tokens", 640) as running:
            self.assertEqual(running.lines[2], "cache 640 tokens, 1 full-length requests, FP32")

    def test_a_cache_in_fp8_holds_more_tokens_in_the_same_memory(self):
        config = json.loads((support.tiny_model() / "config.json").read_text())
        latent, rope = config["kv_lora_rank"], config["qk_rope_head_dim"]
        token_bytes = {"bf16": 2 * (latent + rope), "fp8": latent + 2 * rope + -(-latent // 128)}
        tokens = {}
        for dtype in token_bytes:
            with server("--max-memory", "200MB", "--max-num-seqs", 100000, "--kv-cache-dtype", dtype) as running:
                found = re.fullmatch(r"cache (\d+) tokens, (\d+) full-length requests, (\w+)", running.lines[2])
                tokens[dtype], requests = int(found.group(1)), int(found.group(2))
                self.assertEqual((requests, found.group(3)), (tokens[dtype] // 512, dtype.upper()))
        self.assertAlmostEqual(tokens["fp8"] / tokens["bf16"], token_bytes["bf16"] / token_bytes["fp8"], places=3)

    def test_keys_from_flag_environment_and_file(self):
        keys = support.fresh_directory() / "keys"
        keys.write_text("from-file\n")
        env = support.environment(FATHOM_API_KEY="from-environment")
        with server("--api-key-file", keys, env=env) as running:
            def status(key):
                return running.ask("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})[0]
            self.assertEqual(running.ask("GET", "/v1/models")[0], 401)
            self.assertEqual([status(key) for key in ("from-file", "from-environment", "x")], [200, 200, 401])
            keys.write_text("another-one\n")
            support.interrupt(running.process, signal.SIGHUP)
            support.wait_until(lambda: status("another-one") == 200, "the new keys")
            self.assertEqual(status("from-file"), 401)

    def test_without_keys_to_read_anew_a_hangup_ends_it(self):
        with server() as running:
            support.interrupt(running.process, signal.SIGHUP)
            self.assertEqual(running.process.wait(support.TIMEOUT_S), 0)

    def test_requests_are_logged_only_if_asked_and_without_their_text(self):
        with server("--log-requests") as running:
            running.ask("POST", "/v1/chat/completions", CHAT, {"X-Request-Id": "mine"})
            code, _, err = running.end()
            self.assertEqual(code, 0)
            self.assertRegex(err, r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ POST /v1/chat/completions 200 \d+ bytes [\d.]+ ms mine\n\Z")
            self.assertNotIn("Hello", err)


class Refusals(CommandLineCase):
    def test_a_port_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.refused("serve", support.tiny_model(), "--port", port, needles=[port, "--port"])

    def test_a_directory_that_holds_no_model(self):
        empty = support.fresh_directory()
        done = support.run("serve", empty, "--port", 0)
        self.assertEqual(done.returncode, 2)
        self.check_error_line(done.stderr, empty / "config.json", "give a directory that has it, or a *.gguf file")

    def test_an_address_of_another_machine(self):
        self.refused("serve", support.tiny_model(), "--host", "203.0.113.1", "--port", 0, needles=["203.0.113.1", "--host", "0.0.0.0"])

    def test_a_prefix_cache_directory_that_cannot_be_written_is_known_at_the_start(self):
        for directory in ("/proc/self", "/dev/null"):
            self.refused("serve", support.tiny_model(), "--port", 0, "--prefix-cache-dir", directory, needles=["--prefix-cache-dir", directory])

    def test_values_that_do_not_fit_name_the_flag(self):
        model = support.tiny_model()
        for flag, value in (("--port", "65536"), ("--port", "http"), ("--max-num-seqs", "0"), ("--max-queue", "0"),
                            ("--max-connections", "0"), ("--max-body-bytes", "10"), ("--drain-timeout", "-1"),
                            ("--cache-memory-share", "2"), ("--cache-tokens", "-1"), ("--reasoning-parser", "qwen"),
                            ("--max-model-len", "513"), ("--verify", "200%"), ("--rate-limit", "many"),
                            ("--metrics-compat", "tgi"), ("--tool-call-parser", "hermes"), ("--speculate", "magic"), ("--host", "256.0.0.1"), ("--api-key-file", "/nonexistent"),
                            ("--ssl-certfile", "/nonexistent")):
            with self.subTest(flag=flag):
                done = support.run("serve", model, "--port=0", f"{flag}={value}")
                self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
                expected = {"--max-model-len": "--context", "--api-key-file": "/nonexistent"}.get(flag, flag)
                self.check_error_line(done.stderr, expected)

    def test_a_model_that_is_not_there(self):
        done = support.run("serve", "/nonexistent", "--port", 0)
        self.assertEqual(done.returncode, 2)
        self.check_error_line(done.stderr, "/nonexistent")


if __name__ == "__main__":
    unittest.main()
