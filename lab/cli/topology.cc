#include "affinity/topology.hh"
#include "lab/cli/commands.hh"
#include "lab/cli/output.hh"
#include "lab/cli/topology_view.hh"

#include <nlohmann/json.hpp>

namespace schedlab::cli {

int show_topology(const Options& options) {
  const auto topology = options.input.empty() ? affinity::Topology::machine()
                                              : affinity::Topology::from_input(options.input);
  if (options.export_format == "xml")
    print(topology.xml());
  else if (options.json)
    print(topology_json(topology).dump(2) + "\n");
  else
    print(topology_text(topology, static_cast<unsigned>(output_width())));
  return status_done;
}

}  // namespace schedlab::cli
