#include "lab/cli/document_text.hh"

#include "lab/base/text.hh"
#include "lab/harness/document_json.hh"

#include <fmt/format.h>

namespace schedlab::cli {

std::string document_head(const harness::Document& document, const harness::TextOptions& options) {
  const auto& run = document.run;
  std::vector<std::string> machine;
  for (const char* pointer :
       {"/cpu/model_name", "/topology/shape", "/virt/hypervisor", "/kernel/release"})
    if (std::string part = env_text(document, pointer); !part.empty())
      machine.push_back(part);
  std::string text =
      fmt::format("{} {}, {}, {} process{}, seed {}, {}{}", document.tool.name,
                  document.tool.version, run.preset, run.processes, run.processes == 1 ? "" : "es",
                  run.seed, run.started, run.label.empty() ? "" : ", " + run.label);
  if (!machine.empty())
    text += "; " + join(machine, ", ");
  std::string out;
  for (const auto& line : wrap(text, options.width))
    out += line + "\n";
  if (run.preset == "smoke")
    out += "A smoke run shows that the labs work; its numbers are no measurements.\n";
  return out;
}

}  // namespace schedlab::cli
