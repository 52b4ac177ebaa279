#include "affinity/pin.hh"
#include "affinity/topology.hh"
#include "iouring/driver.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/cli/commands.hh"
#include "lab/cli/document_text.hh"
#include "lab/cli/output.hh"
#include "lab/cli/progress.hh"
#include "lab/cli/run_document.hh"
#include "lab/cli/selection.hh"
#include "lab/harness/document_json.hh"
#include "lab/harness/lab_text.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"
#include "lab/harness/table.hh"

#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>

namespace schedlab::cli {

namespace {

using harness::Document;
using harness::Lab;

std::uint64_t draw_seed() {
  std::uint64_t seed = 0;
  check(::getrandom(&seed, sizeof seed, 0), "getrandom");
  return seed & ((std::uint64_t{1} << 53) - 1);
}

harness::RunOptions run_options(const Options& options) {
  return {.preset = options.preset,
          .processes = options.processes,
          .seed = options.seed ? *options.seed : draw_seed(),
          .placement = options.placement,
          .driver = options.driver,
          .values = options.values};
}

// A driver that was asked for and cannot run here is no reason to measure another one.
void require_driver(const std::string& driver) {
  if (driver != "auto")
    iouring::make_driver({.choice = iouring::driver_choice(driver)});
}

using Plans = std::vector<harness::PlanOutcome>;

// Plans all labs, which also refuses a bad --place or parameter before anything runs.
Plans plan_all(const std::vector<const Lab*>& labs, const affinity::Topology& topology,
               const harness::RunOptions& options) {
  Plans plans;
  for (const auto* lab : labs)
    plans.push_back(plan_lab(*lab, topology, settings_for(*lab, options)));
  return plans;
}

double seconds_of(const Plans& plans) {
  double seconds = 0;
  for (const auto& outcome : plans)
    seconds += foretold_s(*outcome.plan);
  return seconds;
}

// --plan: what would run, and for how long.
std::string plan_text(const Plans& plans, const harness::RunOptions& options) {
  using Align = harness::Table::Align;
  harness::Table table({{"lab", Align::left},
                        {"series", Align::right},
                        {"rounds", Align::right},
                        {"processes", Align::right},
                        {"seconds", Align::right},
                        {"", Align::left}});
  for (const auto& [plan, unsupported] : plans) {
    const auto runnable = plan->runnable();
    const bool skipped = !unsupported.empty() || runnable == 0;
    table.add({std::string(plan->lab().name), std::to_string(runnable),
               std::to_string(harness::rounds_of(options.preset)),
               std::to_string(processes_of(options)),
               skipped ? "0" : fmt::format("{:.3g}", foretold_s(*plan)),
               skipped ? "skipped: " + unsupported : ""});
  }
  return table.text(0) + fmt::format("{} labs, about {:.0f} s, seed {}\n", plans.size(),
                                     seconds_of(plans), options.seed);
}

// Keeps the result file up to date while labs end one by one.
class ResultFile {
public:
  explicit ResultFile(const Options& options)
      : wanted_(!options.json || !options.output.empty()),
        path_(options.output.empty() ? default_file_name(options.redact) : options.output) {}

  // What is no regular file cannot be rewritten, and gets the whole document at the end.
  void save(const Document& document, bool last) const {
    if (wanted_ && (last || is_replaceable(path_)))
      write_output(path_, to_json(document));
  }
  [[nodiscard]] bool wanted() const noexcept { return wanted_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
  bool wanted_;
  std::string path_;
};

int status_of(const Document& document, const Options& options, int interrupted) {
  if (interrupted)
    return status_interrupted;
  const auto any = [&](harness::Status status) {
    return std::ranges::find(document.labs, status, &harness::LabResult::status) !=
           document.labs.end();
  };
  if (any(harness::Status::failed))
    return status_failure;
  if (options.strict && any(harness::Status::invalid))
    return status_invalid;
  const bool all_skipped = std::ranges::all_of(
      document.labs, [](const auto& lab) { return lab.status == harness::Status::skipped; });
  return all_skipped ? status_nothing_ran : status_done;
}

void run_all(const std::vector<const Lab*>& labs, harness::Runner& runner, const Options& options,
             const ResultFile& file, ProgressLine& progress, Document& document) {
  const harness::TextOptions text{.width = output_width(),
                                  .colour = use_colour(options.colour, STDOUT_FILENO)};
  if (progress.live())
    runner.on_progress([&](const harness::ProgressView& view) { progress.update(view); });
  for (std::size_t i = 0; i < labs.size() && !runner.interrupted(); ++i) {
    progress.begin_lab(*labs[i], i + 1, labs.size());
    document.labs.push_back(runner.run(*labs[i]));
    progress.end_lab(document.labs.back());
    file.save(document, false);
    if (!options.json)
      print("\n" + lab_text(document.labs.back(), document.run.predictions, text));
  }
}

}  // namespace

int run_labs(const Options& options) {
  const auto labs = select_labs(options.names);
  const auto topology = affinity::Topology::machine();
  const auto run = run_options(options);
  if (options.plan) {
    print(plan_text(plan_all(labs, topology, run), run));
    return status_done;
  }
  const double seconds = seconds_of(plan_all(labs, topology, run));
  affinity::require_this_machine(topology);
  require_driver(options.driver);
  const ResultFile file(options);
  const auto calibration = clock::select();
  Document document = begin_document(options, run, topology, calibration);
  file.save(document, false);  // a path that cannot be written is found now, not at the end
  const harness::TextOptions text{.width = output_width(), .colour = false};
  if (!options.json)
    print(document_head(document, text));

  int interrupted = 0;
  {
    harness::Runner runner(topology, run, calibration);
    ProgressLine progress(options.progress && !options.json, seconds);
    run_all(labs, runner, options, file, progress, document);
    interrupted = runner.interrupted();
  }
  document.complete = !interrupted;
  end_document(document);
  file.save(document, true);
  if (options.json)
    print(to_json(document));
  if (file.wanted())
    say((interrupted ? "interrupted; what was finished is in " : "result: ") + file.path() + "\n");
  return status_of(document, options, interrupted);
}

}  // namespace schedlab::cli
