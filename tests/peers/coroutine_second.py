"""switch_coroutine's resume and child rungs beside a bare handle resume and a minimal task with a
list of free frames. Prints rows for docs/trust.md; never fails on a time.

usage: coroutine_second.py SCHEDLAB SECOND_COROUTINE [PAIRS]

Resume: at most 1.3 times the bare handle. Child: at most 1.5 times the minimal task. Both sides
prove that a child takes one frame.
"""
import itertools
import json
import os
import subprocess
import sys

from pairs import at_most, compare, median, show

rows = (('resume', 'a bare handle', 1.3, 0), ('child', 'a minimal task', 1.5, 1))
processes = 6
repetitions = 100  # of a millisecond


def output(command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True,
                          text=True).stdout


def measure_lab(schedlab, cpu):
    """Round trips of both rungs, from one run."""
    command = [schedlab, 'run', 'switch_coroutine', '--json', '--place', f'cpus:{cpu}',
               '--processes', processes, '--set', 'switch_coroutine.rung=resume,child']
    series = {entry['name']: entry for entry in json.loads(output(command))['labs'][0]['series']}
    for name, _, _, _ in rows:
        failed = [check for check in series[name]['checks'] if not check['ok']]
        if failed:
            sys.exit(f'{name}: {failed}')
    return [next(metric['median'] for metric in series[name]['metrics']
                 if metric['name'] == 'round_trip') for name, _, _, _ in rows]


def measure_second(program, cpu):
    resume, child, frames = map(float, output([program, cpu, repetitions]).split())
    if frames != 1:
        sys.exit(f'the minimal task took {frames} frames a child')
    return [resume, child]


class Replay:
    """Keeps what each call gave, so that the second row comes from the same runs."""

    def __init__(self, measure):
        self.measure = measure
        self.seen = []

    def first(self):
        self.seen.append(self.measure())
        return self.seen[-1][0]

    def again(self, index):
        following = itertools.count()
        return lambda: self.seen[next(following)][index]


def main():
    schedlab, second = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    cpu = max(os.sched_getaffinity(0))
    ours = Replay(lambda: measure_lab(schedlab, cpu))
    peer = Replay(lambda: measure_second(second, cpu))
    first = compare(ours.first, peer.first, pairs)
    print('| what | ours, ns | second, ns | ratio | second to itself | target | verdict |')
    print('|---|---|---|---|---|---|---|')
    for name, against, limit, index in rows:
        ratio, same = first if index == 0 else compare(ours.again(index), peer.again(index), pairs)
        medians = [median([seen[index] for seen in side.seen]) for side in (ours, peer)]
        print(f'| switch_coroutine {name}, against {against} | {medians[0]:.2f} | '
              f'{medians[1]:.2f} | {show(ratio)} | {show(same)} | <= {limit} x | '
              f'{at_most(ratio, limit)} |', flush=True)
    return 0


sys.exit(main())
