"""io_timers beside cyclictest (rt-tests): how late one thread wakes that sleeps by clock_nanosleep
until a time, with the timer slack of an ordinary thread. (Not without: cyclictest tries a real-time
policy first, and on the way back from that the kernel gives it the default slack.) Prints a row for
docs/trust.md; never fails on a time.

usage: timers_second.py SCHEDLAB [PAIRS]
"""
import os
import re
import shutil
import sys

from pairs import lab_series, output, row_within

share = 0.10
skipped = 77
period_us = 1000
loops = 400
most_us = 5000  # of the histogram


def ours(schedlab, cpu, name):
    values = {'sleepers': 1, 'period_us': period_us, 'arm': 'threads', 'program': 'threads'}
    for series in lab_series(schedlab, 'io_timers', [cpu], values):
        if series['name'] == name:
            return {metric['name']: metric['median'] for metric in series['metrics']}['late']
    raise SystemExit(f'no series {name}')


def cyclictest(cpu):
    """The median of its histogram, whose buckets are microseconds, interpolated."""
    text = output(['cyclictest', '--default-system', '-q', '-t', 1, '-a', cpu, '-i', period_us,
                   '-l', loops, '-h', most_us, '--policy=other'])
    counts = {int(us): int(count)
              for us, count in re.findall(r'^(\d{6}) (\d+)$', text, re.MULTILINE)}
    half, below = sum(counts.values()) / 2, 0
    for us in sorted(counts):
        if counts[us] and below + counts[us] >= half:
            return 1000 * (us + (half - below) / counts[us])
        below += counts[us]
    raise SystemExit('cyclictest gave no histogram')


def main():
    schedlab = sys.argv[1]
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    if not shutil.which('cyclictest'):
        print('cyclictest is not installed: apt-get install rt-tests')
        return skipped
    cpu = min(os.sched_getaffinity(0))
    print('| `io_timers`, `late` | ours, ns | cyclictest, ns | ratio | cyclictest to itself '
          '| target | verdict |')
    print('|---|---|---|---|---|---|---|')
    row_within('one thread, default slack', lambda: ours(schedlab, cpu, '1/threads'),
               lambda: cyclictest(cpu), share, pairs)
    return 0


sys.exit(main())
