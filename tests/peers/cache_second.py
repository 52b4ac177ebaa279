"""cache_latency beside a second method of plain libc, and beside lat_mem_rd and multichase where
they are found. Prints rows for docs/trust.md; never fails on a time.

usage: cache_second.py SCHEDLAB SECOND_CHASE [PAIRS]
"""
import os
import shutil
import sys

from pairs import compare_columns, lab_series, output, show_row

share = 0.05
stride = 256  # a quarter of the lines: 16K to 256M are 4 KiB to 64 MiB of cache
repetitions = 6
sizes = {"16K": 16 << 10, "512K": 512 << 10, "32M": 32 << 20, "256M": 256 << 20}
cells = [(pages, size) for pages in ("base", "huge") for size in sizes]


def run_lab(schedlab, cpu):
    """The median of each cell, 0 where it was skipped."""
    values = {"size": ",".join(sizes), "stride": stride, "pages": "base,huge",
              "pattern": "random"}
    series = lab_series(schedlab, "cache_latency", [cpu], values, repetitions)
    seen = {entry["name"]: entry["metrics"][0]["median"] for entry in series if entry["metrics"]}
    return [seen.get(f"{pages}/random/{size}") or 0.0 for pages, size in cells]


def run_second(program, cpu):
    words = output([program, cpu, stride, repetitions, *sizes.values()]).split()
    return [float(word) for word in words]


def run_lat_mem_rd(cpu):
    """lmbench: random order of pages, on base pages; one number for each size from 512 B up."""
    command = ["taskset", "-c", cpu, "lat_mem_rd", "-t", "-P", 1, "-N", 1, 256, stride]
    rows = [line.split() for line in output(command, errors=True).splitlines()]
    curve = [(float(row[0]) * 2**20, float(row[1])) for row in rows
             if len(row) == 2 and row[0][0].isdigit()]
    return [min(curve, key=lambda point: abs(point[0] - sizes[size]))[1] if pages == "base" else 0.0
            for pages, size in cells]


def run_multichase(cpu):
    """Best of its samples: the option -a would give the mean."""
    seen = []
    for pages, size in cells:
        command = ["taskset", "-c", cpu, "multichase", "-m", sizes[size], "-s", stride, "-n", 3]
        seen.append(float(output(command + ["-H"] * (pages == "huge")).split()[-1]))
    return seen


def compare_all(what, ours, peer, pairs):
    """A row for each cell, all of the same runs."""
    columns = compare_columns(ours, peer, pairs)
    for index, (pages, size) in enumerate(cells):
        name = f"`cache_latency`, {size} on {pages} pages, against {what}"
        if columns[index].ratio is None:
            print(f"| {name} | | | not measured | | | |", flush=True)
        else:
            show_row(name, columns[index], share, digits=2)


def main():
    schedlab, second = sys.argv[1:3]
    pairs = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    cpu = max(os.sched_getaffinity(0))
    print("| what | ours, ns | peer, ns | ratio | peer to itself | target | verdict |")
    print("|---|---|---|---|---|---|---|")
    peers = {"a second method": lambda: run_second(second, cpu)}
    for name, run in (("lat_mem_rd", run_lat_mem_rd), ("multichase", run_multichase)):
        if shutil.which(name):
            peers[name] = lambda run=run: run(cpu)
        else:
            print(f"| `cache_latency`, against {name} | | | not installed | | | |")
    for name, peer in peers.items():
        compare_all(name, lambda: run_lab(schedlab, cpu), peer, pairs)
    return 0


sys.exit(main())
