#!/usr/bin/env python3
"""Checks that the names which docs/*.md put into backticks exist in the tree.

A path (`src/model/mla.cc`, `kernels/expert_tree.h`, `tools/`) must be a tracked file or folder, counted from the root or from
src/. An identifier (`rms_norm`, `Mla::forward`, `GradientTree`) must occur as a word in a source, test, tool or
configuration file, each part of a qualified name by itself. Anything else in backticks (commands, shapes, formulas) is
not checked. Prints every name that does not exist and exits with 1. Not checked either: notation.md, which says how names
are formed, and the decision records, which also speak of what was not taken.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE_FOLDERS = ("src/", "tests/", "tools/", "bench/", "CMake", "run", "test")
NOT_TRACKED = ("build/", "models/", "ORG/")  # what a build or a user makes
PATH = re.compile(r"(?:[\w.-]+/)+(?:[\w.-]+)?|[\w-]+\.(?:h|cc|py|md|txt)")
IDENTIFIER = re.compile(r"[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*(?:\(\))?")


def tracked(root):
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, check=True)
    return [name for name in listed.stdout.decode().split("\0") if name and (root / name).is_file()]


def words_of(root, names):
    """Every identifier of the source files."""
    words = set()
    for name in names:
        if name.startswith(SOURCE_FOLDERS) and not name.endswith((".safetensors", ".jsonl")) and "/corpus/" not in name:
            words.update(re.findall(r"[A-Za-z_]\w*", (root / name).read_text(encoding="utf-8", errors="ignore")))
    return words


def quoted(text):
    """(line number, what stands in backticks) outside of fenced blocks."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield from ((number, match) for match in re.findall(r"`([^`]+)`", line))


def violations(root):
    names = tracked(root)
    folders = {str(parent) for name in names for parent in pathlib.PurePath(name).parents}
    rooms = set(re.findall(r'^    "(\w+)": \[', (root / "tools" / "layering.py").read_text(), re.MULTILINE))
    words = words_of(root, names)
    for page in sorted(p for p in (root / "docs").glob("*.md") if p.name != "notation.md"):
        for number, name in quoted(page.read_text(encoding="utf-8")):
            where = f"{page.relative_to(root)}:{number}"
            if PATH.fullmatch(name):
                path = name.rstrip("/").removeprefix("./")
                known = path in rooms or any(p in folders or p in names for p in (path, f"src/{path}", f"docs/{path}"))
                if not known and not path.startswith(NOT_TRACKED):
                    yield f"{where}: `{name}` is no file or folder of the tree"
            elif IDENTIFIER.fullmatch(name):
                for part in name.removesuffix("()").split("::"):
                    if part not in words:
                        yield f"{where}: `{name}`: {part} does not occur in the sources"


def main():
    found = list(violations(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
    for text in found:
        print(text)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
