#include "affinity/choose.hh"
#include "affinity/reasons.hh"
#include "lab/base/error.hh"

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace schedlab::affinity {

namespace {

template <typename T>
const T* first_of(const Placement& placement) {
  for (const auto& item : placement.items)
    if (const auto* found = std::get_if<T>(&item))
      return found;
  return nullptr;
}

// What makes a CPU's core: the core, or the CPU itself where the machine reports no cores.
std::pair<int, unsigned> core_of(const Cpu& cpu) {
  return cpu.core >= 0 ? std::pair(cpu.core, 0u) : std::pair(-1, cpu.os);
}

// The first CPU of every core, then the second, and so on.
Row per_core(const Row& cpus) {
  std::map<std::pair<int, unsigned>, unsigned> taken;
  std::map<unsigned, Row> ranks;
  for (const Cpu* cpu : cpus)
    ranks[taken[core_of(*cpu)]++].push_back(cpu);
  Row row;
  for (const auto& [rank, members] : ranks)
    row.insert(row.end(), members.begin(), members.end());
  return row;
}

// How many workers each object of a level has been given, by its logical number.
constexpr std::array<int Cpu::*, 6> levels = {&Cpu::package, &Cpu::numa, &Cpu::die,
                                              &Cpu::l3,      &Cpu::l2,   &Cpu::core};
using Load = std::array<std::vector<unsigned>, levels.size()>;

std::array<unsigned, levels.size()> crowd(const Cpu& cpu, const Load& load) {
  std::array<unsigned, levels.size()> neighbours{};
  for (std::size_t i = 0; i < levels.size(); ++i)
    if (const int object = cpu.*levels[i];
        object >= 0 && static_cast<std::size_t>(object) < load[i].size())
      neighbours[i] = load[i][static_cast<std::size_t>(object)];
  return neighbours;
}

void settle(const Cpu& cpu, Load& load) {
  for (std::size_t i = 0; i < levels.size(); ++i)
    if (cpu.*levels[i] >= 0) {
      const auto object = static_cast<std::size_t>(cpu.*levels[i]);
      load[i].resize(std::max(load[i].size(), object + 1));
      ++load[i][object];
    }
}

// Each next CPU is the one with the fewest chosen neighbours: in its package, then its node, die,
// L3, L2 and core. (hwloc_distrib would spread over CPUs that may not be used.)
Row scatter(Row cpus, std::size_t count) {
  Load load;
  Row row;
  while (row.size() < count && !cpus.empty()) {
    auto best = cpus.begin();
    auto least = crowd(**best, load);
    for (auto cpu = cpus.begin() + 1; cpu != cpus.end(); ++cpu)
      if (const auto here = crowd(**cpu, load); here < least) {
        best = cpu;
        least = here;
      }
    settle(**best, load);
    row.push_back(*best);
    cpus.erase(best);
  }
  return row;
}

Row spread(Strategy strategy, Row cpus, std::size_t count) {
  switch (strategy) {
  case Strategy::scatter:
    return scatter(std::move(cpus), count);
  case Strategy::per_core:
    return per_core(cpus);
  case Strategy::compact:
    break;
  }
  return cpus;
}

// The CPUs of the first object that holds enough of them, for workers that shall share it.
Row sharing(const Row& cpus, int Cpu::*object, std::size_t count) {
  std::map<int, Row> groups;
  for (const Cpu* cpu : cpus)
    if (cpu->*object >= 0)
      groups[cpu->*object].push_back(cpu);
  for (const auto& [number, group] : groups)
    if (group.size() >= count)
      return group;
  return {};
}

Row related(Relation relation, const Row& cpus, std::size_t count) {
  switch (relation) {
  case Relation::same_pu:
    return cpus.empty() ? Row{} : Row(count, cpus.front());
  case Relation::smt:
    return sharing(cpus, &Cpu::core, count);
  case Relation::l2:
    return per_core(sharing(cpus, &Cpu::l2, count));
  case Relation::l3:
    return per_core(sharing(cpus, &Cpu::l3, count));
  case Relation::die:
    return per_core(sharing(cpus, &Cpu::die, count));
  case Relation::numa:
    return per_core(sharing(cpus, &Cpu::numa, count));
  case Relation::package:
    return per_core(sharing(cpus, &Cpu::package, count));
  case Relation::remote:
    return scatter(cpus, count);
  case Relation::unpinned:
    break;
  }
  return per_core(cpus);
}

std::string objection(const Topology& topology, const Placement& placement, unsigned count,
                      std::size_t had) {
  std::string text = "needs " + std::to_string(count) + " usable CPUs; '" + placement.text +
                     "' has " + std::to_string(had);
  if (const std::string limit = restriction(topology); !limit.empty())
    text += " (" + limit + ")";
  return text;
}

}  // namespace

Row cpus_in(const Topology& topology, const CpuSet& set) {
  Row cpus;
  for (const auto& cpu : topology.cpus())
    if (set.contains(cpu.os))
      cpus.push_back(&cpu);
  return cpus;
}

// The CPUs of all locations, each once, in the order they are named.
std::vector<unsigned> located(const Placement& placement) {
  std::vector<unsigned> cpus;
  for (const auto& item : placement.items)
    if (const auto* location = std::get_if<Placement::Location>(&item))
      for (const unsigned cpu : location->cpus)
        if (std::find(cpus.begin(), cpus.end(), cpu) == cpus.end())
          cpus.push_back(cpu);
  return cpus;
}

Choice<unsigned> choose_ones(const Topology& topology, const Placement& placement) {
  Choice<unsigned> choice;
  choice.chosen = located(placement);
  if (choice.chosen.size() > 0 && !first_of<Relation>(placement) &&
      !first_of<Placement::All>(placement) && !first_of<Strategy>(placement))
    return choice;
  std::set<int> seen;
  const auto add = [&](unsigned cpu) {
    if (std::find(choice.chosen.begin(), choice.chosen.end(), cpu) == choice.chosen.end())
      choice.chosen.push_back(cpu);
  };
  for (const Cpu* cpu : cpus_in(topology, topology.usable()))
    if (seen.insert(cpu->kind).second)
      add(cpu->os);
  for (std::size_t i = 0; i < topology.kinds().size(); ++i)
    if (!seen.count(static_cast<int>(i)))
      choice.absent.push_back({"kind " + std::to_string(i) + " " + topology.kinds()[i].name,
                               "none of its CPUs (" + topology.kinds()[i].cpus.list() +
                                   ") can be used: " + restriction(topology)});
  return choice;
}

std::vector<unsigned> choose_workers(const Topology& topology, const Placement& placement,
                                     unsigned count) {
  Row row;
  for (const unsigned cpu : located(placement))
    row.push_back(topology.find(cpu));
  const bool is_located = !row.empty();
  if (!is_located)
    row = cpus_in(topology, topology.usable());
  if (const auto* relation = first_of<Relation>(placement))
    row = related(*relation, row, count);
  else if (const auto* strategy = first_of<Strategy>(placement))
    row = spread(*strategy, std::move(row), count);
  else if (!is_located)
    row = per_core(row);
  if (row.size() < count)
    throw Unsupported(objection(topology, placement, count, row.size()));
  std::vector<unsigned> cpus;
  for (std::size_t i = 0; i < count; ++i)
    cpus.push_back(row[i]->os);
  return cpus;
}

}  // namespace schedlab::affinity
