"""io_wakeup beside second methods: one way after a gap beside a program of plain libc, with the
answers that the lab's wake-ups get and without any, and half a round trip without a gap beside the
wake-up of switch_cost, which is another loop of ours. Prints rows for docs/trust.md; never fails on
a time.

usage: wakeup_second.py SCHEDLAB SECOND_REST [PAIRS]
"""
import os
import sys

from pairs import compare_columns, lab_series, output, show_row

share = 0.10
skipped = 77
gaps_us = (100, 1000)
mechanisms = ('eventfd', 'futex', 'pipe')
# As switch_cost calls them.
others = {'eventfd': 'eventfd', 'futex': 'futex-private', 'pipe': 'pipe'}
repetitions = 3


def lab_metric(schedlab, lab, cpus, values, metric, preset='--quick'):
    """A metric of the series of a run, by the end of their names."""
    return {series['name'].split('/', 1)[1]:
            next(found['median'] for found in series['metrics'] if found['name'] == metric)
            for series in lab_series(schedlab, lab, cpus, values, repetitions, preset)
            if series['metrics'] and '/' in series['name'] and 'floor' not in series['name']}


def gap_text(gap_us):
    return f'{gap_us // 1000}ms' if gap_us >= 1000 else f'{gap_us}us'


def rests(schedlab, cpus):
    values = {'mechanism': ','.join(mechanisms), 'gap_us': ','.join(map(str, gaps_us))}
    return lab_metric(schedlab, 'io_wakeup', cpus, values, 'one_way')


def second_rests(program, cpus, answer):
    found = {}
    for mechanism in mechanisms:
        for gap_us in gaps_us:
            wakeups = max(50, min(500, 50_000 // gap_us))
            one_way, _, sleeps = map(float, output(
                [program, *cpus, mechanism, answer, gap_us, wakeups, repetitions]).split())
            if sleeps < 0.95:
                print(f'second method, {mechanism}: only {sleeps} sleeps a wake-up',
                      file=sys.stderr)
            found[f'{mechanism}/{gap_text(gap_us)}'] = one_way
    return found


def halves(schedlab, cpus):
    """Of round trips on the heels of each other, as short runs of both labs have them."""
    seen = lab_metric(schedlab, 'io_wakeup', cpus,
                      {'mechanism': ','.join(mechanisms), 'gap_us': 0}, 'round_trip', '--smoke')
    return {mechanism: seen[f'{mechanism}/0us'] / 2 for mechanism in mechanisms}


def switches(schedlab, cpus):
    seen = lab_metric(schedlab, 'switch_cost', cpus,
                      {'mechanism': ','.join(others.values()), 'tasks': 'threads'}, 'wakeup',
                      '--smoke')
    return {mechanism: seen[f'{other}/threads'] for mechanism, other in others.items()}


def main():
    schedlab, program = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        print('needs two CPUs')
        return skipped
    cpus = (cpus[0], cpus[-1])
    print('| io_wakeup | ours, ns | second, ns | ratio | second to itself | target | verdict |')
    print('|---|---|---|---|---|---|---|')
    for answer in ('answered', 'alone'):
        columns = compare_columns(lambda: rests(schedlab, cpus),
                                  lambda kind=answer: second_rests(program, cpus, kind), pairs)
        for name, column in columns.items():
            mechanism, gap = name.split('/')
            show_row(f'`one_way`, {mechanism} after {gap}; the second {answer}', column, share)
    columns = compare_columns(lambda: halves(schedlab, cpus), lambda: switches(schedlab, cpus),
                              pairs)
    for mechanism, column in columns.items():
        show_row(f'half of `round_trip`, {mechanism}, against `wakeup` of switch_cost', column,
                 share)
    return 0


sys.exit(main())
