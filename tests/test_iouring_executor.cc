#include "iouring/run_in_executor.hh"

#include "iouring/gather.hh"
#include "tests/iouring_case.hh"

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;
using namespace std::chrono_literals;

namespace {

// What a future and the work behind it share.
template <typename T>
struct Shared {
  std::mutex mutex;
  bool done = false;
  std::function<void()> callback;
  std::promise<T> promise;

  void finish() {
    std::function<void()> call;
    {
      const std::lock_guard lock(mutex);
      done = true;
      call = std::move(callback);
    }
    if (call)
      call();
  }
};

template <typename T>
class Future {
public:
  explicit Future(std::shared_ptr<Shared<T>> shared) : shared_(std::move(shared)) {}
  [[nodiscard]] bool ready() const noexcept {
    const std::lock_guard lock(shared_->mutex);
    return shared_->done;
  }
  template <typename F>
  void on_ready(F callback) noexcept {
    {
      const std::lock_guard lock(shared_->mutex);
      if (!shared_->done) {
        shared_->callback = std::move(callback);
        return;
      }
    }
    callback();
  }
  T get() { return shared_->promise.get_future().get(); }

private:
  std::shared_ptr<Shared<T>> shared_;
};

// One thread, or none: then submit does the work itself.
class Pool {
public:
  explicit Pool(bool threaded = true) {
    if (threaded)
      thread_ = std::thread([this] { serve(); });
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    came_.notify_one();
    if (thread_.joinable())
      thread_.join();
  }

  template <typename F>
  auto submit(F work) {
    using T = std::invoke_result_t<F&>;
    auto shared = std::make_shared<Shared<T>>();
    auto job = [shared, work = std::move(work)]() mutable {
      try {
        if constexpr (std::is_void_v<T>) {
          work();
          shared->promise.set_value();
        } else {
          shared->promise.set_value(work());
        }
      } catch (...) {
        shared->promise.set_exception(std::current_exception());
      }
      shared->finish();
    };
    enqueue(std::move(job));
    return Future<T>(std::move(shared));
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }

private:
  void enqueue(std::function<void()> job) {
    std::unique_lock lock(mutex_);
    if (closed_)
      throw std::runtime_error("the pool is closed");
    if (!thread_.joinable()) {
      lock.unlock();
      job();
      return;
    }
    jobs_.push_back(std::move(job));
    came_.notify_one();
  }
  void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      came_.wait(lock, [this] { return closed_ || !jobs_.empty(); });
      if (jobs_.empty())
        return;
      const auto job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<std::function<void()>> jobs_;
  bool closed_ = false;
  std::thread thread_;
};

static_assert(Executor<Pool>);

Task<int> square_in(Pool& pool, int value) {
  co_return co_await run_in(pool, [value] { return value * value; });
}

}  // namespace

BOOST_DATA_TEST_CASE(work_runs_in_the_executor_and_gives_its_value, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    Pool pool;
    const auto here = std::this_thread::get_id();
    const auto there = co_await run_in(pool, [] { return std::this_thread::get_id(); });
    BOOST_TEST((here != there));
    bool ran = false;
    co_await run_in(pool, [&ran] { ran = true; });
    BOOST_TEST(ran);
    std::vector<Task<int>> tasks;
    for (int i = 0; i < 1000; ++i)
      tasks.push_back(square_in(pool, i));
    const auto squares = co_await gather(std::move(tasks));
    BOOST_TEST(squares[999] == 998'001);
  });
}

BOOST_DATA_TEST_CASE(work_that_is_done_at_once_ends_the_wait_too, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    Pool at_once(false);
    BOOST_TEST(co_await square_in(at_once, 7) == 49);
  });
}

BOOST_DATA_TEST_CASE(exceptions_travel_from_the_work_and_from_submit, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    Pool pool;
    const auto failing = [](Pool& in) -> Task<> {
      co_await run_in(in, []() -> int { throw std::runtime_error("from the pool"); });
    };
    BOOST_TEST(co_await thrown_by(failing(pool)) == "from the pool");
    pool.close();
    BOOST_TEST(co_await thrown_by(failing(pool)) == "the pool is closed");
    co_await yield();
  });
}

BOOST_DATA_TEST_CASE(cancelling_waits_for_the_end_of_the_work, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Pool pool;
    std::atomic<bool> begun{false};
    std::atomic<bool> open{false};
    const auto work = [&]() -> Task<> {
      const int got = co_await run_in(pool, [&begun, &open] {
        begun = true;
        open.wait(false);
        return 7;
      });
      log.push_back(std::to_string(got));
      log.push_back(co_await thrown_by(yield()));
    };
    auto running = create_task(work());
    while (!begun)
      co_await sleep_for(100us);
    running.cancel();
    co_await turns(3);
    BOOST_TEST(!running.done());
    open = true;
    open.notify_all();
    co_await running;
  });
  const Log expected = {"7", "cancelled"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}
