"""Random 4 KiB reads around the page cache, 32 at a time, through io_uring with registered file and
buffers: the library's driver against fio, on the same preallocated and written file and the same
CPU, with the same batches: whatever has completed is asked for anew in one call. fio gets the
options that make it fastest: fixed buffers, a registered file, no clock readings, no map of blocks;
in the last rows also the batch with which it needs the least CPU, waiting for 8 at a time, which
the library does not do. Prints rows for docs/trust.md; never fails on a time.

usage: fio_second.py DRIVER_READS [PAIRS] [MILLISECONDS] [FOLDER]
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

from pairs import median, ratio_interval, show

depth = 32
size = 256 << 20


def run(command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True,
                          text=True).stdout


def ours(program, path, cpu, milliseconds):
    """Reads a second, nanoseconds of CPU time a read, reads a system call."""
    reads, elapsed, used, calls = (
        float(word) for word in run([program, "read", path, depth, milliseconds, cpu]).split())
    return reads * 1e9 / elapsed, used / reads, reads / calls


def fio(path, cpu, milliseconds, least):
    """The same; fio does not count its calls."""
    job = json.loads(run(
        ["fio", "--name=peer", f"--filename={path}", f"--size={size}", "--rw=randread", "--bs=4k",
         "--direct=1", "--ioengine=io_uring", f"--iodepth={depth}", "--fixedbufs=1",
         "--registerfiles=1", f"--iodepth_batch_submit={depth}",
         f"--iodepth_batch_complete_min={least}", f"--iodepth_batch_complete_max={depth}",
         "--norandommap=1", "--gtod_reduce=1",
         "--time_based=1", f"--runtime={milliseconds}ms", f"--cpus_allowed={cpu}",
         "--output-format=json"]))["jobs"][0]
    elapsed = job["job_runtime"] * 1e6
    reads = job["read"]["total_ios"]
    busy = (job["usr_cpu"] + job["sys_cpu"]) / 100
    return reads * 1e9 / elapsed, busy * elapsed / reads


def at_least(interval):
    """The verdict of ">= 1.0 x"."""
    _, low, high = interval
    if low is None:
        return "cannot tell here"
    return "met" if low >= 0.97 else "missed" if high < 0.97 else "cannot tell here"


def at_most(interval):
    """The verdict of "<= 1.0 x"."""
    _, low, high = interval
    if low is None:
        return "cannot tell here"
    return "met" if high <= 1.03 else "missed" if low > 1.03 else "cannot tell here"


def compare(program, path, cpu, milliseconds, least, pairs):
    """Prints two rows."""
    seen = {"ours": [], "peer": [], "peer again": []}
    for pair in range(pairs):
        order = list(seen) if pair % 2 == 0 else list(reversed(seen))
        for who in order:
            seen[who].append(ours(program, path, cpu, milliseconds) if who == "ours"
                             else fio(path, cpu, milliseconds, least))
    batch = "same batches" if least == 1 else f"fio waits for {least}"
    for index, (name, target, verdict) in enumerate(
            (("reads a second", ">= 1.0 x", at_least),
             ("CPU time a read, ns", "<= 1.0 x", at_most))):
        column = {who: [values[index] for values in seen[who]] for who in seen}
        ratio = ratio_interval([a / b for a, b in zip(column["ours"], column["peer"])])
        same = ratio_interval([a / b for a, b in zip(column["peer again"], column["peer"])])
        print(f"| {name}, {depth} under way, {batch} | {median(column['ours']):.0f} "
              f"| {median(column['peer']):.0f} | {show(ratio)} | {show(same)} | {target} "
              f"| {verdict(ratio)} |", flush=True)
    return median([values[2] for values in seen["ours"]])


def main():
    program = sys.argv[1]
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    milliseconds = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    folder = sys.argv[4] if len(sys.argv) > 4 else os.environ.get("TMPDIR", "/var/tmp")
    if not shutil.which("fio"):
        print("fio is not installed: apt-get install fio")
        return 77
    cpu = max(os.sched_getaffinity(0))
    print("| what | ours | fio | ratio | fio to itself | target | verdict |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = os.path.join(place, "data")
        run([program, "make", path, size])
        for least in (1, 8):
            calls = compare(program, path, cpu, milliseconds, least, pairs)
    print(f"ours: {calls:.1f} reads a system call")
    return 0


if __name__ == "__main__":
    sys.exit(main())
