"""Installs the libraries, then builds and runs the example of each as a stranger's project would:
from the installed tree, through pkg-config. Use: out_of_tree.py BUILD SOURCE"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = ['affinity', 'iouring', 'procs']
MESON = [sys.executable, '-m', 'mesonbuild.mesonmain']


def run(*command, **options):
    print('+', *command, flush=True)
    return subprocess.run(command, check=True, timeout=240, **options)


def meson(*arguments, **options):
    return run(*MESON, *arguments, **options)


def introspect(build, what):
    return json.loads(meson('introspect', build, what, capture_output=True, text=True).stdout)


def installed(build, destination):
    """Installs what a developer needs, and gives the folder of the .pc files."""
    meson('install', '-C', build, '--no-rebuild', '--tags', 'devel', '--destdir', destination,
          stdout=subprocess.DEVNULL)
    return next(Path(destination).rglob('schedlab-affinity.pc')).parent


def build_and_run(library, example, build, options, environment):
    """Builds and runs the example of a library, and says whether it could run here."""
    meson('setup', build, example, *options, env=environment)
    meson('compile', '-C', build, env=environment)
    programs = [target['filename'][0] for target in introspect(build, '--targets')
                if target['type'] == 'executable']
    if not programs:
        sys.exit(f'the example of {library} builds no program')
    for program in programs:
        done = subprocess.run([program], timeout=60, check=False)
        if done.returncode not in (0, 77):
            sys.exit(f'the example of {library} ended with {done.returncode}')


def main(build, source):
    sanitizer = next(option['value'] for option in introspect(build, '--buildoptions')
                     if option['name'] == 'b_sanitize')
    options = [f'-Db_sanitize={sanitizer}', '-Db_lundef=false', '-Dbuildtype=debugoptimized']
    with tempfile.TemporaryDirectory() as folder:
        pkgconfig = installed(build, folder + '/installed')
        environment = os.environ | {'PKG_CONFIG_PATH': str(pkgconfig)}
        for library in LIBRARIES:
            build_and_run(library, Path(source) / library / 'example', f'{folder}/{library}',
                          options, environment)


if __name__ == '__main__':
    main(*sys.argv[1:])
