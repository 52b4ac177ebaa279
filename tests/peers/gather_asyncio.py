"""Gathers COUNT coroutines that end at once, REPETITIONS times, pinned to CPU. Prints the median in
nanoseconds a task.

usage: gather_asyncio.py CPU COUNT REPETITIONS gc|no-gc

The collector of cycles visits living tasks again and again; without it asyncio is at its best here.
"""
import asyncio
import gc
import os
import statistics
import sys
import time


async def one(value):
    return value


async def measure(count, repetitions):
    seen = []
    for _ in range(repetitions):
        begin = time.perf_counter_ns()
        values = await asyncio.gather(*[one(1) for _ in range(count)])
        total = sum(values)
        seen.append((time.perf_counter_ns() - begin) / count)
        if total != count:
            sys.exit('values are missing')
        del values
    return seen


cpu, count, repetitions = map(int, sys.argv[1:4])
os.sched_setaffinity(0, {cpu})
if sys.argv[4] == 'no-gc':
    gc.disable()
print(statistics.median(asyncio.run(measure(count, repetitions))))
