"""race_updates beside a second method (second_race.cc): the share of updates that two threads lose,
and what an update costs plain and mended. Prints rows for docs/trust.md; never fails on a time.

usage: races_second.py SCHEDLAB SECOND_RACE [PAIRS]
"""
import os
import sys

from pairs import compare_columns, lab_series, median, output, show_row

share = 0.10
skipped = 77
milliseconds = 20
readings = 6


def ours(schedlab, cpus):
    found = {}
    values = {'part': 'plain,mends', 'window': 0, 'crowd': 2}
    for series in lab_series(schedlab, 'race_updates', cpus, values):
        way, _, kind = (series['name'].split('/') + ['', ''])[:3]
        if kind != 'threads' or way not in ('plain', 'atomic', 'lock', 'sharded'):
            continue
        metrics = {metric['name']: metric['median'] for metric in series['metrics']}
        found[way] = metrics['each']
        if way == 'plain':
            found['lost'] = metrics['lost']
    return found


def second(program, cpus):
    found = {}
    for way in ('plain', 'atomic', 'lock', 'sharded'):
        runs = [[float(word) for word in output([program, *cpus, way, milliseconds]).split()]
                for _ in range(readings)]
        found[way] = median([cost for _, cost in runs])
        if way == 'plain':
            found['lost'] = median([lost for lost, _ in runs])
    return found


def main():
    schedlab, program = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        print('needs 2 usable CPUs')
        return skipped
    columns = compare_columns(lambda: ours(schedlab, cpus), lambda: second(program, cpus), pairs)
    print('| `race_updates`, two threads, two CPUs | ours | second | ratio | second to itself '
          '| target | verdict |')
    print('|---|---|---|---|---|---|---|')
    for name, column in columns.items():
        title = 'lost, share' if name == 'lost' else f'{name}, ns an update'
        show_row(title, column, share, digits=3)
    return 0


sys.exit(main())
