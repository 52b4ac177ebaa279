"""switch_footprint and switch_cost beside second methods of plain libc, and the null system call
beside `perf bench syscall basic`. Prints rows for docs/trust.md; never fails on a time.

usage: switch_second.py SCHEDLAB SECOND_FOOTPRINT SECOND_WAKEUP [PAIRS]
"""
import itertools
import json
import os
import shutil
import subprocess
import sys

from pairs import compare, median, show, within

share = 0.10
syscall_loops = 2_000_000
rings = (2, 8)
sizes = (0, 16 << 10, 256 << 10, 1 << 20)


def output(command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True,
                          text=True).stdout


def run_lab(schedlab, lab, cpus, values):
    """The medians of a run, by name of series and of metric."""
    command = [schedlab, "run", lab, "--json", "--place", f"cpus:{cpus}", "--processes", 6]
    for name, value in values.items():
        command += ["--set", f"{lab}.{name}={value}"]
    series = json.loads(output(command))["labs"][0]["series"]
    return {entry["name"]: {metric["name"]: metric["median"] for metric in entry["metrics"]}
            for entry in series}


def numbers(command):
    return [float(word) for word in output(command).split()]


class Replay:
    """Keeps what each call gave, so that a second number of the same runs can be compared."""

    def __init__(self, measure):
        self.measure = measure
        self.seen = []

    def first(self):
        self.seen.append(self.measure())
        return self.seen[-1][0]

    def again(self, index):
        following = itertools.count()
        return lambda: self.seen[next(following)][index]


def row(what, ratio, same, ours, peer):
    print(f"| {what} | {ours:.0f} | {peer:.0f} | {show(ratio)} | {show(same)} "
          f"| within {share:.0%} | {within(ratio, share)} |", flush=True)


def compare_all(names, ours, peer, pairs):
    """A row for each number that both give, from the same runs."""
    ours, peer = Replay(ours), Replay(peer)
    for index, name in enumerate(names):
        mean = compare(ours.first, peer.first, pairs) if index == 0 else None
        medians = [median([seen[index] for seen in side.seen]) for side in (ours, peer)]
        if min(seen[index] for side in (ours, peer) for seen in side.seen) <= 0:
            print(f"| {name} | {medians[0]:.0f} | {medians[1]:.0f} | below resolution | | "
                  f"within {share:.0%} | cannot tell here |", flush=True)
            continue
        row(name, *(mean or compare(ours.again(index), peer.again(index), pairs)), *medians)


def footprint_lab(schedlab, cpu, ring, size):
    series = run_lab(schedlab, "switch_footprint", cpu,
                     {"ring": ring, "size": size, "tasks": "processes", "stride": 64,
                      "access": "write", "pages": "private"})
    text = f"{size >> 10}K" if 0 < size < 1 << 20 else f"{size >> 20}M" if size else "0"
    tail = f"{ring}/{text}/write/private"
    ring_series = series[f"processes/{tail}"]
    return ring_series["hop"], ring_series["total"], series[f"alone/{tail}"]["alone"]


def footprint_second(program, cpu, ring, size):
    hop, alone, total = numbers([program, cpu, ring, size, 64, 10])
    return hop, total, alone


def footprint_rows(schedlab, program, cpu, pairs):
    for ring, size in itertools.product(rings, sizes):
        what = f"switch_footprint {{}}, ring of {ring}, {size >> 10} KiB"
        compare_all([what.format(name) for name in ("hop", "total", "alone")],
                    lambda: footprint_lab(schedlab, cpu, ring, size),
                    lambda: footprint_second(program, cpu, ring, size), pairs)


def switch_rows(schedlab, program, cpus, pairs):
    last = cpus[-1]
    for mechanism in ("futex", "pipe"):
        def second(first, count):
            return numbers([program, first, last, mechanism, count, 6])

        def lab(place, relation, metric):
            series = run_lab(schedlab, "switch_cost", place,
                             {"mechanism": mechanism, "tasks": "processes"})
            found = [values for name, values in series.items()
                     if name == f"{relation}/{mechanism}/processes" and metric in values]
            return [found[0][metric]]

        compare_all([f"switch, {mechanism}, processes, one CPU"],
                    lambda: lab(last, "same-pu", "switch"), lambda: second(last, 100_000), pairs)
