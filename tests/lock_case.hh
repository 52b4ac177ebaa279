#pragma once
// What tests of locks share: threads and plain additions.

#include "tests/sanitized.hh"
#include "tests/waits.hh"

#include <atomic>
#include <cstdint>
#include <thread>
#include <unistd.h>
#include <vector>

namespace schedlab::testing {

using Number = std::atomic<std::uint64_t>;

// Adds one as a plain variable would: two at the same time lose one.
inline void add_plainly(Number& number) {
  number.store(number.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

template <typename Body>
void in_threads(unsigned count, Body body) {
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < count; ++i)
    threads.emplace_back([&body, i] { body(i); });
}

constexpr std::uint64_t scaled(std::uint64_t times) {
  return sanitized ? times / 10 : times;
}

// A thread that says its number before it runs.
template <typename Body>
std::jthread started(pid_t& tid, Body body) {
  std::atomic<pid_t> said{0};
  std::jthread thread([&said, body] {
    said.store(::gettid());
    said.notify_one();
    body();
  });
  said.wait(0);
  tid = said.load();
  return thread;
}

}  // namespace schedlab::testing
