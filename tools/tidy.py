#!/usr/bin/env python3
"""Runs clang-tidy over the sources with the checks of .clang-tidy; prints each find once, exit status 1 if there is one.

  python3 tools/tidy.py                every file of src/ (about two hours of one core)
  python3 tools/tidy.py --quick        without the analysis of paths, clang-analyzer-*: a quarter of the time
  python3 tools/tidy.py --changed      those that differ from main, and those that include a header that differs
  python3 tools/tidy.py FILE...        these

Needs clang-tidy-19 (Debian package of that name) and a configured build of single files (cmake --preset plain): how a file
is compiled is read from its compile_commands.json. The loops of the cpu back end are compiled once per level; they are read as the
widest level that the build has.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parent.parent
OF_GCC = ("-Wno-restrict", "-Wno-maybe-uninitialized")
FIND = re.compile(r"^(/[^:]+):(\d+):(\d+): (?:warning|error): (.*)$")


def how_compiled(build):
    """File -> its entry of compile_commands.json, without what only another compiler understands; the last level wins."""
    entries = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        words = [w for w in entry["command"].split() if not w.startswith(OF_GCC)]
        entries[pathlib.Path(entry["file"])] = {"directory": entry["directory"], "file": entry["file"],
                                                "command": " ".join(words)}
    return entries


def changed_files(base):
    """What differs from where this branch left `base`, and what git does not know yet."""
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    fork = git("merge-base", base, "HEAD")[0]
    names = git("diff", "--name-only", "--diff-filter=d", fork) + git("ls-files", "--others", "--exclude-standard")
    return [n for n in names if n.startswith("src/") and n.endswith((".cc", ".h"))]


def reading(headers, sources):
    """The sources that include one of the headers, directly or through others."""
    includes = {p: set(re.findall(r'#include "([^"]+)"', p.read_text()))
                for p in (ROOT / "src").rglob("*") if p.suffix in (".cc", ".h")}
    reached = {str(pathlib.Path(h).relative_to("src")) for h in headers}
    while True:
        more = {str(p.relative_to(ROOT / "src")) for p, names in includes.items() if names & reached} - reached
        if not more:
            return [s for s in sources if str(s.relative_to(ROOT / "src")) in reached]
        reached |= more


def main():
    parser = argparse.ArgumentParser(prog="tools/tidy.py", description="Runs clang-tidy over the sources.")
    parser.add_argument("files", nargs="*", help="default: all of src/")
    parser.add_argument("--changed", action="store_true", help="only what differs from --base, and what includes it")
    parser.add_argument("--quick", action="store_true", help="without the analysis of paths (clang-analyzer-*), a quarter of the time")
    parser.add_argument("--most", type=int, default=None, metavar="N", help="at most N files, those that differ first; says how many are left out")
    parser.add_argument("--base", default="main", help="the branch to compare with (default: main)")
    parser.add_argument("--build", default="build-plain", help="a configured build of single files (default: build-plain)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="parallel jobs (default: CPUs)")
    options = parser.parse_args()
    tidy = shutil.which("clang-tidy-19")
    if tidy is None:
        sys.exit("tools/tidy.py: clang-tidy-19 is missing; apt-get install clang-tidy-19")
    build = ROOT / options.build
    if not (build / "compile_commands.json").exists():
        sys.exit(f"tools/tidy.py: {options.build} is not configured; cmake --preset plain")
    entries = how_compiled(build)
    sources = sorted(f for f in entries if f.is_relative_to(ROOT / "src"))
    if options.files:
        wanted = [pathlib.Path(f).resolve() for f in options.files]
        if unknown := [str(f) for f in wanted if f not in entries]:
            sys.exit(f"tools/tidy.py: {', '.join(unknown)}: not compiled in {options.build}; name .cc files")
    elif options.changed:
        changed = changed_files(options.base)
        differ = sorted(ROOT / c for c in changed if c.endswith(".cc") and ROOT / c in entries)
        wanted = differ + sorted(set(reading([c for c in changed if c.endswith(".h")], sources)) - set(differ))
    else:
        wanted = sources
    left_out = len(wanted) - len(wanted[:options.most])
    wanted = wanted[:options.most]

    seen = {}
    with tempfile.TemporaryDirectory(prefix="fathom_tidy_") as database:
        (pathlib.Path(database) / "compile_commands.json").write_text(json.dumps(list(entries.values())))

        def check(source):
            fewer = ["--checks=-clang-analyzer-*"] if options.quick else []  # added to those of .clang-tidy
            done = subprocess.run([tidy, "-p", database, "--quiet", *fewer, str(source)], capture_output=True, text=True)
            return source, done

        with ThreadPoolExecutor(options.jobs) as pool:
            for number, (source, done) in enumerate(pool.map(check, wanted), 1):
                print(f"[{number}/{len(wanted)}] {source.relative_to(ROOT)}", file=sys.stderr, flush=True)
                show = False
                for line in done.stdout.splitlines():
                    if found := FIND.match(line):  # a find in a header comes with every file that includes it
                        # Paths are followed into libraries, and what one does with its own is not ours to mend.
                        show = line not in seen and found.group(1).startswith(f"{ROOT}/")
                        if show:
                            seen[line] = True
                    if show:
                        print(line.replace(f"{ROOT}/", ""), flush=True)
                if done.returncode and not done.stdout:
                    seen[str(source)] = True
                    print(f"{source.relative_to(ROOT)}: clang-tidy failed: {done.stderr.strip()}", flush=True)
    print(f"{len(wanted)} files, {len(seen)} finds" + (f"; {left_out} files left out by --most" if left_out else ""))
    return 1 if seen else 0


if __name__ == "__main__":
    sys.exit(main())
