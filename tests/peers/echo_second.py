"""The echo server of io_echo beside two peers: one written directly on liburing, and Boost.Asio on
epoll. Same client, same CPUs, 64-byte messages. A row compares throughput where the server's CPU
was busy for at least 95 % with both, else the CPU time of the server for a message; each reading
has a server process of its own; the ratio is ours over the peer's throughput, or the peer's CPU
time over ours, so that more is better. The rows "peers" hold the two peers against each other: what
a server on io_uring gains here without any library; "laden" the one on liburing, laden with what a
loop adds, against itself without.
Prints rows for docs/trust.md; never fails on a time.

usage: echo_second.py ECHO_SERVE ECHO_CLIENT URING_ECHO ASIO_ECHO [PAIRS [MILLISECONDS [ROWS]]]
ROWS is a part of uring/1, uring/32, ..., asio/512, peers/1, ..., laden/1, ..., laden/512.
"""
import os
import subprocess
import sys

from pairs import at_least, median, ratio_interval, show

counts = (1, 32, 128, 512)
size = 64
busy_enough = 0.95


class Server:
    """A server that runs until it is let go."""

    def __init__(self, command):
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                                        text=True)
        self.port = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Reading:
    def __init__(self, text):
        self.throughput, self.cpu, self.busy, self.p50, self.p99 = map(float, text.split())


def read(client, cpu, server, connections, milliseconds):
    command = [client, cpu, server.port, server.process.pid, connections, size, milliseconds]
    return Reading(subprocess.run([str(word) for word in command], check=True,
                                  capture_output=True, text=True).stdout)


def readings(measure, pairs):
    """Ours, the peer and the peer again, in ABBA order."""
    seen = {"ours": [], "peer": [], "again": []}
    for pair in range(pairs):
        order = ("ours", "peer", "again") if pair % 2 == 0 else ("again", "peer", "ours")
        for who in order:
            seen[who].append(measure("ours" if who == "ours" else "peer"))
    return seen


def row(name, connections, target, seen):
    saturated = all(median([reading.busy for reading in seen[who]]) >= busy_enough
                    for who in ("ours", "peer"))
    if saturated:
        what, unit = "throughput", "1/s"

        def gain(ours, peer):
            return ours.throughput / peer.throughput
    else:
        what, unit = "cpu", "ns"

        def gain(ours, peer):
            return peer.cpu / ours.cpu
    ratio = ratio_interval([gain(*both) for both in zip(seen["ours"], seen["peer"])])
    same = ratio_interval([gain(*both) for both in zip(seen["again"], seen["peer"])])
    values = [median([getattr(reading, what) for reading in seen[who]])
              for who in ("ours", "peer")]
    busy = [median([reading.busy for reading in seen[who]]) for who in ("ours", "peer")]
    title = {"peers": "uring against asio", "laden": "uring, laden, against uring"}.get(
        name, f"ours against {name}")
    print(f"| {title}, {connections} | {what}, {unit} | {values[0]:.0f} | {values[1]:.0f} "
          f"| {busy[0]:.2f} {busy[1]:.2f} | {show(ratio)} | {show(same)} "
          f"| {f'>= {target} x' if target else ''} | {at_least(ratio, target) if target else ''} |",
          flush=True)


def target_of(name, connections):
    """As a factor; none where peers are compared."""
    if name in ("peers", "laden"):
        return None
    return 1.3 if name == "asio" and connections >= 32 else 1.0


def main():
    serve, client, uring, asio = sys.argv[1:5]
    pairs = int(sys.argv[5]) if len(sys.argv) > 5 else 20
    milliseconds = int(sys.argv[6]) if len(sys.argv) > 6 else 400
    only = sys.argv[7] if len(sys.argv) > 7 else ""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        print("needs 2 CPUs")
        return 77
    server_cpu, client_cpu = usable[-1], usable[0]
    print("| connections | compared | ours | peer | busy | gain | peer to itself | target "
          "| verdict |")
    print("|---|---|---|---|---|---|---|---|---|")
    loop = [serve, server_cpu, "io_uring"]
    comparisons = (("uring", loop, uring), ("asio", loop, asio),
                   ("peers", [uring, server_cpu], asio),
                   ("laden", [uring, server_cpu, "laden"], uring))
    for name, first, second in comparisons:
        for connections in counts:
            if only not in f"{name}/{connections}":
                continue
            commands = {"ours": first, "peer": [second, server_cpu]}

            # A server of its own for each reading: where its memory lies differs by process.
            def measure(who, commands=commands, connections=connections):
                with Server(commands[who]) as server:
                    return read(client, client_cpu, server, connections, milliseconds)

            row(name, connections, target_of(name, connections), readings(measure, pairs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
