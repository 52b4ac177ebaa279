"""A file in the page cache to a socket by splice, beside the library's send_file, which copies: why
it does. Prints rows for docs/trust.md; never fails on a time.

usage: splice_second.py FILE_TO_SOCKET [PAIRS]
"""
import os
import sys

from pairs import compare_columns, output, show

mibs = 256


def main():
    program = sys.argv[1]
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        print("needs 2 CPUs")
        return 77

    def reading(kind, way, driver, piece):
        return lambda: [float(word) for word in output(
            [program, kind, way, driver, piece, mibs, cpus[-1], cpus[0]]).split()]
    print("| splice against send_file | CPU, ns a KiB | send_file | ratio | to itself | time |")
    print("|---|---|---|---|---|---|")
    for kind in ("tcp", "unix"):
        for driver in ("io_uring", "epoll"):
            for piece in (64 << 10, 1 << 20):
                time, cpu = compare_columns(reading(kind, "splice", driver, piece),
                                            reading(kind, "copy", driver, piece), pairs).values()
                print(f"| {kind}, {driver}, {piece >> 10} KiB a call | {cpu.ours:.0f} | "
                      f"{cpu.peer:.0f} | {show(cpu.ratio)} | {show(cpu.same)} | "
                      f"{show(time.ratio)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
