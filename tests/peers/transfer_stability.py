"""core_to_core again and again: how far the medians of whole runs lie apart. Prints rows for
docs/trust.md; never fails on a time.

usage: transfer_stability.py SCHEDLAB [RUNS [BUDGET_S]]
"""
import os
import sys

from pairs import lab_series, median

target = 0.05
kernels = ("cas", "two-lines", "message")


def one_run(schedlab, cpus, budget_s):
    """The medians of one way by kernel."""
    values = {"tasks": "threads", "payload": 0, "budget_s": budget_s}
    found = {}
    for series in lab_series(schedlab, "core_to_core", cpus, values):
        for metric in series["metrics"]:
            if metric["name"] == "one_way" and series["name"].endswith("/threads"):
                found[series["params"]["kernel"]] = metric["median"]
    return found


def main():
    schedlab = sys.argv[1]
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    budget_s = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        print("needs 2 CPUs")
        return 77
    seen = [one_run(schedlab, (usable[0], usable[-1]), budget_s) for _ in range(runs)]
    print(f"| one way, threads, {runs} runs of {budget_s} s | median, ns | least | most "
          "| farthest from the median | target | verdict |")
    print("|---|---|---|---|---|---|---|")
    for kernel in kernels:
        values = [run[kernel] for run in seen if run.get(kernel)]
        if len(values) < runs:
            print(f"| {kernel} | | | | | | only {len(values)} runs gave it |")
            continue
        middle = median(values)
        away = max(abs(value / middle - 1) for value in values)
        print(f"| {kernel} | {middle:.1f} | {min(values):.1f} | {max(values):.1f} | {away:.1%} "
              f"| {target:.0%} | {'met' if away <= target else 'missed'} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
