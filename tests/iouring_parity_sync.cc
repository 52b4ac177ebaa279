#include "iouring/condition.hh"
#include "iouring/event.hh"
#include "iouring/gather.hh"
#include "iouring/queue.hh"
#include "iouring/semaphore.hh"
#include "iouring/wait.hh"
#include "tests/iouring_parity.hh"

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;

namespace {

Task<> use_lock(Lock& lock, Log& log, std::string name, int ticks) {
  try {
    const auto guard = co_await lock.acquire();
    log.push_back(name);
    co_await nap(ticks);
  } catch (const Cancelled&) {
    log.push_back(name + "-cancelled");
  }
}

Task<> lock_order(Log& log) {
  Lock lock;
  std::vector<Running<>> users;
  for (const char* name : {"a", "b", "c", "d"})
    users.push_back(create_task(use_lock(lock, log, name, 2)));
  co_await nap(1);
  users[2].cancel();
  co_await wait(users);
}

Task<> use_semaphore(Semaphore& semaphore, Log& log, std::string name, int ticks) {
  const auto permit = co_await semaphore.acquire();
  log.push_back(name);
  co_await nap(ticks);
  log.push_back("-" + name);
}

Task<> semaphore_order(Log& log) {
  Semaphore semaphore(2);
  co_await gather(use_semaphore(semaphore, log, "a", 2), use_semaphore(semaphore, log, "b", 5),
                  use_semaphore(semaphore, log, "c", 9), use_semaphore(semaphore, log, "d", 20));
}

Task<> await_notice(Lock& lock, Condition& condition, Log& log, std::string name) {
  const auto guard = co_await lock.acquire();
  try {
    co_await condition.wait(guard);
    log.push_back(name);
  } catch (const Cancelled&) {
    log.push_back(name + "-cancelled");
  }
}

Task<> condition_order(Log& log) {
  Lock lock;
  Condition condition(lock);
  std::vector<Running<>> waiters;
  for (const char* name : {"a", "b", "c", "d"})
    waiters.push_back(create_task(await_notice(lock, condition, log, name)));
  co_await nap(1);
  {
    const auto guard = co_await lock.acquire();
    condition.notify();
  }
  co_await nap(1);
  // No waiter is cancelled here: from Python 3.13 on that wakes another one for nothing.
  log.push_back("all");
  {
    const auto guard = co_await lock.acquire();
    condition.notify_all();
  }
  co_await wait(waiters);
}

Task<> await_event(Event& event, Log& log, std::string name) {
  co_await event.wait();
  log.push_back(name);
}

Task<> event_order(Log& log) {
  Event happens;
  std::vector<Running<>> waiters;
  for (const char* name : {"a", "b", "c"})
    waiters.push_back(create_task(await_event(happens, log, name)));
  co_await nap(1);
  log.push_back("set");
  happens.set();
  happens.clear();
  co_await wait(waiters);
  log.push_back(happens.is_set() ? "true" : "false");
}

Task<int> place_of(Barrier& barrier) {
  co_return static_cast<int>(co_await barrier.wait());
}

Task<> party(Barrier& barrier, Log& log, std::string name) {
  const std::string text = co_await outcome(place_of(barrier));
  log.push_back(name + text);
}

Task<> barrier_order(Log& log) {
  Barrier place(2);
  auto a = create_task(party(place, log, "a"));
  co_await nap(1);
  log.push_back(std::to_string(place.waiting()));
  co_await outcome(place_of(place));
  co_await a;
  auto lone = create_task(party(place, log, "lone"));
  co_await nap(1);
  place.abort();
  co_await lone;
  co_await party(place, log, "late");
  place.reset();
  log.push_back(place.broken() ? "true" : "false");
}

Task<> produce(Queue<int>& queue, Log& log) {
  for (int item = 0; item < 4; ++item) {
    co_await queue.put(item);
    log.push_back("put" + std::to_string(item));
  }
}

Task<> queue_bounded(Log& log) {
  Queue<int> queue(1);
  auto producer = create_task(produce(queue, log));
  for (int i = 0; i < 4; ++i) {
    co_await nap(1);
    const int item = co_await queue.get();
    log.push_back("got" + std::to_string(item));
  }
  co_await producer;
}

Task<int> get_from(Queue<int>& queue) {
  co_return co_await queue.get();
}

Task<> get_and_log(Queue<int>& queue, Log& log, std::string name) {
  const std::string text = co_await outcome(get_from(queue));
  log.push_back(name + text);
}

Task<> queue_getters(Log& log) {
  Queue<int> queue;
  std::vector<Running<>> getters;
  for (const char* name : {"a", "b", "c"})
    getters.push_back(create_task(get_and_log(queue, log, name)));
  co_await nap(1);
  getters[1].cancel();
  co_await nap(1);
  co_await queue.put(1);
  co_await queue.put(2);
  co_await wait(getters);
}

template <typename Q>
Task<std::string> all_of(Q& queue) {
  std::string text;
  for (int i = 0; i < 5; ++i)
    text += std::to_string(co_await queue.get());
  co_return text;
}

Task<> queue_kinds(Log& log) {
  PriorityQueue<int> least;
  LifoQueue<int> last;
  for (const int item : {3, 1, 4, 1, 5}) {
    co_await least.put(item);
    co_await last.put(item);
  }
  log.push_back(co_await all_of(least));
  log.push_back(co_await all_of(last));
  const auto get = [](PriorityQueue<int>& queue) -> Task<int> { co_return co_await queue.get(); };
  auto waiting = create_task(get(least));
  co_await nap(1);
  co_await least.put(5);
  co_await least.put(2);
  log.push_back(std::to_string(co_await waiting));
}

Task<> work(Queue<int>& queue, Log& log) {
  for (;;) {
    const int item = co_await queue.get();
    co_await nap(item);
    log.push_back(std::to_string(item));
    queue.task_done();
  }
}

Task<> queue_join(Log& log) {
  Queue<int> queue;
  std::vector<Running<>> workers;
  for (int i = 0; i < 2; ++i)
    workers.push_back(create_task(work(queue, log)));
  for (const int item : {6, 2, 12})
    co_await queue.put(item);
  co_await queue.join();
  log.push_back("joined");
  for (auto& one : workers)
    one.cancel();
  co_await wait(workers);
}

constexpr Scenario scenarios[] = {
    {"lock_order", lock_order},           {"semaphore_order", semaphore_order},
    {"condition_order", condition_order}, {"event", event_order},
    {"barrier", barrier_order},           {"queue_bounded", queue_bounded},
    {"queue_getters", queue_getters},     {"queue_kinds", queue_kinds},
    {"queue_join", queue_join},
};

}  // namespace

const std::span<const Scenario> schedlab::testing::sync_scenarios = scenarios;
