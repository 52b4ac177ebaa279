// race_deadlock: how likely is a deadlock, who notices it, and what does its mend cost?
//
// Method   Threads around a table take their own lock and then their neighbour's. Two of them are
//          the pair with opposite orders: how many rounds deadlock, by how long the first lock is
//          held before the second is asked for. A real deadlock is played in a process of its own,
//          under a recorder of who takes what while holding what and under a watchdog. The same
//          table with three mends.
// Reading  "odds" is deadlocks by rounds: how seldom a test shows it. "foretold" is
//          the share of runs whose order of locks holds a cycle, though nothing happened in them.
// Traps    For the odds a deadlock is seen by the thread that completes it, which gives its lock
//          back; so its cost is no part of any time here. "skew" is how much later than the other
//          a thread may begin: the odds follow from hold and skew, and the page says how.

#include "lab/apparatus/lock_circle.hh"
#include "lab/apparatus/pair_plan.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/shares.hh"
#include "lab/apparatus/standstill.hh"
#include "lab/apparatus/verdicts.hh"
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
using apparatus::measured_apart;
using apparatus::Scene;
using apparatus::share;
using apparatus::Taking;

enum : std::size_t { odds, foretold, seen, reported, each, retries, evenness, found };

constexpr MetricInfo metrics[] = {
    {.name = "odds",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "deadlocks, for each round of all threads",
     .interval = true},
    {.name = "foretold",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "runs whose order of locks holds a cycle"},
    {.name = "seen",
     .unit = "ns",
     .help = "from the last thread's asking until the recorder knew of the deadlock",
     .interval = true},
    {.name = "reported",
     .unit = "ns",
     .help = "from the last thread's asking until the watchdog said so",
     .interval = true},
    {.name = "each",
     .unit = "ns",
     .help = "a pair of locks, taken and given back",
     .interval = true},
    {.name = "retries",
     .unit = "",
     .kind = Kind::ratio,
     .help = "first locks given back unused, for a pair taken"},
    {.name = "evenness",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "pairs of the slowest thread to those of the quickest, when that is half way"},
    {.name = "found",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "runs that the watchdog found at a standstill",
     .show = false},
};
constexpr std::size_t share_metrics[] = {odds, foretold, found};

constexpr std::string_view part_words[] = {"odds", "scenes", "mends", "table"};
constexpr std::string_view all_parts = "odds,scenes,mends,table";

constexpr Param params[] = {
    {.name = "part",
     .help = "which questions are asked",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_parts,
     .quick = all_parts,
     .full = all_parts,
     .words = part_words},
    {.name = "hold_ns",
     .help = "how long the first lock is held before the second is asked for",
     .list = true,
     .smoke = "0,1000",
     .quick = "0,100,1000,10000",
     .full = "0,30,100,300,1000,3000,10000",
     .max = 10'000'000},
    {.name = "skew_ns",
     .help = "how much later than the other a thread of a round may begin, at most",
     .smoke = "10000",
     .quick = "10000",
     .full = "10000",
     .min = 1,
     .max = 10'000'000},
    {.name = "patience_ms",
     .help = "how long the watchdog waits for a step before it looks",
     .smoke = "2",
     .quick = "5",
     .full = "50",
     .min = 1,
     .max = 10'000},
    {.name = "table",
     .help = "threads around a table, anywhere",
     .list = true,
     .smoke = "5",
     .quick = "3,5",
     .full = "3,5,9,17",
     .min = 3,
     .max = 64},
};

using Values = std::vector<std::pair<std::string, std::string>>;

std::vector<std::optional<unsigned>> places_of(const affinity::Pair& pair) {
  if (pair.relation == Relation::unpinned)
    return {std::nullopt, std::nullopt};
  return {pair.first, pair.second};
}

SeriesPlan blank(const affinity::Pair& pair, std::string name, std::string group, Values values) {
  SeriesPlan series;
  series.name = std::move(name);
  series.group = std::move(group);
  series.params = std::move(values);
  series.relation = affinity::name(pair.relation);
  if (pair.relation != Relation::unpinned)
    series.cpus = {pair.first, pair.second};
  return series;
}

apparatus::LockCircleOptions circle_options(const Plan& plan,
                                            std::vector<std::optional<unsigned>> places) {
  return {.places = std::move(places),
          .usable = plan.topology().usable(),
          .odds = odds,
          .each = each,
          .retries = retries,
          .evenness = evenness};
}

void add_odds(Plan& plan, const affinity::Pair& pair) {
  const std::string relation = affinity::name(pair.relation);
  for (const auto hold : plan.numbers("hold_ns")) {
    auto series =
        blank(pair, fmt::format("odds/{}/{}", relation, hold), relation + "/odds",
              {{"taking", "circular"}, {"threads", "2"}, {"hold_ns", std::to_string(hold)}});
    auto options = circle_options(plan, places_of(pair));
    options.hold_ns = static_cast<std::uint32_t>(hold);
    if (pair.relation != Relation::same_pu)
      options.skew_ns = static_cast<std::uint32_t>(plan.number("skew_ns"));
    series.make = [options] { return apparatus::make_lock_circle(options); };
    plan.add(std::move(series));
  }
}

void add_scenes(Plan& plan, const affinity::Pair& pair) {
  for (const auto scene : {Scene::deadlock, Scene::lucky, Scene::consistent, Scene::gated}) {
    auto series =
        blank(pair, fmt::format("scene/{}", apparatus::to_text(scene)),
              fmt::format("scene/{}", apparatus::to_text(scene)),
              {{"taking", fmt::format("scene {}", apparatus::to_text(scene))}, {"threads", "2"}});
    const apparatus::StandstillOptions options{.scene = scene,
                                               .threads = 2,
                                               .places = places_of(pair),
                                               .usable = plan.topology().usable(),
                                               .patience_ns =
                                                   1'000'000 * plan.number("patience_ms"),
                                               .found = found,
                                               .foretold = foretold,
                                               .seen = seen,
                                               .reported = reported};
    series.make = [options] { return apparatus::make_standstill(options); };
    plan.add(std::move(series));
  }
}

void add_mends(Plan& plan, const affinity::Pair& pair) {
  const std::string relation = affinity::name(pair.relation);
  for (const auto taking : {Taking::ordered, Taking::scoped, Taking::back_off}) {
    auto series =
        blank(pair, fmt::format("{}/{}", apparatus::to_text(taking), relation), relation + "/mends",
              {{"taking", std::string(apparatus::to_text(taking))}, {"threads", "2"}});
    auto options = circle_options(plan, places_of(pair));
    options.taking = taking;
    series.make = [options] { return apparatus::make_lock_circle(options); };
    plan.add(std::move(series));
  }
}

void add_table(Plan& plan) {
  const affinity::Pair anywhere{Relation::unpinned, 0, 0};
  for (const auto count : plan.numbers("table"))
    for (const auto taking :
         {Taking::circular, Taking::ordered, Taking::scoped, Taking::back_off}) {
      auto series = blank(anywhere, fmt::format("table/{}/{}", count, apparatus::to_text(taking)),
                          fmt::format("table/{}", count),
                          {{"taking", std::string(apparatus::to_text(taking))},
                           {"threads", std::to_string(count)}});
      auto options = circle_options(
          plan, std::vector<std::optional<unsigned>>(static_cast<std::size_t>(count)));
      options.taking = taking;
      options.yields = true;
      series.make = [options] { return apparatus::make_lock_circle(options); };
      plan.add(std::move(series));
    }
}

void plan_series(Plan& plan) {
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  plan.add_absent(pairs.absent);
  if (pairs.chosen.empty())
    return;
  for (const auto& part : plan.words("part")) {
    for (const auto& pair : pairs.chosen)
      if (pair.relation != Relation::unpinned && part == "odds")
        add_odds(plan, pair);
      else if (pair.relation != Relation::unpinned && part == "mends")
        add_mends(plan, pair);
    if (part == "scenes")
      add_scenes(plan, apparatus::farthest(pairs.chosen));
    else if (part == "table")
      add_table(plan);
  }
}

void conclude(const Plan& plan, LabResult& result) {
  apparatus::pool_shares(plan, share_metrics, result);
}

// What was said of the cycle in a scene, or "".
std::string cycle_in(const Findings& findings, std::string_view series) {
  const Check* said = apparatus::find_check(findings.series(series), apparatus::cycle_check);
  if (!said || !said->seen.text())
    return "";
  std::string text = *said->seen.text();
  for (auto at = text.find('\n'); at != std::string::npos; at = text.find('\n', at))
    text.replace(at, 1, ", ");
  return text;
}

Judgement judge_deadlocks_occur(const Findings& findings) {
  const Series* scene = findings.series("scene/deadlock");
  // Recorded: that none was found makes the series invalid, and is what is asked here.
  const Metric* stood = scene ? recorded_metric(*scene, "found") : nullptr;
  if (!stood || !stood->median)
    return apparatus::undecided("race_deadlock (part=scenes)");
  // A scene that could not be played, or that nobody ended, shows neither.
  if (*stood->median == 0 && apparatus::holds(scene, apparatus::ended_check))
    return apparatus::refuted("two threads that each held what the other wanted went on");
  if (*stood->median == 0 || !apparatus::is_sound(scene))
    return apparatus::undecided("scenes that all end as they should: see the checks of "
                                "scene/deadlock");
  return {Verdict::confirmed,
          fmt::format("{}; the recorder knew after {}, the watchdog after {}",
                      cycle_in(findings, "scene/deadlock"),
                      apparatus::quote(findings, "scene/deadlock", "seen"),
                      apparatus::quote(findings, "scene/deadlock", "reported")),
          ""};
}

// As race_updates has it for lost updates: hidden if 19 of 20 rounds pass.
constexpr double hidden = 0.05;
constexpr double plain_to_see = 0.5;

Judgement judge_deadlocks_hide(const Findings& findings) {
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  const Series* longest = nullptr;
  bool any = false, all_seen = true;
  const bool any_apart = measured_apart(findings, "odds/", "odds");
  for (const auto& series : findings.result().series) {
    const Metric* metric = findings.metric(series.name, "odds");
    if (!series.name.starts_with("odds/") || !metric || !metric->ci ||
        (any_apart && !apparatus::is_apart(series)))
      continue;
    any = true;
    all_seen = all_seen && metric->ci->low > plain_to_see;
    if (metric->ci->high < hidden &&
        (!longest || param_number(series, "hold_ns") >= param_number(*longest, "hold_ns")))
      longest = &series;
  }
  if (longest) {
    judgement.verdict = Verdict::confirmed;
    judgement.evidence = fmt::format(
        "with {} ns between the two locks ({}) {} of the rounds deadlocked; the order of locks "
        "betrays it in {} of runs in which nothing happened",
        param_text(*longest, "hold_ns"), longest->placement.relation,
        share(findings, longest->name, "odds"), share(findings, "scene/lucky", "foretold"));
  } else if (any && all_seen) {
    judgement.verdict = Verdict::refuted;
    judgement.evidence = "more than half of the rounds deadlocked, however short the hold";
  } else {
    judgement.needs = "race_deadlock with 6 processes or more (part=odds)";
  }
  return judgement;
}

std::string odds_sentence(const Findings& findings) {
  std::string text, relation;
  for (const auto& series : findings.result().series) {
    const std::string part = share(findings, series.name, "odds");
    if (!series.name.starts_with("odds/") || part.empty() || !apparatus::is_apart(series) ||
        (!relation.empty() && series.placement.relation != relation))
      continue;
    relation = series.placement.relation;
    text += fmt::format("{}{} with {} ns", text.empty() ? "" : ", ", part,
                        param_text(series, "hold_ns"));
  }
  return text.empty() ? ""
                      : fmt::format("Two threads that take two locks in opposite orders ({}) "
                                    "deadlock in so many rounds: {} between the locks. ",
                                    relation, text);
}

std::string mends_sentence(const Findings& findings) {
  std::string text, relation;
  for (const auto& series : findings.result().series)
    for (const auto taking : {Taking::ordered, Taking::scoped, Taking::back_off}) {
      const std::string cost = apparatus::quote(findings, series.name, "each");
      const std::string here = series.placement.relation;
      if (series.name != fmt::format("{}/{}", apparatus::to_text(taking), here) || cost.empty() ||
          here == "same-pu" || (!relation.empty() && here != relation))
        continue;
      relation = here;
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", apparatus::to_text(taking), cost);
    }
  return text.empty() ? ""
                      : fmt::format("Mended, a pair of locks costs: {} ({}). ", text, relation);
}

std::string answer(const Findings& findings) {
  std::string text = odds_sentence(findings);
  if (const std::string cycle = cycle_in(findings, "scene/deadlock"); !cycle.empty())
    text += fmt::format("One is found: {}. The recorder knows after {}, the watchdog after {}. ",
                        cycle, apparatus::quote(findings, "scene/deadlock", "seen"),
                        apparatus::quote(findings, "scene/deadlock", "reported"));
  if (const std::string part = share(findings, "scene/lucky", "foretold"); !part.empty())
    text += fmt::format("Of runs in which nothing happened the order of locks foretells it in {}. ",
                        part);
  text += mends_sentence(findings);
  if (text.empty())
    return "Nothing was measured.";
  text.pop_back();
  return text;
}

constexpr ClaimInfo claims[] = {
    {.id = "C14", .text = "Deadlocks occur", .source = "S0 S2 S4", .judge = judge_deadlocks_occur},
    {.id = "C94",
     .text = "Debugging is hard because deadlocks hide: one run seldom shows them",
     .source = "S2",
     .judge = judge_deadlocks_hide},
};

}  // namespace

extern constinit const Lab race_deadlock = {
    .name = "race_deadlock",
    .family = "procs",
    .question = "how likely is a deadlock, who notices it, and what does its mend cost?",
    .version = 1,
    .shape = Shape::pair,
    .params = params,
    .metrics = metrics,
    // Each scene lasts as long as its watchdog is patient.
    .budget = {.quick_s = 4, .full_s = 40},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
