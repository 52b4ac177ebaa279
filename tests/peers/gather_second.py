"""io_tasks' gather of 100,000 tasks beside the same by CPython's asyncio. Prints rows for
docs/trust.md; never fails on a time.

usage: gather_second.py SCHEDLAB [PAIRS [PYTHON]]

A task is made, gathered, ends at once, and its value is added up, on both sides. Target: at most
0.005 times the peer's time. The peer runs as it is, and without its collector of cycles, which is
its best option.
"""
import os
import platform
import sys
from pathlib import Path

from pairs import at_most, compare_columns, lab_series, output, show

count = 100_000
limit = 0.005


def measure_lab(schedlab, cpu):
    series = lab_series(schedlab, 'io_tasks', [cpu], {'part': 'gather', 'gather': count})
    gather = next(entry for entry in series if entry['name'] == f'gather/{count}')
    failed = [check for check in gather['checks'] if not check['ok']]
    if failed:
        sys.exit(f'gather: {failed}')
    return next(metric['median'] for metric in gather['metrics'] if metric['name'] == 'each')


def measure_asyncio(python, cpu, collector):
    return float(output([python, Path(__file__).with_name('gather_asyncio.py'), cpu, count, 3,
                         collector]))


def main():
    schedlab = sys.argv[1]
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    python = sys.argv[3] if len(sys.argv) > 3 else sys.executable
    cpu = max(os.sched_getaffinity(0))
    version = output([python, '-c', 'import platform; print(platform.python_version())']).strip()
    print('| what | ours, ns | peer, ns | ratio | peer to itself | target | verdict |')
    print('|---|---|---|---|---|---|---|')
    for collector in ('gc', 'no-gc'):
        column = compare_columns(lambda: [measure_lab(schedlab, cpu)],
                                 lambda: [measure_asyncio(python, cpu, collector)], pairs)[0]
        print(f'| gather of {count:,} tasks, a task, against asyncio of '
              f'{platform.python_implementation()} {version}, {collector} | '
              f'{column.ours:.1f} | {column.peer:.0f} | {show(column.ratio, 5)} | '
              f'{show(column.same)} | <= {limit} x | {at_most(column.ratio, limit)} |', flush=True)
    return 0


sys.exit(main())
