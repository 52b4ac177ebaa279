"""core_to_core beside a second method of plain libc, and beside c2clat where it is installed.
Prints rows for docs/trust.md; never fails on a time.

usage: transfer_second.py SCHEDLAB SECOND_TRANSFER [PAIRS [ROWS]]
ROWS is a part of cas/swap, cas/turn, two-lines/mailbox, two-lines/c2clat or cas/c2clat.
"""
import os
import re
import shutil
import sys

from pairs import compare_columns, lab_series, output, show_row

share = 0.10
samples = 500
second_methods = (("cas", "swap"), ("cas", "turn"), ("two-lines", "mailbox"))


def lab(schedlab, cpus, kernel):
    """The median of one way between two CPUs, over six processes."""
    values = {"kernel": kernel, "tasks": "threads", "payload": 0, "matrix": kernel, "budget_s": 1}
    for entry in lab_series(schedlab, "core_to_core", cpus, values):
        if entry["name"].endswith(f"/{kernel}/threads"):
            return next(metric["median"] for metric in entry["metrics"]
                        if metric["name"] == "one_way")
    raise RuntimeError(f"core_to_core has no {kernel}")


def second(program, cpus, method):
    return float(output([program, *cpus, method, samples, 6]).split()[1])


def c2clat(cpus, kernel):
    """The least of its samples, in whole nanoseconds, one way."""
    options = ["-w"] if kernel == "cas" else []
    text = output(["taskset", "-c", f"{cpus[0]},{cpus[1]}", "c2clat", *options])
    rows = [[float(word) for word in re.findall(r"\d+", line)] for line in text.splitlines()]
    return rows[-1][1]


def row(name, ours, peer, pairs):
    column = compare_columns(lambda: [ours()], lambda: [peer()], pairs)[0]
    show_row(name, column, share, digits=1)


def main():
    schedlab, program = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    only = sys.argv[4] if len(sys.argv) > 4 else ""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        print("needs 2 CPUs")
        return 77
    cpus = (usable[0], usable[-1])
    print("| one way, threads | ours, ns | peer, ns | ratio | peer to itself | target | verdict |")
    print("|---|---|---|---|---|---|---|")
    for kernel, method in second_methods:
        if only in f"{kernel}/{method}":
            row(f"{kernel} against {method}", lambda kernel=kernel: lab(schedlab, cpus, kernel),
                lambda method=method: second(program, cpus, method), pairs)
    for kernel in ("cas", "two-lines"):
        if only not in f"{kernel}/c2clat":
            continue
        if not shutil.which("c2clat"):
            print(f"| {kernel} against c2clat | | | | | within {share:.0%} | not installed |")
            continue
        row(f"{kernel} against c2clat", lambda kernel=kernel: lab(schedlab, cpus, kernel),
            lambda kernel=kernel: c2clat(cpus, kernel), pairs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
