#include "lab/apparatus/page_moves.hh"

#include "affinity/memory.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"

#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;

// Memory of base pages that will lie on a node once it is written.
Mapping memory_on(unsigned node, std::uint64_t pages) {
  Mapping memory = Mapping::private_memory(pages * page_size());
  if (::madvise(memory.data(), memory.size(), MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
    throw_errno(errno, "madvise", "MADV_NOHUGEPAGE");
  affinity::set_memory_policy(memory.bytes(), affinity::Policy::bind, {{node}});
  return memory;
}

std::uint64_t pages_on(unsigned node, std::span<const std::byte> area, pid_t pid) {
  return static_cast<std::uint64_t>(
      std::ranges::count(affinity::nodes_of(area, pid), static_cast<int>(node)));
}

// What move_pages and migrate_pages have in common: the laps, the clock and the proof.
class Moves : public harness::Subject {
public:
  explicit Moves(const PageMoveOptions& options)
      : options_(options), memory_(memory_on(options.from, options.pages)) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    look(options_.from);
    const std::uint64_t each = go_there();
    look(options_.to);
    go(options_.from);
    const unsigned target = options_.stay ? options_.from : options_.to;
    witness_.begin();
    const auto begin = clock::begin();
    std::uint64_t moved = 0;
    for (std::uint64_t i = 0; i < operations; ++i) {
      moved += go(target);
      moved += go(options_.from);
    }
    const auto end = clock::end();
    const TaskRecord record = witness_.end();
    look(options_.from);
    expected_ += 2 * operations * each;
    moved_ += moved;

    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof = prove(record, options_.cpu, sample.elapsed_ns, false);
    if (each > 0)
      sample.values[options_.metric] =
          sample.elapsed_ns / static_cast<double>(2 * operations * each);
    sample.values[options_.moved_metric] = static_cast<double>(each);
    return sample;
  }

  std::vector<Check> checks() override {
    return {{"pages on the node they were sent to", looked_, found_, found_ == looked_},
            {"pages moved", expected_, moved_, moved_ == expected_}};
  }

protected:
  // Moves the pages to a node; gives how many are there now.
  virtual std::uint64_t go(unsigned node) noexcept = 0;
  // Moves them from the first node to the other; gives how many moved.
  virtual std::uint64_t go_there() = 0;
  // Whose pages they are; 0: this process's.
  [[nodiscard]] virtual pid_t owner() const noexcept = 0;

  [[nodiscard]] const PageMoveOptions& options() const noexcept { return options_; }
  [[nodiscard]] std::span<std::byte> memory() const noexcept { return memory_.bytes(); }

private:
  void look(unsigned node) {
    looked_ += options_.pages;
    found_ += pages_on(node, memory_.bytes(), owner());
  }

  PageMoveOptions options_;
  Mapping memory_;
  Witness witness_;
  std::uint64_t looked_ = 0;
  std::uint64_t found_ = 0;
  std::uint64_t expected_ = 0;
  std::uint64_t moved_ = 0;
};

class OwnPages : public Moves {
public:
  explicit OwnPages(const PageMoveOptions& options) : Moves(options) {
    stand_on(options.cpu, options.usable);
    // A page that a child maps too is not moved.
    check(::madvise(memory().data(), memory().size(), MADV_DONTFORK), "madvise", "MADV_DONTFORK");
    std::memset(memory().data(), 1, memory().size());
    mover_.emplace(memory());
  }

private:
  std::uint64_t go(unsigned node) noexcept override { return mover_->move_to(node); }
  std::uint64_t go_there() override { return go(options().to); }
  [[nodiscard]] pid_t owner() const noexcept override { return 0; }

  std::optional<affinity::PageMover> mover_;
};

// With CAP_SYS_NICE migrate_pages also moves what other processes map as well, down to the C
// library of the whole machine. Takes it from the calling thread for a scope.
class WithoutNice {
public:
  WithoutNice() noexcept {
    if (::syscall(SYS_capget, &header_, before_.data()) < 0)
      return;
    auto without = before_;
    without[CAP_TO_INDEX(CAP_SYS_NICE)].effective &= ~CAP_TO_MASK(CAP_SYS_NICE);
    changed_ = ::syscall(SYS_capset, &header_, without.data()) == 0;
  }
  WithoutNice(const WithoutNice&) = delete;
  WithoutNice& operator=(const WithoutNice&) = delete;
  ~WithoutNice() {
    if (changed_)
      ::syscall(SYS_capset, &header_, before_.data());
  }

private:
  __user_cap_header_struct header_ = {_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> before_ = {};
  bool changed_ = false;
};

// A process that owns the pages and does nothing.
class Owner {
public:
  explicit Owner(std::span<std::byte> memory) : ready_(make_pipe()) {
    child_ = Child::fork([this, memory] {
      std::memset(memory.data(), 1, memory.size());
      const char word = 'r';
      if (::write(ready_.write.get(), &word, 1) != 1)
        return 1;
      for (;;)
        ::pause();
    });
    ready_.write = Fd();
    char word;
    if (::read(ready_.read.get(), &word, 1) != 1)
      throw std::runtime_error("the owner of the pages could not write them");
  }
  [[nodiscard]] pid_t pid() const noexcept { return child_.pid(); }

private:
  Pipe ready_;
  Child child_;
};

class OthersPages : public Moves {
public:
  explicit OthersPages(const PageMoveOptions& options)
      : Moves(options), owner_(memory()), there_(owner_.pid(), options.from, options.to),
        back_(owner_.pid(), options.to, options.from) {
    stand_on(options.cpu, options.usable);
    const WithoutNice own_pages_only;
    // What it had on the other node stays with the rest from now on.
    static_cast<void>(there_.move());
    static_cast<void>(back_.move());
  }

  Sample sample(std::uint64_t operations) override {
    const WithoutNice own_pages_only;
    return Moves::sample(operations);
  }

private:
  std::uint64_t go(unsigned node) noexcept override {
    // The number that migrate_pages gives back does not tell: some kernels count in it the pages
    // that other processes map too.
    return (node == options().to ? there_ : back_).move() < 0 ? 0 : each_;
  }
  std::uint64_t go_there() override {
    const std::uint64_t before = pages_there();
    go(options().to);
    const std::uint64_t after = pages_there();
    return each_ = after - std::min(before, after);
  }
  [[nodiscard]] pid_t owner() const noexcept override { return owner_.pid(); }
  [[nodiscard]] std::uint64_t pages_there() const {
    return affinity::pages_by_node(owner_.pid())[options().to];
  }

  Owner owner_;
  affinity::ProcessMover there_;
  affinity::ProcessMover back_;
  std::uint64_t each_ = 0;  // pages that one call moves
};

}  // namespace

std::unique_ptr<harness::Subject> make_page_mover(const PageMoveOptions& options) {
  return std::make_unique<OwnPages>(options);
}

std::unique_ptr<harness::Subject> make_process_mover(const PageMoveOptions& options) {
  return std::make_unique<OthersPages>(options);
}

}  // namespace schedlab::apparatus
