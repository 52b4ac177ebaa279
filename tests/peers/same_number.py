"""Is it the same number, whoever runs the program and however? The pipe round trip of switch_cost
as root, as nobody, under taskset, in a cgroup with one CPU, and from a static binary, interleaved,
each as a ratio to the plain run. Prints rows for docs/trust.md; never fails on a time.

usage: same_number.py SCHEDLAB [STATIC_SCHEDLAB]
"""
import contextlib
import json
import os
import pathlib
import random
import sys

from pairs import output, ratio_interval, show, within

rounds = 12
group = pathlib.Path("/sys/fs/cgroup/cpuset/schedlab-same-number")


def measure(command):
    arguments = ["run", "switch_cost", "--json", "--processes", "6",
                 "--set", "switch_cost.mechanism=pipe", "--set", "switch_cost.tasks=processes"]
    document = json.loads(output(command + arguments))
    names = {}
    for series in document["labs"][0]["series"]:
        names[series["name"]] = series
    metrics = names["same-pu/pipe/processes"]["metrics"]
    two_cpus = [name for name, series in names.items()
                if len(set(series["placement"]["cpus"])) > 1 and series["metrics"]]
    return {metric["name"]: metric["median"] for metric in metrics}["round_trip"], two_cpus


@contextlib.contextmanager
def one_cpu_group(cpu):
    """A cgroup v1 cpuset with one CPU, or nothing where none can be made."""
    try:
        group.mkdir()
        (group / "cpuset.cpus").write_text(str(cpu))
        (group / "cpuset.mems").write_text("0")
    except OSError:
        yield None
        return
    try:
        yield group / "tasks"
    finally:
        group.rmdir()


def main():
    schedlab, *static = sys.argv[1:]
    cpu = min(os.sched_getaffinity(0))  # where an unrestricted run puts same-pu
    with one_cpu_group(cpu) as tasks:
        ways = {"plain": [schedlab], "taskset": ["taskset", "-c", str(cpu), schedlab]}
        if os.geteuid() == 0:
            ways["nobody"] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                              schedlab]
        if tasks:
            ways["cgroup with one CPU"] = ["sh", "-c", f'echo $$ > {tasks} && exec "$0" "$@"',
                                           schedlab]
        if static:
            ways["static binary"] = [static[0]]
        seen = {way: [] for way in ways}
        for _ in range(rounds):
            for way in random.sample(list(ways), len(ways)):
                narrowed = way in ("taskset", "cgroup with one CPU")
                value, two_cpus = measure(ways[way])
                seen[way].append(value)
                if narrowed and two_cpus:
                    print(f"{way}: measured on two CPUs: {two_cpus}")
    print("| how | ratio to the plain run | within 5 % |")
    print("|---|---|---|")
    for way in ways:
        ratios = [value / plain for value, plain in zip(seen[way], seen["plain"])]
        interval = ratio_interval(ratios)
        print(f"| {way} | {show(interval)} | {within(interval, 0.05)} |")
    return 0


sys.exit(main())
