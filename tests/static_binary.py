"""Is the program one file that needs nothing else? Use: static_binary.py PROGRAM"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROGRAM = sys.argv[1]
# Runs the program in a root that holds itself and what the kernel shows. The mounts are of this
# namespace, and end with it.
IN_EMPTY_ROOT = """
root=$1; shift
mkdir "$root/proc" "$root/sys"
mount --rbind /proc "$root/proc"
mount --rbind /sys "$root/sys"
cd "$root"
exec chroot . /schedlab "$@"
"""


def readelf(*options):
    return subprocess.run(['readelf', '--wide', *options, PROGRAM], check=True,
                          capture_output=True, text=True).stdout


def load_address():
    """Where the kernel puts the program: read while it is stopped before its first instruction."""
    trace_me = 0
    process = os.fork()
    if process == 0:
        ctypes.CDLL(None).ptrace(trace_me, 0, None, None)
        os.execv(PROGRAM, [PROGRAM, '--version'])
    try:
        _, status = os.waitpid(process, 0)
        assert os.WIFSTOPPED(status), 'the program was not stopped'
        maps = Path(f'/proc/{process}/maps').read_text()
        return next(line for line in maps.split('\n') if line.endswith(Path(PROGRAM).name))
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


class StaticBinary(unittest.TestCase):
    def test_it_asks_for_no_loader_and_no_library(self):
        self.assertNotIn('INTERP', readelf('--program-headers'))
        self.assertNotIn('NEEDED', readelf('--dynamic'))

    def test_it_is_position_independent_and_lands_elsewhere_each_time(self):
        self.assertRegex(readelf('--file-header'), r'Type:\s+DYN')
        if Path('/proc/sys/kernel/randomize_va_space').read_text().strip() == '0':
            self.skipTest('address randomisation is off: sysctl kernel.randomize_va_space=2')
        self.assertEqual(len({load_address() for _ in range(4)}), 4)

    def test_it_runs_where_only_a_kernel_is(self):
        if os.geteuid() != 0:
            self.skipTest('only root may chroot')
        for arguments in (['--version'], ['list'], ['topology'], ['run', 'clock', '--smoke']):
            with self.subTest(arguments=arguments), tempfile.TemporaryDirectory() as root:
                shutil.copy(PROGRAM, root + '/schedlab')
                done = subprocess.run(['unshare', '--mount', 'sh', '-ec', IN_EMPTY_ROOT, 'sh', root,
                                       *arguments], capture_output=True, text=True, timeout=60,
                                      check=False)
                self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1], verbosity=2)
