"""Our thread pool beside a futex round trip of plain libc with the same way to wait, CPython's
ThreadPoolExecutor, and oneTBB; and pool_dispatch beside the bare pool. Prints rows for
docs/trust.md; never fails on a time.

usage: pool_second.py SCHEDLAB POOL_ROUND_TRIP SECOND_POOL POOL_TASKS TBB_TASKS|none [PAIRS]

Each reading runs what its row compares and nothing else. On one CPU nobody spins, so that the other
ways to wait are `block` there. Targets: submit to result at most 1.3 times a futex round trip, and
0.2 times CPython; a million tiny tasks in at most oneTBB's time; the lab within 10 % of the pool.
"""
import os
import pathlib
import platform
import sys

from pairs import lab_series, reading, row_at_most, row_within

executor = pathlib.Path(__file__).with_name('executor_trip.py')
million = 1_000_000
depth = 24  # of the tree: 75,024 tasks
counts = {'block': 4_000, 'adaptive': 40_000, 'spin': 40_000}  # trips of a repetition
repetitions = 5
python_count = 3_000


def lab_trip(schedlab, place):
    """ns of a trip in a run of the lab that does little else."""
    series = lab_series(schedlab, 'pool_dispatch', place,
                        {'part': 'trip', 'waiting': 'block', 'pool': 'threads'}, 2, '--smoke')
    trip = next(entry for entry in series if entry['name'].endswith('/block/pool'))
    failed = [check for check in trip['checks'] if not check['ok']]
    if failed:
        sys.exit(f'pool_dispatch: {failed}')
    return next(metric['median'] for metric in trip['metrics'] if metric['name'] == 'each')


def compare_trips(schedlab, ours, second, place, pairs):
    where = 'two CPUs' if place[0] != place[1] else 'one CPU'

    def pool(waiting):
        return reading([ours, 'threads', waiting, counts[waiting], repetitions, *place])
    waits = list(counts) if place[0] != place[1] else ['block']
    for waiting in waits:
        row_at_most(f'submit to result, {where}, {waiting}, against a futex round trip',
                    pool(waiting),
                    reading([second, *place, waiting, counts[waiting], repetitions]), 1.3, pairs)
    # As CPython sleeps, and as a pool waits that nothing was asked of.
    python = f'{platform.python_implementation()} {platform.python_version()}'
    for waiting in [way for way in waits if way != 'spin']:
        row_at_most(f'the same, {where}, {waiting}, against ThreadPoolExecutor of {python}',
                    pool(waiting),
                    reading([sys.executable, executor, 'threads', python_count, *place]), 0.2,
                    pairs)
    if place[0] == place[1]:
        row_within(f'`pool_dispatch`, a trip, {where}, block, against the bare pool',
                   lambda: lab_trip(schedlab, place), pool('block'), 0.1, pairs)


def compare_floods(ours, tbb, cpus, pairs):
    for what, size, name, crews in (('flood', million, '10^6 tiny tasks', sorted({1, cpus})),
                                    ('tree', depth, 'a tree of 75,024 tasks', [cpus])):
        for workers in crews:
            row_at_most(f'{name}, a task, {workers} workers, against task_group on {cpus} threads',
                        reading([ours, what, size, workers, 2]),
                        reading([tbb, what, size, cpus, 2]), 1.0, pairs, 1)


def main():
    schedlab, ours, second, tasks, tbb = sys.argv[1:6]
    pairs = int(sys.argv[6]) if len(sys.argv) > 6 else 20
    cpus = sorted(os.sched_getaffinity(0))
    print('| what | ours, ns | peer, ns | ratio | peer to itself | target | verdict |')
    print('|---|---|---|---|---|---|---|')
    compare_trips(schedlab, ours, second, (cpus[0], cpus[0]), pairs)
    if len(cpus) > 1:
        compare_trips(schedlab, ours, second, (cpus[0], cpus[-1]), pairs)
    if tbb == 'none':
        print('| 10^6 tiny tasks, against oneTBB | | | | | <= 1.0 x | not installed |')
    else:
        compare_floods(tasks, tbb, len(cpus), pairs)
    return 0


sys.exit(main())
