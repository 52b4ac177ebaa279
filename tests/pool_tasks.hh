#pragma once
// Tasks for tests of process pools, and a journal in which they write down their runs.

#include "procs/process_pool.hh"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

namespace schedlab::testing {

inline int add(int a, int b) {
  return a + b;
}

// The starts of each task, counted by the tasks themselves in memory they share with the test.
class Journal {
public:
  Journal(procs::ProcessPool& pool, std::size_t tasks)
      : bytes_(pool.bytes(tasks * sizeof(Count))), tasks_(tasks) {
    for (std::size_t i = 0; i < tasks; ++i)
      new (bytes_.data() + i * sizeof(Count)) Count{0};
  }
  [[nodiscard]] const procs::Bytes& bytes() const noexcept { return bytes_; }
  [[nodiscard]] unsigned starts(std::size_t task) const {
    return reinterpret_cast<const Count*>(bytes_.data())[task].load();
  }
  [[nodiscard]] std::size_t size() const noexcept { return tasks_; }
  static void note(const procs::Bytes& bytes, std::size_t task) {
    reinterpret_cast<Count*>(bytes.data())[task].fetch_add(1);
  }

private:
  using Count = std::atomic<unsigned>;
  procs::Bytes bytes_;
  std::size_t tasks_;
};

// What a well-behaved task does: notes that it began, and gives back its number.
inline std::size_t journalled(const procs::Bytes& journal, std::size_t task) {
  Journal::note(journal, task);
  return task;
}

inline void sleep_ms(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

// Begins and never ends.
inline void stay(const procs::Bytes& journal, std::size_t task) {
  Journal::note(journal, task);
  std::this_thread::sleep_for(std::chrono::hours(1));
}

// Until the task itself says so: a worker that has only taken it does not count.
inline void await_start(const Journal& journal, std::size_t task) {
  while (journal.starts(task) == 0)
    std::this_thread::sleep_for(std::chrono::microseconds(100));
}

}  // namespace schedlab::testing
