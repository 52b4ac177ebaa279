"""CPython's executors for pool_second.py and process_pool_second.py: ns from submit to result, of
tasks sent one after the other to one worker.

usage: executor_trip.py threads|processes COUNT CPU CPU    the caller's and the worker's
"""
import concurrent.futures
import os
import sys
import time


def following(number):
    return number + 1


def stand(cpu):
    os.sched_setaffinity(0, {cpu})


def main():
    count, here, there = (int(word) for word in sys.argv[2:])
    os.sched_setaffinity(0, {here, there})  # the executor has threads of its own, which inherit it
    make = (concurrent.futures.ThreadPoolExecutor if sys.argv[1] == 'threads'
            else concurrent.futures.ProcessPoolExecutor)
    with make(1, initializer=stand, initargs=(there,)) as pool:
        pool.submit(following, 0).result()
        stand(here)
        begin = time.perf_counter_ns()
        for number in range(count):
            assert pool.submit(following, number).result() == number + 1
        print((time.perf_counter_ns() - begin) / count)


if __name__ == '__main__':
    main()
