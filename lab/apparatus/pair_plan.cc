#include "lab/apparatus/pair_plan.hh"

#include "lab/base/random.hh"
#include "lab/harness/engine.hh"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

namespace schedlab::apparatus {

namespace {

using affinity::Pair;
using affinity::Relation;

// Seconds that stand around the samples, measured on a 2.7 GHz server.
constexpr double process_s = 0.015;          // a replicate starts, reads the topology, plans
constexpr double process_cpu_s = 100e-6;     // the same, for each CPU of the machine
constexpr double bookkeeping_s = 15e-6;      // of a planned series in one process and in the parent
constexpr double setup_s = 200e-6;           // memory, a partner thread in its place, and the end
constexpr double around_sample_s = 50e-6;    // waking the partner, settling, proof
constexpr unsigned calibration_samples = 6;  // most of them shorter than a full one

class CostModel {
public:
  CostModel(const affinity::Topology& topology, const PairPlanOptions& options)
      : options_(options),
        start_s_(process_s + process_cpu_s * static_cast<double>(topology.cpus().size())) {}

  // Wall clock for the representatives and `count` more pairs, each in one process of `parts`.
  [[nodiscard]] double seconds(std::size_t count, unsigned parts) const {
    double total = 0;
    for (unsigned process = 0; process < options_.processes; ++process) {
      // As the runner does it: each gets its share of what is left.
      const double left_s = std::max(options_.budget_s - total, 0.1 * options_.budget_s);
      total += process_seconds(count, parts, process, left_s / (options_.processes - process));
    }
    return total;
  }

private:
  [[nodiscard]] double process_seconds(std::size_t count, unsigned parts, unsigned process,
                                       double budget_s) const {
    const auto classes = static_cast<double>(options_.class_series);
    const auto all = static_cast<double>(count * options_.pair_series);
    const double mine = all / parts;
    const bool classes_known = process > 0, mine_known = process >= parts;
    const double turns = classes * harness::turns_of(options_.rounds, classes_known) +
                         mine * harness::turns_of(options_.rounds, mine_known);
    const double target_ns =
        harness::sample_target_ns(budget_s, turns, static_cast<std::size_t>(classes + mine));
    return start_s_ + (classes + all) * bookkeeping_s + turns * target_ns * 1e-9 +
           classes * around(classes_known) + mine * around(mine_known);
  }

  // A series in one process, less its samples.
  [[nodiscard]] double around(bool known) const {
    const unsigned samples = 1 + options_.rounds + (known ? 0 : calibration_samples);
    return setup_s + samples * around_sample_s;
  }

  const PairPlanOptions& options_;
  double start_s_;
};

// The pairs that represent no class, by turns from each relation. Mixed within a relation, so that
// those there is time for are not all around the first CPU.
std::vector<Pair> in_turns(std::map<Relation, std::vector<Pair>> rows) {
  Random random(1);
  std::vector<Pair> pairs;
  std::size_t longest = 0;
  for (auto& [relation, row] : rows) {
    shuffle(row, random);
    longest = std::max(longest, row.size());
  }
  for (std::size_t turn = 0; turn < longest; ++turn)
    for (const auto& [relation, row] : rows)
      if (turn < row.size())
        pairs.push_back(row[turn]);
  return pairs;
}

// The CPUs that a placement names one by one, in its order.
std::vector<unsigned> named_cpus(const affinity::Placement& placement) {
  std::vector<unsigned> cpus;
  for (const auto& item : placement.items)
    if (const auto* location = std::get_if<affinity::Placement::Location>(&item))
      for (const unsigned cpu : location->cpus)
        if (std::ranges::find(cpus, cpu) == cpus.end())
          cpus.push_back(cpu);
  return cpus;
}

bool same_cpus(const Pair& a, const Pair& b) {
  return std::minmax({a.first, a.second}) == std::minmax({b.first, b.second});
}

}  // namespace

affinity::Choice<Pair> spinning_pairs(const affinity::Topology& topology,
                                      const affinity::Placement& placement) {
  auto by_relation = affinity::choose_pairs(topology, placement);
  affinity::Choice<Pair> pairs{.chosen = {}, .absent = std::move(by_relation.absent)};
  const auto named = named_cpus(placement);
  const bool by_strategy = std::ranges::any_of(placement.items, [](const auto& item) {
    return std::holds_alternative<affinity::Strategy>(item);
  });
  std::set<Relation> relations;
  for (const auto& pair : by_relation.chosen) {
    const bool by_name = named.size() > 1 && pair.first == named[0] && pair.second == named[1];
    if (pair.relation == Relation::same_pu || pair.relation == Relation::unpinned)
      pairs.absent.push_back({name(pair.relation),
                              "its two tasks spin, so each needs a CPU of its own that is known"});
    else if (by_name || by_strategy)
      pairs.chosen.push_back(pair);
    else
      relations.insert(pair.relation);
  }
  const auto is_named = [&](unsigned cpu) { return std::ranges::find(named, cpu) != named.end(); };
  const auto known = pairs.chosen;
  for (const auto& pair : affinity::all_pairs(topology)) {
    const bool wanted =
        relations.contains(pair.relation) || (is_named(pair.first) && is_named(pair.second));
    if (wanted &&
        std::ranges::none_of(known, [&](const Pair& other) { return same_cpus(pair, other); }))
      pairs.chosen.push_back(pair);
  }
  return pairs;
}

PairClass class_of(const affinity::Topology& topology, const Pair& pair) {
  const auto kind = [&](unsigned os) {
    const auto* cpu = topology.find(os);
    return cpu ? cpu->kind : -1;
  };
  const auto [low, high] = std::minmax({kind(pair.first), kind(pair.second)});
  return {pair.relation, low, high};
}

std::string class_name(const affinity::Topology& topology, const Pair& pair) {
  const PairClass found = class_of(topology, pair);
  const std::string relation = name(found.relation);
  return topology.kinds().size() < 2
             ? relation
             : fmt::format("{}.{}-{}", relation, found.low_kind, found.high_kind);
}

PairPlan plan_pairs(const affinity::Topology& topology, std::span<const Pair> pairs,
                    const PairPlanOptions& options) {
  PairPlan plan;
  std::set<PairClass> seen;
  std::map<Relation, std::vector<Pair>> rest;
  for (const auto& pair : pairs) {
    if (seen.insert(class_of(topology, pair)).second)
      plan.classes.push_back(pair);
    else
      rest[pair.relation].push_back(pair);
  }
  plan.more = in_turns(std::move(rest));
  const CostModel cost(topology, options);
  const auto fits = [&](std::size_t count) {
    return cost.seconds(count, plan.parts) <= options.budget_s;
  };
  std::size_t count = options.classes_only ? 0 : plan.more.size();
  while (count > 0 && plan.parts < options.processes && !fits(count))
    ++plan.parts;
  if (count > 0 && !fits(count)) {
    std::size_t low = 0;  // fits, or is what is planned in any case
    while (low + 1 < count) {
      const std::size_t middle = low + (count - low) / 2;
      (fits(middle) ? low : count) = middle;
    }
    count = low;
  }
  plan.left_out = plan.more.size() - count;
  plan.more.resize(count);
  plan.predicted_s = cost.seconds(count, plan.parts);
  return plan;
}

affinity::Pair farthest(std::span<const affinity::Pair> pairs) {
  // Relations are in order of distance, but for "unpinned" at the end.
  const auto distance = [](const affinity::Pair& pair) {
    return pair.relation == affinity::Relation::unpinned ? -1 : static_cast<int>(pair.relation);
  };
  return *std::ranges::max_element(pairs, {}, distance);
}

}  // namespace schedlab::apparatus
