#include "lab/cli/commands.hh"
#include "lab/cli/document_text.hh"
#include "lab/cli/output.hh"
#include "lab/harness/document_json.hh"

#include <unistd.h>

namespace schedlab::cli {

int show_files(const Options& options) {
  const harness::TextOptions text{.width = output_width(),
                                  .colour = use_colour(options.colour, STDOUT_FILENO)};
  std::string out;
  for (const auto& path : options.names) {
    const harness::Document document = harness::read_document(path);
    if (options.names.size() > 1)
      out += "== " + path + "\n";
    out += document_head(document, text);
    if (!document.complete)
      out += "This run was not finished; what follows is what it had measured.\n";
    for (const auto& lab : document.labs)
      out += "\n" + harness::lab_text(lab, document.run.predictions, text);
  }
  print(out);
  return status_done;
}

}  // namespace schedlab::cli
