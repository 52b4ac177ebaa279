#!/usr/bin/env python3
"""The same small programs in asyncio and in our library: the same things happen, in the same order.

    iouring_parity.py PROGRAM     PROGRAM prints, for a driver, a line for each scenario

Where the library differs from asyncio on purpose, its headers say so and no scenario is made of it.
"""

import asyncio
import subprocess
import sys

TICK = 0.005


async def nap(ticks):
    await asyncio.sleep(ticks * TICK)


async def give(value, ticks):
    await nap(ticks)
    return value


async def fail(text, ticks):
    await nap(ticks)
    raise RuntimeError(text)


async def linger(log, name, ticks):
    """Waits to be cancelled; takes its time to end."""
    try:
        await nap(1000)
    except asyncio.CancelledError:
        log(name + '-cancelled')
        await nap(ticks)
        log(name + '-ended')
        raise


async def outcome(awaitable):
    try:
        value = await awaitable
        return 'none' if value is None else str(value)
    except asyncio.CancelledError:
        return 'cancelled'
    except TimeoutError:
        return 'timeout'
    except asyncio.BrokenBarrierError:
        return 'broken'
    except BaseExceptionGroup as group:
        return 'group(' + ','.join(str(one) for one in group.exceptions) + ')'
    except RuntimeError as error:
        return str(error)


async def gather_values(log):
    for value in await asyncio.gather(give(1, 3), give(2, 1), give(3, 2)):
        log(str(value))


async def gather_cancelled(log):
    whole = asyncio.create_task(outcome(asyncio.gather(linger(log, 'a', 3), give(1, 0))))
    await nap(1)
    whole.cancel()
    log(await whole)


async def gather_failure(log):
    log(await outcome(asyncio.gather(give(1, 3), fail('bad', 1))))


async def settle(log):
    results = await asyncio.gather(fail('one', 3), give(2, 1), fail('three', 2),
                                   return_exceptions=True)
    for result in results:
        log(str(result))


async def group_failure(log):
    async def body():
        async with asyncio.TaskGroup() as group:
            group.create_task(linger(log, 'a', 6))
            group.create_task(fail('bad', 1))
            await linger(log, 'body', 4)
    log(await outcome(body()))


async def group_failures(log):
    async def bad_end():
        try:
            await nap(1000)
        except asyncio.CancelledError:
            await nap(2)
            raise RuntimeError('late')

    async def body():
        async with asyncio.TaskGroup() as group:
            group.create_task(bad_end())
            group.create_task(fail('early', 1))
            await nap(2000)
    log(await outcome(body()))


async def group_body_fails(log):
    async def body():
        async with asyncio.TaskGroup() as group:
            group.create_task(linger(log, 'a', 1))
            await fail('body', 1)
    log(await outcome(body()))


async def group_nested(log):
    async def inner():
        async with asyncio.TaskGroup() as group:
            group.create_task(linger(log, 'inner', 2))
            await fail('bad', 2)

    async def outer():
        async with asyncio.TaskGroup() as group:
            group.create_task(linger(log, 'outer', 1))
            log(await outcome(inner()))
            raise RuntimeError('outer')
    log(await outcome(outer()))


async def group_cancelled(log):
    async def body():
        async with asyncio.TaskGroup() as group:
            group.create_task(linger(log, 'a', 2))
    whole = asyncio.create_task(outcome(body()))
    await nap(1)
    whole.cancel()
    log(await whole)


async def group_child_cancelled(log):
    async def body():
        async with asyncio.TaskGroup() as group:
            child = group.create_task(linger(log, 'a', 1))
            await nap(1)
            child.cancel()
            await nap(4)
            log('body')
    log(await outcome(body()))


async def limit(ticks, awaitable):
    async with asyncio.timeout(ticks * TICK):
        return await awaitable


async def timeout_in_time(log):
    log(await outcome(limit(100, give(7, 1))))
    log(await outcome(limit(100, fail('bad', 1))))


async def timeout_too_late(log):
    log(await outcome(limit(1, linger(log, 'a', 2))))


async def timeout_cancelled(log):
    whole = asyncio.create_task(outcome(limit(100, linger(log, 'a', 2))))
    await nap(1)
    whole.cancel()
    log(await whole)


async def timeout_and_cancel(log):
    whole = asyncio.create_task(outcome(limit(1, linger(log, 'a', 8))))
    await nap(4)
    whole.cancel()
    log(await whole)


async def timeout_value_after(log):
    async def stubborn():
        try:
            await nap(1000)
        except asyncio.CancelledError:
            return 'all the same'
    log(await outcome(limit(1, stubborn())))


async def timeouts_nested(log):
    log(await outcome(limit(100, limit(1, nap(1000)))))

    async def inner():
        try:
            await limit(100, nap(1000))
        except asyncio.CancelledError:
            log('inner-cancelled')
            raise
    log(await outcome(limit(1, inner())))


async def shield(log):
    inner = asyncio.create_task(give('inner', 4))
    outer = asyncio.create_task(outcome(asyncio.shield(inner)))
    await nap(1)
    outer.cancel()
    log(await outer)
    log(await inner)


async def await_cancels(log):
    inner = asyncio.create_task(linger(log, 'inner', 2))

    async def waits():
        await inner
    outer = asyncio.create_task(outcome(waits()))
    await nap(1)
    outer.cancel()
    log(await outer)


async def cancel_twice(log, whole):  # again while what was cancelled puts its things away
    outer = asyncio.create_task(outcome(whole))
    await nap(1)
    outer.cancel()
    await nap(3)
    outer.cancel()
    log(await outer)


async def await_cancelled_twice(log):
    inner = asyncio.create_task(linger(log, 'inner', 300))

    async def waits():
        await inner
    await cancel_twice(log, waits())


async def gather_cancelled_twice(log):
    await cancel_twice(log, asyncio.gather(linger(log, 'a', 300), linger(log, 'b', 300)))


async def timeout_cancelled_twice(log):
    await cancel_twice(log, limit(1000, linger(log, 'a', 300)))


async def group_cancelled_twice(log):
    async def body():
        async with asyncio.TaskGroup() as group:
            group.create_task(linger(log, 'a', 8))
    await cancel_twice(log, body())


async def wait_first(log):
    running = [asyncio.create_task(give(i, ticks)) for i, ticks in enumerate((9, 2, 20))]
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    log(''.join(str(i) for i in range(3) if running[i] in done))
    done, _ = await asyncio.wait(running)
    log(''.join(str(i) for i in range(3) if running[i] in done))


async def wait_failure(log):
    running = [asyncio.create_task(one) for one in (give(0, 1), fail('bad', 4), give(0, 30))]
    running.append(asyncio.create_task(nap(1000)))
    running[3].cancel()
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
    log(''.join(str(i) for i in range(4) if running[i] in done))


async def wait_limited(log):
    running = [asyncio.create_task(give(i, ticks)) for i, ticks in enumerate((1, 200))]
    done, _ = await asyncio.wait(running, timeout=10 * TICK)
    log(''.join(str(i) for i in range(2) if running[i] in done))


async def as_completed(log):
    for one in asyncio.as_completed([give(i, ticks) for i, ticks in enumerate((6, 2, 8, 4))]):
        log(str(await one))


async def cancel_requests(log):
    self = asyncio.current_task()
    self.cancel()
    self.cancel()
    log(str(self.cancelling()))
    log(await outcome(nap(1)))
    log(await outcome(nap(1)))
    log(str(self.uncancel()) + str(self.uncancel()))
    log(await outcome(nap(1)))


async def lock_order(log):
    lock = asyncio.Lock()

    async def user(name, ticks):
        try:
            async with lock:
                log(name)
                await nap(ticks)
        except asyncio.CancelledError:
            log(name + '-cancelled')
    users = [asyncio.create_task(user(name, 2)) for name in 'abcd']
    await nap(1)
    users[2].cancel()
    await asyncio.gather(*users)


async def semaphore_order(log):
    semaphore = asyncio.Semaphore(2)

    async def user(name, ticks):
        async with semaphore:
            log(name)
            await nap(ticks)
            log('-' + name)
    await asyncio.gather(user('a', 2), user('b', 5), user('c', 9), user('d', 20))


async def condition_order(log):
    condition = asyncio.Condition()

    async def waiter(name):
        async with condition:
            try:
                await condition.wait()
                log(name)
            except asyncio.CancelledError:
                log(name + '-cancelled')
    waiters = [asyncio.create_task(waiter(name)) for name in 'abcd']
    await nap(1)
    async with condition:
        condition.notify(1)
    await nap(1)
    log('all')
    async with condition:
        condition.notify_all()
    await asyncio.gather(*waiters)


async def event(log):
    happens = asyncio.Event()

    async def waiter(name):
        await happens.wait()
        log(name)
    waiters = [asyncio.create_task(waiter(name)) for name in 'abc']
    await nap(1)
    log('set')
    happens.set()
    happens.clear()
    await asyncio.gather(*waiters)
    log(str(happens.is_set()).lower())


async def barrier(log):
    place = asyncio.Barrier(2)

    async def party(name):
        log(name + await outcome(place.wait()))
    a = asyncio.create_task(party('a'))
    await nap(1)
    log(str(place.n_waiting))
    await asyncio.gather(a, asyncio.create_task(outcome(place.wait())))
    lone = asyncio.create_task(party('lone'))
    await nap(1)
    await place.abort()
    await lone
    await party('late')
    await place.reset()
    log(str(place.broken).lower())


async def queue_bounded(log):
    queue = asyncio.Queue(1)

    async def producer():
        for item in range(4):
            await queue.put(item)
            log('put' + str(item))
    task = asyncio.create_task(producer())
    for ticks in (1, 1, 1, 1):
        await nap(ticks)
        log('got' + str(await queue.get()))
    await task


async def queue_getters(log):
    queue = asyncio.Queue()

    async def getter(name):
        log(name + await outcome(queue.get()))
    getters = [asyncio.create_task(getter(name)) for name in 'abc']
    await nap(1)
    getters[1].cancel()
    await nap(1)
    queue.put_nowait(1)
    queue.put_nowait(2)
    await asyncio.gather(*getters)


async def queue_kinds(log):
    least, last = asyncio.PriorityQueue(), asyncio.LifoQueue()
    for item in (3, 1, 4, 1, 5):
        await least.put(item)
        await last.put(item)
    for queue in (least, last):
        log(''.join([str(await queue.get()) for _ in range(5)]))
    waiting = asyncio.create_task(least.get())
    await nap(1)
    least.put_nowait(5)
    least.put_nowait(2)
    log(str(await waiting))


async def queue_join(log):
    queue = asyncio.Queue()

    async def worker():
        while True:
            item = await queue.get()
            await nap(item)
            log(str(item))
            queue.task_done()
    workers = [asyncio.create_task(worker()) for _ in range(2)]
    for item in (6, 2, 12):
        queue.put_nowait(item)
    await queue.join()
    log('joined')
    for one in workers:
        one.cancel()


async def thread(log):
    def boom():
        raise RuntimeError('boom')
    log(await outcome(asyncio.to_thread(lambda: 7)))
    log(await outcome(asyncio.to_thread(boom)))


async def calls(log):
    loop = asyncio.get_running_loop()
    loop.call_later(4 * TICK, log, 'c')
    loop.call_later(2 * TICK, log, 'a')
    loop.call_later(3 * TICK, log, 'b').cancel()
    await nap(6)
    log('end')


def in_asyncio():
    lines = {}
    for scenario in (gather_values, gather_cancelled, gather_failure, settle, group_failure,
                     group_failures, group_body_fails, group_nested, group_cancelled,
                     group_child_cancelled, timeout_in_time, timeout_too_late, timeout_cancelled,
                     timeout_and_cancel, timeout_value_after, timeouts_nested, shield,
                     await_cancels, await_cancelled_twice, gather_cancelled_twice,
                     timeout_cancelled_twice, group_cancelled_twice, wait_first, wait_failure,
                     wait_limited, as_completed,
                     cancel_requests, lock_order, semaphore_order, condition_order, event, barrier,
                     queue_bounded, queue_getters, queue_kinds, queue_join, thread, calls):
        events = []
        asyncio.run(scenario(events.append))
        lines[scenario.__name__] = ' '.join(events)
    return lines


def in_program(program, driver):
    """The lines of our program; none where the driver is refused."""
    run = subprocess.run([program, driver], capture_output=True, text=True, timeout=60)
    if run.returncode == 77:
        print(f'{driver}: skipped: {run.stderr.strip()}')
        return None
    if run.returncode != 0:
        sys.exit(f'{program} {driver}: ended with {run.returncode}\n{run.stderr}')
    return dict(line.split(': ', 1) for line in run.stdout.splitlines())


def differences(program, driver):
    """What differs, as text; None where the driver is refused."""
    expected, seen = in_asyncio(), in_program(program, driver)
    if seen is None:
        return None
    return [f'{driver}, {name}:\n  asyncio: {expected.get(name)}\n  here:    {seen.get(name)}'
            for name in sorted(expected.keys() | seen.keys())
            if expected.get(name) != seen.get(name)]


def main():
    if sys.version_info < (3, 11):
        print('needs Python 3.11 for TaskGroup, timeout and Barrier')
        return 77
    wrong = 0
    for driver in ('io_uring', 'epoll'):
        # A machine that stands still for some ticks may turn events around, but not three times.
        for _ in range(3):
            found = differences(sys.argv[1], driver)
            if not found:
                break
        for text in found or ():
            print(text)
        wrong += len(found or ())
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
