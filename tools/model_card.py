#!/usr/bin/env python3
"""Writes the card of a model that fathom trained: README.md and loss.svg in the model's directory.

    tools/model_card.py MODEL --fathom build/src/apps/fathom --log log.jsonl --config demo.toml --sums 500 \\
        --text novels=held-out.txt [--text NAME=FILE ...] --baseline "xz -9=2.456" [--baseline NAME=BITS ...]

Every figure in the card is measured here by running the program; the outputs are not edited. Standard library only.
"""

import argparse
import json
import pathlib
import subprocess

PROMPTS = [
    ("chat", "Hello"), ("chat", "Who are you?"), ("chat", "What is 47 + 85?"), ("chat", "What is 512 + 389?"),
    ("chat", "What is 93 - 58?"), ("chat", "What is the opposite of hot?"), ("chat", "What day comes after Monday?"),
    ("chat", "What is the capital of France?"), ("chat", "Count from 1 to 10."), ("chat", "Can you tell me a story?"),
    ("chat", "My name is Ada. What is my name?"), ("chat", "What colour is the sky?"),
    ("text", "Once upon a time"), ("text", "Remember: Anna has 7 apples. Tom has a red kite.\nQuestion: What does Tom have?\nAnswer:"),
    ("text", "It is a truth universally acknowledged"), ("text", "The king said"), ("text", "ROMEO:\n"),
    ("text", "The river is"), ("text", "\"I do not know,\" said"), ("text", "In the year 1900"),
]


def run(*command, stdin=""):
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout


def answer(fathom, model, kind, prompt):
    if kind == "chat":
        return run(fathom, "chat", model, "--temperature", "0", "-n", "120", stdin=prompt + "\n").rstrip("\n")
    return prompt + json.loads(run(fathom, "generate", model, "-p", prompt, "--temperature", "0", "-n", "60", "--json"))["text"]


def curve(records, width=720, height=300):
    """The training loss (means of 20 steps) and validation bits per byte as an SVG."""
    steps = [(r["step"], r["loss.main"]) for r in records if "loss.main" in r]
    means = [(chunk[-1][0], sum(l for _, l in chunk) / len(chunk)) for chunk in
             (steps[i:i + 20] for i in range(0, len(steps), 20)) if chunk]
    validation = [(r["step"], r["validation.loss"]) for r in records if "validation.loss" in r]
    top = max(l for _, l in means + validation)
    bottom = min(l for _, l in means + validation)
    left, right, upper, lower = 50, width - 10, 15, height - 35

    def point(step, loss):
        return (left + (right - left) * step / steps[-1][0], lower - (lower - upper) * (loss - bottom) / (top - bottom))

    def line(values, colour):
        return f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="' + " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (point(*v) for v in values)) + '"/>'

    labels = "".join(f'<text x="{left - 6}" y="{point(0, v)[1] + 4:.1f}" text-anchor="end">{v:.1f}</text>'
                     for v in (bottom, (bottom + top) / 2, top))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
            f'<rect width="{width}" height="{height}" fill="white"/>'
            f'<path d="M{left},{upper}V{lower}H{right}" stroke="#888" fill="none"/>{labels}'
            f'{line(means, "#1f77b4")}{line(validation, "#d62728")}'
            f'<text x="{right}" y="{lower + 16}" text-anchor="end">step {steps[-1][0]}</text>'
            f'<text x="{right}" y="{upper + 12}" text-anchor="end" fill="#d62728">held-out natural text, nats per token</text>'
            f'<text x="{right}" y="{upper + 28}" text-anchor="end" fill="#1f77b4">training (natural and synthetic text)</text></svg>\n')


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--fathom", required=True)
    parser.add_argument("--log", type=pathlib.Path, required=True)
    parser.add_argument("--config", type=pathlib.Path, required=True)
    parser.add_argument("--sums", type=int, default=500)
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--baseline", action="append", default=[])
    parser.add_argument("--note", default="", help="what else is to be said of the run")
    options = parser.parse_args()
    records = []
    for record in map(json.loads, options.log.read_text().splitlines()):
        # As records_of_run in src/train: a start begins another log, a resume takes the later steps back.
        if record.get("event") in ("start", "resume"):
            kept = record["step"] if record["event"] == "resume" else -1
            records = [r for r in records if r["step"] <= kept]
        records.append(record)
    (options.model / "loss.svg").write_text(curve(records))
    info = json.loads(run(options.fathom, "inspect", str(options.model), "--json"))
    last = [r for r in records if "loss.main" in r][-1]
    rows = []
    for item in options.text:
        name, path = item.split("=", 1)
        result = json.loads(run(options.fathom, "eval", str(options.model), "--text", path, "--json"))
        rows.append(f"| {name} ({result['bytes']} bytes) | {result['bits_per_byte']:.4f} |")
    for item in options.baseline:
        name, bits = item.rsplit("=", 1)
        rows.append(f"| {name} | {float(bits):.4f} |")
    sums = json.loads(run(options.fathom, "eval", str(options.model), "--sums", str(options.sums), "--json"))
    samples = "\n\n".join(f"**{'Chat' if kind == 'chat' else 'Text'}**: {json.dumps(prompt, ensure_ascii=False)}\n\n```text\n"
                          f"{answer(options.fathom, str(options.model), kind, prompt)}\n```" for kind, prompt in PROMPTS)
    config = options.config.read_text().rstrip()
    (options.model / "README.md").write_text(f"""# fathom demo model

A small DeepSeek-V3 (model_type `{info['model_type']}`) that fathom trained from nothing on a CPU:
{info['parameters']['total'] / 1e6:.2f} M parameters, {info['parameters']['active'] / 1e6:.2f} M active per token (with the head,
without the embedding), {info['parameters']['mtp'] / 1e6:.2f} M more in the MTP module; {info['weight_bytes'] / 2 ** 20:.2f} MiB. It shows
that the whole path works. It knows nothing beyond its data and will say so in confident nonsense.

## Data

The first 95 % (by bytes, to the end of the line) of each file of natural text (19 Standard Ebooks novels, CC0; tinyshakespeare, public domain; 10,000 lines of
TinyStories, CDLA-Sharing-1.0; wikitext-2 test and validation, CC BY-SA 3.0; a Korean chat set, MIT) and `fathom data synth`
(micro-stories, worked arithmetic, key-value recall, chats; seed 1). The last 5 % of each file were seen by neither the tokenizer nor
the model. Sums are kept out by a fixed hash of the operands.

## Command

`tools/make_demo.sh TEXT_DIRECTORY WORK_DIRECTORY`, which ends in `fathom train` with

```toml
{config}
```

It took {last['step']} steps, {last['tokens'] / 1e6:.1f} M tokens. {options.note}

## Loss

![loss curve](loss.svg)

## Quality

| text | bits per byte |
|---|---|
{chr(10).join(rows)}

{sums['exact']} of {sums['sums']} held-out two-operand sums answered exactly (greedy; `fathom eval MODEL --sums {sums['sums']}`).

## Twenty prompts

Greedy, unedited.

{samples}
""")


if __name__ == "__main__":
    main()
