#include "lab/apparatus/fetch.hh"

#include "affinity/pin.hh"
#include "iouring/gather.hh"
#include "iouring/http_client.hh"
#include "iouring/sleep.hh"
#include "lab/apparatus/blocking_http.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "procs/thread.hh"

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace schedlab::apparatus {

namespace {

using iouring::HttpClient;
using iouring::HttpRequest;
using iouring::HttpResponse;
using iouring::Task;

// What came of a fetch: a status, or the errno of what went wrong.
struct Fetched {
  int status = 0;
  int error = 0;
};

// Of all fetches since the subject was made.
struct Tally {
  std::uint64_t expected = 0;  // answers with the status that was expected
  std::uint64_t refused = 0;
  std::uint64_t other = 0;
  int last_error = 0;  // of the others

  void count(const Fetched& fetched, int status) noexcept {
    if (fetched.error == ECONNREFUSED)
      ++refused;
    else if (fetched.error == 0 && (status == 0 || fetched.status == status))
      ++expected;
    else
      ++other;
    if (other > 0 && fetched.error != 0 && fetched.error != ECONNREFUSED)
      last_error = fetched.error;
  }
};

HttpRequest request_of(const FetchOptions& options) {
  HttpRequest request;
  request.target = options.target;
  request.headers.add("Host", options.host);
  return request;
}

// One thread at a time.
class BlockingFetcher {
public:
  BlockingFetcher(const iouring::Address& address, const HttpRequest& request)
      : client_(address), text_(client_.text_of(request)) {}

  Fetched fetch() noexcept {
    Fetched fetched;
    try {
      fetched.status = client_.send(text_).status;
    } catch (const std::system_error& error) {
      fetched.error = error.code().value();
    } catch (const std::exception&) {
      fetched.error = EPROTO;
    }
    return fetched;
  }

private:
  BlockingHttpClient client_;
  std::string text_;
};

// Measures batches; how one is done is the derived class's.
class Fetching : public harness::Subject {
public:
  explicit Fetching(const FetchOptions& options) : options_(options) {}

  harness::Sample sample(std::uint64_t operations) override {
    const affinity::Pin pin(options_.cpus);
    const Tally before = tally_;
    const std::uint64_t calls_before = calls();
    const std::int64_t cpu_before = clock::process_cpu_ns();
    const auto begin = clock::begin();
    run(operations);
    const auto end = clock::end();
    const auto cpu = static_cast<double>(clock::process_cpu_ns() - cpu_before);
    const double fetches = static_cast<double>(operations) * fetches_of_batch();
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof.wall_ns = sample.elapsed_ns;
    const double batch = sample.elapsed_ns / static_cast<double>(operations);
    sample.values[options_.metrics.batch] = batch;
    if (options_.latency.count() > 0)
      sample.values[options_.metrics.latencies] =
          batch / static_cast<double>(options_.latency.count());
    sample.values[options_.metrics.cpu] = cpu / fetches;
    if (options_.method == FetchMethod::tasks)
      sample.values[options_.metrics.calls] = static_cast<double>(calls() - calls_before) / fetches;
    if (tally_.refused > 0 || options_.also)
      sample.values[options_.metrics.refused] =
          static_cast<double>(tally_.refused - before.refused) / static_cast<double>(operations);
    batches_ += operations;
    return sample;
  }

  std::vector<harness::Check> checks() override {
    const std::uint64_t refused = options_.also ? batches_ : 0;
    const std::uint64_t answered = batches_ * options_.count;
    std::vector<harness::Check> made;
    if (options_.expected == 0) {  // a stranger's server: every outcome is one
      const auto all = tally_.expected + tally_.refused + tally_.other;
      made.push_back({"fetches with an outcome", answered, all, answered == all});
      return made;
    }
    made.push_back({"answers as expected", answered, tally_.expected, tally_.expected == answered});
    made.push_back(
        {std::string(refused_check), refused, tally_.refused, tally_.refused == refused});
    made.push_back({"other failures", 0, tally_.other, tally_.other == 0});
    if (tally_.last_error != 0)
      made.push_back({"the last failure", "none", errno_text(tally_.last_error), false});
    return made;
  }

protected:
  // Does so many batches, and counts what came of them.
  virtual void run(std::uint64_t batches) = 0;
  // System calls so far.
  [[nodiscard]] virtual std::uint64_t calls() const noexcept { return 0; }

  [[nodiscard]] unsigned fetches_of_batch() const noexcept {
    return options_.count + (options_.also ? 1 : 0);
  }
  void count(const Fetched& fetched) noexcept { tally_.count(fetched, options_.expected); }
  [[nodiscard]] const FetchOptions& options() const noexcept { return options_; }

private:
  FetchOptions options_;
  Tally tally_;
  std::uint64_t batches_ = 0;
};

// Threads, or one.
class BlockingFetching : public Fetching {
public:
  explicit BlockingFetching(const FetchOptions& options) : Fetching(options) {
    const HttpRequest request = request_of(options);
    for (unsigned i = 0; i < options.count; ++i)
      fetchers_.emplace_back(options.address, request);
    if (options.also)
      fetchers_.emplace_back(*options.also, request);
    results_.resize(fetchers_.size());
  }

protected:
  [[nodiscard]] std::size_t size() const noexcept { return fetchers_.size(); }
  void fetch(std::size_t number) noexcept { results_[number] = fetchers_[number].fetch(); }
  void count_all() noexcept {
    for (const Fetched& result : results_)
      count(result);
  }

private:
  std::vector<BlockingFetcher> fetchers_;
  std::vector<Fetched> results_;
};

class SequentialFetching final : public BlockingFetching {
  using BlockingFetching::BlockingFetching;

public:
  void run(std::uint64_t batches) override {
    for (; batches > 0; --batches) {
      for (std::size_t i = 0; i < size(); ++i)
        fetch(i);
      count_all();
    }
  }
};

class ThreadedFetching final : public BlockingFetching {
public:
  explicit ThreadedFetching(const FetchOptions& options) : BlockingFetching(options) {
    threads_.reserve(size());
  }
  void run(std::uint64_t batches) override {
    for (; batches > 0; --batches) {
      for (std::size_t i = 0; i < size(); ++i)
        threads_.emplace_back([this, i] { fetch(i); });
      threads_.clear();  // joins
      count_all();
    }
  }

private:
  std::vector<std::jthread> threads_;
};

// Workers take numbers until there is none left, as those of a pool take tasks.
class PooledFetching final : public BlockingFetching {
public:
  explicit PooledFetching(const FetchOptions& options) : BlockingFetching(options) {
    for (std::size_t i = 0; i < size(); ++i)
      workers_.emplace_back(procs::ThreadOptions{.name = "fetch", .cpus = options.cpus},
                            [this] { work(); });
  }
  ~PooledFetching() override {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    work_.notify_all();
  }
  void run(std::uint64_t batches) override {
    for (; batches > 0; --batches) {
      {
        std::unique_lock lock(mutex_);
        next_ = 0;
        left_ = size();
        work_.notify_all();
        done_.wait(lock, [this] { return left_ == 0; });
      }
      count_all();
    }
  }

private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_.wait(lock, [this] { return over_ || next_ < size(); });
      if (over_)
        return;
      const std::size_t number = next_++;
      lock.unlock();
      fetch(number);
      lock.lock();
      if (--left_ == 0)
        done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  std::size_t next_ = ~std::size_t{0};
  std::size_t left_ = 0;
  bool over_ = false;
  std::vector<procs::Thread> workers_;  // last: joined before the rest goes
};

iouring::LoopOptions loop_options(iouring::DriverChoice driver) {
  iouring::LoopOptions options;
  options.driver.choice = driver;
  return options;
}

class TaskFetching final : public Fetching {
public:
  explicit TaskFetching(const FetchOptions& options)
      : Fetching(options), loop_(loop_options(options.driver)), request_(request_of(options)) {
    for (unsigned i = 0; i < options.count; ++i)
      clients_.emplace_back(options.address);
    if (options.also)
      clients_.emplace_back(*options.also);
  }
  void run(std::uint64_t batches) override { loop_.run(run_all(batches)); }

private:
  [[nodiscard]] std::uint64_t calls() const noexcept override { return loop_calls_; }

  Task<Fetched> fetch(HttpClient& client) {
    Fetched fetched;
    try {
      const HttpResponse response = co_await client.send(request_);
      fetched.status = response.status;
    } catch (const std::system_error& error) {
      fetched.error = error.code().value();
    } catch (const iouring::HttpError&) {
      fetched.error = EPROTO;
    }
    co_return fetched;
  }
  Task<> run_all(std::uint64_t batches) {
    const std::uint64_t before = loop_.driver().counts().calls;
    for (; batches > 0; --batches) {
      std::vector<Task<Fetched>> fetches;
      fetches.reserve(clients_.size());
      for (HttpClient& client : clients_)
        fetches.push_back(fetch(client));
      const std::vector<Fetched> results = co_await iouring::gather(std::move(fetches));
      for (const Fetched& result : results)
        count(result);
    }
    loop_calls_ += loop_.driver().counts().calls - before;
  }

  iouring::Loop loop_;
  HttpRequest request_;
  std::vector<HttpClient> clients_;
  std::uint64_t loop_calls_ = 0;
};

class SleepOrder final : public harness::Subject {
public:
  explicit SleepOrder(const SleepOrderOptions& options)
      : options_(options), loop_(loop_options(options.driver)) {
    words_.reserve(std::size_t{2} * options.count);
  }
  harness::Sample sample(std::uint64_t operations) override {
    const affinity::Pin pin(options_.cpus);
    const auto begin = clock::begin();
    loop_.run(run_all(operations));
    const auto end = clock::end();
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof.wall_ns = sample.elapsed_ns;
    const double batch = sample.elapsed_ns / static_cast<double>(operations);
    sample.values[options_.metrics.batch] = batch;
    sample.values[options_.metrics.latencies] =
        batch / static_cast<double>(options_.latency.count());
    return sample;
  }
  std::vector<harness::Check> checks() override {
    return {{std::string(words_check), runs_, in_order_, runs_ == in_order_}};
  }

private:
  Task<> sleep(unsigned who) {
    words_.push_back({who, false});
    co_await iouring::sleep_for(options_.latency);
    words_.push_back({who, true});
  }
  Task<> run_all(std::uint64_t runs) {
    for (; runs > 0; --runs) {
      words_.clear();
      std::vector<Task<>> sleepers;
      for (unsigned i = 0; i < options_.count; ++i)
        sleepers.push_back(sleep(i));
      if (options_.together)
        co_await iouring::gather(std::move(sleepers));
      else
        for (auto& sleeper : sleepers)
          co_await std::move(sleeper);
      ++runs_;
      in_order_ += in_order(words_, options_.count, options_.together);
    }
  }
  SleepOrderOptions options_;
  iouring::Loop loop_;
  std::vector<SleeperWord> words_;
  std::uint64_t runs_ = 0;
  std::uint64_t in_order_ = 0;
};

}  // namespace

std::string_view to_text(FetchMethod method) noexcept {
  constexpr std::array<std::string_view, 4> names = {"sequential", "threads", "pool", "tasks"};
  return names[static_cast<std::size_t>(method)];
}

std::unique_ptr<harness::Subject> make_fetch(const FetchOptions& options) {
  const affinity::Pin pin(options.cpus);
  switch (options.method) {
  case FetchMethod::sequential:
    return std::make_unique<SequentialFetching>(options);
  case FetchMethod::threads:
    return std::make_unique<ThreadedFetching>(options);
  case FetchMethod::pool:
    return std::make_unique<PooledFetching>(options);
  case FetchMethod::tasks:
    break;
  }
  return std::make_unique<TaskFetching>(options);
}

bool in_order(std::span<const SleeperWord> words, unsigned count, bool together) {
  std::vector<SleeperWord> expected;
  for (unsigned i = 0; i < count; ++i) {
    expected.push_back({i, false});
    if (!together)
      expected.push_back({i, true});
  }
  for (unsigned i = 0; together && i < count; ++i)
    expected.push_back({i, true});
  return std::ranges::equal(words, expected);
}

std::unique_ptr<harness::Subject> make_sleep_order(const SleepOrderOptions& options) {
  const affinity::Pin pin(options.cpus);
  return std::make_unique<SleepOrder>(options);
}

}  // namespace schedlab::apparatus
