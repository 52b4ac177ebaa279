"""cache_bandwidth beside STREAM's four kernels as plain loops (second_stream), and for the order of
magnitude beside sysbench or stress-ng. Prints rows for docs/trust.md; never fails on a time.

usage: bandwidth_second.py SCHEDLAB SECOND_STREAM [PAIRS [BYTES_OF_EACH_ARRAY]]
"""
import os
import re
import shutil
import subprocess
import sys

from pairs import compare_columns, lab_series, output, show

kernels = ("copy", "scale", "add", "triad")
times = 10
least = 0.97


def run_lab(schedlab, cpus, size, chosen):
    """By kernel, for ordinary stores (copy by the library, which is what compilers make of a loop
    that copies): the median of the processes' medians, and the best sample, in MB/s."""
    values = {"kernel": ",".join(chosen), "level": "memory", "stores": "ordinary,library",
              "workers": 0, "pages": "base", "size": size}
    rates = {}
    for series in lab_series(schedlab, "cache_bandwidth", cpus, values):
        if series["params"]["kernel"] == "copy" and series["params"]["stores"] != "library":
            continue
        bad = [check for check in series["checks"] if not check["ok"]]
        if bad:
            raise RuntimeError(f"{series['name']}: {bad}")
        metric = next(metric for metric in series["metrics"] if metric["name"] == "rate")
        best = max(value for run in metric["per_run"] for value in run["values"])
        kernel = series["params"]["kernel"]
        rates[kernel, "median"] = metric["median"] / 1e6
        rates[kernel, "best"] = best / 1e6
    return rates


def run_second(program, cpus, size):
    """The same of STREAM's kernels."""
    lines = output([program, size, times, *cpus]).splitlines()
    rates = {}
    for kernel, line in zip(kernels, lines):
        rates[kernel, "best"], rates[kernel, "median"] = map(float, line.split())
    return rates


def at_least(interval):
    """The verdict of ">= 1.0 x"."""
    _, low, high = interval
    if low is None:
        return "cannot tell here"
    if low >= least:
        return "met"
    return "missed" if high < least else "cannot tell here"


def compare_all(cpus, size, ours, peer, pairs):
    who = "one CPU" if len(cpus) == 1 else f"{len(cpus)} CPUs"
    columns = compare_columns(ours, peer, pairs)
    for what in ("median", "best"):
        for kernel in kernels:
            mine, theirs, ratio, same = columns[kernel, what]
            print(f"| {kernel}, {who}, arrays of {size >> 20} MiB, {what} | {mine:.0f} | "
                  f"{theirs:.0f} | {show(ratio)} | {show(same)} | >= 1.0 x | {at_least(ratio)} |",
                  flush=True)


def sysbench(cpu, operation, block):
    text = output(["taskset", "-c", cpu, "sysbench", "memory", f"--memory-block-size={block}",
                   "--memory-total-size=1000G", "--time=3", f"--memory-oper={operation}", "run"])
    return float(re.search(r"\(([0-9.]+) MiB/sec\)", text).group(1)) * 1.048576


def stress_ng(cpu):
    done = subprocess.run(["taskset", "-c", str(cpu), "stress-ng", "--stream", "1", "--timeout",
                           "5", "--metrics-brief"], check=True, capture_output=True, text=True)
    found = re.search(r"memory rate: ([0-9.]+) MB read/sec, ([0-9.]+) MB write/sec",
                      done.stdout + done.stderr)
    return sum(map(float, found.groups())) if found else 0.0


def order_of_magnitude(schedlab, cpu, size):
    rates = run_lab(schedlab, [cpu], size, ("read", "write", "triad"))
    print("\n| one CPU, MB/s | ours | packaged tool |")
    print("|---|---|---|")
    for operation in ("read", "write"):
        other = (f"sysbench memory: {sysbench(cpu, operation, size):.0f}"
                 if shutil.which("sysbench") else "sysbench: not installed")
        print(f"| {operation} | {rates[operation, 'median']:.0f} | {other} |", flush=True)
    other = (f"stress-ng --stream: {stress_ng(cpu):.0f}" if shutil.which("stress-ng")
             else "stress-ng: not installed")
    print(f"| triad | {rates['triad', 'median']:.0f} | {other} |", flush=True)


def main():
    schedlab, second = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    size = int(sys.argv[4]) if len(sys.argv) > 4 else 256 << 20
    cpus = sorted(os.sched_getaffinity(0))
    print("| what | ours, MB/s | second, MB/s | ratio | second to itself | target | verdict |")
    print("|---|---|---|---|---|---|---|")
    for chosen in ([cpus[-1]], cpus) if len(cpus) > 1 else ([cpus[-1]],):
        compare_all(chosen, size, lambda: run_lab(schedlab, chosen, size, kernels),
                    lambda: run_second(second, chosen, size), pairs)
    order_of_magnitude(schedlab, cpus[-1], size)
    return 0


sys.exit(main())
