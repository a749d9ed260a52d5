#!/usr/bin/env python3
"""Seconds from the start of a server to the first token of its first answer: servers are started in turn, asked as soon
as they say that they are ready, and ended.

  python3 bench/first_token.py --rounds 5 \\
      kept="fathom serve FILE --port {port} --threads 2 --keep-prepared" \\
      packed="fathom serve FILE --port {port} --threads 2" \\
      peer="llama-server -m FILE --port {port} -t 2 -c 4096"

Servers speak OpenAI's /v1/completions and say at /health when they are ready. Medians and quartiles; ratios are of the last
server's time in the same round: 0.5 is half of it. One start of each before is not counted, so that files are in the page
cache and kept weights are there.
"""

import argparse
import json
import shlex
import subprocess
import time
import urllib.error
import urllib.request

from alternate import quartiles

PROMPT = "The quick brown fox jumps over the lazy dog and then it sleeps all day"  # 16 tokens, a few more or less


def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def first_token(command, port, most_seconds):
    """(seconds until ready, seconds until the first token) of a server that is started for it."""
    start = time.perf_counter()
    with subprocess.Popen(shlex.split(command.format(port=port)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while True:
                try:
                    ask(f"http://127.0.0.1:{port}/health")
                    break
                except (urllib.error.URLError, ConnectionError):
                    if server.poll() is not None:
                        raise SystemExit(f"ended with status {server.returncode} before it was ready: {command}") from None
                    if time.perf_counter() - start > most_seconds:
                        raise SystemExit(f"not ready after {most_seconds} s: {command}") from None
                    time.sleep(0.01)
            ready = time.perf_counter() - start
            ask(f"http://127.0.0.1:{port}/v1/completions", {"prompt": PROMPT, "max_tokens": 1, "temperature": 0})
            return ready, time.perf_counter() - start
        finally:
            server.terminate()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", metavar="NAME=COMMAND", help="{port} stands for a free port of 127.0.0.1")
    parser.add_argument("--rounds", type=int, default=5, help="counted starts of each (default 5)")
    parser.add_argument("--port", type=int, default=18100, help="the first of the ports (default 18100)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for a server to be ready (default 300)")
    args = parser.parse_args()
    servers = [text.partition("=")[::2] for text in args.servers]
    if args.rounds < 2 or any(not command or "{port}" not in command for _, command in servers):
        parser.error("--rounds of at least 2 and, for each server, NAME=COMMAND with {port} are needed")

    times = {name: [] for name, _ in servers}
    port = args.port
    for round_number in range(args.rounds + 1):
        for name, command in servers:
            measured = first_token(command, port, args.timeout)
            port += 1  # the last one's port may not be free yet
            if round_number > 0:
                times[name].append(measured)
    last = [token for _, token in times[servers[-1][0]]]
    for name, _ in servers:
        tokens = [token for _, token in times[name]]
        ratio = quartiles([mine / theirs for mine, theirs in zip(tokens, last)])
        print(f"{name}: ready {quartiles([ready for ready, _ in times[name]])} s, first token {quartiles(tokens)} s, ratio {ratio}")


if __name__ == "__main__":
    main()
