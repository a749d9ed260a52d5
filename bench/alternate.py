#!/usr/bin/env python3
"""Generated tokens per second of servers that take turns, so that a machine whose memory is fast now and slow in a
minute is as fast for each: the same prompt to one after the other, again and again; medians, and the ratios of turns.

  fathom serve FILE --port 8091 &  llama-server -m FILE --port 8090 &
  python3 bench/alternate.py http://127.0.0.1:8090 http://127.0.0.1:8091 --depth 16,4096 --tokens 32 --rounds 14

Servers speak OpenAI's /v1/completions and take token ids as a prompt. Each keeps a prompt that it has seen (its first
answer is not counted), and the clock runs from the first token to the last: the prompt is not in it. Ratios are of the
first server's: 1.1 is a tenth faster.
"""

import argparse
import json
import random
import statistics
import time
import urllib.request


def seconds_per_token(url, prompt, tokens, extra, timeout):
    """The mean time between the tokens of one answer."""
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True, "ignore_eos": True, **extra}
    request = urllib.request.Request(url.rstrip("/") + "/v1/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    times = []
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        for line in answer:
            if line.startswith(b"data:") and b"[DONE]" not in line:
                times.append(time.perf_counter())
    # Some servers end with a piece that has no token.
    times = times[:tokens]
    if len(times) < tokens // 2:
        raise SystemExit(f"{url} streamed {len(times)} pieces for {tokens} tokens: one of each is needed; raise --vocab "
                         "or give --extra-body a logit_bias against tokens that are no text")
    return (times[-1] - times[0]) / (len(times) - 1)


def quartiles(values):
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.4g} ({low:.4g} to {high:.4g})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("urls", nargs="+", metavar="URL", help="the first is what the others are compared with")
    parser.add_argument("--depth", default="16", help="tokens of the prompt, several with commas (default 16)")
    parser.add_argument("--tokens", type=int, default=32, help="generated in a turn (default 32)")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each server (default 10)")
    parser.add_argument("--vocab", type=int, default=16000, help="ids of the prompt are below (default 16000)")
    parser.add_argument("--extra-body", type=json.loads, default={}, help="more members of each request, as JSON")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for an answer (default 900)")
    args = parser.parse_args()
    if args.tokens < 4 or args.rounds < 2 or args.vocab < 301:
        parser.error("--tokens of at least 4, --rounds of at least 2 and --vocab of at least 301 are needed")

    for depth in (int(text) for text in args.depth.split(",")):
        prompt = random.Random(depth).choices(range(300, args.vocab), k=depth)
        speeds = {url: [] for url in args.urls}
        for url in args.urls:
            seconds_per_token(url, prompt, 4, args.extra_body, args.timeout)
        for turn in range(args.rounds):
            for url in args.urls[:: 1 if turn % 2 == 0 else -1]:
                speeds[url].append(1 / seconds_per_token(url, prompt, args.tokens, args.extra_body, args.timeout))
        print(f"depth {depth}, {args.rounds} turns of {args.tokens} tokens: median (quartiles)")
        for url, speed in speeds.items():
            ratios = [new / first for new, first in zip(speed, speeds[args.urls[0]])]
            print(f"  {url}  {quartiles(speed)} tokens/s, ratio {quartiles(ratios)}", flush=True)


if __name__ == "__main__":
    main()
