"""Man pages, completions and the installed tree: they have every verb and flag of --help, and bash completes by them."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import unittest

import support
from cli_test import VERBS
from support import CommandLineCase


def help_flags(verb):
    """Every spelling of a flag that the verb's --help has."""
    flags = set()
    for line in support.made(*verb, "--help").stdout.split("Example:")[0].splitlines():
        if match := re.match(r"  (\S.*)", line):
            flags.update(re.findall(r"(?:(?<=[,\s])|^)--?[a-zA-Z][\w-]*", match[1].split("  ")[0].split(" ")[0]))
    return flags


class Reference(CommandLineCase):
    @classmethod
    def setUpClass(cls):
        cls.share = support.fresh_directory("share")
        support.made("reference", cls.share)
        cls.flags = {" ".join(verb): help_flags(verb) for verb in [[], *VERBS]}

    def page(self, verb):
        return (self.share / "man" / "man1" / ("-".join(["fathom", *verb]) + ".1")).read_text()

    def test_help_was_read(self):
        self.assertLessEqual({"-p", "--prompt", "-n", "--max-tokens", "--temperature", "--temp"}, self.flags["generate"])
        self.assertGreater(sum(map(len, self.flags.values())), 250)

    def test_every_verb_and_flag_has_its_place_in_the_man_pages(self):
        for verb in VERBS:
            with self.subTest(verb=verb):
                text = self.page(verb).replace("\\-", "-")
                self.assertEqual({f for f in self.flags[" ".join(verb)] if f"\\fB{f}\\fR" not in text}, set())
        for verb in (verb for verb in VERBS if len(verb) == 1):
            self.assertIn(f"\\fB{verb[0]}\\fR", self.page([]))

    def test_man_renders_the_pages_without_warnings(self):
        if not shutil.which("man") or not shutil.which("groff"):
            self.skipTest("man and groff are not installed")
        for path in sorted((self.share / "man" / "man1").iterdir()):
            done = subprocess.run(["man", "--warnings", "-l", path], capture_output=True, text=True,
                                  env=support.environment(MANPAGER="cat", LC_ALL="C.UTF-8", MANWIDTH="120"))
            self.assertEqual((done.returncode, done.stderr), (0, ""), path.name)

    def complete(self, *words):
        """What bash offers for the last word."""
        script = (f"source {shlex.quote(str(self.share / 'bash-completion/completions/fathom'))}\n"
                  f"COMP_WORDS=({' '.join(map(shlex.quote, words))})\nCOMP_CWORD={len(words) - 1}\n_fathom\n"
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        return set(done.stdout.split())

    def test_bash_completes_every_verb_and_flag(self):
        self.assertEqual(self.complete("fathom", ""), {verb[0] for verb in VERBS if len(verb) == 1})
        self.assertEqual(self.complete("fathom", "tokenizer", ""), {"train", "encode", "decode"})
        self.assertEqual(self.complete("fathom", "gen"), {"generate"})
        for verb in VERBS:
            with self.subTest(verb=verb):
                self.assertEqual(self.complete("fathom", *verb, "-"), self.flags[" ".join(verb)])

    def test_bash_leaves_values_and_arguments_to_files(self):
        self.assertEqual(self.complete("fathom", "generate", "--prompt", ""), set())
        self.assertEqual(self.complete("fathom", "generate", "models/"), set())
        self.assertEqual(self.complete("fathom", "generate", "models/demo", "--te"), {"--temperature", "--temp"})
        self.assertEqual(self.complete("fathom", "generate", "models/demo", "--json", "--te"), {"--temperature", "--temp"})

    def test_both_shells_offer_the_words_that_a_value_may_be(self):
        words = {"auto", "bound", "maxmin", "simgrid"}
        self.assertEqual(self.complete("fathom", "simulate", "--engine", ""), words)
        self.assertEqual(self.complete("fathom", "simulate", "a.toml", "--engine", "b"), {"bound"})
        text = (self.share / "zsh/site-functions/_fathom").read_text()
        offered = re.search(r"'\*--engine=[^']*:\(([a-z ]+)\)'", text)
        self.assertEqual(set(offered.group(1).split()), words)

    def test_zsh_has_every_flag(self):
        text = (self.share / "zsh/site-functions/_fathom").read_text()
        for verb in VERBS:
            name = "_".join(["_fathom", *verb])
            body = re.search(rf"^{name}\(\) \{{\n(.*?)^\}}$", text, re.MULTILINE | re.DOTALL).group(1)
            self.assertEqual({f for f in self.flags[" ".join(verb)] if f"'*{f}" not in body}, set(), verb)
        if shutil.which("zsh"):
            done = subprocess.run(["zsh", "-n", self.share / "zsh/site-functions/_fathom"], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""))


class Installation(CommandLineCase):
    def setUp(self):
        self.build = pathlib.Path(support.BINARY).resolve().parents[2]
        if not (self.build / "cmake_install.cmake").exists() or not shutil.which("cmake"):
            self.skipTest("FATHOM_BINARY is not in a build directory of CMake")

    def test_a_debian_package_installs_a_program_that_runs(self):
        if os.environ.get("FATHOM_ALL") != "1":
            self.skipTest("long; FATHOM_ALL=1 runs it")
        for tool in ("cpack", "dpkg-deb", "dpkg-shlibdeps"):
            if not shutil.which(tool):
                self.skipTest(f"{tool} is not installed")
        work = support.fresh_directory("deb")
        done = subprocess.run(["cpack", "-G", "DEB", "-B", work, "--config", self.build / "CPackConfig.cmake"],
                              capture_output=True, text=True, cwd=work)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        (package,) = work.glob("*.deb")
        depends = subprocess.run(["dpkg-deb", "-f", package, "Depends"], capture_output=True, text=True).stdout
        self.assertEqual({part.split()[0] for part in depends.split(", ")}, {"libc6", "libssl3"})
        subprocess.run(["dpkg-deb", "-x", package, work / "root"], check=True)
        listed = {str(p.relative_to(work / "root")) for p in (work / "root").rglob("*") if p.is_file()}
        self.assertLessEqual({"usr/bin/fathom", "usr/share/man/man1/fathom.1", "usr/share/man/man1/fathom-data-pack.1",
                              "usr/share/bash-completion/completions/fathom", "usr/share/zsh/site-functions/_fathom",
                              "usr/share/doc/fathom/LICENSE"}, listed)
        done = subprocess.run([work / "root/usr/bin/fathom", "--version"], capture_output=True, text=True)
        self.assertEqual(done.stdout, support.made("--version").stdout)

    def test_cmake_installs_the_program_with_its_pages(self):
        root = support.fresh_directory("root")
        done = subprocess.run(["cmake", "--install", self.build / "src", "--prefix", root, "--strip"], capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue((root / "share/man/man1/fathom-bench-serve.1").exists())
        done = subprocess.run([root / "bin/fathom", "--version"], capture_output=True, text=True)
        self.assertEqual(done.stdout, support.made("--version").stdout)


if __name__ == "__main__":
    unittest.main()
