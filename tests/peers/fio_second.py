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
import sys
import tempfile

from pairs import at_least, at_most, compare_columns, median, output, show

depth = 32
size = 256 << 20


def ours(program, path, cpu, milliseconds):
    """Reads a second, nanoseconds of CPU time a read, reads a system call."""
    reads, elapsed, used, calls = (
        float(word) for word in output([program, "read", path, depth, milliseconds, cpu]).split())
    return reads * 1e9 / elapsed, used / reads, reads / calls


def fio(path, cpu, milliseconds, least):
    """The same; fio does not count its calls."""
    job = json.loads(output(
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


def compare(program, path, cpu, milliseconds, least, pairs):
    """Prints two rows."""
    calls = []

    def mine():
        *numbers, reads_a_call = ours(program, path, cpu, milliseconds)
        calls.append(reads_a_call)
        return numbers
    reads, used = compare_columns(mine, lambda: fio(path, cpu, milliseconds, least),
                                  pairs).values()
    batch = "same batches" if least == 1 else f"fio waits for {least}"
    for name, column, target, verdict in (
            ("reads a second", reads, ">= 1.0 x", at_least(reads.ratio)),
            ("CPU time a read, ns", used, "<= 1.0 x", at_most(used.ratio, 1.0))):
        print(f"| {name}, {depth} under way, {batch} | {column.ours:.0f} | {column.peer:.0f} "
              f"| {show(column.ratio)} | {show(column.same)} | {target} | {verdict} |", flush=True)
    return median(calls)


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
        output([program, "make", path, size])
        for least in (1, 8):
            calls = compare(program, path, cpu, milliseconds, least, pairs)
    print(f"ours: {calls:.1f} reads a system call")
    return 0


if __name__ == "__main__":
    sys.exit(main())
