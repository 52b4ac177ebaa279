#include "lab/base/error.hh"
#include "lab/cli/commands.hh"
#include "lab/cli/options.hh"
#include "lab/cli/output.hh"
#include "lab/harness/replicate.hh"
#include "lab/harness/wire.hh"
#include "procs/enter.hh"

#include <exception>
#include <string>
#include <string_view>

using namespace schedlab;

namespace {

int run_command(const cli::Options& options) {
  switch (options.command) {
  case cli::Command::list:
    return cli::list_labs(options);
  case cli::Command::explain:
    return cli::explain_lab(options);
  case cli::Command::topology:
    return cli::show_topology(options);
  case cli::Command::doctor:
    return cli::show_doctor(options);
  case cli::Command::run:
    return cli::run_labs(options);
  case cli::Command::show:
    return cli::show_files(options);
  case cli::Command::generate:
    cli::print(cli::generate(options.names.at(0)));
    return cli::status_done;
  }
  return cli::status_usage;
}

int fail(int status, const std::exception& error) {
  cli::say("schedlab: " + std::string(error.what()) + "\n");
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  procs::enter(argc, argv);
  if (argc == 2 && argv[1] == harness::replicate_word)
    return harness::replicate_main();
  try {
    const cli::Parsed parsed = cli::parse(argc, argv);
    if (parsed.options)
      return run_command(*parsed.options);
    cli::say(parsed.finished.err);
    cli::print(parsed.finished.out);
    return parsed.finished.status;
  } catch (const BadInput& error) {
    return fail(cli::status_usage, error);
  } catch (const Unsupported& error) {
    return fail(cli::status_nothing_ran, error);
  } catch (const std::exception& error) {
    return fail(cli::status_failure, error);
  }
}
