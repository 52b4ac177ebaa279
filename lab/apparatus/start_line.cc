#include "lab/apparatus/start_line.hh"

#include "lab/base/error.hh"

#include <algorithm>
#include <set>
#include <string>

namespace schedlab::apparatus {

namespace {

bool binds_nobody(const affinity::Placement::Item& item) {
  const auto* relation = std::get_if<affinity::Relation>(&item);
  return relation && *relation == affinity::Relation::unpinned;
}

// Empty where there are not as many different CPUs.
std::vector<unsigned> choose(const affinity::Topology& topology,
                             const affinity::Placement& placement, unsigned count) {
  try {
    auto cpus = affinity::choose_workers(topology, placement, count);
    if (std::set(cpus.begin(), cpus.end()).size() == count)
      return cpus;
  } catch (const Unsupported&) {
    // There is no CPU for each.
  }
  return {};
}

}  // namespace

harness::Check StartLine::all_met() const {
  const std::uint64_t given_up = given_up_.load(std::memory_order_relaxed);
  return {"waits for a worker that were given up", harness::Value(0), harness::Value(given_up),
          given_up == 0};
}

std::vector<unsigned> cpus_apart(const affinity::Topology& topology,
                                 const affinity::Placement& placement, unsigned count) {
  if (std::ranges::any_of(placement.items, binds_nobody))
    throw Unsupported("spinning workers must be pinned; choose another --place than " +
                      placement.text);
  unsigned most = count > 0 ? count : topology.usable().count();
  auto cpus = choose(topology, placement, most);
  while (count == 0 && cpus.empty() && most > 1)
    cpus = choose(topology, placement, --most);
  if (cpus.empty())
    throw Unsupported("--place " + placement.text + " has no CPU of its own for each of " +
                      std::to_string(most) + " workers");
  return cpus;
}

}  // namespace schedlab::apparatus
