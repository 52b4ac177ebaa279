"""Boots one machine of machines.py and holds schedlab to what must be so there.

use: boot.py SCHEDLAB FOLDER MACHINE    FOLDER keeps the kernel between the tests
     boot.py SCHEDLAB FOLDER MACHINE --keep RESULTS    also keeps what the guest sent
     boot.py --list

Ends with 0, 1, or 77 with the reason where no guest can be booted. SCHEDLAB must be the static
file.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from expectations import DONE, FAILED, Report, check_condition, is_chosen
from guest import Failure, Guest, Missing, Parts
from machines import BOOTS, listed
from scenarios import SCENARIOS

SKIPPED = 77


def mask(cpus):
    return f'{sum(1 << cpu for cpu in listed(cpus)):x}'


def labs_of(program):
    """What the program can run: on this machine it says the same as in the guest, but for what is
    runnable."""
    return json.loads(subprocess.run([program, 'list', '--json'], check=True, text=True,
                                     capture_output=True).stdout)


def condition_script(condition, labs):
    """The shell commands that bring a condition about, ask all questions and undo it."""
    name = condition.name
    before, after = [], ['cgroup=', 'affinity=']
    for cpu in listed(condition.offline):
        before.append(f'switch_cpu {cpu} 0')
        after.append(f'switch_cpu {cpu} 1')
    if condition.cpuset:
        before.append(f'narrow {name} {condition.cpuset} {condition.mems}')
    if condition.affinity:
        before.append(f'affinity={mask(condition.affinity)}')
    names = ' '.join(lab['name'] for lab in labs if is_chosen(lab, condition.labs))
    steps = [f'step {name}/list schedlab list --json',
             f'step {name}/topology schedlab topology --json',
             f'step {name}/run schedlab run {names} --smoke --json']
    if condition.doctor:
        steps.insert(0, f'step {name}/doctor schedlab doctor --json')
    return '\n'.join(before + steps + after) + '\n'


def script_of(boot, labs):
    return '\n'.join([condition_script(condition, labs) for condition in boot.conditions] +
                     [SCENARIOS[name].script for name in boot.scenarios])


def check(boot, results):
    report = Report()
    for condition in boot.conditions:
        report.place = f'{boot.name}/{condition.name}'
        check_condition(report, boot.machine, condition, results)
    for name in boot.scenarios:
        report.place = f'{boot.name}/{name}'
        SCENARIOS[name].check(report, boot.machine, results)
    return report


def keep(results, folder):
    for name, text in results.files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(boot, program, folder, results_folder):
    parts = Parts.find(Path(folder))
    guest = Guest(parts, Path(program), boot.machine.qemu_arguments(),
                  script_of(boot, labs_of(program)), boot.timeout_s)
    print(f'{boot.name}: {boot.what}', flush=True)
    began = time.monotonic()
    try:
        results = guest.run()
    except Failure as failure:
        print(f'FAILED: {boot.name}: {failure}')
        return FAILED
    print(f'booted, ran and switched off in {time.monotonic() - began:.0f} s')
    if results_folder:
        keep(results, results_folder)
    report = check(boot, results)
    for broken in report.broken:
        print(f'FAILED: {broken}')
    print(f'{report.kept} expectations hold, {len(report.broken)} do not')
    if report.broken:
        print(f'the console ended:\n{guest.console}')
    return FAILED if report.broken else DONE


def main(arguments):
    if arguments == ['--list']:
        print('\n'.join(f'{boot.name}: {boot.what}' for boot in BOOTS))
        return DONE
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(FAILED))  # QEMU ends with us
    program, folder, name = arguments[:3]
    results_folder = arguments[4] if arguments[3:4] == ['--keep'] else None
    boot = next(boot for boot in BOOTS if boot.name == name)
    try:
        return run(boot, program, folder, results_folder)
    except Missing as reason:
        print(f'skipped: {reason}')
        return SKIPPED


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
