"""How often one run of a faulty program shows its bug, and how often ThreadSanitizer reports it
in one run: claim C94 of race_updates and race_deadlock. Prints rows for docs/trust.md; never fails
on a rate, but does if the detector reports a program without a race.

usage: race_detector.py RACY RACY_WITH_THREAD_SANITIZER [RUNS]
"""
import math
import os
import subprocess
import sys

runs_of_each = 200
reported = 66  # ThreadSanitizer's exit status
cases = [('update', 1), ('update', 100), ('update', 10000), ('update', 1000000), ('locks',)]


def status(program, case):
    environment = {**os.environ, 'TSAN_OPTIONS': 'halt_on_error=0:atexit_sleep_ms=0'}
    done = subprocess.run([program, *map(str, case)], env=environment, check=False,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode


def share(count, runs):
    """A share in percent, with Wilson's 95 % interval."""
    z = 1.96
    rate = count / runs
    middle = (rate + z * z / (2 * runs)) / (1 + z * z / runs)
    spread = z / (1 + z * z / runs) * math.sqrt(rate * (1 - rate) / runs + (z / (2 * runs)) ** 2)
    low, high = max(0, middle - spread), min(1, middle + spread)
    return f'{100 * rate:.1f} % [{100 * low:.1f} {100 * high:.1f}]'


def main():
    plain, watched = sys.argv[1:3]
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else runs_of_each
    # Without an update there is no race to report.
    assert status(plain, ('update', 0)) == 0 and status(watched, ('update', 0)) == 0
    print(f'| program, {runs} runs | one run shows it | ThreadSanitizer reports it |')
    print('|---|---|---|')
    for case in cases:
        shows = sum(status(plain, case) != 0 for _ in range(runs))
        reports = sum(status(watched, case) == reported for _ in range(runs))
        name = f'{case[1]} updates by each of two threads' if len(case) > 1 else \
            'two locks in opposite orders'
        print(f'| {name} | {share(shows, runs)} | {share(reports, runs)} |', flush=True)
    return 0


sys.exit(main())
