"""fathom serve when the world is hostile: huge bodies, full disks, kills at any moment, and a log nobody can write."""

import json
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import time
import unittest

import support
from serve_test import CHAT, server
from support import CommandLineCase

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


def peak_bytes(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))


class HugeBodies(CommandLineCase):
    """100 MB, announced or in chunks: refused in words, and never held in memory."""

    def refusal(self, running, head, pieces):
        with socket.create_connection(("127.0.0.1", running.port), timeout=support.TIMEOUT_S) as client:
            client.sendall(head)
            try:
                for piece in pieces:
                    client.sendall(piece)
            except OSError:
                pass  # the server has closed: the answer is what counts
            answer = b""
            while b"\r\n\r\n" not in answer or b"}}" not in answer:
                got = client.recv(65536)
                if not got:
                    break
                answer += got
            return answer

    def test_a_body_of_100_megabytes(self):
        megabyte = b" " * 1_000_000
        with server() as running:
            running.ask("POST", "/v1/chat/completions", CHAT)
            before = peak_bytes(running.process)
            length = self.refusal(running, HEAD + b"Content-Length: 100000000\r\n\r\n", [megabyte] * 100)
            chunks = self.refusal(running, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", [b"f4240\r\n" + megabyte + b"\r\n"] * 100)
            waits = self.refusal(running, HEAD + b"Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n", [])
            for answer in (length, chunks, waits):
                self.assertTrue(answer.startswith(b"HTTP/1.1 413 "), answer[:200])
                self.assertIn(b'"code":"body_too_large"', answer)
            self.assertLess(peak_bytes(running.process) - before, 50_000_000)
            self.assertEqual(running.ask("POST", "/v1/chat/completions", CHAT)[0], 200)


class PrefixDirectory(CommandLineCase):
    """The pages of the prefix cache after kills and on full disks: what is there is right, or it is not used."""

    def body(self, text):
        return {"prompt": f"Once upon a time there was a {text}. " * 8, "max_tokens": 6, "temperature": 0, "logprobs": 1}

    def ask(self, running, text="fox"):
        status, _, body = running.ask("POST", "/v1/completions", self.body(text))
        self.assertEqual(status, 200, body)
        return json.loads(body)["choices"]

    def test_kills_at_any_moment_leave_right_pages_or_none(self):
        directory = support.fresh_directory()
        with server() as running:
            expected = self.ask(running)
        delays = random.Random(7)
        for _ in range(5):
            with server("--prefix-cache-dir", directory) as running:
                self.assertEqual(self.ask(running), expected)
                self.assertEqual(self.metric(running, "fathom_prefix_store_damaged_total"), 0, "a file appears whole or not at all")
                time.sleep(delays.uniform(0, 0.02))  # while pages are written, or behind
                running.process.kill()
        with server("--prefix-cache-dir", directory) as running:
            self.assertEqual(self.ask(running), expected)
            self.assertGreater(self.metric(running, "fathom_prefix_store_read_total"), 0, "no orderly end is needed")
            self.assertEqual(running.end()[0], 0)
        names = [p.name for p in directory.iterdir()]
        self.assertTrue(names)
        for name in names:
            self.assertRegex(name, r"^[0-9a-f]{16}-[0-9a-f]{16}\.page$", "nothing half written stays")

    def metric(self, running, name):
        _, _, body = running.ask("GET", "/metrics")
        return int(re.search(rf"^{name} (\d+)$", body.decode() if isinstance(body, bytes) else body, re.MULTILINE)[1])

    def test_a_disk_that_takes_no_more_leaves_the_old_pages(self):
        directory = support.fresh_directory()
        with server("--prefix-cache-dir", directory) as running:
            expected = self.ask(running)
            self.assertEqual(running.end()[0], 0)
        with self.unchanged(directory), server("--prefix-cache-dir", directory) as running:
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (100, 100))
            for text in ("hare", "hedgehog", "wolf"):
                self.ask(running, text)
            code, out, err = running.end()
            self.assertEqual((code, err), (0, ""))
            self.assertRegex(out, r"prefix cache: .*\.page\.partial.*File too large.*; serving goes on")
            self.assertEqual(out.count("File too large"), 1, "said once")
        with server("--prefix-cache-dir", directory) as running:
            self.assertRegex("\n".join(running.lines), r"prefix cache: [1-9]\d* pages in ")
            self.assertEqual(self.ask(running), expected)
            self.assertGreater(self.metric(running, "fathom_prefix_store_read_total"), 0)

    def test_a_full_file_system(self):
        directory = support.fresh_directory()
        mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=4k full "$0" && exec "$@"', str(directory)]
        if not shutil.which("unshare") or subprocess.run([*mount, "true"], capture_output=True).returncode:
            self.skipTest("no small file system can be mounted here")
        with server("--prefix-cache-dir", directory, wrap=mount) as running:
            self.ask(running)
            code, out, err = running.end()
            self.assertEqual((code, err), (0, ""))
            self.assertRegex(out, r"prefix cache: .*No space left on device; free some space")


class Output(CommandLineCase):
    def test_a_full_disk_under_the_log_ends_nothing(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with open("/dev/full", "w") as full:
            process = subprocess.Popen([support.BINARY, "serve", str(support.endless_model("f32")), "--port", str(port), "-t", "1",
                                        "--log-requests"], stdin=subprocess.DEVNULL, stdout=full, stderr=full, env=support.environment())
        try:
            def answers(path):
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=support.TIMEOUT_S) as client:
                        client.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path)
                        return client.recv(100).startswith(b"HTTP/1.1 200")
                except OSError:
                    return False
            support.wait_until(lambda: process.poll() is not None or answers(b"/health"), "the server")
            self.assertTrue(all(answers(b"/v1/models") for _ in range(20)))
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(timeout=support.TIMEOUT_S), 0)
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    unittest.main()
