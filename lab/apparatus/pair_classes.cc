#include "lab/apparatus/pair_classes.hh"

#include "lab/harness/statistics.hh"
#include "lab/harness/validity.hh"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace schedlab::apparatus {

namespace {

using affinity::Relation;
using Pairs = std::vector<MeasuredPair>;

// Two threads of one core pass a line through their L1: 6 to 10 ns on x86-64. No two cores have
// been seen below 15.
constexpr double smt_limit_ns = 12;
// Threads of a core are 2 to 5 times nearer than its neighbours; packages 2 times farther.
constexpr double no_nearer = 0.9;
// Two groups: a gap of this ratio between neighbours in the order of values, and of the groups'
// medians. A mesh spreads its pairs by 20 % without a gap.
constexpr double gap_ratio = 1.2;
constexpr double group_ratio = 1.4;
// The share of pairs that have to lie as the groups say.
constexpr double agreement = 0.95;

double median_of(const Pairs& pairs) {
  std::vector<double> values;
  for (const auto& pair : pairs)
    values.push_back(pair.ns);
  return harness::median(values);
}

std::vector<unsigned> cpus_of(const Pairs& pairs) {
  std::set<unsigned> cpus;
  for (const auto& pair : pairs)
    cpus.insert({pair.pair.first, pair.pair.second});
  return {cpus.begin(), cpus.end()};
}

Pairs of_relation(std::span<const MeasuredPair> pairs, std::initializer_list<Relation> relations) {
  Pairs found;
  for (const auto& pair : pairs)
    if (std::ranges::find(relations, pair.pair.relation) != relations.end())
      found.push_back(pair);
  return found;
}

bool as_near_as_smt(const MeasuredPair& pair) {
  return pair.pair.relation != Relation::smt && pair.ns < smt_limit_ns;
}

void add_hidden_smt(std::span<const MeasuredPair> pairs, std::vector<Contradiction>& found) {
  Pairs near;
  for (const auto& pair : pairs)
    if (as_near_as_smt(pair))
      near.push_back(pair);
  if (near.empty())
    return;
  const auto& nearest = *std::ranges::min_element(near, {}, &MeasuredPair::ns);
  found.push_back(
      {.kind = Contradiction::Kind::hidden_smt,
       .text = fmt::format("CPUs {} and {} are reported as two cores, but {:.1f} ns "
                           "apart, as the threads of one core are ({} such pairs)",
                           nearest.pair.first, nearest.pair.second, nearest.ns, near.size()),
       .cpus = cpus_of(near),
       .near_ns = median_of(near),
       .far_ns = 0});
}

// The groups of CPUs that near pairs connect.
class Groups {
public:
  unsigned find(unsigned cpu) {
    auto& parent = parents_.emplace(cpu, cpu).first->second;
    if (parent != cpu)
      parent = find(parent);
    return parent;
  }
  void join(unsigned a, unsigned b) { parents_[find(a)] = find(b); }

  // How many groups have two CPUs or more.
  std::size_t count() {
    std::map<unsigned, std::size_t> sizes;
    for (const auto& [cpu, parent] : parents_)
      ++sizes[find(cpu)];
    return static_cast<std::size_t>(
        std::ranges::count_if(sizes, [](const auto& group) { return group.second > 1; }));
  }

private:
  std::map<unsigned, unsigned> parents_;
};

// Sorts the pairs and gives how many lie below the widest gap between neighbours; 0 without one.
std::size_t below_gap(Pairs& pairs) {
  std::ranges::sort(pairs, {}, &MeasuredPair::ns);
  std::size_t widest = 0;
  double ratio = gap_ratio;
  for (std::size_t i = 1; i < pairs.size(); ++i)
    if (pairs[i].ns / pairs[i - 1].ns > ratio) {
      ratio = pairs[i].ns / pairs[i - 1].ns;
      widest = i;
    }
  return widest;
}

// The pairs of one cache, if they form groups.
std::optional<Contradiction> split(Pairs pairs) {
  const std::size_t cut = below_gap(pairs);
  if (cut < 2)
    return std::nullopt;
  const Pairs near(pairs.begin(), pairs.begin() + static_cast<std::ptrdiff_t>(cut));
  const Pairs far(pairs.begin() + static_cast<std::ptrdiff_t>(cut), pairs.end());
  const double near_ns = median_of(near), far_ns = median_of(far);
  if (far_ns < group_ratio * near_ns)
    return std::nullopt;
  Groups groups;
  for (const auto& pair : near)
    groups.join(pair.pair.first, pair.pair.second);
  // What is far must lead from group to group.
  const auto leads_out = [&](const MeasuredPair& pair) {
    return groups.find(pair.pair.first) != groups.find(pair.pair.second);
  };
  const auto apart = std::ranges::count_if(far, leads_out);
  if (static_cast<double>(apart) < agreement * static_cast<double>(far.size()) ||
      groups.count() < 2)
    return std::nullopt;
  return Contradiction{
      .kind = Contradiction::Kind::split_cache,
      .text = fmt::format("the CPUs of one L3 form {} groups: {:.3g} ns within a group, {:.3g} ns "
                          "between them ({} and {} pairs)",
                          groups.count(), near_ns, far_ns, near.size(), far.size()),
      .cpus = cpus_of(pairs),
      .near_ns = near_ns,
      .far_ns = far_ns};
}

void add_split_cache(std::span<const MeasuredPair> pairs, std::vector<Contradiction>& found) {
  std::map<int, Pairs> caches;
  for (const auto& pair : pairs)
    if (pair.pair.relation == Relation::l3 && !as_near_as_smt(pair))
      caches[pair.l3].push_back(pair);
  std::optional<Contradiction> clearest;
  for (auto& [cache, members] : caches) {
    auto next = split(std::move(members));
    if (next && (!clearest || next->far_ns / next->near_ns > clearest->far_ns / clearest->near_ns))
      clearest = std::move(next);
  }
  if (clearest)
    found.push_back(std::move(*clearest));
}

// Two groups of pairs of which the first should be nearer.
void add_no_nearer(const Pairs& near, const Pairs& far, Contradiction::Kind kind,
                   std::string_view what, std::vector<Contradiction>& found) {
  if (near.empty() || far.empty())
    return;
  const double near_ns = median_of(near), far_ns = median_of(far);
  if (near_ns < no_nearer * far_ns)
    return;
  const bool smt = kind == Contradiction::Kind::false_smt;
  found.push_back({.kind = kind,
                   .text = fmt::format("{}: {:.3g} ns against {:.3g} ns", what,
                                       smt ? near_ns : far_ns, smt ? far_ns : near_ns),
                   .cpus = cpus_of(smt ? near : far),
                   .near_ns = near_ns,
                   .far_ns = far_ns});
}

}  // namespace

std::vector<Contradiction> find_contradictions(std::span<const MeasuredPair> pairs) {
  std::vector<Contradiction> found;
  add_hidden_smt(pairs, found);
  add_split_cache(pairs, found);
  add_no_nearer(of_relation(pairs, {Relation::smt}),
                of_relation(pairs, {Relation::l2, Relation::l3, Relation::die}),
                Contradiction::Kind::false_smt,
                "threads of one core are no nearer than two cores are", found);
  add_no_nearer(of_relation(pairs, {Relation::l3}), of_relation(pairs, {Relation::remote}),
                Contradiction::Kind::false_package,
                "two packages are no farther apart than the CPUs of one L3", found);
  return found;
}

std::vector<harness::Warning> topology_warnings(std::span<const MeasuredPair> pairs) {
  std::vector<harness::Warning> warnings;
  for (const auto& found : find_contradictions(pairs))
    warnings.push_back(
        harness::make_warning(harness::Code::topology,
                              {{"cpus", fmt::format("{}", fmt::join(found.cpus, ","))},
                               {"near_ns", found.near_ns},
                               {"far_ns", found.far_ns}},
                              {}, found.text));
  return warnings;
}

}  // namespace schedlab::apparatus
