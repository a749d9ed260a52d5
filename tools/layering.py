#!/usr/bin/env python3
"""Checks the shape of the source tree: who includes whom, file sizes, a test per source, packages per library.

The include table is the one of the architecture (docs/decisions/0002-two-seams.md); a folder may include what it lists
and whatever that lists in turn. Prints every violation and exits with 1 if there is one.
"""

import argparse
import pathlib
import re
import sys

MAY_INCLUDE = {
    "base": [],
    "tensor": ["base"],
    "text": ["base"],
    "cluster": ["base"],
    "report": ["base"],
    "numerics": ["tensor"],
    "kernels": ["numerics"],
    "comm": ["tensor"],
    "checkpoint": ["numerics"],
    "parallel": ["kernels", "comm"],
    "model": ["parallel", "checkpoint"],
    "engine": ["model", "text"],
    "sim": ["parallel", "cluster", "report"],
    "train": ["model", "text", "report"],
    "serve": ["engine", "text", "report"],
    "plan": ["engine", "train", "sim", "report"],
    "apps": ["serve", "plan"],
}

MAX_LINES = 600

# Sources without a test file of their own, each with the reason. fnmatch patterns below src/; one that matches no source,
# or only sources that do have a test, is itself a violation.
UNTESTED = {
    "kernels/ref/*.cc": "tests/kernels/cpu_test.cc compares every operation of kernels/op_cases with it, and the golden "
                        "files of tests/model and tests/train judge it in double",
    "kernels/cpu/*.cc": "tests/kernels/cpu_test.cc runs every operation of kernels/op_cases on every level",
    "kernels/cpu/level/*.cc": "compiled once per level; tests/kernels/cpu_test.cc runs all of them",
    "model/config_reader.cc": "tests/model/config_test.cc reads whole and broken configs through it",
    "model/weights.cc": "tests/model/model_test.cc binds, loads and copies through it",
    "model/block.cc": "tests/model/transformer_test.cc compares its activations, tests/train/objective_test.cc its gradients",
    "model/dense_ffn.cc": "as model/block.cc",
    "model/head.cc": "as model/block.cc",
    "model/mla.cc": "as model/block.cc; tests/engine/determinism_test.cc holds its two forms together",
    "model/moe.cc": "as model/block.cc",
    "model/mtp.cc": "as model/block.cc",
    "text/jinja_*.cc": "tests/text/jinja_test.cc and its 613 cases go through every one of them",
    "text/added_tokens.cc": "tests/text/tokenizer_test.cc",
    "text/byte_level.cc": "tests/text/tokenizer_test.cc and tokenizer_json_test.cc",
    "text/tokenizer_spec.cc": "split patterns, used by tests/text/pretokenizer_test.cc and ggml_vocab_test.cc",
    "checkpoint/checkpoint_writer.cc": "tests/checkpoint/hf_index_test.cc reads back what it writes",
    "train/arithmetic.cc": "tests/train/synth_test.cc checks every worked line with a parser of its own",
    "train/synth_*.cc": "tests/train/synth_test.cc",
    "train/phrases.cc": "tests/train/synth_test.cc",
    "train/document.cc": "tests/train/dataset_test.cc packs documents of every kind",
    "train/pack.cc": "tests/train/dataset_test.cc",
    "train/permutation.cc": "tests/train/dataset_test.cc",
    "train/shard.cc": "tests/train/dataset_test.cc",
    "cluster/topology.cc": "the sums and bounds of every builder; tests/cluster/fat_tree_test.cc",
    "cluster/mpft.cc": "tests/cluster/fat_tree_test.cc holds the trees of all kinds together",
    "cluster/mrft.cc": "as cluster/mpft.cc",
    "plan/paper_*.cc": "tests/plan/paper_test.cc holds every row of every table",
    "apps/*.cc": "tests/apps runs the program itself",
}

# Third-party headers by their first path component, and the Debian package that tools/packages-run.txt must list.
PACKAGES = {
    "CLI": "libcli11-dev",
    "boost": "libboost1.81-dev",
    "fmt": "libfmt-dev",
    "nlohmann": "nlohmann-json3-dev",
    "openssl": "libssl-dev",
    "pcre2.h": "libpcre2-dev",
    "simdjson.h": "libsimdjson-dev",
    "toml++": "libtomlplusplus-dev",
    "xxhash.h": "libxxhash-dev",
    "zstd.h": "libzstd-dev",
}
# Headers of the compiler and the system need no package beyond g++.
SYSTEM_PREFIXES = ("sys", "linux", "netinet", "arpa", "asm", "gnu")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"\n]+)"|<([^>\n]+)>)', re.MULTILINE)
SOURCES = {".h", ".cc", ".cu", ".cuh", ".inc"}


def closure(table):
    """Folder -> every folder it may include; None for the pair if the table itself has a cycle."""
    reach = {}

    def visit(folder, path):
        if folder in path:
            raise ValueError("the include table has a cycle: " + " -> ".join([*path, folder]))
        if folder not in reach:
            reach[folder] = {folder}.union(*(visit(other, [*path, folder]) for other in table[folder]))
        return reach[folder]

    for folder in table:
        visit(folder, [])
    return reach


def find_cycle(edges):
    """One cycle in {folder: set of included folders}, as a list, or None."""
    done = set()

    def visit(folder, path):
        if folder in path:
            return [*path[path.index(folder):], folder]
        if folder in done:
            return None
        done.add(folder)
        for other in sorted(edges.get(folder, ())):
            if cycle := visit(other, [*path, folder]):
                return cycle
        return None

    for folder in sorted(edges):
        if cycle := visit(folder, []):
            return cycle
    return None


def violations(root):
    reach = closure(MAY_INCLUDE)
    src = root / "src"
    packages_file = root / "tools" / "packages-run.txt"
    packages = set(re.findall(r"^([a-z0-9][^\s#]*)", packages_file.read_text(), re.MULTILINE)) if packages_file.exists() else set()
    edges, missing_packages, untested_used = {}, {}, set()
    for path in sorted(p for p in src.rglob("*") if p.suffix in SOURCES):
        name = path.relative_to(src)
        folder = name.parts[0]
        text = path.read_text(encoding="utf-8")
        num_lines = text.count("\n")
        if num_lines > MAX_LINES:
            yield f"src/{name}: {num_lines} lines, more than {MAX_LINES}; a file that wants more has two jobs"
        if folder not in MAY_INCLUDE:
            yield f"src/{name}: folder {folder} is not in the include table of tools/layering.py"
            continue
        for match in INCLUDE.finditer(text):
            ours, theirs = match.groups()
            line = text.count("\n", 0, match.start()) + 1
            if theirs:
                first = theirs.split("/")[0]
                if first in PACKAGES and PACKAGES[first] not in packages:
                    missing_packages.setdefault(PACKAGES[first], f"src/{name}:{line}")
                elif first not in PACKAGES and "/" in theirs and first not in SYSTEM_PREFIXES:
                    yield f"src/{name}:{line}: <{theirs}>: name the package of this library in tools/layering.py"
                if first in PACKAGES and path.suffix == ".h":
                    yield f"src/{name}:{line}: <{theirs}> in a header; third-party headers stay in .cc files"
                continue
            other = ours.split("/")[0]
            if "/" not in ours or not (src / ours).is_file():
                yield f'src/{name}:{line}: "{ours}" is no file below src/; includes are written from there'
                continue
            if other != folder:
                edges.setdefault(folder, set()).add(other)
            if other not in reach[folder]:
                allowed = ", ".join(sorted(reach[folder] - {folder})) or "nothing"
                yield f'src/{name}:{line}: {folder} may not include {other} ("{ours}"); it may include: {allowed}'
        if path.suffix == ".cc":
            tested = (root / "tests" / folder / f"{path.stem}_test.cc").is_file()
            patterns = [p for p in UNTESTED if name.match(p)]
            if not tested:
                untested_used.update(patterns)
                if not patterns:
                    yield f"src/{name}: no tests/{folder}/{path.stem}_test.cc (or an entry with its reason in UNTESTED)"
    for path in sorted((root / "web").glob("*")):
        num_lines = path.read_text(encoding="utf-8").count("\n")
        if num_lines > MAX_LINES:
            yield f"web/{path.name}: {num_lines} lines, more than {MAX_LINES}; a file that wants more has two jobs"
    if cycle := find_cycle(edges):
        yield "folders include each other: " + " -> ".join(cycle)
    for package, where in sorted(missing_packages.items()):
        yield f"{where}: needs {package}, which tools/packages-run.txt does not list"
    for pattern in sorted(set(UNTESTED) - untested_used):
        yield f"tools/layering.py: UNTESTED entry {pattern} exempts nothing; remove it"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root
    found = list(violations(root))
    for text in found:
        print(text)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
