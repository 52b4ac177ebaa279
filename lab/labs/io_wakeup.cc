// io_wakeup: what does it cost to wake a thread that waits in a loop?
//
// Method   A waker reads the clock, makes the call that wakes, and reads the clock again; the woken
//          thread reads it as soon as it goes on, and wakes the waker in return. Before each
//          wake-up the waker spins for a gap, so that the other CPU has been idle for so long.
// Reading  "one_way" is what the woken side waits, "call" what the waker pays. Compare mechanisms
//          within a relation and a gap; then gaps, which show idle states.
// Traps    One-way times subtract one CPU's clock from another's: clocks that all CPUs share only.
//          A thread that is not asleep yet is woken faster: the sleeps are counted. A busy waker
//          keeps a CPU out of its idle state, and its sibling's core out of the deep ones; on one
//          CPU there is no gap to speak of.

#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/floors.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/apparatus/wakeup.hh"
#include "lab/base/text.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Relation;

enum : std::size_t { one_way, p99, call, round_trip, cpu, calls, floor_time };

constexpr MetricInfo metrics[] = {
    {.name = "one_way",
     .unit = "ns",
     .help = "from before the call that wakes until the woken thread goes on",
     .interval = true},
    {.name = "p99",
     .unit = "ns",
     .help = "one_way that 99 of 100 wake-ups of a sample stay below",
     .show = false},
    {.name = "call", .unit = "ns", .help = "the waker's call", .interval = true},
    {.name = "round_trip", .unit = "ns", .help = "until the waker was woken in return"},
    {.name = "cpu",
     .unit = "ns",
     .help = "CPU time of the woken thread: falling asleep, going on, waking in return"},
    {.name = "calls",
     .unit = "",
     .kind = Kind::count,
     .help = "system calls of both threads for one wake-up"},
    {.name = "floor", .unit = "ns", .help = "one call or pair of readings", .interval = true},
};

constexpr std::string_view mechanism_words[] = {"futex",    "eventfd",       "pipe",      "epoll",
                                                "msg_ring", "post-io_uring", "post-epoll"};
constexpr std::string_view all_mechanisms =
    "futex,eventfd,pipe,epoll,msg_ring,post-io_uring,post-epoll";

constexpr Param params[] = {
    {.name = "mechanism",
     .help = "how the thread waits and is woken",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_mechanisms,
     .quick = all_mechanisms,
     .full = all_mechanisms,
     .words = mechanism_words},
    {.name = "gap_us",
     .help = "microseconds that the waker spins before each wake-up",
     .list = true,
     .smoke = "0,100",
     .quick = "0,100,1000",
     .full = "0,10,100,1000,10000",
     .max = 1'000'000},
};

std::string gap_text(std::int64_t gap_us) {
  return gap_us >= 1000 && gap_us % 1000 == 0 ? fmt::format("{}ms", gap_us / 1000)
                                              : fmt::format("{}us", gap_us);
}

std::string series_name(std::string_view relation, std::string_view mechanism,
                        std::int64_t gap_us) {
  return fmt::format("{}/{}/{}", relation, mechanism, gap_text(gap_us));
}

// Why a mechanism is not measured: its driver is refused, or another one was asked for.
std::string objection(const Plan& plan, std::string_view driver) {
  for (const auto& arm : apparatus::driver_arms(plan))
    if (arm.name == driver)
      return arm.skip;
  return "";
}

void add_series(Plan& plan, const std::string& mechanism, const affinity::Pair& pair,
                std::int64_t gap_us) {
  SeriesPlan series;
  series.name = series_name(name(pair.relation), mechanism, gap_us);
  series.group = fmt::format("{}/{}", name(pair.relation), gap_us);
  series.params = {{"mechanism", mechanism}, {"gap_us", std::to_string(gap_us)}};
  series.relation = name(pair.relation);
  series.driver = apparatus::driver_of(mechanism);
  series.skip = objection(plan, series.driver);
  apparatus::WakeupOptions options;
  options.usable = plan.topology().usable();
  options.gap_ns = 1000 * gap_us;
  options.one_way = one_way;
  options.p99 = p99;
  options.call = call;
  options.round_trip = round_trip;
  options.cpu = cpu;
  options.calls = calls;
  if (pair.relation != Relation::unpinned) {
    options.waker = pair.first;
    options.sleeper = pair.second;
    series.cpus = {pair.first, pair.second};
  }
  series.make = [mechanism, options] { return apparatus::make_wakeup(mechanism, options); };
  plan.add(std::move(series));
}

void add_skipped(Plan& plan, const std::string& name, std::string_view relation,
                 const std::string& reason) {
  SeriesPlan series;
  series.name = name;
  series.relation = relation;
  series.skip = reason;
  plan.add(std::move(series));
}

// Only where the waker has a CPU that the sleeper does not need does its wait leave one idle.
bool can_rest(Relation relation) {
  return relation != Relation::same_pu && relation != Relation::unpinned;
}

void plan_series(Plan& plan) {
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  const auto gaps = plan.numbers("gap_us");
  for (const auto& pair : pairs.chosen) {
    bool any = false;
    for (const auto gap_us : gaps)
      if (gap_us == 0 || can_rest(pair.relation)) {
        any = true;
        for (const auto& mechanism : plan.words("mechanism"))
          add_series(plan, mechanism, pair, gap_us);
      }
    if (!any)
      add_skipped(plan, name(pair.relation), name(pair.relation),
                  "a waker that waits keeps the CPU busy that was to be idle; add gap_us=0");
  }
  for (const auto& absent : pairs.absent)
    add_skipped(plan, absent.name, absent.name, absent.reason);
  if (pairs.chosen.empty())
    return;
  const auto& first = pairs.chosen.front();
  const unsigned where =
      first.relation == Relation::unpinned ? plan.topology().usable().first() : first.first;
  for (auto& floor : apparatus::common_floors(where, plan.topology().usable(), floor_time))
    plan.add(std::move(floor));
}

// The gaps that a relation was measured with, ascending.
std::vector<std::int64_t> gaps_in(const Findings& findings, std::string_view relation) {
  return apparatus::measured_numbers(findings, [&](const Series& series) {
    const bool counts = series.placement.relation == relation && find_metric(series, "one_way");
    return counts ? apparatus::whole_param(series, "gap_us") : std::nullopt;
  });
}

struct Arm {
  std::string_view mechanism;
  const Metric* metric = nullptr;
};

// The quickest and the slowest mechanism of a relation and gap.
std::pair<Arm, Arm> extremes(const Findings& findings, std::string_view relation,
                             std::int64_t gap_us) {
  std::pair<Arm, Arm> found;
  for (const auto mechanism : mechanism_words) {
    const Metric* metric = findings.metric(series_name(relation, mechanism, gap_us), "one_way");
    if (!metric || !metric->median)
      continue;
    if (!found.first.metric || *metric->median < *found.first.metric->median)
      found.first = {mechanism, metric};
    if (!found.second.metric || *metric->median > *found.second.metric->median)
      found.second = {mechanism, metric};
  }
  return found;
}

// What idling for longer adds: the mechanism's longest gap against its shortest.
std::string rest_sentence(const Findings& findings, std::string_view relation,
                          std::string_view mechanism, const std::vector<std::int64_t>& gaps) {
  if (gaps.size() < 2)
    return "";
  const auto longest = series_name(relation, mechanism, gaps.back());
  const auto ratio =
      findings.ratio(longest, series_name(relation, mechanism, gaps.front()), "one_way");
  if (!ratio)
    return "";
  return fmt::format(" After a gap of {} it takes {} of that after {}.", gap_text(gaps.back()),
                     percent(*ratio), gap_text(gaps.front()));
}

// One mechanism beside another: the ratio at the shortest gap, and the gaps at which one wins.
std::string duel(const Findings& findings, std::string_view relation, std::string_view a,
                 std::string_view b, const std::vector<std::int64_t>& gaps) {
  std::string wins, loses, ratio_text;
  for (const auto gap_us : gaps) {
    const auto ratio = findings.ratio(series_name(relation, a, gap_us),
                                      series_name(relation, b, gap_us), "one_way");
    if (!ratio)
      continue;
    if (ratio_text.empty())
      ratio_text = fmt::format("{} takes {} of {} at {}", a, percent(*ratio), b, gap_text(gap_us));
    if (!ratio->interval)
      continue;
    std::string& side = ratio->interval->high < 1 ? wins : loses;
    if (ratio->interval->high < 1 || ratio->interval->low > 1)
      side += (side.empty() ? "" : ", ") + gap_text(gap_us);
  }
  if (ratio_text.empty())
    return "";
  std::string verdict = wins.empty() && loses.empty() ? ", and no gap tells them apart" : "";
  if (!wins.empty())
    verdict += ", and wins at " + wins;
  if (!loses.empty())
    verdict += ", and loses at " + loses;
  return fmt::format(" {}{}.", ratio_text, verdict);
}

std::string answer(const Findings& findings) {
  std::string text;
  for (const auto relation :
       {"smt", "l2", "l3", "die", "numa", "package", "remote", "same-pu", "unpinned"}) {
    const auto gaps = gaps_in(findings, relation);
    if (gaps.empty())
      continue;
    const auto [quickest, slowest] = extremes(findings, relation, gaps.front());
    if (!quickest.metric)
      continue;
    const bool first = text.empty();
    text += fmt::format("{}{}: a sleeping thread goes on {} after a wake-up by {}, {} by {}.",
                        first ? "" : " ", relation, with_interval(*quickest.metric),
                        quickest.mechanism, with_interval(*slowest.metric), slowest.mechanism);
    text += rest_sentence(findings, relation, quickest.mechanism, gaps);
    if (first) {
      text += duel(findings, relation, "msg_ring", "eventfd", gaps);
      text += duel(findings, relation, "post-io_uring", "post-epoll", gaps);
    }
  }
  return text.empty() ? "No wake-up could be measured." : text;
}

}  // namespace

extern constinit const Lab io_wakeup = {
    .name = "io_wakeup",
    .family = "io",
    .question = "what does it cost to wake a thread that waits in a loop?",
    .version = 1,
    .shape = Shape::pair,
    .params = params,
    .metrics = metrics,
    // Seven mechanisms for each relation and gap, and a wake-up lasts a gap: some 50 series.
    .budget = {.quick_s = 6, .full_s = 60},
    .plan = plan_series,
    .answer = answer,
};

}  // namespace schedlab::labs
