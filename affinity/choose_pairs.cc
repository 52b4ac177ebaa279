#include "affinity/choose.hh"
#include "affinity/reasons.hh"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

namespace schedlab::affinity {

namespace {

constexpr std::size_t relation_count = static_cast<std::size_t>(Relation::unpinned) + 1;
using Found = std::array<std::optional<Pair>, relation_count>;

// The first pair of each relation, one of like cores if there is one.
Found find_pairs(const Topology& topology, const CpuSet& set) {
  Found found, mixed;
  const auto cpus = cpus_in(topology, set);
  if (cpus.empty())
    return found;
  const unsigned any = cpus.front()->os;
  for (const auto relation : {Relation::same_pu, Relation::unpinned})
    found[static_cast<std::size_t>(relation)] = Pair{relation, any, any};
  for (std::size_t i = 0; i < cpus.size(); ++i)
    for (std::size_t j = i + 1; j < cpus.size(); ++j) {
      const Relation relation = topology.relation(cpus[i]->os, cpus[j]->os);
      auto& place =
          (cpus[i]->kind == cpus[j]->kind ? found : mixed)[static_cast<std::size_t>(relation)];
      if (!place)
        place = Pair{relation, cpus[i]->os, cpus[j]->os};
    }
  for (std::size_t i = 0; i < relation_count; ++i)
    if (!found[i])
      found[i] = mixed[i];
  return found;
}

std::string offline_note(const Topology& topology) {
  const CpuSet& off = topology.offline();
  if (off.empty())
    return {};
  return " (" + cpus_text(off) + (off.count() == 1 ? " is" : " are") + " offline)";
}

// What a relation needs, and what to say of hardware without it.
struct Need {
  Relation relation;
  int Cpu::*object;
  const char* none;   // it has no such object
  const char* apart;  // it has, but no two CPUs are related by it
};

constexpr Need needs[] = {
    {Relation::smt, &Cpu::core, "the machine reports no cores", "no two CPUs share a core"},
    {Relation::l2, &Cpu::l2, "the machine reports no L2 cache",
     "no two CPUs share an L2 cache without sharing a core"},
    {Relation::l3, &Cpu::l3, "the machine reports no L3 cache",
     "no two CPUs share an L3 cache without sharing an L2 or a core"},
    {Relation::die, &Cpu::die, "the machine reports no dies",
     "no two CPUs share a die without sharing a cache"},
    {Relation::numa, &Cpu::numa, "the machine reports no NUMA node with CPUs",
     "no two CPUs share a node without sharing a die or a cache"},
    {Relation::package, &Cpu::package, "the machine reports no packages",
     "no two CPUs share a package without sharing a node, a die or a cache"},
};

std::string missing_in_hardware(const Topology& topology, Relation relation) {
  const auto& cpus = topology.cpus();
  for (const auto& need : needs)
    if (need.relation == relation) {
      const bool reported = std::any_of(cpus.begin(), cpus.end(),
                                        [&](const Cpu& cpu) { return cpu.*need.object >= 0; });
      return reported ? need.apart + offline_note(topology) : need.none;
    }
  return "every two CPUs share a package or something closer" + offline_note(topology);
}

// Why a relation cannot be had: the hardware lacks it, or it was taken from this process.
std::string missing(const Topology& topology, const Found& hardware, Relation relation) {
  const auto& pair = hardware[static_cast<std::size_t>(relation)];
  if (topology.usable().empty())
    return "no CPU can be used: " + restriction(topology);
  if (!pair && topology.cpus().size() < 2)
    return "needs 2 CPUs; this machine has one" + offline_note(topology);
  if (!pair)
    return missing_in_hardware(topology, relation);
  if (topology.usable().count() < 2)
    return "needs 2 usable CPUs; " + restriction(topology);
  return "the machine has such CPUs, as " + topology.label(pair->first) + " and " +
         topology.label(pair->second) + ", but " + restriction(topology);
}

bool same(const Pair& a, const Pair& b) {
  return std::tie(a.relation, a.first, a.second) == std::tie(b.relation, b.first, b.second);
}

// Collects pairs by relation; finds the pairs of the hardware only when one is missing.
class PairChooser {
public:
  explicit PairChooser(const Topology& topology)
      : topology_(topology), usable_(find_pairs(topology, topology.usable())) {}

  void add(Relation relation) {
    if (const auto& pair = usable_[static_cast<std::size_t>(relation)])
      add(*pair);
    else
      choice_.absent.push_back({name(relation), missing(topology_, hardware(), relation)});
  }
  void add(const Pair& pair) {
    if (std::none_of(choice_.chosen.begin(), choice_.chosen.end(),
                     [&](const Pair& other) { return same(pair, other); }))
      choice_.chosen.push_back(pair);
  }
  void add_two(unsigned first, unsigned second) {
    add(Pair{topology_.relation(first, second), first, second});
  }
  void add_strategy(Strategy strategy) {
    if (topology_.usable().count() < 2) {
      choice_.absent.push_back({name(strategy), "needs 2 usable CPUs; there is one"});
      return;
    }
    const auto two = choose_workers(topology_, Placement{{strategy}, name(strategy)}, 2);
    add_two(two[0], two[1]);
  }
  Choice<Pair> take() { return std::move(choice_); }

private:
  const Found& hardware() {
    if (!hardware_)
      hardware_ = find_pairs(topology_, topology_.online());
    return *hardware_;
  }

  const Topology& topology_;
  Found usable_;
  std::optional<Found> hardware_;
  Choice<Pair> choice_;
};

// Every pair once, each in the row of its relation and kinds.
using Class = std::tuple<Relation, int, int>;
std::map<Class, std::vector<Pair>> classes_of(const Topology& topology) {
  std::map<Class, std::vector<Pair>> classes;
  const auto cpus = cpus_in(topology, topology.usable());
  for (std::size_t i = 0; i < cpus.size(); ++i)
    for (std::size_t j = i + 1; j < cpus.size(); ++j) {
      const Relation relation = topology.relation(cpus[i]->os, cpus[j]->os);
      const auto [low, high] = std::minmax(cpus[i]->kind, cpus[j]->kind);
      classes[{relation, low, high}].push_back({relation, cpus[i]->os, cpus[j]->os});
    }
  return classes;
}

}  // namespace

Choice<Pair> choose_pairs(const Topology& topology, const Placement& placement) {
  PairChooser chooser(topology);
  for (const auto& item : placement.items) {
    if (std::holds_alternative<Placement::All>(item))
      for (std::size_t i = 0; i < relation_count; ++i)
        chooser.add(static_cast<Relation>(i));
    else if (const auto* relation = std::get_if<Relation>(&item))
      chooser.add(*relation);
    else if (const auto* strategy = std::get_if<Strategy>(&item))
      chooser.add_strategy(*strategy);
  }
  if (const auto cpus = located(placement); !cpus.empty())
    chooser.add_two(cpus[0], cpus[cpus.size() > 1 ? 1 : 0]);
  return chooser.take();
}

std::vector<Pair> all_pairs(const Topology& topology) {
  const auto classes = classes_of(topology);
  std::vector<Pair> pairs;
  std::array<std::vector<Pair>, relation_count> rest;
  for (const auto& [key, members] : classes) {
    pairs.push_back(members.front());
    auto& row = rest[static_cast<std::size_t>(std::get<Relation>(key))];
    row.insert(row.end(), members.begin() + 1, members.end());
  }
  bool more = true;
  for (std::size_t round = 0; more; ++round) {
    more = false;
    for (const auto& row : rest)
      if (round < row.size()) {
        pairs.push_back(row[round]);
        more = true;
      }
  }
  return pairs;
}

}  // namespace schedlab::affinity
