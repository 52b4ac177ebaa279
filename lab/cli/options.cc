#include "lab/cli/options.hh"

#include "lab/base/error.hh"
#include "lab/base/text.hh"
#include "lab/cli/command_line.hh"
#include "lab/harness/plan.hh"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace schedlab::cli {

namespace {

using harness::Preset;

// "switch_cost.mechanism=pipe" into its three parts.
struct Assignment {
  std::string lab;
  std::string name;
  std::string value;
};

Assignment split_assignment(const std::string& text, const char* form) {
  const auto equals = text.find('=');
  const auto dot = text.find('.');
  if (equals == std::string::npos || dot == std::string::npos || dot > equals)
    throw BadInput("'" + text + "' is not of the form " + form);
  return {text.substr(0, dot), text.substr(dot + 1, equals - dot - 1), text.substr(equals + 1)};
}

std::vector<std::string> lab_names() {
  std::vector<std::string> names;
  for (const auto* lab : harness::all_labs())
    names.emplace_back(lab->name);
  return names;
}

const harness::Lab& lab_named(const std::string& name) {
  if (const auto* lab = harness::find_lab(name))
    return *lab;
  const auto names = lab_names();
  const auto meant = nearest(name, names);
  throw BadInput("no lab '" + name + "'" +
                 (meant ? "; did you mean " + *meant + "?" : "; see schedlab list"));
}

void add_value(Options& options, const std::string& text) {
  const auto set = split_assignment(text, "LAB.PARAM=VALUE");
  harness::check_value(lab_named(set.lab), set.name, set.value);
  options.values[set.lab][set.name] = set.value;
}

// A time with a unit, or a plain number in the metric's own unit.
double predicted_value(const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit = trim(std::string_view(end, text.data() + text.size()));
  constexpr std::pair<std::string_view, double> units[] = {{"", 1},     {"ns", 1},  {"us", 1e3},
                                                           {"ms", 1e6}, {"s", 1e9}, {"%", 0.01}};
  const auto* scale = std::ranges::find(units, unit, &std::pair<std::string_view, double>::first);
  if (error != std::errc{} || scale == std::end(units) || !std::isfinite(number))
    throw BadInput("'" + text + "' is not a prediction; give a number, as 1500, 1.5us or 2ms");
  return number * scale->second;
}

void add_prediction(Options& options, const std::string& text) {
  const auto set = split_assignment(text, "LAB.METRIC=VALUE");
  const auto& lab = lab_named(set.lab);
  std::vector<std::string> metrics;
  for (const auto& metric : lab.metrics)
    metrics.emplace_back(metric.name);
  if (std::ranges::find(metrics, set.name) == metrics.end())
    throw BadInput(set.lab + " has no metric '" + set.name + "'; it has " + join(metrics, ", "));
  options.predictions[set.lab + "." + set.name] = predicted_value(set.value);
}

void list_command(CLI::App& app, Options& options) {
  auto* command = app.add_subcommand("list", "Name the labs and say which can run here");
  command->add_option("family", options.names, "Only labs of this family")->type_name("FAMILY");
  command->add_flag("--json", options.json, "Print JSON");
  command->callback([&] { options.command = Command::list; });
}

void explain_command(CLI::App& app, Options& options) {
  auto* command = app.add_subcommand("explain", "Print a lab's page: question, method, traps");
  command->add_option("lab", options.names, "The lab")->required()->expected(1)->type_name("LAB");
  command->callback([&] { options.command = Command::explain; });
}

void topology_command(CLI::App& app, Options& options) {
  auto* command = app.add_subcommand("topology", "Show the machine and what of it may be used");
  command->add_flag("--json", options.json, "Print JSON");
  command
      ->add_option("--input", options.input,
                   "Another machine: an hwloc XML file or a synthetic description")
      ->type_name("XML|SYNTHETIC");
  auto* format =
      command->add_option("--export", options.export_format, "Print the topology in a format")
          ->check(CLI::IsMember({"xml"}))
          ->type_name("xml");
  command
      ->add_option("--measured", options.measured,
                   "A result file of core_to_core or numa_matrix: what it measured goes into the "
                   "XML, as distances and memory attributes for hwloc")
      ->needs(format)
      ->type_name("FILE")
      ->take_all()
      ->allow_extra_args(false);
  command->callback([&] { options.command = Command::topology; });
}

void doctor_command(CLI::App& app, Options& options) {
  auto* command =
      app.add_subcommand("doctor", "Find what would disturb a measurement here, with the fix");
  command->add_flag("--json", options.json, "Print JSON");
  command->callback([&] { options.command = Command::doctor; });
}

void show_command(CLI::App& app, Options& options) {
  auto* command = app.add_subcommand("show", "Print the tables of result files again");
  command->add_option("file", options.names, "Result files")->required()->type_name("FILE");
  command->callback([&] { options.command = Command::show; });
}

void measuring_options(CLI::App& command, Options& options) {
  auto* smoke = command.add_flag_callback(
      "--smoke", [&] { options.preset = Preset::smoke; }, "Smallest parameters, one process");
  auto* quick = command.add_flag_callback(
      "--quick", [&] { options.preset = Preset::quick; }, "6 processes, seconds a lab (default)");
  auto* full = command.add_flag_callback(
      "--full", [&] { options.preset = Preset::full; }, "20 processes, numbers to publish");
  smoke->excludes(quick)->excludes(full);
  quick->excludes(full);
  command
      .add_option("--place", options.placement,
                  "Where tasks go: all, same-pu, smt, l2, l3, die, numa, package, remote, "
                  "unpinned, compact, scatter, per-core, core:0.pu:1, cpus:0,2-5, 0xff")
      ->type_name("P");
  command
      .add_option_function<std::vector<std::string>>(
          "--set",
          [&](const std::vector<std::string>& texts) {
            for (const auto& text : texts)
              add_value(options, text);
          },
          "A parameter of a lab; see schedlab explain LAB")
      ->type_name("LAB.PARAM=V")
      ->take_all()
      ->allow_extra_args(false);
  command.add_option("--processes", options.processes, "Replicate processes for each lab")
      ->check(CLI::Range(1, 1000))
      ->type_name("N");
  command.add_option("--seed", options.seed, "Seed of all that is drawn; printed in the result")
      ->check(CLI::Range(std::uint64_t{0}, (std::uint64_t{1} << 53) - 1))
      ->type_name("S");
  command.add_option("--driver", options.driver, "How asynchronous I/O is driven")
      ->check(CLI::IsMember({"auto", "io_uring", "epoll"}))
      ->type_name("auto|io_uring|epoll");
}

void reporting_options(CLI::App& command, Options& options) {
  command.add_option("-o,--output", options.output, "The result file")->type_name("FILE");
  command.add_flag("--json", options.json,
                   "Print the result document, and nothing else, on standard output");
  command.add_flag("--strict", options.strict, "Exit 3 if a result is invalid");
  command.add_option("--label", options.label, "A text kept with the result")->type_name("TEXT");
  command.add_flag("--redact", options.redact, "Leave host, user, paths and the like out");
  command
      .add_option_function<std::vector<std::string>>(
          "--predict",
          [&](const std::vector<std::string>& texts) {
            for (const auto& text : texts)
              add_prediction(options, text);
          },
          "What you expect, to be shown beside the measured interval")
      ->type_name("LAB.METRIC=V")
      ->take_all()
      ->allow_extra_args(false);
  command.add_flag("--plan", options.plan, "Print what would run and for how long, then stop");
  command.add_flag("!--no-progress", options.progress, "No progress line");
}

void run_command(CLI::App& app, Options& options) {
  auto* command = app.add_subcommand("run", "Measure: run labs and write a result file");
  command
      ->add_option("lab", options.names, "Labs, families or patterns such as 'switch_*'; none: all")
      ->type_name("LAB|FAMILY|GLOB");
  measuring_options(*command, options);
  reporting_options(*command, options);
  command->callback([&] { options.command = Command::run; });
}

void generate_command(CLI::App& app, Options& options) {
  auto* command = app.add_subcommand("__generate", "Print the man page or a completion script");
  command->group("");  // not shown
  command->add_option("what", options.names, "man, bash, zsh or fish")->required()->expected(1);
  command->callback([&] { options.command = Command::generate; });
}

// What CLI11 could not place, with the nearest thing that exists.
std::string suggestion(const CLI::App& app, const std::vector<std::string>& words) {
  for (const auto& word : words) {
    std::vector<std::string> candidates;
    const CLI::App* scope = &app;
    for (const auto* command : app.get_subcommands())
      scope = command;
    if (word.starts_with("-"))
      for (const auto* option : scope->get_options())
        for (const auto& name : option->get_lnames())
          candidates.push_back("--" + name);
    else
      for (const auto* command : scope->get_subcommands([](const CLI::App*) { return true; }))
        if (!command->get_group().empty())
          candidates.push_back(command->get_name());
    const auto meant = nearest(word.substr(0, word.find('=')), candidates);
    const std::string what = word.starts_with("-") ? "no option '" : "no command '";
    return what + word + "'" + (meant ? "; did you mean " + *meant + "?" : "; see schedlab --help");
  }
  return "nothing to do; see schedlab --help";
}

Finished usage_error(const std::string& text) {
  return {2, "", "schedlab: " + text + "\n"};
}

std::string one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  return text;
}

}  // namespace

std::unique_ptr<CLI::App> make_command_line(Options& options) {
  auto app = std::make_unique<CLI::App>(
      "Measures how this machine runs concurrent work: what a context switch, a cache line, an\n"
      "I/O path cost here, with intervals and proof.",
      "schedlab");
  app->set_version_flag("--version", version_text(), "Print the version and stop");
  app->add_option("--color", options.colour, "Colour on the terminal")
      ->transform(CLI::CheckedTransformer(std::map<std::string, Colour>{
          {"auto", Colour::automatic}, {"always", Colour::always}, {"never", Colour::never}}))
      ->type_name("auto|always|never")
      ->default_str("auto");
  app->require_subcommand(0, 1);
  app->fallthrough();
  app->get_formatter()->column_width(30);
  run_command(*app, options);
  list_command(*app, options);
  explain_command(*app, options);
  show_command(*app, options);
  topology_command(*app, options);
  doctor_command(*app, options);
  generate_command(*app, options);
  return app;
}

Parsed parse(int argc, const char* const* argv) {
  Parsed parsed;
  Options options;
  const auto app = make_command_line(options);
  try {
    app->parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    const auto chosen = app->get_subcommands();
    parsed.finished.out = chosen.empty() ? app->help() : chosen.front()->help();
    return parsed;
  } catch (const CLI::CallForVersion&) {
    parsed.finished.out = version_text() + "\n";
    return parsed;
  } catch (const CLI::ExtrasError&) {
    parsed.finished = usage_error(suggestion(*app, app->remaining(true)));
    return parsed;
  } catch (const CLI::ParseError& error) {
    parsed.finished = usage_error(one_line(error.what()));
    return parsed;
  } catch (const BadInput& error) {
    parsed.finished = usage_error(error.what());
    return parsed;
  }
  if (app->get_subcommands().empty()) {
    parsed.finished = {2, "", app->help()};
    return parsed;
  }
  options.arguments.assign(argv, argv + argc);
  parsed.options = std::move(options);
  return parsed;
}

}  // namespace schedlab::cli
