// Pools in a thread that gets no memory. The operators here are the whole program's; a sanitizer
// has its own, and then this is not built.

#include "procs/thread_pool.hh"
#include "tests/pool_cases.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <cstdint>
#include <cstdlib>
#include <future>
#include <new>
#include <numeric>
#include <ranges>

using namespace schedlab;
using namespace schedlab::procs;
using namespace std::chrono_literals;
using testing::await_start;
using testing::Journal;
using testing::stay;

namespace {

// How many more times the calling thread gets memory; negative: always.
thread_local int times_left = -1;
// It gets no more at once.
thread_local std::size_t most = SIZE_MAX;

void* get_memory(std::size_t size) {
  if (times_left == 0 || size > most)
    throw std::bad_alloc();
  times_left -= times_left > 0 ? 1 : 0;
  if (void* const memory = std::malloc(size))
    return memory;
  throw std::bad_alloc();
}

// Does it again and again, with no memory at the first request, then at the second, until it needs
// no more. How often it failed.
template <typename F>
int starve(F work) {
  for (int times = 0;; ++times) {
    times_left = times;
    try {
      work();
      times_left = -1;
      return times;
    } catch (const std::bad_alloc&) {
      times_left = -1;
    }
  }
}

std::uint64_t sum(const std::vector<std::uint64_t>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), std::uint64_t{0});
}

std::vector<std::uint64_t> many(std::size_t count) {
  return std::vector<std::uint64_t>(count, 1);
}

// A hang is the end of the program: nobody could help.
template <typename Work>
void ends(Work work) {
  auto end = std::async(std::launch::async, work);
  if (end.wait_for(10s) != std::future_status::ready)
    std::abort();
  end.get();
}

}  // namespace

void* operator new(std::size_t size) {
  return get_memory(size);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

BOOST_DATA_TEST_CASE(a_submit_without_memory_has_no_effect,
                     boost::unit_test::data::make({1u, 2'000u}), size) {
  auto options = testing::options(StartMethod::forkserver, 1);
  options.depth = 64;  // the first go there, the others stand in line
  options.arena_bytes = std::size_t{4} << 20;
  ProcessPool pool(options);
  const std::vector<std::uint64_t> numbers(size, 1);  // in the slot, or in blocks of the arena
  const Journal journal(pool, 1);
  auto busy = pool.submit<stay>(journal.bytes(), 0u);  // the others wait
  await_start(journal, 0);
  std::vector<ProcessFuture<std::uint64_t>> futures;
  futures.reserve(1000);
  int failed = 0;
  ends([&] {
    for (int i = 0; i < 100; ++i)
      failed += starve([&] {
        auto future = pool.submit<sum>(numbers);
        if (!future.ready())  // else it was not encoded
          futures.push_back(std::move(future));
        else
          future.get();
      });
  });
  BOOST_TEST(failed > 0);
  BOOST_TEST(futures.size() == 100u);
  BOOST_TEST(pool.counts().submitted == 101u);
  pool.kill_worker(0);
  for (auto& future : futures)
    BOOST_TEST_REQUIRE(future.get() == size);
  BOOST_CHECK_THROW(busy.get(), WorkerDied);
  ends([&] { pool.shutdown(); });
}

BOOST_AUTO_TEST_CASE(a_result_for_which_there_is_no_memory_fails_its_future_alone) {
  ProcessPool pool(testing::options(StartMethod::forkserver, 1));
  auto large = pool.submit<many>(10'000u);
  auto small = pool.submit<many>(10u);
  most = 50'000;
  BOOST_CHECK_THROW(large.get(), std::bad_alloc);
  most = SIZE_MAX;
  BOOST_TEST(small.get().size() == 10u);
  ends([&] { pool.shutdown(); });
  BOOST_TEST(pool.counts().resolved == 2u);
}

BOOST_AUTO_TEST_CASE(works_that_are_submitted_at_once_without_memory_leave_nothing) {
  const auto held = std::make_shared<int>(0);
  ThreadPool pool({.workers = 1});
  auto works = std::views::iota(0, 40) |
               std::views::filter([](int) { return true; }) |  // so many as there are
               std::views::transform([&](int i) { return [held, i] { return i; }; });
  const int failed = starve([&] {
    for (auto& future : pool.submit_all(works))
      future.wait();
  });
  BOOST_TEST(failed > 5);
  pool.shutdown();
  BOOST_TEST(held.use_count() == 1);
}
