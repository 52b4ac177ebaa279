// Shows which CPUs this process may use, pins itself to a place and says where it then runs.
// Use: pin_here [PLACE]. PLACE is core:0, numa:0.core:all, cpus:2-3, 0x1; else every core.
#include "affinity/pin.hh"
#include "affinity/placement.hh"
#include "affinity/topology.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"

#include <exception>
#include <string>
#include <unistd.h>

using namespace schedlab;

namespace {

std::string usable_cpus(const affinity::Topology& machine) {
  std::string text = machine.shape() + "\nusable:";
  for (const unsigned cpu : machine.usable().cpus())
    text += " " + machine.label(cpu);
  return text + "\n";
}

void run(const std::string& place) {
  const auto machine = affinity::Topology::machine();
  affinity::require_this_machine(machine);
  write_all(STDOUT_FILENO, usable_cpus(machine), "standard output");

  const auto placement = affinity::parse_placement(place, machine);
  const auto ones = affinity::choose_ones(machine, placement);
  affinity::CpuSet cpus;
  for (const unsigned cpu : ones.chosen)
    cpus.add(cpu);

  const affinity::Pin pin(cpus);
  write_all(STDOUT_FILENO,
            place + ": pinned to CPUs " + affinity::thread_affinity().list() + ", running on " +
                machine.label(affinity::current_cpu()) + "\n",
            "standard output");
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int usage = 2, cannot_run_here = 77;
  int status = 1;
  std::string text;
  try {
    run(argc > 1 ? argv[1] : "core:all");
    return 0;
  } catch (const BadInput& error) {
    text = error.what();
    status = usage;
  } catch (const Unsupported& error) {
    text = error.what();
    status = cannot_run_here;
  } catch (const std::exception& error) {
    text = error.what();
  }
  write_all(STDERR_FILENO, text + "\n", "standard error");
  return status;
}
