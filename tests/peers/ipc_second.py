"""ipc_latency beside a second method of plain libc: round trips of two processes over pipes and a
socket pair, on one CPU and on two, and the context switches that getrusage counts. Ours sends eight
bytes of length with each message and keeps the receiver's place in a buffer: it may cost more by
that. Prints rows for docs/trust.md; never fails on a time.

usage: ipc_second.py SCHEDLAB SECOND_IPC [PAIRS]
"""
import os
import sys

from pairs import compare_columns, lab_series, output, show_row, size_text

share = 0.10
skipped = 77
channels = ('pipe', 'socketpair')
sizes = (8, 4096)
rounds = 3000
repetitions = 6


def ours(schedlab, cpus):
    """Round trips by channel and size."""
    series = lab_series(schedlab, 'ipc_latency', cpus,
                        {'channel': ','.join(channels), 'tasks': 'processes', 'gap_us': 0,
                         'size': ','.join(map(str, sizes))}, repetitions)
    found = {}
    for one in series:
        _, channel, _, size = one['name'].split('/')
        found[channel, size] = next(metric['median'] for metric in one['metrics']
                                    if metric['name'] == 'round_trip')
    return found


def second(program, cpus):
    found = {}
    for channel in channels:
        for size in sizes:
            numbers = output([program, *cpus, channel, size, rounds, repetitions]).split()
            if float(numbers[1]) < 1.9:
                print(f'second method, {channel}: {numbers[1]} switches a round trip',
                      file=sys.stderr)
            found[channel, size_text(size)] = float(numbers[0])
    return found


def main():
    schedlab, program = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    usable = sorted(os.sched_getaffinity(0))
    places = [(usable[0], usable[0])] + [(usable[0], usable[-1])] * (len(usable) > 1)
    print('| round trip | ours (ns) | second | ours/second | second/second | target | verdict |')
    print('|---|---|---|---|---|---|---|')
    for cpus in places:
        columns = compare_columns(lambda cpus=cpus: ours(schedlab, cpus),
                                  lambda cpus=cpus: second(program, cpus), pairs)
        for (channel, size), column in columns.items():
            show_row(f'{channel}, {size} bytes, CPUs {cpus[0]} and {cpus[1]}', column, share)
    return 0


if __name__ == '__main__':
    sys.exit(main())
