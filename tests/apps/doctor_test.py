"""fathom doctor: facts as the system tells them, kernels as the environment forces them, and no crash without /proc."""

import json
import os
import resource
import shutil
import subprocess
import unittest

import support
from support import CommandLineCase


class Doctor(CommandLineCase):
    def doctor(self, *arguments, **options):
        done = support.run("doctor", "--json", *arguments, **options)
        self.assert_success(done)
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout)

    def test_facts_are_those_of_the_system(self):
        found = self.doctor("--no-measure")
        self.assertEqual(found["cpu"]["affinity"], len(os.sched_getaffinity(0)))
        self.assertEqual(found["kernel"], os.uname().release)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.assertEqual(found["limits"]["open_files"], soft)
        self.assertIsNone(found["measured"])
        self.assertRegex(found["fathom"]["libraries"]["OpenSSL"], r"^3\.")
        self.assertRegex(found["fathom"]["libraries"]["glibc"], r"^2\.")
        self.assertGreater(found["memory"]["available_bytes"], 1 << 20)
        simulated = support.run("simulate", support.ROOT / "examples" / "scenarios" / "all-to-all-128.toml", "--engine", "simgrid")
        self.assertEqual(found["fathom"]["optional"]["SimGrid"], simulated.returncode == 0, simulated.stderr)

    def test_a_library_that_is_absent_comes_with_its_package(self):
        if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
            self.skipTest("this system grants no mount namespace of our own (unshare -rm)")
        library = subprocess.run("ldconfig -p | sed -n 's/.*libsimgrid.so.3.32.*=> //p'", shell=True, capture_output=True, text=True).stdout
        hide = 'mount --bind /dev/null "$1" && ' if library.strip() else ""
        done = subprocess.run(["unshare", "-rm", "sh", "-c", hide + 'exec "$0" doctor --no-measure', support.BINARY, library.strip()],
                              capture_output=True, text=True, env=support.environment(), timeout=support.TIMEOUT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"(?m)^  optional +SimGrid 3\.32, .*: absent; sudo apt-get install libsimgrid3\.32$")

    def test_measures_what_bench_measures(self):
        measured = self.doctor("-t", 1)["measured"]
        self.assertEqual(measured["threads"], 1)
        self.assertGreater(measured["read_bytes_per_s"], 1e8)
        self.assertGreater(measured["f32_ops_per_s"], 1e8)

    def test_the_environment_forces_kernels_and_a_wrong_one_is_a_finding(self):
        free = self.doctor("--no-measure")
        self.assertEqual(free["kernels"]["chosen"], free["kernels"]["available"][-1])
        self.assertIsNone(free["kernels"]["forced"])
        forced = self.doctor("--no-measure", env=support.environment(FATHOM_KERNELS="generic"))
        self.assertEqual((forced["kernels"]["chosen"], forced["kernels"]["forced_by"]), ("generic", "FATHOM_KERNELS"))
        wrong = self.doctor("--no-measure", env=support.environment(FATHOM_KERNELS="sse"))
        self.assertEqual(wrong["kernels"]["chosen"], free["kernels"]["chosen"])
        (finding,) = [f for f in wrong["findings"] if "sse" in f["what"]]
        self.assertEqual(finding["command"], "unset FATHOM_KERNELS")
        self.refused("doctor", "--kernels", "sse", needles=['"sse"', "use one of"])

    def test_limits_are_findings_with_the_command_that_mends_them(self):
        def limited():
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
            resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        found = self.doctor(preexec_fn=limited)
        self.assertIsNone(found["measured"])  # no room for a block that no cache holds
        commands = [f["command"] for f in found["findings"]]
        self.assertIn("ulimit -v unlimited", commands)
        self.assertIn("prlimit --nofile=65536:65536 fathom serve ...", commands)

    def test_text_has_a_row_for_each_fact(self):
        done = support.run("doctor", "--no-measure")
        self.assert_success(done)
        for name in ("processor", "features", "CPUs", "kernels", "memory", "huge pages", "limits", "GPU", "libraries"):
            self.assertRegex(done.stdout, rf"(?m)^  {name} +\S")

    def test_without_proc_and_sys_facts_are_absent(self):
        if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
            self.skipTest("this system grants no mount namespace of our own (unshare -rm)")
        hide = "mount -t tmpfs none /proc && mount -t tmpfs none /sys && exec \"$0\" doctor --json"
        done = subprocess.run(["unshare", "-rm", "sh", "-c", hide, support.BINARY], capture_output=True, text=True,
                              env=support.environment(), timeout=support.TIMEOUT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        self.assertIsNone(found["memory"]["total_bytes"])
        self.assertIsNone(found["cpu"]["model"])
        self.assertIsNone(found["kernel"])
        self.assertGreater(found["measured"]["f32_ops_per_s"], 0)


if __name__ == "__main__":
    unittest.main()
