"""affinity_migration beside a second method of plain libc, and the migrations that the kernel
counted for both beside those that were forced. Prints rows for docs/trust.md; never fails on a
time.

usage: migration_second.py SCHEDLAB SECOND_MIGRATION [PAIRS [SIZES]]
SIZES is comma separated, in bytes.
"""
import os
import shutil
import subprocess
import sys

from pairs import compare_columns, lab_series, output, show_row, size_text

share = 0.10
sizes = (0, 16 << 10, 128 << 10, 2 << 20)
numbers = ('moved', 'stay', 'migration')


def run_lab(schedlab, cpus, size):
    """The series of a run, by name."""
    values = {'size': size, 'cache': 'none', 'access': 'write', 'stride': 64, 'tasks': 'threads',
              'workers': 2, 'share': 4096}
    return {entry['name']: entry
            for entry in lab_series(schedlab, 'affinity_migration', cpus, values)}


def metrics_of(entry):
    return {metric['name']: metric['median'] or 0.0 for metric in entry['metrics']}


def lab_numbers(schedlab, cpus, size):
    series = run_lab(schedlab, cpus, size)
    tail = f'/cpu{cpus[0]}-cpu{cpus[1]}/{size_text(size)}/write'
    moves = next(metrics_of(entry) for name, entry in series.items() if name.endswith(tail))
    stays = metrics_of(series[f'stay/cpu{cpus[0]}/{size_text(size)}/write'])
    return moves['moved'], stays['stay'], moves['migration']


def second_numbers(program, cpus, size):
    return tuple(map(float, output([program, *cpus, size, 64, 6]).split()[:3]))


def compare_size(schedlab, program, cpus, size, pairs):
    columns = compare_columns(lambda: lab_numbers(schedlab, cpus, size),
                              lambda: second_numbers(program, cpus, size), pairs)
    for index, name in enumerate(numbers):
        show_row(f'{name}, set of {size_text(size)}', columns[index], share)


def counted_by_perf(command):
    """What a program prints, and its migrations and those of its children by perf's software
    event; None without perf."""
    if not shutil.which('perf'):
        return output(command), None
    done = subprocess.run(['perf', 'stat', '-x', ';', '-e', 'migrations', *map(str, command)],
                          capture_output=True, text=True, check=False)
    counts = [line.split(';')[0] for line in done.stderr.splitlines() if 'migrations' in line]
    if done.returncode != 0 or not counts or not counts[0].isdigit():
        return output(command), None
    return done.stdout, int(counts[0])


def show_counts(schedlab, program, cpus):
    print()
    print('| who counts | forced | kernel, by task | switches | perf stat, whole program |')
    print('|---|---|---|---|---|')
    text, whole = counted_by_perf([program, *cpus, 0, 64, 6])
    *_, moves, migrations, switches = text.split()
    print(f"| second method | {moves} | {migrations} | {switches} | {whole or 'no perf'} |")
    for name, entry in run_lab(schedlab, cpus, 0).items():
        for check in entry['checks']:
            if 'the kernel counted' in check['name']:
                print(f"| {name}, one process | {check['expected']} | {check['seen']} | | |")


def main():
    schedlab, program = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    asked = tuple(map(int, sys.argv[4].split(','))) if len(sys.argv) > 4 else sizes
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        print('skipped: needs 2 CPUs')
        return 77
    cpus = (usable[0], usable[-1])
    print('| affinity_migration | ours, ns | second, ns | ratio | second to itself | target '
          '| verdict |')
    print('|---|---|---|---|---|---|---|')
    for size in asked:
        compare_size(schedlab, program, cpus, size, pairs)
    show_counts(schedlab, program, cpus)
    return 0


sys.exit(main())
