"""speedup_scaling and speedup_images beside second methods. Prints rows for docs/trust.md; never
fails on a time.

usage: scaling_second.py SCHEDLAB FIT_POINTS SECOND_SCALING [PAIRS [SETS]]

Fits. SETS random curves with noise are fitted by FIT_POINTS, which calls the program's own fit, and
here by a search that shares nothing with it: no derivatives, the rate in closed form. A fit whose
sum of squares is larger than the search's ends the script with 1. The coefficients of Amdahl in a
result file are computed again from its rates.

Speedups. The lab against SECOND_SCALING, plain libc with other work and another clock.

Pictures. What must hold between the numbers of one result: one thread's pipeline is the sum of its
parts, and the CPUs in use are the CPU time of the pictures by the time of the batch.
"""
import json
import os
import random
import subprocess
import sys

from pairs import compare_columns, lab_series, median, output, show_row

share = 0.05


def law(contention, crosstalk, workers):
    return workers / (1 + contention * (workers - 1) + crosstalk * workers * (workers - 1))


def best_rate(contention, crosstalk, points):
    """The rate that fits best with these two, and the squares that it leaves."""
    shapes = [law(contention, crosstalk, n) for n, _ in points]
    rate = (sum(shape * x for shape, (_, x) in zip(shapes, points))
            / sum(shape * shape for shape in shapes))
    return rate, sum((x - rate * shape) ** 2 for shape, (_, x) in zip(shapes, points))


def search(points):
    """Contention, crosstalk and rate by looking around, in ever smaller steps."""
    starts = [0, 0.001, 0.01, 0.03, 0.1, 0.3, 0.6, 1]
    best = min((best_rate(a, b, points)[1], a, b)
               for a in starts for b in [0, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1])
    wide_a, wide_b = 0.25, max(best[2], 1e-3)
    while wide_a > 1e-13 or wide_b > 1e-15:
        around = [(best_rate(a, b, points)[1], a, b)
                  for a in (best[1] - wide_a, best[1], best[1] + wide_a) if 0 <= a <= 1
                  for b in (best[2] - wide_b, best[2], best[2] + wide_b) if 0 <= b <= 1]
        # At a bound the step must be able to end on it.
        around += [(best_rate(0, best[2], points)[1], 0, best[2]),
                   (best_rate(best[1], 0, points)[1], best[1], 0)]
        found = min(around)
        if found[0] < best[0]:
            best = found
        else:
            wide_a, wide_b = wide_a / 1.5, wide_b / 1.5
    return best[1], best[2], best_rate(best[1], best[2], points)[0]


def draw(generator):
    """A curve with coefficients of all sizes, and noise of up to 5 %."""
    contention = generator.choice([0, 10 ** generator.uniform(-3, -0.2)])
    crosstalk = generator.choice([0, 10 ** generator.uniform(-6, -1.5)])
    rate = 10 ** generator.uniform(-3, 6)
    noise = generator.choice([0, 0.001, 0.01, 0.05])
    workers = sorted(generator.sample(range(1, 129), generator.randint(6, 12)))
    return [(n, rate * law(contention, crosstalk, n) * (1 + noise * generator.gauss(0, 1)))
            for n in workers]


def check_fits(program, count):
    generator = random.Random(1)
    sets = [[point for point in draw(generator) if point[1] > 0] for _ in range(count)]
    sets = [points for points in sets if len(points) >= 6]
    text = '\n'.join(' '.join(f'{n} {x!r}' for n, x in points) for points in sets) + '\n'
    done = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
    worse, furthest = 0, 0.0
    for points, line in zip(sets, done.stdout.splitlines(), strict=True):
        ours = tuple(map(float, line.split()))
        theirs = search(points)
        scale = sum(x * x for _, x in points)
        left = sum((x - ours[2] * law(ours[0], ours[1], n)) ** 2 for n, x in points)
        least = sum((x - theirs[2] * law(theirs[0], theirs[1], n)) ** 2 for n, x in points)
        worse += left - least > 1e-9 * least + 1e-18 * scale
        furthest = max(furthest, abs(ours[0] - theirs[0]), abs(ours[1] - theirs[1]))
    print(f'USL fits: {len(sets)} random curves, {worse} left more than the search did; '
          f'contention and crosstalk differ by {furthest:.1e} at most')
    return worse == 0


def medians_of(series, metric):
    entry = next(entry for entry in series['metrics'] if entry['name'] == metric)
    return {run['process']: run['median'] for run in entry['per_run']}


def check_amdahl(schedlab):
    """The shares of a result, again from its rates, by halving in on the least distance."""
    series = {entry['name']: entry
              for entry in lab_result(schedlab, 'speedup_scaling')['series']}
    off = 0.0
    count = 0
    for name, fit in series.items():
        if not name.startswith('fit/amdahl/') or not fit['metrics']:
            continue
        curve = name.removeprefix('fit/amdahl/')
        points = [entry for other, entry in series.items()
                  if other.startswith(curve + '/') and entry['metrics']]
        for process, found in medians_of(fit, 'serial').items():
            rates = {int(entry['params']['workers']): medians_of(entry, 'rate')[process]
                     for entry in points}

            def distance(serial, rates=rates):
                return sum((1 - rate / rates[1] * (serial + (1 - serial) / n)) ** 2
                           for n, rate in rates.items() if n > 1)
            low, high = -1e3, 1e3
            for _ in range(120):
                third = (high - low) / 3
                if distance(low + third) < distance(high - third):
                    high -= third
                else:
                    low += third
            off = max(off, abs((low + high) / 2 - found) / max(1, abs(found)))
            count += 1
    print(f'Amdahl: {count} shares of a run computed again from its rates; they differ by '
          f'{off:.1e} at most')
    return off < 1e-6 and count > 0


def lab_result(schedlab, lab):
    return json.loads(output([schedlab, 'run', lab, '--json']))['labs'][0]


def lab_speedup(schedlab, cpus, serial):
    values = {'work': 'serial', 'growth': 'strong', 'tasks': 'threads', 'serial': serial,
              'length': 1000, 'workers': len(cpus)}
    series = {entry['name']: entry
              for entry in lab_series(schedlab, 'speedup_scaling', cpus, values)}
    point = next(entry for name, entry in series.items() if name.endswith(f'/{len(cpus)}'))
    return [median(medians_of(point, 'speedup').values())]


def compare_speedups(schedlab, program, cpus, pairs):
    print('\n| number | ours | second | ratio | second to itself | target | verdict |')
    print('|---|---|---|---|---|---|---|')
    for serial in (0, 10, 50):
        columns = compare_columns(
            lambda serial=serial: lab_speedup(schedlab, cpus, serial),
            lambda serial=serial: [float(output([program, serial, 1000, *cpus]).split()[0])],
            pairs)
        show_row(f'speedup of {len(cpus)} threads, {serial} % serial', columns[0], share, 3)


def check_pictures(schedlab):
    series = {entry['name']: entry for entry in lab_result(schedlab, 'speedup_images')['series']}
    whole = medians_of(series['pipeline/sequential'], 'batch')
    parts = [medians_of(series[f'{stage}/sequential'], 'batch') for stage in ('fetch', 'process')]
    ratios = [whole[process] / sum(part[process] for part in parts) for process in whole]
    print(f'\nPictures: one thread takes {median(ratios):.3f} of the sum of fetching and '
          f'processing ({min(ratios):.3f} to {max(ratios):.3f})')
    off = 0.0
    for entry in series.values():
        if not entry['metrics']:
            continue
        batch, cores, cpu = (medians_of(entry, name) for name in ('batch', 'cores', 'cpu'))
        count = int(entry['params']['pictures'])
        off = max(off, *(abs(cpu[process] * count / batch[process] / cores[process] - 1)
                         for process in batch))
    print(f'Pictures: CPU time of all pictures by the time of the batch is "cores" to {off:.1%}')


def main():
    schedlab, fit_points, second = sys.argv[1:4]
    pairs = int(sys.argv[4]) if len(sys.argv) > 4 else 20
    sets = int(sys.argv[5]) if len(sys.argv) > 5 else 200
    good = check_fits(fit_points, sets)
    good = check_amdahl(schedlab) and good
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) == 2:
        compare_speedups(schedlab, second, cpus, pairs)
    else:
        print('speedups: needs 2 CPUs')
    check_pictures(schedlab)
    return 0 if good else 1


sys.exit(main())
