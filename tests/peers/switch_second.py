"""switch_footprint and switch_cost beside second methods of plain libc, and the null system call
beside `perf bench syscall basic`. Prints rows for docs/trust.md; never fails on a time.

usage: switch_second.py SCHEDLAB SECOND_FOOTPRINT SECOND_WAKEUP [PAIRS [ROWS]]
ROWS is a part of footprint/RING/SIZE, switch/MECHANISM, wakeup/futex or syscall.
"""
import itertools
import os
import shutil
import subprocess
import sys

from pairs import compare_columns, lab_series, output, show_row, size_text

share = 0.10
syscall_loops = 2_000_000
rings = (2, 8)
sizes = (0, 16 << 10, 256 << 10, 1 << 20)


def run_lab(schedlab, lab, cpus, values):
    """The medians of a run, by name of series and of metric; 0 where the run could give none."""
    return {entry["name"]: {metric["name"]: metric["median"] or 0.0 for metric in entry["metrics"]}
            for entry in lab_series(schedlab, lab, cpus, values)}


def numbers(command):
    return [float(word) for word in output(command).split()]


def compare_all(names, ours, peer, pairs):
    """A row for each of the numbers that both give, all from the same runs."""
    columns = compare_columns(ours, peer, pairs)
    for index, name in enumerate(names):
        show_row(name, columns[index], share)


def footprint_lab(schedlab, cpu, ring, size):
    series = run_lab(schedlab, "switch_footprint", [cpu],
                     {"ring": ring, "size": size, "stride": 64, "access": "write",
                      "pages": "private", "tasks": "processes"})
    tail = f"{ring}/{size_text(size)}/write/private"
    measured = series[f"processes/{tail}"]
    return measured["hop"], measured["total"], series[f"alone/{tail}"]["alone"]


def footprint_second(program, cpu, ring, size):
    hop, alone, total, _ = numbers([program, cpu, ring, size, 64, 6])
    return hop, total, alone


def compare_footprint(schedlab, program, cpu, ring, size, pairs):
    compare_all([f"switch_footprint {name}, ring of {ring}, sets of {size_text(size)}"
                 for name in ("hop", "total", "alone")],
                lambda: footprint_lab(schedlab, cpu, ring, size),
                lambda: footprint_second(program, cpu, ring, size), pairs)


def switch_lab(schedlab, cpus, mechanism, metric):
    series = run_lab(schedlab, "switch_cost", cpus,
                     {"mechanism": mechanism, "tasks": "processes"})
    return [values[metric] for name, values in series.items()
            if name.endswith(f"/{mechanism}/processes") and metric in values]


def compare_switch(schedlab, program, cpus, mechanism, pairs):
    """On one CPU where there is one, and as a wake-up where there are two."""
    metric = "switch" if cpus[0] == cpus[-1] else "wakeup"
    handovers = 100_000 if metric == "switch" else 20_000
    compare_all([f"switch_cost {metric}, {mechanism}, processes"],
                lambda: switch_lab(schedlab, dict.fromkeys(cpus), mechanism, metric),
                lambda: numbers([program, *cpus, mechanism, handovers, 6]), pairs)


def null_syscall_lab(schedlab, cpu):
    series = run_lab(schedlab, "switch_cost", [cpu], {"mechanism": "futex", "tasks": "processes"})
    return [series["floor/null syscall"]["floor"]]


def null_syscall_perf(cpu):
    seconds = numbers(["taskset", "-c", cpu, "perf", "bench", "-f", "simple", "syscall", "basic",
                       "-l", syscall_loops])[0]
    return [seconds * 1e9 / syscall_loops]


def have_perf():
    return shutil.which("perf") is not None and subprocess.run(
        ["perf", "--version"], capture_output=True).returncode == 0


def main():
    schedlab, footprint, wakeup = sys.argv[1:4]
    pairs = int(sys.argv[4]) if len(sys.argv) > 4 else 20
    only = sys.argv[5] if len(sys.argv) > 5 else ""
    cpus = sorted(os.sched_getaffinity(0))
    last = cpus[-1]
    print("| what | ours, ns | second, ns | ratio | second to itself | target | verdict |")
    print("|---|---|---|---|---|---|---|")
    for ring, size in itertools.product(rings, sizes):
        if only in f"footprint/{ring}/{size_text(size)}":
            compare_footprint(schedlab, footprint, last, ring, size, pairs)
    for mechanism in ("futex", "pipe"):
        if only in f"switch/{mechanism}":
            compare_switch(schedlab, wakeup, (last, last), mechanism, pairs)
    if len(cpus) > 1 and only in "wakeup/futex":
        compare_switch(schedlab, wakeup, (cpus[0], last), "futex", pairs)
    if have_perf() and only in "syscall":
        compare_all(["null system call, against perf bench syscall basic"],
                    lambda: null_syscall_lab(schedlab, last), lambda: null_syscall_perf(last),
                    pairs)
    return 0


sys.exit(main())
