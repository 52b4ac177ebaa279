#include "lab/apparatus/inheritance.hh"

#include "lab/apparatus/team.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"
#include "lab/base/text.hh"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;

constexpr std::size_t bytes = 4096;
constexpr unsigned char kept = 0x5a;
constexpr unsigned char changed = 0xa5;
constexpr off_t offset_kept = 1000;
constexpr off_t offset_changed = 2000;

// What is asked for as "a variable".
std::array<unsigned char, bytes> global_state;

double share_of(std::span<const unsigned char> memory, unsigned char value) {
  return static_cast<double>(std::ranges::count(memory, value)) /
         static_cast<double>(memory.size());
}

std::string link_of(const std::string& path) {
  std::array<char, 256> target{};
  const auto length = ::readlink(path.c_str(), target.data(), target.size());
  return length > 0 ? std::string(target.data(), static_cast<std::size_t>(length)) : "";
}

class Inheritance : public harness::Subject {
public:
  explicit Inheritance(const InheritanceOptions& options)
      : options_(options), desk_(Mapping::shared_memory(sizeof(double))) {
    if (options.thing == Thing::privately)
      mapping_ = Mapping::private_memory(bytes);
    if (options.thing == Thing::shared)
      mapping_ = Mapping::shared_memory(bytes);
    if (is_descriptor()) {
      file_ = Fd(check(::memfd_create("schedlab inherited", 0), "memfd_create"));
      check(::ftruncate(file_.get(), static_cast<off_t>(bytes)), "ftruncate");
      if (options.thing == Thing::cloexec)
        check(::fcntl(file_.get(), F_SETFD, FD_CLOEXEC), "fcntl", "FD_CLOEXEC");
    }
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    Sample sample;
    sample.operations = operations;
    double passed = 0, shared = 0;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      prepare();
      passed += start();
      shared += found_changed();
    }
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.values[options_.passed] = passed / static_cast<double>(operations);
    sample.values[options_.shared] = shared / static_cast<double>(operations);
    return sample;
  }

private:
  [[nodiscard]] bool is_descriptor() const noexcept {
    return options_.thing == Thing::descriptor || options_.thing == Thing::cloexec;
  }
  [[nodiscard]] std::span<unsigned char> memory() noexcept {
    if (options_.thing == Thing::global)
      return global_state;
    return {mapping_.as<unsigned char>(), bytes};
  }

  void prepare() {
    if (is_descriptor())
      check(::lseek(file_.get(), offset_kept, SEEK_SET), "lseek");
    else
      std::ranges::fill(memory(), kept);
  }

  // Of what the task began with, the share that it saw as its starter had left it.
  double start() {
    double& passed = *new (desk_.data()) double(0);
    switch (options_.start) {
    case Start::thread:
      std::thread([&] { passed = look_and_change(); }).join();
      return passed;
    case Start::fork:
      Child::fork([&] {
        passed = look_and_change();
        return 0;
      }).wait();
      return passed;
    case Start::exec:
      break;
    }
    return look_into_program();
  }

  double look_and_change() noexcept {
    if (is_descriptor()) {
      const bool open = ::lseek(file_.get(), 0, SEEK_CUR) == offset_kept;
      ::lseek(file_.get(), offset_changed, SEEK_SET);
      return open ? 1 : 0;
    }
    const double seen = share_of(memory(), kept);
    std::ranges::fill(memory(), changed);
    return seen;
  }

  // A program that waits for the end of its input, seen from here.
  double look_into_program() {
    Pipe input = make_pipe();
    const Child program = Child::exec({"cat"}, {.fds = {{input.read.get(), 0}}});
    const std::string pid = std::to_string(program.pid());
    if (is_descriptor()) {
      const std::string number = std::to_string(file_.get());
      const bool same =
          link_of("/proc/" + pid + "/fd/" + number) == link_of("/proc/self/fd/" + number);
      return same ? 1 : 0;
    }
    std::array<unsigned char, bytes> copy{};
    const iovec here{copy.data(), copy.size()};
    const iovec there{memory().data(), bytes};
    if (::process_vm_readv(program.pid(), &here, 1, &there, 1, 0) < 0 && errno != EFAULT)
      return harness::not_measured;
    return share_of(copy, kept);
  }

  double found_changed() {
    if (is_descriptor())
      return ::lseek(file_.get(), 0, SEEK_CUR) == offset_changed ? 1 : 0;
    return share_of(memory(), changed);
  }

  InheritanceOptions options_;
  Mapping desk_;
  Mapping mapping_;
  Fd file_;
};

class CopyOnWrite : public harness::Subject {
public:
  explicit CopyOnWrite(const CopyOnWriteOptions& options)
      : options_(options), area_(Mapping::private_memory(copied_pages * page_size())),
        desk_(Mapping::shared_memory(sizeof(Desk))) {
    ::madvise(area_.data(), area_.size(), MADV_NOHUGEPAGE);
    std::memset(area_.data(), 1, area_.size());
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    Desk& desk = *new (desk_.data()) Desk;
    Sample sample;
    sample.operations = operations;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i)
      ended_ = Child::fork([&] { return touch(desk); }).wait().success() && ended_;
    sample.elapsed_ns = clock::ns(begin, clock::end());
    const double pages = static_cast<double>(operations * copied_pages);
    faults_ += desk.faults;
    own_pages_ += desk.own_pages;
    children_ += operations;
    sample.values[options_.faults] = static_cast<double>(desk.faults) / pages;
    sample.values[options_.each] = desk.ns / pages;
    return sample;
  }

  std::vector<Check> checks() override {
    const std::uint64_t wanted = options_.writes ? children_ * copied_pages : 0;
    return {{"children that ended well", 1, ended_, ended_},
            {"pages that became the children's own", wanted, own_pages_, own_pages_ == wanted}};
  }

private:
  struct Desk {
    std::uint64_t faults = 0;
    std::uint64_t own_pages = 0;
    double ns = 0;
  };

  static std::uint64_t minor_faults() noexcept {
    rusage usage;
    ::getrusage(RUSAGE_SELF, &usage);
    return static_cast<std::uint64_t>(usage.ru_minflt);
  }

  // In the child.
  int touch(Desk& desk) noexcept {
    const std::size_t step = page_size();
    volatile unsigned char* page = area_.as<volatile unsigned char>();
    const std::uint64_t before = minor_faults();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < copied_pages; ++i)
      if (options_.writes)
        page[i * step] = 2;
      else
        static_cast<void>(page[i * step]);
    desk.ns += clock::ns(begin, clock::end());
    desk.faults += minor_faults() - before;
    const auto own = private_pages();
    desk.own_pages += own.value_or(0);
    return own ? 0 : 1;
  }

  // Pages of the area that no other process maps, from /proc/self/pagemap.
  [[nodiscard]] std::optional<std::uint64_t> private_pages() const noexcept {
    const Fd file(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    std::array<std::uint64_t, copied_pages> entries;
    const std::size_t first = reinterpret_cast<std::uintptr_t>(area_.data()) / page_size();
    const auto wanted = static_cast<ssize_t>(sizeof entries);
    if (::pread(file.get(), entries.data(), sizeof entries,
                static_cast<off_t>(first * sizeof entries[0])) != wanted)
      return std::nullopt;
    constexpr std::uint64_t exclusively_mapped = std::uint64_t{1} << 56;
    return static_cast<std::uint64_t>(std::ranges::count_if(
        entries, [](std::uint64_t entry) { return (entry & exclusively_mapped) != 0; }));
  }

  CopyOnWriteOptions options_;
  Mapping area_;
  Mapping desk_;
  bool ended_ = true;
  std::uint64_t faults_ = 0;
  std::uint64_t own_pages_ = 0;
  std::uint64_t children_ = 0;
};

class TwoThreads : public harness::Subject {
public:
  explicit TwoThreads(const TwoThreadsOptions& options) : options_(options), pipe_(make_pipe()) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.anywhere ? std::nullopt : std::optional(options_.cpu), options_.usable);
    Sample sample;
    sample.operations = operations;
    const std::uint64_t overtook_before = overtook_;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      run();
      look();
    }
    sample.elapsed_ns = clock::ns(begin, clock::end());
    const auto runs = static_cast<double>(operations);
    sample.values[options_.overtook] = static_cast<double>(overtook_ - overtook_before) / runs;
    sample.values[options_.each] = sample.elapsed_ns / runs;
    return sample;
  }

  std::vector<Check> checks() override {
    return {{std::string(lines_check), runs_, whole_, whole_ == runs_},
            {std::string(done_check), runs_, done_last_, done_last_ == runs_}};
  }

private:
  // One write for each line: a pipe keeps it in one piece.
  void print(std::string_view line) const noexcept {
    static_cast<void>(!::write(pipe_.write.get(), line.data(), line.size()));
  }

  void run() const {
    const auto square = [this](int number) {
      print("Square: " + std::to_string(number * number) + "\n");
    };
    const auto cube = [this](int number) {
      print("Cube: " + std::to_string(number * number * number) + "\n");
    };
    std::thread first(square, 10);
    std::thread second(cube, 10);
    first.join();
    second.join();
    print("Done!\n");
  }

  // All of it is in the pipe when run() has returned, and comes with one read.
  void look() {
    std::array<char, 256> text;
    const auto got = ::read(pipe_.read.get(), text.data(), text.size());
    const std::string_view printed(text.data(),
                                   static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    ++runs_;
    auto lines = split(printed, '\n');
    std::ranges::sort(lines);
    whole_ += lines == std::vector<std::string_view>{"", "Cube: 1000", "Done!", "Square: 100"};
    done_last_ += printed.ends_with("\nDone!\n");
    overtook_ += printed.starts_with("Cube");
  }

  TwoThreadsOptions options_;
  Pipe pipe_;
  std::uint64_t runs_ = 0;
  std::uint64_t whole_ = 0;
  std::uint64_t done_last_ = 0;
  std::uint64_t overtook_ = 0;
};

constexpr std::array<std::string_view, 5> thing_names = {"descriptor", "cloexec", "global",
                                                         "private", "shared"};
constexpr std::array<Thing, 5> things = {Thing::descriptor, Thing::cloexec, Thing::global,
                                         Thing::privately, Thing::shared};
constexpr std::array<std::string_view, 3> start_names = {"thread", "fork", "exec"};
constexpr std::array<Start, 3> starts = {Start::thread, Start::fork, Start::exec};

}  // namespace

std::string_view to_text(Thing thing) noexcept {
  return thing_names[static_cast<std::size_t>(thing)];
}
std::span<const Thing> all_things() noexcept {
  return things;
}
std::string_view to_text(Start start) noexcept {
  return start_names[static_cast<std::size_t>(start)];
}
std::span<const Start> all_starts() noexcept {
  return starts;
}

std::unique_ptr<harness::Subject> make_inheritance(const InheritanceOptions& options) {
  return std::make_unique<Inheritance>(options);
}

std::unique_ptr<harness::Subject> make_copy_on_write(const CopyOnWriteOptions& options) {
  return std::make_unique<CopyOnWrite>(options);
}

std::unique_ptr<harness::Subject> make_two_threads(const TwoThreadsOptions& options) {
  return std::make_unique<TwoThreads>(options);
}

}  // namespace schedlab::apparatus
