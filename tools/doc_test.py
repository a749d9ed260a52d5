#!/usr/bin/env python3
"""Runs the commands of the documentation and compares what they print with what the documentation says.

A block to run, with the output that must follow:

    <!-- run -->
    ```sh
    fathom --version
    ```
    <!-- output -->
    ```text
    fathom 0.1.0
    ...
    ```

The block runs under `sh -e` in a temporary working copy of the repository's tracked files, the same one for all blocks of
a page, with build/src/apps first on PATH. `<!-- run if PATH -->` marks a block that runs only where the working copy has
PATH; how many wait for it is said at the end. Standard output and standard error together must equal the text; a line that
is only `...` stands for any number of lines, and `...` inside a line for anything within it. A block without an output
must only succeed. A block of commands that is not run says why: `<!-- not run: REASON -->` before it. Exits with 1 and a diff on the first difference of each block.
"""

import argparse
import difflib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT_S = 120


class DocumentError(Exception):
    pass


def parse(text, name):
    """[(line number, commands, expected output or None, path that must exist or None)]"""
    lines = text.splitlines()
    blocks = []

    def fenced(at, language):
        """The body of the fenced block whose fence is line `at`, and the line after it."""
        if at >= len(lines) or lines[at].strip() != f"```{language}":
            raise DocumentError(f"{name}:{at + 1}: expected ```{language} here")
        for end in range(at + 1, len(lines)):
            if lines[end].strip() == "```":
                return lines[at + 1:end], end + 1
        raise DocumentError(f"{name}:{at + 1}: this block has no end")

    at = 0
    in_other_block = False
    while at < len(lines):
        stripped = lines[at].strip()
        run = re.fullmatch(r"<!-- run(?: if (\S+))? -->", stripped)
        if run and not in_other_block:
            commands, at_next = fenced(at + 1, "sh")
            number = at + 3
            following = at_next
            while following < len(lines) and not lines[following].strip():
                following += 1
            expected = None
            if following < len(lines) and lines[following].strip() == "<!-- output -->":
                expected, at_next = fenced(following + 1, "text")
            blocks.append((number, commands, expected, run.group(1)))
            at = at_next
            continue
        if stripped == "<!-- output -->" and not in_other_block:
            raise DocumentError(f"{name}:{at + 1}: an output without a <!-- run --> block before it")
        if stripped == "```sh" and not in_other_block and not re.fullmatch(r"<!-- not run: \S.* -->", lines[at - 1].strip() if at else ""):
            raise DocumentError(f"{name}:{at + 1}: commands without <!-- run --> or <!-- not run: REASON --> before them")
        if stripped.startswith("```"):
            in_other_block = not in_other_block
        at += 1
    return blocks


def line_matches(expected, actual):
    return re.fullmatch(".*".join(re.escape(part) for part in expected.split("...")), actual) is not None


def matches(expected, actual):
    """Whether lines `actual` are what `expected` says; one row of the table of all prefix matches at a time."""
    reachable = {0}  # lengths of prefixes of `actual` that the expected lines so far can stand for
    for line in expected:
        if line.strip() == "...":
            reachable = set(range(min(reachable), len(actual) + 1)) if reachable else set()
        else:
            reachable = {i + 1 for i in reachable if i < len(actual) and line_matches(line, actual[i])}
    return len(actual) in reachable


# What a program tells a log of long work: whether work is long is up to the machine.
PROGRESS = re.compile(r"[a-z ]+ [0-9]+ %, .+ left(, .*)?$")


def run_block(commands, folder, path):
    env = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
    try:
        done = subprocess.run(["sh", "-e", "-c", "\n".join(commands)], cwd=folder, env=env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return None, []
    lines = [line.rstrip() for line in done.stdout.decode(errors="replace").splitlines()]
    return done.returncode, [line for line in lines if not PROGRESS.match(line)]


def check_page(page, folder, path):
    """The problems of one page, each a text of one or more lines; the number of blocks run; the paths others wait for."""
    problems, num_run, waiting = [], 0, []
    for number, commands, expected, needed in parse(page.read_text(encoding="utf-8"), page.name):
        where = f"{page.name}:{number}"
        if needed and not (pathlib.Path(folder) / needed).exists():
            waiting.append(needed)
            continue
        num_run += 1
        status, actual = run_block(commands, folder, path)
        if status is None:
            problems.append(f"{where}: still running after {LIMIT_S} s")
        elif status != 0:
            problems.append("\n".join([f"{where}: exit status {status}", *("  " + line for line in actual[-20:])]))
        elif expected is not None and not matches([line.rstrip() for line in expected], actual):
            diff = difflib.unified_diff(expected, actual, f"{where} says", "it prints", lineterm="")
            problems.append("\n".join(diff))
    return problems, num_run, waiting


def working_copy(source, target):
    """Copies what git tracks (or, outside a repository, everything but build folders)."""
    listed = subprocess.run(["git", "-C", str(source), "ls-files", "-z"], capture_output=True, check=False)
    if listed.returncode == 0:
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (source / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, target / name)
    else:
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("build*", ".git"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", type=pathlib.Path, help="default: README.md and docs/guide-*.md")
    parser.add_argument("--all-blocks", action="store_true", help="a block that waits for a path is a failure")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "src" / "apps", help="folder of the programs")
    options = parser.parse_args()
    pages = options.pages or [p for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("guide-*.md"))) if p.exists()]
    num_blocks, failed, all_waiting = 0, False, []
    for page in pages:
        with tempfile.TemporaryDirectory(prefix="fathom_doc_") as folder:
            working_copy(ROOT, pathlib.Path(folder))
            try:
                problems, count, waiting = check_page(page, folder, options.bin.resolve())
            except (DocumentError, OSError, UnicodeDecodeError) as error:
                problems, count, waiting = [str(error)], 0, []
        num_blocks += count
        all_waiting += waiting
        failed = failed or bool(problems)
        for problem in problems:
            print(problem)
    waits = f", {len(all_waiting)} wait for {', '.join(sorted(set(all_waiting)))}" if all_waiting else ""
    print(f"{num_blocks} blocks of {len(pages)} pages run{waits}")
    return 1 if failed or (options.all_blocks and all_waiting) else 0


if __name__ == "__main__":
    sys.exit(main())
