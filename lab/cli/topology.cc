#include "affinity/topology.hh"
#include "affinity/annotate.hh"
#include "lab/cli/commands.hh"
#include "lab/cli/measured.hh"
#include "lab/cli/output.hh"
#include "lab/cli/topology_view.hh"
#include "lab/harness/document_json.hh"
#include "lab/harness/environment.hh"

#include <nlohmann/json.hpp>

namespace schedlab::cli {

namespace {

std::string xml(const affinity::Topology& topology, const std::vector<std::string>& paths) {
  if (paths.empty())
    return topology.xml();
  std::vector<ResultFile> files;
  for (const auto& path : paths)
    files.push_back({path, harness::read_document(path)});
  const Measured measured =
      measured_on(topology, files, topology.foreign() ? "" : harness::machine_key(topology));
  for (const auto& note : measured.notes)
    say("schedlab: " + note + "\n");
  return annotated_xml(topology, measured.annotations);
}

}  // namespace

int show_topology(const Options& options) {
  const auto topology = options.input.empty() ? affinity::Topology::machine()
                                              : affinity::Topology::from_input(options.input);
  if (options.export_format == "xml")
    print(xml(topology, options.measured));
  else if (options.json)
    print(topology_json(topology).dump(2) + "\n");
  else
    print(topology_text(topology, static_cast<unsigned>(output_width())));
  return status_done;
}

}  // namespace schedlab::cli
