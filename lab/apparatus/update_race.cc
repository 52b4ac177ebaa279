#include "lab/apparatus/update_race.hh"

#include "lab/apparatus/curb.hh"
#include "lab/apparatus/start_line.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/keep.hh"
#include "lab/base/mapping.hh"
#include "lab/base/random.hh"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <span>
#include <string>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using Counter = std::atomic<std::uint64_t>;

// What a task says of its own work, in lines that nobody else writes.
struct alignas(line_pair) Journal {
  std::uint64_t made = 0;   // updates since it was born
  std::uint64_t begin = 0;  // ticks, of the last role
  std::uint64_t end = 0;
  std::uint64_t plays = 0;  // of its role
  Counter shard{0};
};

// Shared by all; the tasks may be processes.
struct Shared {
  explicit Shared(unsigned tasks) noexcept : line(tasks) {}

  alignas(line_pair) Counter counter{0};
  alignas(line_pair) pthread_mutex_t mutex;
  StartLine line;
  Curb curb;
  // Written by the first task between two meetings at the line.
  alignas(line_pair) std::uint64_t shown = 0;  // runs in which anything was lost
  std::uint64_t base = 0;                      // of the counter, at the beginning of a run

  // One journal for each task lies behind.
  Journal* journals() noexcept { return reinterpret_cast<Journal*>(this + 1); }
};

void make_mutex(pthread_mutex_t& mutex, bool shared) {
  pthread_mutexattr_t attributes;
  ::pthread_mutexattr_init(&attributes);
  ::pthread_mutexattr_setpshared(&attributes,
                                 shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE);
  const int error = ::pthread_mutex_init(&mutex, &attributes);
  ::pthread_mutexattr_destroy(&attributes);
  if (error != 0)
    throw_errno(error, "pthread_mutex_init");
}

bool all_on_one(const std::vector<std::optional<unsigned>>& places) {
  return std::ranges::all_of(places,
                             [&](const auto& place) { return place && place == places.front(); });
}

bool loses_nothing(Update update) {
  return update != Update::plain && update != Update::file;
}

// A counter in a file, opened anew so that its lock is this task's own. A file that fails leaves
// the journal ahead of the counter: the sample shows it.
class FileCounter {
public:
  explicit FileCounter(int fd)
      : fd_(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR | O_CLOEXEC)) {}

  template <typename Between>
  void add_one(bool locked, Between between) noexcept {
    if (locked)
      lock(F_WRLCK);
    std::uint64_t seen = 0;
    static_cast<void>(!::pread(fd_.get(), &seen, sizeof seen, 0));
    between();
    ++seen;
    static_cast<void>(!::pwrite(fd_.get(), &seen, sizeof seen, 0));
    if (locked)
      lock(F_UNLCK);
  }

private:
  void lock(short kind) noexcept {
    struct flock whole {};
    whole.l_type = kind;
    while (::fcntl(fd_.get(), F_OFD_SETLKW, &whole) != 0 && errno == EINTR) {
    }
  }

  Fd fd_;
};

class UpdateRace : public harness::Subject {
public:
  explicit UpdateRace(const UpdateRaceOptions& options)
      : options_(options), tasks_(static_cast<unsigned>(options.places.size())),
        apart_(all_apart(options.places)),
        memory_(Mapping::shared_memory(sizeof(Shared) + tasks_ * sizeof(Journal))),
        shared_(*new (memory_.data()) Shared(tasks_)) {
    std::uninitialized_value_construct_n(shared_.journals(), tasks_);
    make_mutex(shared_.mutex, options.tasks.kind == TaskKind::processes);
    if (options.update == Update::file || options.update == Update::file_locked) {
      file_ = Fd(check(::memfd_create("schedlab counter", MFD_CLOEXEC), "memfd_create"));
      put_in_file(0);
    }
    team_.emplace(options.tasks, options.places, options.usable,
                  [this](unsigned task, std::uint64_t rounds) { play(task, rounds); });
  }

  ~UpdateRace() override {
    team_.reset();
    ::pthread_mutex_destroy(&shared_.mutex);
  }

  Sample sample(std::uint64_t operations) override {
    const std::uint64_t made_before = made();
    const std::uint64_t counter_before = total();
    const std::uint64_t shown_before = shared_.shown;
    Sample sample;
    sample.operations = operations;
    const std::uint64_t per_task = options_.run == 0 || in_step() ? operations : options_.run;
    const std::uint64_t starts = options_.run > 0 && !in_step() ? operations : 1;
    shared_.curb.begin();
    std::uint64_t started = 0;
    do
      one_start(per_task, sample);
    while (++started < starts && !shared_.curb.is_over());
    const std::uint64_t updates = made() - made_before;
    const std::uint64_t lost = updates - (total() - counter_before);
    const std::uint64_t in_a_run = tasks_ * std::max<std::uint64_t>(options_.run, 1);
    const std::uint64_t done = updates / in_a_run;
    // Fewer only where the sample was ended early, and then by whole runs; as many by each task.
    complete_ = complete_ && done > 0 && done <= operations && updates == done * in_a_run &&
                (options_.run > 0 || done == operations) && all_made_as_many();
    const double took_ns = sample.elapsed_ns;
    sample.elapsed_ns *= static_cast<double>(operations) / static_cast<double>(done);
    lost_ += lost;
    const auto all = static_cast<double>(updates);
    sample.values[options_.lost] = static_cast<double>(lost) / all;
    if (options_.skew_ns == 0 && options_.yield_one_in == 0)
      sample.values[options_.each] = took_ns / all;
    if (options_.run > 0)
      sample.values[options_.shows] =
          static_cast<double>(shared_.shown - shown_before) / static_cast<double>(done);
    return sample;
  }

  std::vector<Check> checks() override {
    std::vector<Check> checks = {{"every task made all its updates", 1, complete_, complete_},
                                 shared_.line.all_met()};
    if (loses_nothing(options_.update))
      checks.push_back({"updates lost", 0, lost_, lost_ == 0});
    return checks;
  }

private:
  // Runs between CPUs follow each other without a system call.
  [[nodiscard]] bool in_step() const noexcept { return apart_ && options_.run > 0; }

  void one_start(std::uint64_t rounds, Sample& sample) {
    const std::uint64_t before = total();
    const std::uint64_t made_before = made();
    team_->start(rounds);
    const auto records = team_->finish();
    const double took_ns = span_ns();
    sample.elapsed_ns += took_ns;
    // On one CPU the tasks wait for each other: only what none of them used is somebody else's, or
    // nobody's, in a short start, where one is over before the other has been woken.
    constexpr double short_ns = 1e6;
    const bool busy = all_on_one(options_.places) && took_ns > short_ns;
    add(prove(records, options_.places, took_ns, busy, !apart_), sample.proof);
    if (options_.run > 0 && !in_step() && total() - before != made() - made_before)
      ++shared_.shown;
  }

  [[nodiscard]] double span_ns() const noexcept {
    std::uint64_t begin = ~std::uint64_t{0}, end = 0;
    for (unsigned i = 0; i < tasks_; ++i) {
      begin = std::min(begin, shared_.journals()[i].begin);
      end = std::max(end, shared_.journals()[i].end);
    }
    return clock::ns(begin, end);
  }

  [[nodiscard]] std::uint64_t made() const noexcept {
    std::uint64_t sum = 0;
    for (unsigned i = 0; i < tasks_; ++i)
      sum += shared_.journals()[i].made;
    return sum;
  }

  [[nodiscard]] bool all_made_as_many() const noexcept {
    const std::span<const Journal> journals(shared_.journals(), tasks_);
    return std::ranges::all_of(
        journals, [&](const Journal& journal) { return journal.made == journals[0].made; });
  }

  // The counter, wherever it lies; read while nobody updates.
  [[nodiscard]] std::uint64_t total() const {
    std::uint64_t sum = shared_.counter.load(std::memory_order_relaxed);
    for (unsigned i = 0; i < tasks_; ++i)
      sum += shared_.journals()[i].shard.load(std::memory_order_relaxed);
    if (file_) {
      std::uint64_t in_file = 0;
      if (::pread(file_.get(), &in_file, sizeof in_file, 0) != sizeof in_file)
        throw_errno(errno, "pread", "the counter's file");
      sum += in_file;
    }
    return sum;
  }

  void put_in_file(std::uint64_t value) {
    if (::pwrite(file_.get(), &value, sizeof value, 0) != sizeof value)
      throw_errno(errno, "pwrite", "the counter's file");
  }

  // A task's role.
  void play(unsigned task, std::uint64_t rounds) {
    Journal& journal = shared_.journals()[task];
    Random random(options_.seed + 0x9e3779b97f4a7c15u * (++journal.plays * tasks_ + task));
    if (in_step()) {
      play_runs(task, rounds, random);
      return;
    }
    std::optional<FileCounter> file;
    if (file_)
      file.emplace(file_.get());
    if (apart_)
      shared_.line.wait();
    journal.begin = clock::begin();
    updates(rounds, journal, file, random);
    journal.end = clock::end();
    journal.made += rounds;
  }

  // Each run lies between two meetings at the line; between two runs only the first task touches
  // the counter.
  void play_runs(unsigned task, std::uint64_t runs, Random& random) noexcept {
    Journal& journal = shared_.journals()[task];
    std::optional<FileCounter> no_file;
    journal.begin = clock::begin();
    for (std::uint64_t i = 0; i < runs; ++i) {
      if (task == 0) {
        shared_.base = shared_.counter.load(std::memory_order_relaxed);
        shared_.curb.ask(i);
      }
      shared_.line.wait();
      if (options_.skew_ns > 0)
        pass(random.below(options_.skew_ns));
      updates(options_.run, journal, no_file, random);
      shared_.line.wait();
      if (task == 0)
        shared_.shown +=
            shared_.counter.load(std::memory_order_relaxed) - shared_.base != options_.run * tasks_;
      journal.made += options_.run;
      if (shared_.curb.ends(i))
        break;
    }
    journal.end = clock::end();
  }

  static void pass(std::uint64_t delay_ns) noexcept {
    const auto begin = clock::begin();
    while (clock::ns(begin, clock::end()) < static_cast<double>(delay_ns))
      pause_cpu();
  }

  // Where another task can come between.
  void window(Random& random) const noexcept {
    std::uint64_t value = 0;
    for (std::uint32_t i = 0; i < options_.window; ++i) {
      ++value;
      launder(value);
    }
    if (options_.yield_one_in > 0 && random.below(options_.yield_one_in) == 0)
      ::sched_yield();
  }

  void read_and_write(Random& random) noexcept {
    const std::uint64_t seen = shared_.counter.load(std::memory_order_relaxed);
    window(random);
    shared_.counter.store(seen + 1, std::memory_order_relaxed);
  }

  template <typename One>
  static void repeat(std::uint64_t count, One one) noexcept {
    for (std::uint64_t i = 0; i < count; ++i)
      one();
  }

  void updates(std::uint64_t count, Journal& journal, std::optional<FileCounter>& file,
               Random& random) noexcept {
    switch (options_.update) {
    case Update::plain:
      return repeat(count, [&] { read_and_write(random); });
    case Update::atomic:
      return repeat(count, [&] { shared_.counter.fetch_add(1, std::memory_order_relaxed); });
    case Update::lock:
      return repeat(count, [&] {
        ::pthread_mutex_lock(&shared_.mutex);
        read_and_write(random);
        ::pthread_mutex_unlock(&shared_.mutex);
      });
    case Update::sharded:
      // One writer: a plain addition, in an atomic only so that the sum may be read at any time.
      return repeat(count, [&] {
        journal.shard.store(journal.shard.load(std::memory_order_relaxed) + 1,
                            std::memory_order_relaxed);
      });
    case Update::file:
    case Update::file_locked:
      return repeat(count, [&] {
        file->add_one(options_.update == Update::file_locked, [&] { window(random); });
      });
    }
  }

  UpdateRaceOptions options_;
  unsigned tasks_;
  bool apart_;
  Mapping memory_;
  Shared& shared_;
  Fd file_;
  bool complete_ = true;
  std::uint64_t lost_ = 0;
  std::optional<Team> team_;
};

}  // namespace

std::string_view to_text(Update update) noexcept {
  constexpr std::array<std::string_view, 6> names = {"plain",   "atomic", "lock",
                                                     "sharded", "file",   "file-locked"};
  return names[static_cast<std::size_t>(update)];
}

std::unique_ptr<harness::Subject> make_update_race(const UpdateRaceOptions& options) {
  return std::make_unique<UpdateRace>(options);
}

}  // namespace schedlab::apparatus
