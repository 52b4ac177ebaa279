"""Boots a guest that is not there: QEMU without KVM, a packaged kernel, and a file system in memory
that holds the program under test. A guest runs one script, sends what it wrote and switches off.

Needs qemu-system-x86_64. Kernel and busybox are taken out of their Debian packages, which need not
be installed: they are downloaded once and kept.
"""

import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

QEMU = 'qemu-system-x86_64'
KERNEL_PACKAGE = 'linux-image-cloud-amd64'  # drivers of virtual machines only: it boots fast
BOOT_ARGUMENTS = ('console=ttyS0', 'loglevel=4', 'panic=-1', 'mitigations=off', 'nokaslr',
                  'random.trust_cpu=on')
CONSOLE_DEVICE = (5, 1)
TAIL_LINES = 40


class Missing(Exception):
    """What a guest needs and cannot be had here: a reason to skip."""


class Failure(Exception):
    """A guest that did not come to its end, with the end of its console."""


def run(command, **options):
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL,
                          **options).stdout


def newest_of(package):
    """A package that stands for the newest of a family depends on it."""
    needs = run(['apt-cache', 'depends', '--no-recommends', '--no-suggests', package], text=True)
    return re.search(r'Depends: (linux-image-\S+)', needs)[1]


def download(package, folder):
    """The .deb of a package, put into a folder. Needs no root, but the lists of apt-get update."""
    print(f'downloading the package {package}', flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as empty:
        run(['apt-get', 'download', package], cwd=empty)
        deb = next(Path(empty).glob('*.deb'))
        return shutil.move(deb, folder / deb.name)


def take_from_package(package, pattern, target):
    """Keeps the one file of a package whose path matches as `target`."""
    if target.exists():
        return target
    try:
        name = newest_of(package) if package == KERNEL_PACKAGE else package
        deb = download(name, target.parent)
        with tarfile.open(fileobj=io.BytesIO(run(['dpkg-deb', '--fsys-tarfile', deb]))) as files:
            member = next(one for one in files if re.fullmatch(pattern, one.name))
            data = files.extractfile(member).read()
        Path(deb).unlink()
    except (OSError, subprocess.CalledProcessError, TypeError, StopIteration) as problem:
        said = getattr(problem, 'stderr', b'') or str(problem).encode()
        last = (said if isinstance(said, str) else said.decode()).strip().split('\n')[-1]
        raise Missing(f'no package {package}: {last}') from problem
    # A file that is there is whole, also when two tests begin at once.
    part = target.with_name(f'{target.name}.{os.getpid()}')
    part.write_bytes(data)
    part.rename(target)
    return target


@dataclass(frozen=True)
class Parts:
    """What every guest is made of."""
    qemu: str
    kernel: Path
    busybox: Path

    @staticmethod
    def find(folder):
        """`folder` keeps what is downloaded. Throws Missing."""
        folder.mkdir(parents=True, exist_ok=True)
        qemu = shutil.which(QEMU)
        if not qemu:
            raise Missing(f'no {QEMU}: apt-get install qemu-system-x86')
        kernel = Path(os.environ['VM_KERNEL']) if 'VM_KERNEL' in os.environ else \
            take_from_package(KERNEL_PACKAGE, r'\./boot/vmlinuz-.*', folder / 'vmlinuz')
        busybox = take_from_package('busybox-static', r'.*/bin/busybox', folder / 'busybox')
        return Parts(qemu, kernel, busybox)


class Archive:
    """A file system for the kernel to unpack: cpio, "newc" (its initramfs buffer format)."""

    def __init__(self):
        self.data = bytearray()
        self.count = 0

    def add(self, path, mode, content=b'', device=(0, 0)):
        self.count += 1
        name = path.encode() + b'\0'
        fields = (self.count, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
        self.data += b'070701' + b''.join(b'%08x' % field for field in fields) + name
        self.pad()
        self.data += content
        self.pad()

    def pad(self):
        self.data += b'\0' * (-len(self.data) % 4)

    def folder(self, path):
        self.add(path, stat.S_IFDIR | 0o755)

    def program(self, path, content):
        self.add(path, stat.S_IFREG | 0o755, content)

    def bytes(self):
        self.add('TRAILER!!!', 0)
        return bytes(self.data)


def stripped(program, folder):
    """The program without its symbols, which are most of the file."""
    smaller = folder / 'schedlab'
    if shutil.which('strip'):
        run(['strip', '-o', smaller, program])
    else:
        shutil.copy(program, smaller)
    return smaller.read_bytes()


def file_system(parts, program, script, folder):
    archive = Archive()
    for path in ('bin', 'dev', 'proc', 'sys', 'tmp', 'results'):
        archive.folder(path)
    archive.add('dev/console', stat.S_IFCHR | 0o600, device=CONSOLE_DEVICE)
    archive.program('init', (Path(__file__).parent / 'guest.sh').read_bytes())
    archive.program('bin/busybox', parts.busybox.read_bytes())
    archive.add('bin/sh', stat.S_IFLNK | 0o777, b'busybox')
    archive.program('bin/schedlab', stripped(program, folder))
    archive.program('script', script.encode())
    return archive.bytes()


class Results:
    """What the steps of a script wrote, by "folder/name"."""

    def __init__(self, files):
        self.files = files

    @staticmethod
    def from_tar(data):
        with tarfile.open(fileobj=io.BytesIO(data), mode='r:gz') as tar:
            return Results({one.name.removeprefix('./'): tar.extractfile(one).read().decode()
                            for one in tar if one.isfile()})

    def has(self, step):
        return step + '.status' in self.files

    def output(self, step):
        return self.files[step + '.out']

    def errors(self, step):
        return self.files[step + '.err']

    def status(self, step):
        return int(self.files[step + '.status'])


def tail(console):
    text = console.read_text(errors='replace') if console.exists() else ''
    lines = text.replace('\r', '').rstrip('\n').split('\n')[-TAIL_LINES:]
    return '\n'.join('    | ' + line for line in lines)


@dataclass
class Guest:
    parts: Parts
    program: Path
    qemu_arguments: list
    script: str
    timeout_s: float
    console: str = ''  # its end, once it has run

    def run(self):
        """Boots, waits until the guest has switched itself off, gives its Results."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            console = folder / 'console'
            (folder / 'initrd').write_bytes(
                file_system(self.parts, self.program, self.script, folder))
            try:
                done = subprocess.run(self.command(folder), stdin=subprocess.DEVNULL, text=True,
                                      capture_output=True, check=False, timeout=self.timeout_s)
            except subprocess.TimeoutExpired:
                raise Failure(f'killed after {self.timeout_s:g} s; its console ends:\n'
                              f'{tail(console)}') from None
            self.console = tail(console)
            if done.returncode != 0:
                last = done.stderr.strip().split('\n')[-1]  # before it: what TCG lacks of the CPU
                raise Failure(f'QEMU ended with {done.returncode}: {last}\n{self.console}')
            if '== all sent' not in self.console:
                raise Failure(f'it ended early; its console ends:\n{self.console}')
            return Results.from_tar((folder / 'results').read_bytes())

    def command(self, folder):
        # One host thread for all CPUs, so that spinning guests take turns. QEMU dies with us.
        return ['setpriv', '--pdeathsig', 'KILL', self.parts.qemu,
                '-accel', 'tcg,thread=single', *self.qemu_arguments,
                '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot',
                '-kernel', self.parts.kernel, '-initrd', folder / 'initrd',
                '-append', ' '.join(BOOT_ARGUMENTS),
                '-serial', f'file:{folder}/console', '-serial', f'file:{folder}/results']
