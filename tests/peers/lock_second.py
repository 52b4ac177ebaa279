"""The mutex of procs/ beside std::mutex, both in one program of its own (second_lock.cc), and the
numbers of the lab lock_cost beside those of that program. Prints rows for docs/trust.md; never
fails on a time.

usage: lock_second.py SCHEDLAB SECOND_LOCK [PAIRS]
"""
import os
import sys

from pairs import at_most, compare_columns, lab_series, output, show, show_row

skipped = 77
share = 0.10
run_ms = 100


def run(program, mode, lock, cpus, work_ns=0):
    """Nanoseconds a lock, sleeps a lock."""
    cost, sleeps, lost = map(float, output([program, mode, lock, *cpus, work_ns, run_ms]).split())
    if lost:
        print(f'{mode}, {lock}: {lost:.0f} additions lost', file=sys.stderr)
    return cost, sleeps


def duel(name, program, mode, cpus, work_ns, pairs):
    cost, sleeps = compare_columns(lambda: run(program, mode, 'mutex', cpus, work_ns),
                                   lambda: run(program, mode, 'std', cpus, work_ns), pairs).values()
    print(f'| {name} | {cost.ours:.1f} | {cost.peer:.1f} | {show(cost.ratio)} | {show(cost.same)} '
          f'| {sleeps.ours:.2f} and {sleeps.peer:.2f} | <= 1.0 x | {at_most(cost.ratio, 1.0)} |',
          flush=True)


def lab_metric(schedlab, cpus, lock, name, metric):
    for series in lab_series(schedlab, 'lock_cost', cpus, {'lock': lock, 'critical': '1000'}):
        if series['name'].startswith(name) and series['name'].endswith(lock):
            for entry in series['metrics']:
                if entry['name'] == metric and entry['median'] is not None:
                    return entry['median']
    raise SystemExit(f'lock_cost has no {metric} of {name}')


def main():
    schedlab, program = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        print('needs two CPUs')
        return skipped
    apart = (cpus[0], cpus[-1])
    one = (cpus[0], cpus[0])
    print('| lock | ours, ns | std::mutex, ns | ratio | std::mutex to itself | sleeps a lock, ours '
          'and std | target | verdict |')
    print('|---|---|---|---|---|---|---|---|')
    duel('uncontended', program, 'alone', apart, 0, pairs)
    for work_ns in (0, 100, 1000):
        duel(f'two threads, {work_ns} ns under the lock', program, 'contended', apart, work_ns,
             pairs)
    duel('hand-over, two CPUs', program, 'handoff', apart, 0, pairs)
    duel('hand-over, one CPU', program, 'handoff', one, 0, pairs)
    print()
    print('| lock_cost | ours, ns | second, ns | ratio | second to itself | target | verdict |')
    print('|---|---|---|---|---|---|---|')
    for name, series, metric, mode, where in (
            ('`overhead`, alone, mutex', 'alone/', 'overhead', 'alone', apart),
            ('`handoff`, one CPU, mutex', 'handoff/', 'handoff', 'handoff', one)):
        column = compare_columns(
            lambda s=series, m=metric, w=where: [lab_metric(schedlab, w, 'mutex', s, m)],
            lambda m=mode, w=where: [run(program, m, 'mutex', w)[0]], pairs)[0]
        show_row(name, column, share, 1)
    return 0


sys.exit(main())
