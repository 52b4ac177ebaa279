"""switch_coroutine's resume and child rungs beside a bare handle resume and a minimal task with a
list of free frames. Prints rows for docs/trust.md; never fails on a time.

usage: coroutine_second.py SCHEDLAB SECOND_COROUTINE [PAIRS]

Resume: at most 1.3 times the bare handle. Child: at most 1.5 times the minimal task. Both sides
prove that a child takes one frame.
"""
import os
import sys

from pairs import compare_columns, lab_series, output, show_row_at_most

rows = (('resume', 'a bare handle', 1.3), ('child', 'a minimal task', 1.5))
repetitions = 100  # of a millisecond


def measure_lab(schedlab, cpu):
    """Round trips of both rungs, from one run."""
    series = {entry['name']: entry for entry in
              lab_series(schedlab, 'switch_coroutine', [cpu], {'rung': 'resume,child'})}
    for name, _, _ in rows:
        failed = [check for check in series[name]['checks'] if not check['ok']]
        if failed:
            sys.exit(f'{name}: {failed}')
    return [next(metric['median'] for metric in series[name]['metrics']
                 if metric['name'] == 'round_trip') for name, _, _ in rows]


def measure_second(program, cpu):
    resume, child, frames = map(float, output([program, cpu, repetitions]).split())
    if frames != 1:
        sys.exit(f'the minimal task took {frames} frames a child')
    return [resume, child]


def main():
    schedlab, second = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    cpu = max(os.sched_getaffinity(0))
    columns = compare_columns(lambda: measure_lab(schedlab, cpu),
                              lambda: measure_second(second, cpu), pairs)
    print('| what | ours, ns | second, ns | ratio | second to itself | target | verdict |')
    print('|---|---|---|---|---|---|---|')
    for (name, against, limit), column in zip(rows, columns.values(), strict=True):
        show_row_at_most(f'switch_coroutine {name}, against {against}', column, limit, 2)
    return 0


sys.exit(main())
