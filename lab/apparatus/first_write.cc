#include "lab/apparatus/first_write.hh"

#include "lab/apparatus/team.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"
#include "lab/harness/statistics.hh"

#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <stdexcept>
#include <vector>

namespace schedlab::apparatus {

namespace {

std::uint64_t faults_so_far() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  return static_cast<std::uint64_t>(used.ru_minflt + used.ru_majflt);
}

// What the writer measured; in memory shared with the child.
struct Written {
  double ns = 0;
  std::uint64_t faults = 0;
};

class FirstWrite final : public harness::Subject {
public:
  FirstWrite(Writer writer, const FirstWriteOptions& options)
      : writer_(writer), options_(options), area_(options_for(options.ballast)),
        memory_(Mapping::shared_memory(sizeof(Written))), pages_(area_.size() / page_size()) {}

  harness::Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    std::vector<double> ns;  // of each round: means are ruled by what came between
    std::uint64_t faults = 0;
    ns.reserve(operations);
    witness_.begin();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      // A write after a fork splits the writer's huge page, for good.
      if (options_.ballast.pages == BallastPages::huge && area_.granted() < 0.95)
        area_ = Area(options_for(options_.ballast));
      const Written written = fork_and_write();
      ns.push_back(written.ns);
      faults += written.faults;
    }
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.proof = prove(witness_.end(), options_.cpu, sample.elapsed_ns, false);
    const double written_pages = static_cast<double>(pages_) * static_cast<double>(operations);
    sample.values[options_.write_metric] = harness::median(ns) / static_cast<double>(pages_);
    sample.values[options_.faults_metric] = static_cast<double>(faults) / written_pages;
    return sample;
  }

  std::vector<harness::Check> checks() override {
    std::vector<harness::Check> all;
    if (options_.ballast.pages != BallastPages::huge)  // which were huge before they were split
      all = area_.checks();
    all.push_back({"rounds in which the parent's memory was the child's only if it is shared",
                   rounds_, kept_apart_, rounds_ == kept_apart_});
    return all;
  }

private:
  [[nodiscard]] bool shared() const noexcept {
    return options_.ballast.pages == BallastPages::shared;
  }

  // One write to each page, of a value that no page holds.
  void write_all_pages(Written& written) {
    auto* at = reinterpret_cast<volatile unsigned char*>(area_.data());
    const std::size_t step = page_size();
    const std::uint64_t before = faults_so_far();
    const auto begin = clock::begin();
    for (std::size_t page = 0; page < pages_; ++page)
      at[page * step] = mark_;
    written.ns = clock::ns(begin, clock::end());
    written.faults = faults_so_far() - before;
  }

  [[nodiscard]] unsigned char last_page() const {
    return std::to_integer<unsigned char>(area_.data()[(pages_ - 1) * page_size()]);
  }
  [[nodiscard]] bool holds(unsigned char mark) const { return last_page() == mark; }

  Written fork_and_write() {
    Written& written = *new (memory_.data()) Written;
    const unsigned char before = last_page();  // others may have written to the area since
    mark_ = static_cast<unsigned char>(before % 250 + 1);
    ++rounds_;
    if (writer_ == Writer::nobody_forked) {
      write_all_pages(written);
      kept_apart_ += holds(mark_);
      return written;
    }
    const Pipe go = make_pipe();
    Child child = Child::fork([&] {
      char word = 0;
      if (writer_ == Writer::child)
        write_all_pages(written);
      else if (writer_ == Writer::parent)
        static_cast<void>(!::read(go.read.get(), &word, 1));
      return writer_ == Writer::parent && !holds(shared() ? mark_ : before) ? 1 : 0;
    });
    if (writer_ == Writer::parent) {
      write_all_pages(written);
      if (::write(go.write.get(), "g", 1) != 1)
        throw_errno(errno, "write", "pipe");
    }
    const bool child_saw = child.wait().success();
    if (writer_ == Writer::parent_alone)
      write_all_pages(written);
    const bool parent_saw = writer_ == Writer::child && !shared() ? holds(before) : holds(mark_);
    kept_apart_ += child_saw && parent_saw;
    return written;
  }

  Writer writer_;
  FirstWriteOptions options_;
  Area area_;
  Mapping memory_;
  std::size_t pages_;
  Witness witness_;
  unsigned char mark_ = 0;
  std::uint64_t rounds_ = 0;
  std::uint64_t kept_apart_ = 0;
};

}  // namespace

std::string_view to_text(Writer writer) noexcept {
  constexpr std::array<std::string_view, 4> words = {"none", "child", "parent", "parent-alone"};
  return words[static_cast<std::size_t>(writer)];
}

std::unique_ptr<harness::Subject> make_first_write(Writer writer,
                                                   const FirstWriteOptions& options) {
  if (options.ballast.size == 0)
    throw std::invalid_argument("a first write needs pages");
  return std::make_unique<FirstWrite>(writer, options);
}

}  // namespace schedlab::apparatus
