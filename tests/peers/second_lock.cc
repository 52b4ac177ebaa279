// A second method for the locks: its own loops, CLOCK_MONOTONIC, pthread_create, no part of the
// laboratory but the locks themselves. Prints nanoseconds for a lock or hand-over, voluntary
// context switches for the same, and how many additions under the lock were lost.
//
// usage: second_lock alone|contended|handoff LOCK FIRST_CPU SECOND_CPU WORK_NS MILLISECONDS
// LOCK is std or mutex. The work is a loop of its own, calibrated here.

#include "procs/mutex.hh"
#include "tests/peers/second.hh"

#include <pthread.h>

#include <atomic>
#include <mutex>
#include <string_view>

namespace {

struct Arguments {
  std::string_view mode;
  std::size_t cpu[2];
  std::size_t work_ns;
  std::size_t run_ms;
};

double loops_per_ns = 0;

void spend(std::uint64_t loops) {
  for (std::uint64_t i = 0; i < loops; ++i)
    asm volatile("" ::: "memory");
}

void calibrate() {
  constexpr std::uint64_t loops = 1'000'000;
  for (int i = 0; i < 10; ++i) {
    const auto begin = second::now();
    spend(loops);
    loops_per_ns = std::max(loops_per_ns, static_cast<double>(loops) /
                                              static_cast<double>(second::now() - begin));
  }
}

template <typename Lock>
struct Field {
  alignas(128) Lock lock[3];
  alignas(128) volatile std::uint64_t under_lock = 0;
  alignas(128) std::atomic<int> here{0};
  std::atomic<bool> over{false};
};

struct Result {
  std::uint64_t done = 0;
  long sleeps = 0;
};

long voluntary() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nvcsw;
}

template <typename Lock>
struct Player {
  Field<Lock>* field;
  const Arguments* arguments;
  int index;
  Result result{};
};

template <typename Lock>
Result contend(Field<Lock>& field, const Arguments& arguments) {
  const auto loops =
      static_cast<std::uint64_t>(loops_per_ns * static_cast<double>(arguments.work_ns));
  Result result;
  while (!field.over.load(std::memory_order_relaxed)) {
    field.lock[0].lock();
    field.under_lock = field.under_lock + 1;
    spend(loops);
    field.lock[0].unlock();
    ++result.done;
  }
  return result;
}

// Three locks: a thread has one, waits for the other's, gives its old one up. The first player
// ends it between two turns.
template <typename Lock>
Result pass_on(Field<Lock>& field, int index, std::uint64_t turns) {
  Result result;
  int old = index;
  int fresh = index == 0 ? 2 : 0;
  if (index == 1)
    field.lock[0].lock();
  for (; result.done < turns; ++result.done) {
    const int third = 3 - old - fresh;
    field.lock[old].unlock();
    field.lock[third].lock();
    old = fresh;
    fresh = third;
  }
  field.lock[old].unlock();
  field.lock[fresh].unlock();
  return result;
}

template <typename Lock>
void* play(void* of) {
  auto& player = *static_cast<Player<Lock>*>(of);
  Field<Lock>& field = *player.field;
  second::pin(player.arguments->cpu[player.index]);
  const bool handoff = player.arguments->mode == "handoff";
  if (handoff) {
    field.lock[player.index].lock();
    if (player.index == 0)
      field.lock[2].lock();
  }
  field.here.fetch_add(1);
  while (field.here.load() < 2)
    ::sched_yield();
  const long before = voluntary();
  player.result = handoff ? pass_on(field, player.index, player.arguments->run_ms * 100)
                          : contend(field, *player.arguments);
  player.result.sleeps = voluntary() - before;
  return nullptr;
}

template <typename Lock>
void run(const Arguments& arguments) {
  static Field<Lock> field;
  Player<Lock> players[2] = {{&field, &arguments, 0}, {&field, &arguments, 1}};
  pthread_t threads[2];
  const int count = arguments.mode == "alone" ? 1 : 2;
  if (count == 1)
    field.here = 1;  // the second thread is this one, which sleeps meanwhile
  for (int i = 0; i < count; ++i)
    ::pthread_create(&threads[i], nullptr, play<Lock>, &players[i]);
  while (field.here.load() < 2)
    ::sched_yield();
  const auto begin = second::now();
  if (arguments.mode != "handoff") {
    const timespec length{static_cast<time_t>(arguments.run_ms / 1000),
                          static_cast<long>(arguments.run_ms % 1000 * 1'000'000)};
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &length, nullptr);
    field.over = true;
  }
  for (int i = 0; i < count; ++i)
    ::pthread_join(threads[i], nullptr);
  const auto wall = static_cast<double>(second::now() - begin);
  const auto done = static_cast<double>(players[0].result.done + players[1].result.done);
  const std::uint64_t counted = arguments.mode == "handoff"
                                    ? players[0].result.done + players[1].result.done
                                    : field.under_lock;
  std::printf("%.3f %.4f %.0f\n", wall / done,
              static_cast<double>(players[0].result.sleeps + players[1].result.sleeps) / done,
              done - static_cast<double>(counted));
}

}  // namespace

int main(int count, char** words) {
  if (count != 7)
    return 2;
  const Arguments arguments{words[1],
                            {second::number(words[3]), second::number(words[4])},
                            second::number(words[5]),
                            second::number(words[6])};
  second::pin(arguments.cpu[0]);
  calibrate();
  const std::string_view lock = words[2];
  if (lock == "std")
    run<std::mutex>(arguments);
  else if (lock == "mutex")
    run<schedlab::procs::Mutex>(arguments);
  else
    return 2;
}
