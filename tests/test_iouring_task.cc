#include "iouring/task.hh"

#include "iouring/gather.hh"
#include "iouring/loop.hh"
#include "iouring/sleep.hh"
#include "iouring/start.hh"
#include "tests/sanitized.hh"

#include <boost/test/unit_test.hpp>
#include <malloc.h>

#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace schedlab;
using namespace schedlab::iouring;

namespace {

// Counts how many of it are alive.
struct Counted {
  static inline int alive = 0;
  Counted() { ++alive; }
  Counted(const Counted&) { ++alive; }
  Counted(Counted&&) noexcept { ++alive; }
  Counted& operator=(const Counted&) = default;
  Counted& operator=(Counted&&) = default;
  ~Counted() { --alive; }
};

Task<int> number(int n) {
  co_return n;
}

Task<int> sum_to(int n) {
  int sum = 0;
  for (int i = 1; i <= n; ++i)
    sum += co_await number(i);
  co_return sum;
}

Task<std::unique_ptr<std::string>> only_movable() {
  co_return std::make_unique<std::string>("moved");
}

Task<int&> reference_to(int& target) {
  co_return target;
}

Task<std::pair<int, std::string>> braced() {
  co_return {3, "three"};
}

Task<> fails(Counted) {
  throw std::runtime_error("on purpose");
  co_return;
}

Task<Counted> gives_counted() {
  co_return Counted();
}

Task<std::size_t> depth(std::size_t n) {
  if (n == 0)
    co_return 0;
  const std::size_t below = co_await depth(n - 1);
  co_return below + 1;
}

Task<> fails_at(std::size_t n) {
  Counted one;
  if (n == 0)
    throw std::runtime_error("at the bottom");
  co_await fails_at(n - 1);
}

Task<long> many_awaits(int count) {
  long sum = 0;
  for (int i = 0; i < count; ++i)
    sum += co_await number(1);
  co_return sum;
}

template <typename T>
T run(Task<T> task) {
  Loop loop;
  return loop.run(std::move(task));
}

using testing::sanitized;
// The sanitizers' own frames do not transfer symmetrically in all compilers.
constexpr int million = sanitized ? 10'000 : 1'000'000;
constexpr std::size_t deep = sanitized ? 2'000 : 100'000;

}  // namespace

BOOST_AUTO_TEST_CASE(a_task_gives_its_value) {
  BOOST_TEST(run(sum_to(100)) == 5050);
  BOOST_TEST(run(braced()).second == "three");
}

BOOST_AUTO_TEST_CASE(a_value_that_can_only_be_moved_is_moved) {
  BOOST_TEST(*run(only_movable()) == "moved");
}

BOOST_AUTO_TEST_CASE(a_reference_is_the_thing_itself) {
  int target = 1;
  int& got = run(reference_to(target));
  BOOST_TEST(&got == &target);
}

BOOST_AUTO_TEST_CASE(what_a_task_throws_arrives_and_its_arguments_are_gone) {
  BOOST_CHECK_EXCEPTION(run(fails(Counted())), std::runtime_error, [](const auto& error) {
    return error.what() == std::string("on purpose");
  });
  BOOST_CHECK_THROW(run(fails_at(1000)), std::runtime_error);
  BOOST_TEST(Counted::alive == 0);
}

BOOST_AUTO_TEST_CASE(a_value_is_destroyed_once_taken_or_not) {
  { static_cast<void>(run(gives_counted())); }
  BOOST_TEST(Counted::alive == 0);
  {
    Loop loop;
    loop.run([]() -> Task<> {
      auto running = create_task(gives_counted());
      co_await yield();
      co_await yield();
      BOOST_TEST(running.done());
      BOOST_TEST(Counted::alive == 1);
    }());
  }
  BOOST_TEST(Counted::alive == 0);
}

BOOST_AUTO_TEST_CASE(a_task_that_is_never_awaited_never_begins_and_leaves_nothing) {
  const auto before = frame_counts();
  {
    Task<> never = fails(Counted());
    BOOST_TEST(static_cast<bool>(never));
    BOOST_TEST(Counted::alive == 1);
    Task<> moved = std::move(never);
    BOOST_TEST(!static_cast<bool>(never));
    moved = fails(Counted());
    BOOST_TEST(Counted::alive == 1);
  }
  BOOST_TEST(Counted::alive == 0);
  BOOST_TEST(frame_counts().made == before.made + 2);
}

BOOST_AUTO_TEST_CASE(a_million_awaits_that_end_at_once_need_no_stack) {
  BOOST_TEST(run(many_awaits(million)) == million);
}

BOOST_AUTO_TEST_CASE(a_chain_is_as_deep_as_memory_lets_it_be) {
  BOOST_TEST(run(depth(deep)) == deep);
}

BOOST_AUTO_TEST_CASE(a_frame_is_made_for_each_coroutine_and_used_again) {
  Loop loop;
  loop.run(sum_to(10));
  const auto before = frame_counts();
  BOOST_TEST(loop.run(sum_to(1000)) == 500'500);
  const auto after = frame_counts();
  // The compiler may put a child into its parent's frame.
  BOOST_TEST(after.made - before.made >= 1);
  BOOST_TEST(after.made - before.made <= 1001);
  if (detail::pool_frames)
    BOOST_TEST(after.from_heap == before.from_heap);
  else
    BOOST_TEST(after.from_heap - before.from_heap == after.made - before.made);
}

BOOST_AUTO_TEST_CASE(free_frames_that_were_given_back_are_asked_of_the_heap_again) {
  const auto heap_for_one_task = [] {
    const auto before = frame_counts().from_heap;
    { const Task<> never = fails(Counted()); }
    return frame_counts().from_heap - before;
  };
  heap_for_one_task();
  BOOST_TEST(heap_for_one_task() == (detail::pool_frames ? 0u : 1u));
  release_free_frames();
  BOOST_TEST(heap_for_one_task() == 1u);
  release_free_frames();
  release_free_frames();  // with nothing left to give
  BOOST_TEST(heap_for_one_task() == 1u);
}

BOOST_AUTO_TEST_CASE(a_thread_that_only_frees_frames_of_others_leaves_none_at_its_end) {
  if (sanitized)
    return;  // their heaps do not tell how much is in use
  constexpr std::size_t size = detail::largest_frame, count = 10'000;
  release_free_frames();
  std::vector<void*> frames(count);
  const std::size_t before = ::mallinfo2().uordblks;
  for (void*& frame : frames)
    frame = detail::allocate_frame(size);
  BOOST_TEST(::mallinfo2().uordblks >= before + count * size);
  std::jthread([&frames] {
    for (void* const frame : frames)
      detail::free_frame(frame, size);
  }).join();
  BOOST_TEST(::mallinfo2().uordblks < before + count * size / 2);
}

BOOST_AUTO_TEST_CASE(a_child_that_throws_is_caught_by_the_coroutine_that_awaits_it) {
  const auto catches = []() -> Task<std::string> {
    std::string caught;
    try {
      co_await fails(Counted());
    } catch (const std::runtime_error& error) {
      caught = error.what();
    }
    co_return caught + co_await []() -> Task<std::string> { co_return " and went on"; }();
  };
  BOOST_TEST(run(catches()) == "on purpose and went on");
}
