"""Our process pool, from submit to result, beside a round trip of two processes over shared futexes
with the same way to wait, and beside CPython's ProcessPoolExecutor. Prints rows for
docs/trust.md; never fails on a time.

usage: process_pool_second.py POOL_ROUND_TRIP SECOND_FUTEX_TRIP [PAIRS]

One task is under way at a time, one worker serves. Caller and worker sit on one CPU, or on one
each.
Targets: at most 1.5 times the futexes, at most 0.2 times CPython.
"""
import os
import pathlib
import platform
import sys

from pairs import reading, row_at_most

executor = pathlib.Path(__file__).with_name('executor_trip.py')
count = 20_000
python_count = 2_000


def main():
    pool, futex = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    cpus = sorted(os.sched_getaffinity(0))
    print('| what | ours, ns | peer, ns | ratio | peer to itself | target | verdict |')
    print('|---|---|---|---|---|---|---|')
    places = [('one CPU', (cpus[0], cpus[0]), ['block'])]
    if len(cpus) > 1:
        places.append(('two CPUs', (cpus[0], cpus[-1]), ['block', 'spin']))
    for where, chosen, policies in places:
        for policy in policies:
            row_at_most(f'process pool, submit to result, {where}, {policy}, by shared futexes',
                        reading([pool, 'processes', policy, count, 1, *chosen]),
                        reading([futex, policy, count, *chosen]), 1.5, pairs)
        row_at_most(f'the same, {where}, block, against {platform.python_implementation()} '
                    f'{platform.python_version()}',
                    reading([pool, 'processes', 'block', python_count, 1, *chosen]),
                    reading([sys.executable, executor, 'processes', python_count, *chosen]), 0.2,
                    pairs)
    return 0


sys.exit(main())
