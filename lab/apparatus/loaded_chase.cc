#include "lab/apparatus/loaded_chase.hh"

#include "lab/base/clock.hh"

#include <algorithm>
#include <utility>

namespace schedlab::apparatus {

namespace {

constexpr std::uint64_t warm_up = 4096;  // loads, while the queues fill

// Further apart than a line and its neighbour, which prefetchers fetch in pairs. The order is drawn
// anew in each process, as the address is.
ChaseOptions chase_options(const Area& area) {
  return {.stride = 256,
          .pattern = Pattern::page_local,
          .seed = reinterpret_cast<std::uintptr_t>(area.data())};
}

// Called on the chaser's CPU, so that the chase lies on its node.
AreaOptions area_options(const LoadedChaseOptions& options) {
  stand_on(options.chaser, options.usable);
  return {.size = options.size, .pages = options.load.memory.pages, .node = {}, .shared = false};
}

}  // namespace

LoadedChase::LoadedChase(const LoadedChaseOptions& options)
    : options_(options), area_(area_options(options)), load_(options.load),
      at_(write_chase(area_.bytes(), chase_options(area_))) {}

harness::Sample LoadedChase::sample(std::optional<std::uint64_t> delay_ns, std::uint64_t loads) {
  stand_on(options_.chaser, options_.usable);
  if (delay_ns)
    load_.start(*delay_ns);
  at_ = walk(at_, warm_up);
  witness_.begin();
  // At both ends the counters are read first and the clock then, so that the time between the two
  // readings of the counters is the one that is clocked.
  const std::uint64_t bytes_before = load_.bytes();
  const auto begin = clock::begin();
  at_ = walk(at_, loads);
  const auto end = clock::end();
  const std::uint64_t bytes = load_.bytes() - bytes_before;
  const auto counted = clock::end();
  const TaskRecord record = witness_.end();
  const auto others = load_.stop();

  harness::Sample sample;
  sample.operations = loads;
  sample.elapsed_ns = clock::ns(begin, end);
  sample.values[options_.latency_metric] = sample.elapsed_ns / static_cast<double>(loads);
  std::vector records = {record};
  std::vector<std::optional<unsigned>> places = {options_.chaser};
  double lost_ns = sample.elapsed_ns - static_cast<double>(record.cpu_ns);
  if (delay_ns) {
    sample.values[options_.bandwidth_metric] =
        static_cast<double>(bytes) / clock::ns(begin, counted) * 1e9;
    records.insert(records.end(), others.begin(), others.end());
    places.insert(places.end(), load_.places().begin(), load_.places().end());
    lost_ns = std::max(lost_ns, load_.lost_ns());
  }
  sample.proof = prove(records, places, sample.elapsed_ns, false);
  // Each task keeps a CPU of its own busy; the one that lost most of it counts.
  sample.proof.foreign_ns = lost_ns;
  return sample;
}

const std::vector<harness::Check>& LoadedChase::checks() {
  if (!checks_.empty())
    return checks_;
  checks_ = area_.checks();
  for (auto& check : load_.checks()) {
    check.name = "load: " + check.name;
    checks_.push_back(std::move(check));
  }
  return checks_;
}

namespace {

class Point : public harness::Subject {
public:
  Point(std::shared_ptr<LoadedChase> chase, std::optional<std::uint64_t> delay_ns)
      : chase_(std::move(chase)), delay_ns_(delay_ns) {}
  harness::Sample sample(std::uint64_t operations) override {
    return chase_->sample(delay_ns_, operations);
  }
  std::vector<harness::Check> checks() override { return chase_->checks(); }

private:
  std::shared_ptr<LoadedChase> chase_;
  std::optional<std::uint64_t> delay_ns_;
};

}  // namespace

std::unique_ptr<harness::Subject> make_loaded_chase(std::shared_ptr<LoadedChase> chase,
                                                    std::optional<std::uint64_t> delay_ns) {
  return std::make_unique<Point>(std::move(chase), delay_ns);
}

}  // namespace schedlab::apparatus
