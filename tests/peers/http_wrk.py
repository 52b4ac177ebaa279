"""Our HTTP server and nginx, one process on one CPU each, under wrk on another, for orientation:
nginx does much that ours does not. Prints rows for docs/trust.md; never fails on a time.

usage: http_wrk.py HTTP_SERVE [PAIRS]
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from pairs import compare, show

BODY = 100
SECONDS = 1

NGINX = """daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  server {{
    listen 127.0.0.1:{port};
    location / {{ default_type text/plain; return 200 "{text}"; }}
  }}
}}
"""


def pinned(cpu, *command):
    return ["taskset", "-c", str(cpu), *command]


class Ours:
    def __init__(self, program, driver, cpu):
        self.process = subprocess.Popen(pinned(cpu, program, driver, str(BODY)),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            raise RuntimeError(self.process.communicate()[1].strip())

    def stop(self):
        self.process.communicate(timeout=30)


class Nginx:
    def __init__(self, cpu, folder, port=18473):
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port, text="x" * BODY))
        self.process = subprocess.Popen(pinned(cpu, "nginx", "-c", str(config), "-p", folder))
        self.address = f"127.0.0.1:{port}"

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


def wait_for(address):
    """Until it answers, with what is asked for."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=5) as answer:
                if answer.read() != b"x" * BODY:
                    raise RuntimeError(f"{address} answers something else")
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nobody answers at {address}")


def wrk(cpu, address, connections):
    """Requests a second."""
    command = pinned(cpu, "wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", f"http://{address}/")
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for wrong in ("Socket errors", "Non-2xx"):
        if wrong in out:
            print(f"{address}, {connections} connections: {out}", file=sys.stderr)
    return float(re.search(r"Requests/sec:\s*([\d.]+)", out).group(1))


def rows(ours, nginx, driver, cpu, pairs):
    for connections in (1, 32, 256):
        seen = {"ours": [], "nginx": []}

        def rate(who, address, count=connections, into=seen):
            into[who].append(wrk(cpu, address, count))
            return into[who][-1]

        ratio, same = compare(lambda: rate("ours", ours.address),
                              lambda: rate("nginx", nginx.address), pairs)
        middle = {who: sorted(rates)[len(rates) // 2] for who, rates in seen.items()}
        print(f"| {driver}, {connections} connections | {middle['ours']:.0f} "
              f"| {middle['nginx']:.0f} | {show(ratio)} | {show(same)} |", flush=True)


def main():
    program = sys.argv[1]
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    for tool in ("wrk", "nginx", "taskset"):
        if not shutil.which(tool):
            print(f"{tool} is not installed")
            return 77
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        print("the server and wrk need a CPU each")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        nginx = Nginx(cpus[0], folder)
        try:
            wait_for(nginx.address)
            print("| server | ours, 1/s | nginx, 1/s | ours / nginx | nginx to itself |")
            print("|---|---|---|---|---|")
            for driver in ("io_uring", "epoll"):
                try:
                    ours = Ours(program, driver, cpus[0])
                except RuntimeError as refused:
                    print(f"| {driver} | {refused} | | | |")
                    continue
                try:
                    wait_for(ours.address)
                    rows(ours, nginx, driver, cpus[-1], pairs)
                finally:
                    ours.stop()
        finally:
            nginx.stop()
    return 0


sys.exit(main())
