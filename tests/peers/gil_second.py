"""The interpreter lock's labs beside CPython, which has the original. Use: gil_second.py SCHEDLAB

Prints rows for docs/trust.md: not times, which belong to two interpreters, but shapes, each a ratio
of times of one of them.

  threads   two and ten counting threads over the same counts one after the other
  convoy    by how much a sleep of 100 us is longer beside K that compute, in intervals

CPython runs here, and says nothing where it has no interpreter lock. ABBA, as pairs.py does it.
"""

import argparse
import os
import sys
import threading
import time

import pairs

LOOPS = 300_000
SLEEP_S = 0.0001
TASKS = (2, 10)
CONVOYS = ((1, 500), (1, 5000), (2, 500), (2, 5000))  # threads that compute, interval in us
CPUS = sorted(os.sched_getaffinity(0))[:2]


def count():
    number = 0
    for _ in range(LOOPS):
        number += 1


def clocked(work):
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def serial(tasks):
    for _ in range(tasks):
        count()


def threaded(tasks):
    threads = [threading.Thread(target=count) for _ in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def cpython_threads(tasks):
    """Time of the threads as a multiple of that of the same work in one."""
    return clocked(lambda: threaded(tasks)) / clocked(lambda: serial(tasks))


def our_threads(schedlab):
    series = pairs.lab_series(schedlab, "gil_threads", CPUS,
                              {"tasks": ",".join(map(str, TASKS)), "loop": LOOPS,
                               "way": "interval", "interval_us": 5000, "block": "64K",
                               "hashed": "64K"}, processes=1)
    times = {one["name"]: metric_of(one, "time") for one in series if one["metrics"]}
    return [times[f"{tasks}/interval"] / times[f"{tasks}/serial"] for tasks in TASKS]


def metric_of(series, name):
    return next(metric["median"] for metric in series["metrics"] if metric["name"] == name)


def cpython_convoy(computing, interval_s, operations=10):
    """The median of a sleep's excess beside threads that compute, in intervals."""
    sys.setswitchinterval(interval_s)
    done = threading.Event()

    def compute():
        while not done.is_set():
            for _ in range(500):
                pass

    threads = [threading.Thread(target=compute) for _ in range(computing)]
    for thread in threads:
        thread.start()
    time.sleep(4 * interval_s * computing)
    waits = [clocked(lambda: time.sleep(SLEEP_S)) - SLEEP_S for _ in range(operations)]
    done.set()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(0.005)
    return pairs.median(waits) / interval_s


def our_convoys(schedlab):
    series = pairs.lab_series(schedlab, "gil_convoy", CPUS,
                              {"operation": "timer", "computing": "1,2", "interval_us": "500,5000",
                               "threads": 1}, processes=1)
    found = {one["name"]: one for one in series}
    return [(metric_of(found[f"timer/{computing}/interval/{interval_us}us"], "latency")
             - SLEEP_S * 1e9) / (interval_us * 1000) for computing, interval_us in CONVOYS]


def rows(names, ours, cpython, count_of_pairs):
    columns = pairs.compare_columns(ours, cpython, count_of_pairs)
    for name, column in zip(names, columns.values(), strict=True):
        pairs.show_row(name, column, 0.2, digits=2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("schedlab")
    parser.add_argument("--pairs", type=int, default=20)
    arguments = parser.parse_args()
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        sys.exit(77)  # an interpreter without the lock
    os.sched_setaffinity(0, CPUS)
    print("| shape | ours | CPython | ratio | CPython to itself | target | |")
    print("|---|---|---|---|---|---|---|")
    rows([f"{tasks} threads / serial" for tasks in TASKS],
         lambda: our_threads(arguments.schedlab),
         lambda: [cpython_threads(tasks) for tasks in TASKS], arguments.pairs)
    rows([f"convoy, {computing} computing, {interval_us} us, in intervals"
          for computing, interval_us in CONVOYS],
         lambda: our_convoys(arguments.schedlab),
         lambda: [cpython_convoy(computing, interval_us / 1e6)
                  for computing, interval_us in CONVOYS], arguments.pairs)


if __name__ == "__main__":
    main()
