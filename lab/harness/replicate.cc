#include "lab/harness/replicate.hh"

#include "affinity/topology.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "lab/base/file.hh"
#include "lab/base/mapping.hh"
#include "lab/harness/wire.hh"

#include <cstdio>
#include <exception>

namespace schedlab::harness {

namespace {

// The operations of some ten thousand series.
constexpr std::size_t request_limit = std::size_t{64} << 20;

std::string read_request() {
  return read_input("/proc/self/fd/" + std::to_string(request_fd), request_limit);
}

const Lab& find(std::string_view name) {
  if (const Lab* lab = find_lab(name))
    return *lab;
  throw std::runtime_error("no such lab: " + std::string(name));
}

// A CPU that came or went would give the same series other CPUs than the result says.
void require_same_cpus(const affinity::Topology& topology, const std::string& planned) {
  const std::string now = topology.usable().list();
  if (now != planned)
    throw Unsupported("the usable CPUs changed from " + planned + " to " +
                      (now.empty() ? "none" : now) +
                      "; repeat while no CPU is switched and no cgroup or affinity changes");
}

void run() {
  clock::Calibration calibration;
  const Request request = decode_request(read_request(), calibration);
  clock::set(calibration);
  const Lab& lab = find(request.lab);
  const auto topology = affinity::Topology::machine();
  require_same_cpus(topology, request.usable);
  const PlanOutcome outcome = plan_lab(lab, topology, request.settings);
  if (!outcome.unsupported.empty())
    throw Unsupported(outcome.unsupported);
  const Fd progress_file(progress_fd);
  const Mapping progress = Mapping::of_file(progress_file, sizeof(Progress));
  const Reply reply = measure(*outcome.plan, request, progress.as<Progress>());
  write_all(reply_fd, encode(reply), "reply");
}

}  // namespace

int replicate_main() {
  try {
    run();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

}  // namespace schedlab::harness
