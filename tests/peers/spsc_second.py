"""The ring of one producer and one consumer beside boost::lockfree::spsc_queue and, where its
header was installed when this was built, rigtorp::SPSCQueue: words of 8 bytes between two threads
on two CPUs, one at a time and 16 at once, at capacities that do fill. Prints rows for
docs/trust.md; never fails on a time.

usage: spsc_second.py SPSC_PEER [PAIRS]
"""
import os
import subprocess
import sys

from pairs import at_least, compare_columns, show

skipped = 77
capacities = (16, 1024, 65536)
words = 3_000_000
# What is compared with what, and whether it is a target of ours.
rows = (('ours', 'boost', True), ('ours-batch', 'boost-batch', False),
        ('ours-waits', 'boost', False), ('ours-may-sleep', 'boost', False),
        ('ours', 'rigtorp', True))


def rate(program, cpus, queue, capacity):
    """Millions of words a second; None where the queue is not installed."""
    done = subprocess.run([program, *map(str, cpus), queue, str(capacity), str(words)],
                          capture_output=True, text=True, check=False)
    if done.returncode == skipped:
        return None
    if done.returncode != 0:
        raise SystemExit(f'{queue} {capacity}: exit status {done.returncode}: {done.stderr}')
    return float(done.stdout)


def main():
    program = sys.argv[1]
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        print('needs 2 usable CPUs: both sides spin')
        return skipped
    cpus = (usable[0], usable[-1])
    print(f'CPUs {cpus[0]} and {cpus[1]}, {words} words of 8 bytes, {pairs} pairs')
    print('| queue | capacity | ours | peer | ours/peer | peer/peer | target | verdict |')
    print('|---|---|---|---|---|---|---|---|')
    for ours, peer, target in rows:
        if rate(program, cpus, peer, capacities[0]) is None:
            print(f'| {ours} beside {peer} | | | | | | >= 1.0 x | not installed |')
            continue
        for capacity in capacities:
            column = compare_columns(lambda: [rate(program, cpus, ours, capacity)],
                                     lambda: [rate(program, cpus, peer, capacity)], pairs)[0]
            verdict = f'>= 1.0 x | {at_least(column.ratio)}' if target else '- | -'
            print(f'| {ours} beside {peer} | {capacity} | {column.ours:.1f} M/s '
                  f'| {column.peer:.1f} M/s | {show(column.ratio, 2)} | {show(column.same, 2)} '
                  f'| {verdict} |', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
