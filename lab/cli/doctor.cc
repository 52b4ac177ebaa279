#include "lab/cli/doctor.hh"

#include "lab/base/clock.hh"
#include "lab/cli/commands.hh"
#include "lab/cli/output.hh"

#include <nlohmann/json.hpp>
#include <unistd.h>

namespace schedlab::cli {

int show_doctor(const Options& options) {
  clock::select();
  const Diagnosis diagnosis = diagnose(affinity::Topology::machine());
  if (options.json)
    print(doctor_json(diagnosis).dump(2) + "\n");
  else
    print(doctor_text(diagnosis, static_cast<unsigned>(output_width()),
                      use_colour(options.colour, STDOUT_FILENO)));
  return status_done;
}

}  // namespace schedlab::cli
