#include "lab/apparatus/line_transfer.hh"

#include "affinity/memory.hh"
#include "lab/apparatus/area.hh"
#include "lab/apparatus/transfer_kernels.hh"
#include "lab/harness/statistics.hh"

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <type_traits>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using transfer::Control;
using transfer::Messages;
using transfer::settling;
using transfer::Side;

// The memory of the lines, written by the first CPU, wherever it is to lie.
Area make_lines(const TransferOptions& options, std::uint64_t size) {
  stand_on(options.first, options.usable);
  return Area({.size = size,
               .pages = Pages::base,
               .node = options.bind ? options.node : std::nullopt,
               .shared = options.tasks.kind == TaskKind::processes});
}

template <typename Kernel>
class Transfer : public harness::Subject {
public:
  explicit Transfer(const TransferOptions& options)
      : options_(options), lines_(make_lines(options, Kernel::size(options))),
        shared_(Mapping::shared_memory(sizeof(Control))), control_(new (shared_.data()) Control),
        kernel_(lines_.data(), options, *control_),
        team_(options.tasks, {options.second}, options.usable,
              [this](unsigned, std::uint64_t rounds) { follow(rounds); }) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.first, options_.usable);
    kernel_.reset();
    control_->stop.store(false, std::memory_order_relaxed);
    control_->first_place = ++samples_;
    control_->deadline_ns = clock::now_ns() + options_.patience_ns;
    Side side;
    team_.start(operations);
    bool whole = kernel_.settle(side);
    const auto window_begin = clock::begin();
    witness_.begin();
    const auto begin = clock::begin();
    whole = whole && kernel_.play(side, operations);
    const auto end = clock::end();
    const std::array own = {witness_.end(), TaskRecord{}};
    const auto window_end = clock::end();
    if (!whole)
      control_->stop.store(true, std::memory_order_relaxed);
    const std::array records = {own[0], team_.finish()[0]};
    if (!whole)
      throw std::runtime_error(
          fmt::format("CPUs {} and {} did not get through their hand-overs in {} ms: one got lost, "
                      "or the tasks hardly ever ran at the same time",
                      options_.first, options_.second, options_.patience_ns / 1'000'000));
    tally(side, operations);
    return result(operations, side, clock::ns(begin, end), clock::ns(window_begin, window_end),
                  records);
  }

  std::vector<Check> checks() override {
    std::vector<Check> checks = {
        {"hand-overs that the lines counted", expected_, counted_, expected_ == counted_}};
    if (options_.payload > 0)
      checks.push_back(
          {"payload lines read otherwise than written", 0, wrong_payload_, wrong_payload_ == 0});
    if (options_.kernel == TransferKernel::message)
      checks.push_back({"messages that came before they were sent", 0, early_, early_ == 0});
    add_home(checks);
    return checks;
  }

private:
  void follow(std::uint64_t rounds) noexcept {
    Side side{.leads = false};
    if (kernel_.settle(side))
      kernel_.play(side, std::min(rounds, options_.silent_after));
    control_->partner = side;
  }

  void tally(const Side& side, std::uint64_t operations) {
    const Side& partner = control_->partner;
    expected_ += 2 * (settling + operations);
    if constexpr (std::is_same_v<Kernel, Messages>)
      counted_ += kernel_.counted(side) + kernel_.counted(partner);
    else
      counted_ += kernel_.counted(side);
    wrong_payload_ += side.wrong_payload + partner.wrong_payload;
    early_ += side.early + partner.early;
  }

  Sample result(std::uint64_t operations, const Side& side, double elapsed_ns, double window_ns,
                const std::array<TaskRecord, 2>& records) const {
    const std::array<std::optional<unsigned>, 2> cpus = {options_.first, options_.second};
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = elapsed_ns;
    sample.proof = prove(records, cpus, window_ns, false);
    // Each task has its CPU to itself: what either of them did not use, somebody else did.
    const auto least_used = static_cast<double>(std::min(records[0].cpu_ns, records[1].cpu_ns));
    sample.proof.foreign_ns = window_ns - least_used;
    sample.values[options_.switches_metric] = static_cast<double>(sample.proof.counted_switches);
    if constexpr (std::is_same_v<Kernel, Messages>) {
      const Side& partner = control_->partner;
      const double ns_per_tick = clock::current().ns_per_tick;
      const double there = kernel_.took(true, operations, side, partner) * ns_per_tick;
      const double back = kernel_.took(false, operations, side, partner) * ns_per_tick;
      sample.values[options_.one_way_metric] = (there + back) / 2;
      sample.values[options_.asymmetry_metric] = there - back;
    } else {
      sample.values[options_.one_way_metric] =
          harness::median(std::span(side.stays).first(side.stay_count));
    }
    return sample;
  }

  // Where the kernel tells (a container may forbid the question).
  void add_home(std::vector<Check>& checks) const {
    if (!options_.node)
      return;
    try {
      const auto nodes = affinity::nodes_of(lines_.bytes());
      const auto right = std::ranges::count(nodes, static_cast<int>(*options_.node));
      checks.push_back({fmt::format("pages of the lines on node {}", *options_.node), nodes.size(),
                        right, right == static_cast<std::ptrdiff_t>(nodes.size())});
    } catch (const std::exception&) {
    }
  }

  TransferOptions options_;
  Area lines_;
  Mapping shared_;
  Control* control_;
  Kernel kernel_;
  std::uint64_t samples_ = 0;
  std::uint64_t expected_ = 0;
  std::uint64_t counted_ = 0;
  std::uint64_t wrong_payload_ = 0;
  std::uint64_t early_ = 0;
  Witness witness_;
  Team team_;  // last: its member uses the rest
};

}  // namespace

std::string_view to_text(TransferKernel kernel) noexcept {
  switch (kernel) {
  case TransferKernel::cas:
    return "cas";
  case TransferKernel::message:
    return "message";
  case TransferKernel::two_lines:
    break;
  }
  return "two-lines";
}

TransferKernel transfer_kernel(std::string_view word) {
  for (const auto kernel :
       {TransferKernel::cas, TransferKernel::two_lines, TransferKernel::message})
    if (word == to_text(kernel))
      return kernel;
  throw std::invalid_argument("no such kernel: " + std::string(word));
}

double trimmed_mean(std::span<std::int32_t> values) noexcept {
  const auto cut = static_cast<std::ptrdiff_t>(values.size() / 20);
  const auto low = values.begin() + cut, high = values.end() - cut;
  std::nth_element(values.begin(), low, values.end());
  std::nth_element(low, high - 1, values.end());
  double sum = 0;
  for (auto at = low; at != high; ++at)
    sum += *at;
  return sum / static_cast<double>(high - low);
}

std::unique_ptr<harness::Subject> make_line_transfer(const TransferOptions& options) {
  if (options.first == options.second)
    throw std::logic_error("two spinning tasks on one CPU wait for each other's time slice");
  if (options.payload > 0 && options.kernel == TransferKernel::cas)
    throw std::logic_error("a compare-exchange takes and gives in one step: no payload");
  switch (options.kernel) {
  case TransferKernel::cas:
    return std::make_unique<Transfer<transfer::Cas>>(options);
  case TransferKernel::message:
    return std::make_unique<Transfer<Messages>>(options);
  case TransferKernel::two_lines:
    break;
  }
  return std::make_unique<Transfer<transfer::TwoLines>>(options);
}

}  // namespace schedlab::apparatus
