"""io_wakeup beside second methods: one way after a gap beside a program of plain libc that wakes at
fixed times and gets no answer, and half a round trip without a gap beside the wake-up of
switch_cost, which is another loop of ours. Prints rows for docs/trust.md; never fails on a time.

usage: wakeup_second.py SCHEDLAB SECOND_REST [PAIRS]
"""
import json
import os
import subprocess
import sys

from pairs import compare, median, show, within

share = 0.10
skipped = 77
gaps_us = (100, 1000)
repetitions = 6


def output(command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True,
                          text=True).stdout


def run_lab(schedlab, lab, cpus, values):
    """The metrics of the series of a run, by the end of their names."""
    command = [schedlab, 'run', lab, '--json', '--processes', repetitions, '--place',
               f'cpus:{cpus[0]},{cpus[1]}']
    for name, value in values.items():
        command += ['--set', f'{lab}.{name}={value}']
    return {entry['name'].split('/', 1)[1]:
            {metric['name']: metric['median'] for metric in entry['metrics']}
            for entry in json.loads(output(command))['labs'][0]['series'] if entry['metrics']}


def gap_text(gap_us):
    return f'{gap_us // 1000}ms' if gap_us >= 1000 else f'{gap_us}us'


def woken(schedlab, cpus, mechanism, gap_us):
    values = {'mechanism': mechanism, 'gap_us': gap_us}
    return run_lab(schedlab, 'io_wakeup', cpus, values)[f'{mechanism}/{gap_text(gap_us)}']


def second(program, cpus, mechanism, gap_us):
    wakeups = max(50, min(1000, 100_000 // gap_us))
    numbers = output([program, *cpus, mechanism, gap_us, wakeups, repetitions]).split()
    if float(numbers[2]) < 0.95:
        print(f'second method, {mechanism}: only {numbers[2]} sleeps a wake-up', file=sys.stderr)
    return float(numbers[0])


def kept(measure, seen):
    def call():
        seen.append(measure())
        return seen[-1]
    return call


def row(name, ours, peer, pairs):
    first, other = [], []
    ratio, same = compare(kept(ours, first), kept(peer, other), pairs)
    print(f'| {name} | {median(first):.0f} | {median(other):.0f} | {show(ratio)} | {show(same)} '
          f'| within {share:.0%} | {within(ratio, share)} |', flush=True)


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
    for mechanism in ('eventfd', 'futex', 'pipe'):
        for gap_us in gaps_us:
            row(f'`one_way`, {mechanism} after {gap_text(gap_us)}',
                lambda m=mechanism, g=gap_us: woken(schedlab, cpus, m, g)['one_way'],
                lambda m=mechanism, g=gap_us: second(program, cpus, m, g), pairs)
    for mechanism, other in (('eventfd', 'eventfd'), ('futex', 'futex-private'), ('pipe', 'pipe')):
        row(f'half of `round_trip`, {mechanism}, against `wakeup` of switch_cost',
            lambda m=mechanism: woken(schedlab, cpus, m, 0)['round_trip'] / 2,
            lambda m=other: run_lab(schedlab, 'switch_cost', cpus,
                                    {'mechanism': m, 'tasks': 'threads'})[f'{m}/threads']['wakeup'],
            pairs)
    return 0


sys.exit(main())
