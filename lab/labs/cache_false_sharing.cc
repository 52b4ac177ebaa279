// cache_false_sharing: what does it cost when two cores write to different words of one cache line?
//
// Method   Two pinned tasks each increment a counter of their own. All series run the same code;
//          only the distance of the counters differs, from 8 to 512 bytes, and 16 KiB for the
//          control. The partner goes on for as long as the caller is clocked, and both count.
// Reading  "slowdown" is an increment at this distance against one in the control, paired by
//          process. It falls to 1 where the counters no longer share what moves between the cores.
// Traps    A plain increment hides much of the price in the store buffer, which collects stores
//          while the line is away; a locked one cannot. Threads of one core share an L1 and pay
//          less. The addresses are read back: whether two counters share a line is proven.

#include "lab/apparatus/area.hh"
#include "lab/apparatus/pair_plan.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/keep.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <stdexcept>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Pair;

enum : std::size_t { increment, slowdown, share };

constexpr MetricInfo metrics[] = {
    {.name = "increment",
     .unit = "ns",
     .help = "one increment, the mean of both tasks",
     .interval = true},
    {.name = "slowdown",
     .unit = "",
     .kind = Kind::ratio,
     .help = "that against counters far apart",
     .interval = true},
    {.name = "share",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "of all increments, those of the first task",
     .show = false},
};

constexpr std::string_view increment_words[] = {"plain", "locked"};

constexpr Param params[] = {
    {.name = "distance",
     .help = "bytes from one counter to the other; 16K is always measured too, as the control",
     .kind = Param::Kind::size,
     .list = true,
     .smoke = "8,64",
     .quick = "8,16,32,64,128,256,512",
     .full = "8,16,32,48,56,64,72,96,120,128,192,256,384,512",
     .min = 8,
     .max = 1 << 20},
    {.name = "increment",
     .help = "plain: a load and a store; locked: one atomic step",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "plain,locked",
     .quick = "plain,locked",
     .full = "plain,locked",
     .words = increment_words},
};

constexpr std::int64_t control_distance = 16 << 10;
constexpr std::uint64_t batch = 64;  // increments of the partner between two looks at the flag
constexpr std::uint64_t settling = 1024;
constexpr std::uint64_t slices = 8;
constexpr std::int64_t patience_ns = 10'000'000'000;

using Counter = std::atomic<std::uint64_t>;

// Relaxed: a counter belongs to one task; the other only reads it.
template <bool Locked>
void add_many(Counter& counter, std::uint64_t times) noexcept {
  for (std::uint64_t i = 0; i < times; ++i) {
    if constexpr (Locked)
      counter.fetch_add(1, std::memory_order_relaxed);
    else
      counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
}

struct Options {
  Pair pair;
  affinity::CpuSet usable;
  std::int64_t distance = 8;  // bytes
  std::uint64_t line = cache_line;
};

template <bool Locked>
class Counters : public Subject {
public:
  explicit Counters(const Options& options)
      : options_(options), area_(place(options)), own_(*new (area_.data()) Counter(0)),
        other_(*new (area_.data() + options.distance) Counter(0)),
        control_(std::make_unique<Control>()), team_({}, {options.pair.second}, options.usable,
                                                     [this](unsigned, std::uint64_t) { go_on(); }) {
  }

  Sample sample(std::uint64_t operations) override {
    apparatus::stand_on(options_.pair.first, options_.usable);
    control_->stop.store(false, std::memory_order_relaxed);
    const auto seen_before = other_.load(std::memory_order_relaxed);
    team_.start(1);
    const bool came = wait_for_partner(seen_before);
    add_many<Locked>(own_, settling);
    const auto window_begin = clock::begin();
    witness_.begin();
    std::array<Slice, slices> taken;
    for (std::uint64_t i = 0; i < slices; ++i)
      taken[i] = take(operations * (i + 1) / slices - operations * i / slices);
    std::array records = {witness_.end(), apparatus::TaskRecord{}};
    const double window_ns = clock::ns(window_begin, clock::end());
    control_->stop.store(true, std::memory_order_relaxed);
    records[1] = team_.finish()[0];
    if (!came)
      throw std::runtime_error(fmt::format("the task on CPU {} did not run", options_.pair.second));
    done_ += settling + operations;
    return result(operations, taken, window_ns, records);
  }

  std::vector<Check> checks() override {
    const auto first = reinterpret_cast<std::uintptr_t>(&own_);
    const auto second = reinterpret_cast<std::uintptr_t>(&other_);
    const bool planned = static_cast<std::uint64_t>(options_.distance) < options_.line;
    const bool seen = first / options_.line == second / options_.line;
    const std::string name = fmt::format("counters share a line of {} B", options_.line);
    const auto all = done_ + control_->done;
    const auto counted = own_.load() + other_.load();
    return {{"bytes between the counters", options_.distance, second - first,
             second - first == static_cast<std::uint64_t>(options_.distance)},
            {name, planned ? "yes" : "no", seen ? "yes" : "no", planned == seen},
            {"increments that the counters hold", all, counted, all == counted}};
  }

private:
  struct Control {
    alignas(line_pair) std::atomic<bool> stop{false};
    alignas(line_pair) std::uint64_t done = 0;  // by the partner; read when it rests
  };

  // On the node of the first CPU, aligned to a page and with that to every distance below.
  static apparatus::Area place(const Options& options) {
    apparatus::stand_on(options.pair.first, options.usable);
    const auto size = static_cast<std::uint64_t>(options.distance) + sizeof(Counter);
    return apparatus::Area({.size = size, .pages = apparatus::Pages::base, .node = {}});
  }

  [[nodiscard]] bool wait_for_partner(std::uint64_t before) const noexcept {
    const std::int64_t deadline = clock::now_ns() + patience_ns;
    while (other_.load(std::memory_order_relaxed) == before) {
      if (clock::now_ns() > deadline)
        return false;
      pause_cpu();
    }
    return true;
  }

  void go_on() noexcept {
    const std::int64_t deadline = clock::now_ns() + 6 * patience_ns;
    std::uint64_t batches = 0;
    while (!control_->stop.load(std::memory_order_relaxed)) {
      add_many<Locked>(other_, batch);
      if (++batches % 4096 == 0 && clock::now_ns() > deadline)
        break;
    }
    control_->done += batches * batch;
  }

  // A part of a sample. A switch stretches one of them, and not their median.
  struct Slice {
    double elapsed_ns = 0;
    double own = 0;
    double other = 0;
    [[nodiscard]] double both() const noexcept { return own + other; }
  };

  Slice take(std::uint64_t operations) noexcept {
    const auto before = other_.load(std::memory_order_relaxed);
    const auto begin = clock::begin();
    add_many<Locked>(own_, operations);
    const auto end = clock::end();
    const auto after = other_.load(std::memory_order_relaxed);
    return {clock::ns(begin, end), static_cast<double>(operations),
            static_cast<double>(after - before)};
  }

  Sample result(std::uint64_t operations, const std::array<Slice, slices>& taken, double window_ns,
                const std::array<apparatus::TaskRecord, 2>& records) const {
    const std::array<std::optional<unsigned>, 2> cpus = {options_.pair.first, options_.pair.second};
    Sample sample;
    sample.operations = operations;
    sample.proof = apparatus::prove(records, cpus, window_ns, false);
    sample.proof.foreign_ns =
        window_ns - static_cast<double>(std::min(records[0].cpu_ns, records[1].cpu_ns));
    std::vector<double> each, shares;
    for (const Slice& slice : taken) {
      sample.elapsed_ns += slice.elapsed_ns;
      if (slice.own == 0 || slice.other == 0)
        continue;  // nothing was shared: the partner was not running
      each.push_back(2 * slice.elapsed_ns / slice.both());
      shares.push_back(slice.own / slice.both());
    }
    if (!each.empty()) {
      sample.values[increment] = median(each);
      sample.values[share] = median(shares);
    }
    return sample;
  }

  Options options_;
  apparatus::Area area_;
  Counter& own_;
  Counter& other_;
  std::unique_ptr<Control> control_;
  std::uint64_t done_ = 0;
  apparatus::Witness witness_;
  apparatus::Team team_;  // last: its member uses the rest
};

// The line that moves between the caches of a CPU and others.
std::uint64_t line_of(const affinity::Topology& topology, unsigned cpu) {
  for (const auto& cache : topology.caches())
    if (cache.type != 'i' && cache.line > 0 && cache.cpus.contains(cpu))
      return cache.line;
  return cache_line;
}

std::string series_name(std::string_view class_text, std::string_view how, std::int64_t distance) {
  return fmt::format("{}/{}/{}", class_text, how, distance);
}

void add_class(Plan& plan, const Pair& pair, const std::vector<std::int64_t>& distances) {
  const std::string text = apparatus::class_name(plan.topology(), pair);
  for (const auto& how : plan.words("increment"))
    for (const auto distance : distances) {
      SeriesPlan series;
      series.name = series_name(text, how, distance);
      series.group = fmt::format("{}/{}", text, how);
      series.params = {{"increment", how}, {"distance", std::to_string(distance)}};
      series.relation = name(pair.relation);
      series.cpus = {pair.first, pair.second};
      const Options options{pair, plan.topology().usable(), distance,
                            line_of(plan.topology(), pair.first)};
      series.make = [options, locked = how == "locked"]() -> std::unique_ptr<Subject> {
        if (locked)
          return std::make_unique<Counters<true>>(options);
        return std::make_unique<Counters<false>>(options);
      };
      plan.add(std::move(series));
    }
}

void plan_series(Plan& plan) {
  auto distances = plan.numbers("distance");
  for (const auto distance : distances)
    if (distance % 8 != 0)
      throw BadInput(fmt::format("cache_false_sharing.distance: {} is not a multiple of 8, the "
                                 "size of a counter",
                                 distance));
  if (std::ranges::find(distances, control_distance) == distances.end())
    distances.push_back(control_distance);
  const auto pairs = apparatus::spinning_pairs(plan.topology(), plan.placement());
  const auto chosen = apparatus::plan_pairs(plan.topology(), pairs.chosen, {.classes_only = true});
  for (const auto& pair : chosen.classes)
    add_class(plan, pair, distances);
  plan.add_absent(pairs.absent);
}

// The part of a series' name before its distance, and the distance.
std::pair<std::string, std::int64_t> parts_of(const Series& series) {
  const auto slash = series.name.rfind('/');
  if (slash == std::string::npos)
    return {series.name, 0};
  return {series.name.substr(0, slash), std::stoll(series.name.substr(slash + 1))};
}

// Adds the slowdown, which needs the control of the same process.
void conclude(const Plan& plan, LabResult& result) {
  const Findings findings(result);
  for (auto& series : result.series) {
    const auto [head, distance] = parts_of(series);
    const Metric* here = find_metric(series, "increment");
    const Metric* apart =
        findings.metric(fmt::format("{}/{}", head, control_distance), "increment");
    if (!here || !apart || distance == control_distance)
      continue;
    std::vector<std::vector<double>> runs(plan.processes());
    for (const auto& run : here->per_run)
      if (const auto control = median_in(*apart, run.process);
          run.median && control && run.process < runs.size())
        runs[run.process] = {*run.median / *control};
    Metric ratio = make_metric(metrics[slowdown], runs);
    series.metrics.insert(series.metrics.begin() + 1, std::move(ratio));
  }
}

// Costs no more than apart, as far as can be told.
constexpr double free_ratio = 1.05;
bool is_free(const Metric& ratio) {
  return ratio.ci ? ratio.ci->low <= free_ratio : ratio.median && *ratio.median <= free_ratio;
}

std::string ratio_text(const Metric& ratio) {
  std::string text = fmt::format("{:.3g}", *ratio.median);
  if (ratio.ci)
    text += fmt::format(" [{:.3g} {:.3g}]", ratio.ci->low, ratio.ci->high);
  return text;
}

// What one class and kind of increment shows.
std::string sentence(const Findings& findings, const std::string& head) {
  std::map<std::int64_t, const Metric*> curve;
  for (const auto& series : findings.result().series)
    if (const auto [name, distance] = parts_of(series); name == head)
      if (const Metric* ratio = find_metric(series, "slowdown"); ratio && ratio->median)
        curve.emplace(distance, ratio);
  if (curve.empty())
    return "";
  std::int64_t free_from = 0;
  for (const auto& [distance, ratio] : curve)
    if (!is_free(*ratio))
      free_from = 0;
    else if (free_from == 0)
      free_from = distance;
  const auto& [nearest, worst] = *curve.begin();
  if (free_from == nearest)
    return fmt::format("{}: no distance can be told from far apart ({} B: {} times). ", head,
                       nearest, ratio_text(*worst));
  std::string text = fmt::format("{}: counters {} B apart cost {} times as much as far apart, ",
                                 head, nearest, ratio_text(*worst));
  text += free_from > 0 ? fmt::format("nothing from {} B on", free_from)
                        : fmt::format("and {} B do not suffice", curve.rbegin()->first);
  const auto pair_of_lines = findings.ratio(head + "/128", head + "/64", "increment");
  if (pair_of_lines)
    text += fmt::format("; 128 B take {} of 64 B", percent(*pair_of_lines));
  return text + ". ";
}

std::string answer(const Findings& findings) {
  std::vector<std::string> heads;
  for (const auto& series : findings.result().series)
    if (find_metric(series, "slowdown"))
      if (const auto head = parts_of(series).first; std::ranges::find(heads, head) == heads.end())
        heads.push_back(head);
  std::string text;
  for (const auto& head : heads)
    text += sentence(findings, head);
  if (text.empty())
    return "No pair of CPUs could be measured.";
  text.pop_back();
  return text;
}

}  // namespace

extern constinit const Lab cache_false_sharing = {
    .name = "cache_false_sharing",
    .family = "cache",
    .question = "what does it cost when two cores write to different words of one cache line?",
    .shape = Shape::pair,
    .min_cpus = 2,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 4, .full_s = 40},  // 16 series for each class of pair
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
};

}  // namespace schedlab::labs
