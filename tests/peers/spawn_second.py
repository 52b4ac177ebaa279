"""spawn_cost beside a second method of plain libc, page faults beside pages, and how long CPython
takes to start and join the same. Prints rows for docs/trust.md; never fails on a time.

usage: spawn_second.py SCHEDLAB SECOND_SPAWN [PAIRS]
"""
import os
import sys

from pairs import compare_columns, lab_series, output, show_row

share = 0.10
size = 64 << 20
ways = ('thread', 'fork', 'vfork')
titles = {'large': 'fork, 64 MiB on base pages', 'write': 'first write to a page by the child',
          'faults': 'page faults for it'}
python_rounds = 20

python_starts = '''
import multiprocessing, threading, time
def nothing(): pass
def took(make, rounds):
    times = []
    for _ in range(rounds):
        begin = time.monotonic_ns()
        one = make(target=nothing)
        one.start()
        one.join()
        times.append(time.monotonic_ns() - begin)
    return sorted(times)[rounds // 2]
if __name__ == "__main__":
    print("thread", took(threading.Thread, ROUNDS))
    for method in ("fork", "forkserver", "spawn"):
        print(method, took(multiprocessing.get_context(method).Process, ROUNDS))
'''


def metrics_of(schedlab, cpu, values):
    series = lab_series(schedlab, 'spawn_cost', [cpu], values)
    return {entry['name']: {metric['name']: metric['median'] or 0.0
                            for metric in entry['metrics']} for entry in series}


def ours(schedlab, cpu):
    found = metrics_of(schedlab, cpu, {'part': 'ways,size,write', 'size': size, 'written': size,
                                       'pages': 'base'})
    write = found['write/child/base']
    return {**{way: found[way]['whole'] for way in ways},
            'large': next(value['whole'] for name, value in found.items()
                          if name.startswith('fork/')),
            'write': write['write'], 'faults': write['page_faults']}


def second(program, cpu):
    write, faults = map(float, output([program, cpu, 'write', size, 10]).split())
    return {**{way: float(output([program, cpu, way, 0, 300]).split()[0]) for way in ways},
            'large': float(output([program, cpu, 'fork', size, 40]).split()[0]),
            'write': write, 'faults': faults}


def show_python(schedlab, cpu):
    """For orientation: another language does more at each start."""
    ours = metrics_of(schedlab, cpu, {'part': 'ways'})
    peers = {'thread': 'thread', 'fork': 'procs/fork', 'forkserver': 'procs/forkserver',
             'spawn': 'procs/exec'}
    print()
    print('| start and join | CPython, us | ours, us |')
    print('|---|---|---|')
    script = python_starts.replace('ROUNDS', str(python_rounds))
    path = f'/tmp/spawn-second-{os.getpid()}.py'
    try:
        with open(path, 'w', encoding='ascii') as file:
            file.write(script)
        lines = output(['taskset', '-c', cpu, sys.executable, path]).split('\n')
    except (OSError, ValueError) as error:
        print(f'| not measured: {error} | | |')
        return
    finally:
        os.unlink(path)
    for line in lines:
        if line:
            name, took = line.split()
            print(f"| {name} | {int(took) / 1000:.0f} | {ours[peers[name]]['whole'] / 1000:.1f} |")


def main():
    schedlab, program = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    cpu = min(os.sched_getaffinity(0))
    print('| spawn_cost | ours, ns | second, ns | ratio | second to itself | target | verdict |')
    print('|---|---|---|---|---|---|---|')
    columns = compare_columns(lambda: ours(schedlab, cpu), lambda: second(program, cpu), pairs)
    for name, column in columns.items():
        show_row(titles.get(name, f'{name}, small parent'), column, share,
                 4 if name == 'faults' else 0)
    show_python(schedlab, cpu)
    return 0


sys.exit(main())
