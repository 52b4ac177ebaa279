#include "lab/apparatus/torn_record.hh"

#include "lab/apparatus/leftovers.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/keep.hh"
#include "lab/base/random.hh"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;

constexpr std::size_t words = record_bytes / sizeof(std::uint64_t);
constexpr std::size_t stream_piece = 4096;
constexpr std::uint64_t first_records = 3;  // written before a kill is due
// The kill comes so many records later at most, drawn, and at most so many nanoseconds.
constexpr double longest_wait_records = 16;
constexpr double longest_wait_ns = 20e6;
constexpr std::int64_t patience_ns = 5'000'000'000;

// Relaxed atomics: the reader looks when the writer is dead, but the compiler must not gather or
// leave out stores.
using Record = std::array<std::atomic<std::uint64_t>, words>;

struct Desk {
  alignas(line_pair) std::atomic<std::uint64_t> written{0};
  std::atomic<std::uint64_t> took_ns{1};    // by the last record
  std::atomic<std::uint64_t> published{0};  // place of the last whole record
  alignas(line_pair) Record places[2];
};

// A folder of our own that goes with its object.
class OwnFolder {
public:
  explicit OwnFolder(const std::string& parent)
      : path_(std::filesystem::path(parent) / name_of_ours(what)) {
    remove_leftovers(parent, what);
    if (::mkdir(path_.c_str(), 0700) != 0)
      throw Unsupported("no folder can be made in " + parent + ": " + errno_text(errno));
  }
  OwnFolder(const OwnFolder&) = delete;
  OwnFolder& operator=(const OwnFolder&) = delete;
  ~OwnFolder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

private:
  static constexpr std::string_view what = "records";
  std::filesystem::path path_;
};

class TornRecord : public harness::Subject {
public:
  explicit TornRecord(const TornRecordOptions& options)
      : options_(options), random_(options.seed), memory_(Mapping::shared_memory(sizeof(Desk))),
        desk_(*new (memory_.data()) Desk) {
    if (in_file()) {
      folder_.emplace(options.folder);
      last_ = folder_->path() / "record";
      next_ = folder_->path() / "record.new";
    }
  }

  Sample sample(std::uint64_t operations) override {
    Sample sample;
    sample.operations = operations;
    stand_on(options_.killer, options_.usable);
    const std::uint64_t torn_before = torn_;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i)
      kill_one();
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.values[options_.torn] =
        static_cast<double>(torn_ - torn_before) / static_cast<double>(operations);
    return sample;
  }

  std::vector<Check> checks() override {
    std::vector<Check> checks = {
        {"writers that died of the kill", kills_, killed_, kills_ == killed_}};
    if (publishes())
      checks.push_back({"torn records", 0, torn_, torn_ == 0});
    return checks;
  }

private:
  [[nodiscard]] bool in_file() const noexcept { return options_.writing >= Writing::file_pieces; }
  [[nodiscard]] bool publishes() const noexcept {
    return options_.writing == Writing::memory_published ||
           options_.writing == Writing::file_renamed;
  }

  void kill_one() {
    desk_.written.store(0, std::memory_order_relaxed);
    if (in_file())
      ::unlink(last_.c_str());
    Child writer = Child::fork([this] { return write_on(); });
    await_first();
    const auto record_ns = static_cast<double>(desk_.took_ns.load(std::memory_order_relaxed));
    const double most_ns = std::min(longest_wait_records * 2 * record_ns, longest_wait_ns);
    const auto wait_ns =
        static_cast<double>(random_.below(static_cast<std::uint64_t>(most_ns) + 1));
    const auto begin = clock::begin();
    while (clock::ns(begin, clock::end()) < wait_ns)
      pause_cpu();
    writer.signal(SIGKILL);
    const ExitCause cause = writer.wait();
    ++kills_;
    killed_ += cause.kind == ExitCause::Kind::signalled && cause.value == SIGKILL;
    torn_ += !whole();
  }

  // Asleep, so that a writer on the same CPU runs.
  void await_first() const {
    const std::int64_t deadline = clock::now_ns() + patience_ns;
    while (desk_.written.load(std::memory_order_acquire) < first_records) {
      if (clock::now_ns() > deadline)
        throw_errno(ETIMEDOUT, "the writer of records");
      clock::sleep_for(20'000);
    }
  }

  // In the child: for ever. What goes wrong ends it with a status, which is no death by a signal.
  int write_on() noexcept {
    try {
      stand_on(options_.writer, options_.usable);
      fd_ = Fd(in_file() && !publishes() ? open_new(last_) : -1);
    } catch (const std::exception&) {
      return 1;
    }
    for (std::uint64_t number = 1;; ++number) {
      const auto begin = clock::begin();
      if (!write_one(number))
        return 1;
      const double took = clock::ns(begin, clock::end());
      desk_.took_ns.store(static_cast<std::uint64_t>(took) + 1, std::memory_order_relaxed);
      desk_.written.store(number, std::memory_order_release);
      const auto rest = clock::begin();
      while (clock::ns(rest, clock::end()) < took)
        pause_cpu();
    }
  }

  static int open_new(const std::filesystem::path& path) noexcept {
    return ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  }

  bool write_one(std::uint64_t number) noexcept {
    if (!in_file()) {
      const std::uint64_t place = publishes() ? number % 2 : 0;
      for (auto& word : desk_.places[place])
        word.store(number, std::memory_order_relaxed);
      // Pairs with the death of the writer; a live reader would load it with acquire.
      desk_.published.store(place, std::memory_order_release);
      return true;
    }
    buffer_.fill(number);
    if (!publishes())
      return write_all_of(fd_.get());
    const Fd fresh(open_new(next_));
    return write_all_of(fresh.get()) && ::rename(next_.c_str(), last_.c_str()) == 0;
  }

  [[nodiscard]] bool write_all_of(int fd) const noexcept {
    const auto* bytes = reinterpret_cast<const char*>(buffer_.data());
    const std::size_t piece =
        options_.writing == Writing::file_pieces ? stream_piece : record_bytes;
    for (std::size_t at = 0; at < record_bytes; at += piece)
      if (::pwrite(fd, bytes + at, piece, static_cast<off_t>(at)) != static_cast<ssize_t>(piece))
        return false;
    return true;
  }

  // The last record, as whoever comes next finds it.
  bool whole() {
    if (!in_file()) {
      const Record& record = desk_.places[desk_.published.load(std::memory_order_acquire)];
      return std::ranges::all_of(record, [&](const auto& word) {
        return word.load(std::memory_order_relaxed) == record[0].load(std::memory_order_relaxed);
      });
    }
    const Fd file(check(::open(last_.c_str(), O_RDONLY | O_CLOEXEC), "open", last_.string()));
    const bool complete = ::pread(file.get(), buffer_.data(), record_bytes, 0) == record_bytes;
    return complete &&
           std::ranges::all_of(buffer_, [&](std::uint64_t word) { return word == buffer_[0]; });
  }

  TornRecordOptions options_;
  Random random_;
  Mapping memory_;
  Desk& desk_;
  std::optional<OwnFolder> folder_;
  std::filesystem::path last_;
  std::filesystem::path next_;
  Fd fd_;
  std::array<std::uint64_t, words> buffer_{};
  std::uint64_t kills_ = 0;
  std::uint64_t killed_ = 0;
  std::uint64_t torn_ = 0;
};

}  // namespace

std::string_view to_text(Writing writing) noexcept {
  constexpr std::array<std::string_view, 5> names = {"memory", "published", "pieces", "file",
                                                     "renamed"};
  return names[static_cast<std::size_t>(writing)];
}

std::unique_ptr<harness::Subject> make_torn_record(const TornRecordOptions& options) {
  return std::make_unique<TornRecord>(options);
}

}  // namespace schedlab::apparatus
