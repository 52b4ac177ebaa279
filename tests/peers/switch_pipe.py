"""switch_cost's pipe round trip beside `perf bench sched pipe`, and its switch counts beside
`perf stat`. Prints rows for docs/trust.md; never fails on a time.

usage: switch_pipe.py SCHEDLAB COUNT_SWITCHES [PAIRS]
"""
import os
import re
import shutil
import subprocess
import sys

from pairs import compare, lab_series, output, show, within

loops = 200_000


def ours(schedlab, cpu, tasks):
    values = {"mechanism": "pipe", "tasks": tasks}
    for series in lab_series(schedlab, "switch_cost", [cpu], values):
        if series["name"] == f"same-pu/pipe/{tasks}":
            return {metric["name"]: metric["median"] for metric in series["metrics"]}["round_trip"]
    raise RuntimeError("no such series")


def perf_pipe(cpu, tasks):
    command = ["taskset", "-c", str(cpu), "perf", "bench", "-f", "simple", "sched", "pipe",
               "-l", str(loops)]
    if tasks == "threads":
        command.append("-T")
    return float(output(command).split()[0]) * 1e9 / loops


def switch_counts(count_switches, mechanism, tasks, cpu, operations):
    """(expected, counted by us, counted by getrusage of all, counted by perf stat)"""
    command = ["perf", "stat", "-x,", "-e", "context-switches", count_switches, mechanism, tasks,
               str(cpu), str(operations)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    numbers = [int(word) for word in done.stdout.split()]
    found = re.search(r"^(\d+),[^,]*,context-switches", done.stderr, re.MULTILINE)
    return (*numbers, int(found.group(1)) if found else None)


def main():
    schedlab, count_switches = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    if not shutil.which("perf") or subprocess.run(["perf", "--version"],
                                                  capture_output=True).returncode != 0:
        print("perf is not installed")
        return 77
    cpu = max(os.sched_getaffinity(0))
    print("| what | ratio to the peer | peer to itself | target | verdict |")
    print("|---|---|---|---|---|")
    for tasks in ("processes", "threads"):
        ratio, same = compare(lambda: ours(schedlab, cpu, tasks), lambda: perf_pipe(cpu, tasks),
                              pairs)
        print(f"| pipe round trip, {tasks}, one CPU, against perf bench sched pipe | {show(ratio)} "
              f"| {show(same)} | within 5 % | {within(ratio, 0.05)} |", flush=True)
    print("\n| switches | expected | by task | whole process | perf stat | perf / by task |")
    print("|---|---|---|---|---|---|")
    for mechanism, tasks in (("pipe", "threads"), ("pipe", "processes"), ("futex", "processes"),
                             ("unix", "threads")):
        expected, counted, usage, perf = switch_counts(count_switches, mechanism, tasks, cpu,
                                                       500_000)
        ratio = f"{perf / counted:.4f}" if perf else "not available"
        print(f"| {mechanism}, {tasks} | {expected} | {counted} | {usage} | {perf} | {ratio} |")
    return 0


sys.exit(main())
