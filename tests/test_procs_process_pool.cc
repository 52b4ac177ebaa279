#include "procs/process_pool.hh"

#include "affinity/pin.hh"
#include "iouring/loop.hh"
#include "iouring/run_in_executor.hh"
#include "lab/base/file.hh"
#include "procs/remote_error.hh"
#include "tests/iouring_drivers.hh"
#include "tests/left_behind.hh"
#include "tests/pool_tasks.hh"
#include "tests/waits.hh"

#include <boost/test/unit_test.hpp>

#include <sys/resource.h>

#include <filesystem>
#include <numeric>

using namespace schedlab;
using namespace schedlab::procs;
using namespace std::chrono_literals;
using testing::add;
using testing::sleep_ms;

namespace {

ProcessPoolOptions workers(unsigned count) {
  return {.workers = count};
}

std::string concatenate(const std::vector<std::string>& words, std::optional<char> between) {
  std::string text;
  for (const auto& word : words)
    text += (text.empty() || !between ? "" : std::string(1, *between)) + word;
  return text;
}

std::variant<int, std::string> either(bool text) {
  if (text)
    return "text";
  return 7;
}

std::vector<std::uint64_t> many(std::size_t count) {
  std::vector<std::uint64_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), 0u);
  return numbers;
}

std::uint64_t sum(const std::vector<std::uint64_t>& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), std::uint64_t{0});
}

template <typename F>
bool waits_until(F happened) {
  for (int tries = 0; tries < 20'000; ++tries) {
    if (happened())
      return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

}  // namespace

static_assert(Executor<ProcessPool>);

BOOST_AUTO_TEST_CASE(values_of_many_kinds_go_there_and_back) {
  ProcessPool pool(workers(2));
  BOOST_TEST(pool.submit<add>(2, 3).get() == 5);
  BOOST_TEST(pool.submit<concatenate>(std::vector<std::string>{"a", "b"}, '-').get() == "a-b");
  BOOST_TEST(pool.submit<concatenate>(std::vector<std::string>{"a", "b"}, std::nullopt).get() ==
             "ab");
  BOOST_TEST(std::get<std::string>(pool.submit<either>(true).get()) == "text");
  BOOST_TEST(std::get<int>(pool.submit<either>(false).get()) == 7);
  constexpr auto twice = [](double x) { return 2 * x; };
  BOOST_TEST(pool.submit<twice>(1.5).get() == 3.0);
  pool.submit<sleep_ms>(0).get();
  BOOST_TEST(pool.submit([] { return 8; }).get() == 8);
  BOOST_TEST(pool.submit(bind_task<add>(1, 1)).get() == 2);
  BOOST_TEST(pool.submit<::getpid>().get() != ::getpid());
}

BOOST_AUTO_TEST_CASE(arguments_are_those_of_the_function) {
  ProcessPool pool(workers(1));
  BOOST_TEST(pool.submit<add>(2.9, short{3}).get() == 5);  // converted here
  BOOST_TEST(pool.submit<sum>(many(10)).get() == 45u);
}

BOOST_AUTO_TEST_CASE(results_come_in_the_order_of_map) {
  ProcessPool pool(workers(3));
  std::vector<int> numbers(500);
  std::iota(numbers.begin(), numbers.end(), 0);
  constexpr auto square = [](int x) { return x * x; };
  const auto squares = pool.map<square>(numbers);
  for (const int n : numbers)
    BOOST_TEST_REQUIRE(squares[static_cast<std::size_t>(n)] == n * n);
}

BOOST_AUTO_TEST_CASE(what_is_too_large_for_a_slot_goes_through_the_arena) {
  ProcessPool pool(workers(2));
  for (const std::size_t count : {std::size_t{10}, std::size_t{1000}, std::size_t{50'000}}) {
    auto numbers = pool.submit<many>(count).get();
    BOOST_TEST(numbers.size() == count);
    BOOST_TEST(pool.submit<sum>(numbers).get() == sum(numbers));
  }
  // Again and again: what was taken is given back.
  for (int i = 0; i < 200; ++i)
    BOOST_TEST_REQUIRE(pool.submit<sum>(pool.submit<many>(50'000).get()).get() == 1'249'975'000u);
}

BOOST_AUTO_TEST_CASE(what_is_too_large_for_the_arena_fails_one_future_and_says_why) {
  ProcessPool pool(workers(1));
  BOOST_CHECK_EXCEPTION(pool.submit<many>(1'000'000).get(), std::length_error,
                        [](const std::length_error& error) {
                          return std::string(error.what()).find("arena_bytes") != std::string::npos;
                        });
  BOOST_CHECK_EXCEPTION(pool.submit<sum>(many(1'000'000)).get(), PoolError,
                        [](const PoolError& error) {
                          return std::string(error.what()).find("arena_bytes") != std::string::npos;
                        });
  BOOST_TEST(pool.submit<add>(1, 1).get() == 2);
}

namespace {

Bytes doubled(const Bytes& bytes) {
  Bytes result = Bytes::make(bytes.size());
  for (std::size_t i = 0; i < bytes.size(); ++i)
    result.data()[i] = std::byte(2 * std::to_integer<int>(bytes.data()[i]));
  Bytes thrown_away = Bytes::make(1000);
  return result;
}

Bytes same(Bytes bytes) {
  bytes.data()[0] = std::byte{9};
  return bytes;
}

}  // namespace

BOOST_AUTO_TEST_CASE(bytes_are_shared_and_not_copied) {
  ProcessPool pool(workers(2));
  auto bytes = pool.bytes(300'000);
  std::ranges::fill(bytes.span(), std::byte{3});
  const auto back = pool.submit<same>(bytes).get();
  BOOST_TEST((back.data() == bytes.data()));
  BOOST_TEST(std::to_integer<int>(bytes.data()[0]) == 9);
  for (int i = 0; i < 50; ++i) {
    const auto result = pool.submit<doubled>(bytes).get();
    BOOST_TEST_REQUIRE(result.size() == 300'000u);
    BOOST_TEST_REQUIRE(std::to_integer<int>(result.data()[299'999]) == 6);
    // A result of one worker is an argument of any other.
    BOOST_TEST_REQUIRE(std::to_integer<int>(pool.submit<doubled>(result).get().data()[299'999]) ==
                       12);
  }
}

BOOST_AUTO_TEST_CASE(bytes_outlive_their_pool_and_are_of_no_other) {
  Bytes result;
  ProcessPool other(workers(1));
  {
    ProcessPool pool(workers(1));
    auto bytes = pool.bytes(5000);
    result = pool.submit<doubled>(bytes).get();
    auto stranger = other.submit<doubled>(bytes);
    BOOST_CHECK_THROW(stranger.get(), std::invalid_argument);
    BOOST_CHECK_THROW(static_cast<void>(pool.bytes(std::size_t{1} << 30)), std::bad_alloc);
  }
  BOOST_TEST(result.size() == 5000u);
  BOOST_TEST(std::to_integer<int>(result.data()[0]) == 0);
  BOOST_CHECK_THROW(Bytes::make(10), std::logic_error);
}

namespace {

struct Unregistered : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Registered : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void throw_nested() {
  try {
    throw std::out_of_range("the inner one");
  } catch (...) {
    std::throw_with_nested(Unregistered("the outer one"));
  }
}
void throw_here() {
  throw_located(Registered("located"));
}
void throw_system() {
  throw_errno(ENOENT, "open", "a file");
}
void throw_number() {
  throw 42;
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_exception_keeps_type_text_origin_and_cause) {
  register_remote_error<Registered>();
  ProcessPool pool(workers(1));
  try {
    pool.submit<throw_nested>().get();
    BOOST_TEST(false);
  } catch (const RemoteError& error) {
    BOOST_TEST_REQUIRE(error.chain().size() == 2u);
    BOOST_TEST(error.type().find("Unregistered") != std::string::npos);
    BOOST_TEST(error.message() == "the outer one");
    BOOST_TEST(error.chain()[1].type == "std::out_of_range");
    BOOST_TEST(error.chain()[1].what == "the inner one");
    BOOST_TEST(error.pid() == pool.pids().front());
    BOOST_TEST(error.attempt() == 1u);
  }
  try {
    pool.submit<throw_here>().get();
    BOOST_TEST(false);
  } catch (const Registered& error) {
    BOOST_TEST(error.what() == "located");
    try {
      std::rethrow_if_nested(error);
      BOOST_TEST(false);
    } catch (const RemoteError& remote) {
      BOOST_TEST(remote.chain().front().origin.find("test_procs_process_pool.cc:") !=
                 std::string::npos);
    }
  }
  BOOST_CHECK_EXCEPTION(
      pool.submit<throw_system>().get(), std::system_error, [](const std::system_error& error) {
        return error.code().value() == ENOENT &&
               error.what() == std::string("open 'a file': No such file or directory");
      });
  BOOST_CHECK_EXCEPTION(pool.submit<throw_number>().get(), RemoteError,
                        [](const RemoteError& error) { return error.type() == "int"; });
}

BOOST_AUTO_TEST_CASE(only_what_no_worker_has_taken_can_be_cancelled) {
  ProcessPool pool(workers(1));
  auto running = pool.submit<sleep_ms>(50);
  auto first = pool.submit<add>(1, 1);
  auto second = pool.submit<add>(2, 2);
  while (running.state() != FutureState::running)
    std::this_thread::yield();
  BOOST_TEST(!running.cancel());
  BOOST_TEST(first.cancel());
  BOOST_TEST((first.state() == FutureState::cancelled));
  BOOST_CHECK_THROW(first.get(), FutureCancelled);
  BOOST_TEST(second.get() == 4);
  running.get();
  BOOST_TEST(!second.valid());
  BOOST_TEST(pool.counts().cancelled == 1u);
}

BOOST_AUTO_TEST_CASE(a_task_does_not_wait_behind_a_long_one_while_a_worker_is_free) {
  ProcessPool pool(workers(2));
  auto warm = pool.submit<add>(0, 0);
  warm.wait();
  auto forever = pool.submit_with<sleep_ms>({.timeout = 10s}, 60'000);
  std::vector<ProcessFuture<int>> futures;
  for (int i = 0; i < 10; ++i)
    futures.push_back(pool.submit<add>(i, i));
  for (int i = 0; i < 10; ++i)
    BOOST_TEST(futures[static_cast<std::size_t>(i)].get() == 2 * i);
  // Its worker may be slower than ten tasks.
  BOOST_TEST(testing::comes_true([&] { return forever.state() == FutureState::running; }));
  pool.shutdown(0ms);
  BOOST_CHECK_THROW(forever.get(), PoolShutDown);
}

BOOST_AUTO_TEST_CASE(a_callback_runs_once_whenever_it_is_added) {
  ProcessPool pool(workers(2));
  std::atomic<int> before{0};
  std::atomic<int> after{0};
  std::vector<ProcessFuture<int>> futures;
  for (int i = 0; i < 300; ++i) {
    futures.push_back(pool.submit<add>(i, i));
    futures.back().on_ready([&]() noexcept { ++before; });
  }
  BOOST_TEST(waits_until([&] { return before.load() == 300; }));
  for (auto& future : futures) {
    BOOST_TEST_REQUIRE(future.ready());
    future.on_ready([&]() noexcept { ++after; });
    future.get();
  }
  BOOST_TEST(after.load() == 300);
  BOOST_TEST(before.load() == 300);
}

BOOST_AUTO_TEST_CASE(many_threads_may_submit_and_wait) {
  ProcessPool pool(workers(2));
  std::atomic<std::uint64_t> total{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 300; ++i)
        total += static_cast<std::uint64_t>(pool.submit<add>(t, i).get());
    });
  for (auto& thread : threads)
    thread.join();
  BOOST_TEST(total.load() == 4u * 300 * 299 / 2 + 300u * (0 + 1 + 2 + 3));
}

BOOST_AUTO_TEST_CASE(a_full_queue_makes_wait_or_refuses) {
  auto small = workers(1);
  small.queue = 3;
  small.refuse_when_full = true;
  ProcessPool refusing(small);
  std::vector<ProcessFuture<void>> futures;
  for (int i = 0; i < 3; ++i)
    futures.push_back(refusing.submit<sleep_ms>(20));
  BOOST_CHECK_THROW(refusing.submit<sleep_ms>(0).wait(), QueueFull);
  for (auto& future : futures)
    future.get();
  refusing.submit<sleep_ms>(0).get();

  small.refuse_when_full = false;
  small.depth = 1;
  ProcessPool waiting(small);
  std::vector<ProcessFuture<int>> sums;
  for (int i = 0; i < 200; ++i)
    sums.push_back(waiting.submit<add>(i, i));
  for (int i = 0; i < 200; ++i)
    BOOST_TEST(sums[static_cast<std::size_t>(i)].get() == 2 * i);
}

BOOST_AUTO_TEST_CASE(workers_are_recycled_and_the_reason_is_told) {
  std::mutex mutex;
  std::vector<WorkerEnd> ends;
  auto recycling = workers(2);
  recycling.tasks_per_worker = 10;
  recycling.on_event = [&](const PoolEvent& event) {
    const std::lock_guard lock(mutex);
    if (event.kind == PoolEvent::Kind::ended)
      ends.push_back(event.end);
  };
  {
    ProcessPool pool(recycling);
    for (int i = 0; i < 200; ++i)
      BOOST_TEST_REQUIRE(pool.submit<add>(i, 1).get() == i + 1);
    BOOST_TEST(pool.counts().recycled >= 18u);
    BOOST_TEST(pool.counts().died == 0u);
  }
  BOOST_TEST((ends.front().how == Ended::tasks));
  BOOST_TEST(ends.front().text == "it has done 10 tasks");
}

namespace {

std::vector<char> leak;

void grow(std::size_t bytes) {
  leak.resize(leak.size() + bytes, 1);
  std::this_thread::sleep_for(110ms);  // longer than the worker looks away
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_worker_that_grows_is_replaced) {
  auto growing = workers(1);
  growing.rss_growth = std::size_t{8} << 20;
  ProcessPool pool(growing);
  pool.submit<grow>(0).get();
  const pid_t first = pool.pids().front();
  pool.submit<grow>(std::size_t{32} << 20).get();
  BOOST_TEST(waits_until([&] { return pool.counts().recycled == 1; }));
  BOOST_TEST(pool.submit<::getpid>().get() != first);
}

BOOST_AUTO_TEST_CASE(a_pool_that_is_shut_down_has_resolved_everything_and_takes_nothing) {
  ProcessPool pool(workers(2));
  std::vector<ProcessFuture<int>> done;
  for (int i = 0; i < 100; ++i)
    done.push_back(pool.submit<add>(i, 0));
  pool.shutdown();
  for (int i = 0; i < 100; ++i)
    BOOST_TEST(done[static_cast<std::size_t>(i)].get() == i);
  BOOST_CHECK_THROW(pool.submit<add>(1, 1).wait(), PoolShutDown);
  pool.shutdown();  // again does nothing
  BOOST_TEST(pool.pids().empty());

  ProcessPool cancelling(workers(1));
  auto running = cancelling.submit<sleep_ms>(30);
  while (running.state() != FutureState::running)
    std::this_thread::yield();
  auto pending = cancelling.submit<add>(1, 1);
  cancelling.shutdown(std::nullopt, true);
  BOOST_CHECK_THROW(pending.get(), FutureCancelled);
  BOOST_CHECK_NO_THROW(running.get());
}

BOOST_AUTO_TEST_CASE(futures_outlive_their_pool) {
  ProcessFuture<int> future;
  {
    ProcessPool pool(workers(1));
    future = pool.submit<add>(20, 22);
  }
  BOOST_TEST(future.ready());
  BOOST_TEST(future.get() == 42);
}

BOOST_AUTO_TEST_CASE(a_pool_changes_its_size) {
  auto growing = workers(1);
  growing.most_workers = 3;
  ProcessPool pool(growing);
  pool.resize(3);
  BOOST_TEST(waits_until([&] { return pool.pids().size() == 3; }));
  auto busy = pool.submit<sleep_ms>(50);
  pool.resize(1);
  BOOST_TEST(waits_until([&] { return pool.pids().size() == 1; }));
  busy.get();
  BOOST_CHECK_THROW(pool.resize(4), std::invalid_argument);
  BOOST_CHECK_THROW(pool.resize(0), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(a_pool_has_as_many_workers_as_may_run) {
  ProcessPool pool;
  BOOST_TEST(pool.workers() >= 1u);
  BOOST_TEST(pool.workers() <= affinity::thread_affinity().count());
}

namespace {

int lay_waste() {
  ::_exit(7);
}

iouring::Task<int> offload(ProcessPool& pool, int& died) {
  try {
    co_await iouring::run_in(pool, bind_task<lay_waste>());
  } catch (const WorkerDied&) {
    ++died;
  }
  auto work = bind_task<add>(40, 2);
  const int value = co_await iouring::run_in(pool, std::move(work));
  co_return value;
}

}  // namespace

BOOST_DATA_TEST_CASE(a_loop_survives_what_its_work_does_in_a_pool, testing::on_all_drivers,
                     choice) {
  iouring::Loop loop(testing::on(choice));
  ProcessPool pool(workers(1));
  int died = 0;
  BOOST_TEST(loop.run(offload(pool, died)) == 42);
  BOOST_TEST(died == 1);
}

BOOST_AUTO_TEST_CASE(nothing_is_left_open_or_running) {
  const auto before = testing::belongings();
  {
    ProcessPool pool(workers(2));
    pool.submit<add>(1, 1).get();
  }
  BOOST_TEST(testing::belongings() == before);
}
