#include "lab/base/error.hh"
#include "lab/base/text.hh"
#include "lab/cli/command_line.hh"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <algorithm>

namespace schedlab::cli {

namespace {

std::vector<const CLI::App*> shown_commands(const CLI::App& app) {
  auto commands =
      app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
  return {commands.begin(), commands.end()};
}

std::vector<std::string> long_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const auto* option : command.get_options())
    for (const auto& name : option->get_lnames())
      names.push_back("--" + name);
  return names;
}

std::string lab_words() {
  std::string words;
  for (const auto* lab : harness::all_labs())
    words.append(words.empty() ? "" : " ").append(lab->name);
  return words;
}

// The words that an option's type name lists, "auto|always|never".
std::vector<std::string> choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  std::vector<std::string> words;
  for (const auto word : split(type, '|'))
    words.emplace_back(word);
  const bool are_words = std::ranges::all_of(words, [](const std::string& word) {
    return !word.empty() &&
           std::ranges::all_of(word, [](char c) { return c == '_' || (c >= 'a' && c <= 'z'); });
  });
  return are_words ? words : std::vector<std::string>{};
}

std::string troff(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '-')
      escaped += '\\';
    escaped += c;
  }
  return escaped.starts_with('.') || escaped.starts_with('\'') ? "\\&" + escaped : escaped;
}

std::string option_heading(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const bool takes_value = option.get_items_expected_max() > 0;
  std::string heading;
  for (const auto& name : option.get_snames())
    heading += fmt::format("{}\\fB\\-{}\\fR", heading.empty() ? "" : ", ", troff(name));
  for (const auto& name : option.get_lnames())
    heading += fmt::format("{}\\fB\\-\\-{}\\fR", heading.empty() ? "" : ", ", troff(name));
  if (heading.empty())
    return fmt::format("\\fI{}\\fR", troff(type));
  return takes_value ? fmt::format("{} \\fI{}\\fR", heading, troff(type)) : heading;
}

std::string man_options(const CLI::App& command) {
  std::string text;
  for (const auto* option : command.get_options())
    text += fmt::format(".TP\n{}\n{}\n", option_heading(*option), troff(option->get_description()));
  return text;
}

std::string man_page(const CLI::App& app) {
  std::string text = ".TH SCHEDLAB 1\n.SH NAME\nschedlab \\- measure how this machine runs "
                     "concurrent work\n.SH SYNOPSIS\n";
  for (const auto* command : shown_commands(app))
    text += fmt::format(".B schedlab {}\n[\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...\n.br\n",
                        command->get_name());
  text += ".SH DESCRIPTION\n" + troff(app.get_description()) + "\n.SH COMMANDS\n";
  for (const auto* command : shown_commands(app))
    text += fmt::format(".SS {}\n{}.\n{}", command->get_name(), troff(command->get_description()),
                        man_options(*command));
  text += ".SH OPTIONS OF ALL COMMANDS\n" + man_options(app);
  text += ".SH LABS\n";
  for (const auto* lab : harness::all_labs())
    text += fmt::format(".TP\n\\fB{}\\fR\n{}\n", lab->name, troff(lab->question));
  text += ".SH EXIT STATUS\n"
          ".TP\n0\nDone.\n"
          ".TP\n1\nA lab or a write failed.\n"
          ".TP\n2\nUsage or bad input.\n"
          ".TP\n3\nFinished with invalid results, under \\-\\-strict.\n"
          ".TP\n77\nNothing could be run here.\n"
          ".TP\n130\nInterrupted; the result file holds what was finished.\n"
          ".SH ENVIRONMENT\n"
          ".TP\nNO_COLOR\nIf set and not empty, no colour is used.\n"
          ".TP\nHWLOC_COMPONENTS, HWLOC_XMLFILE, HWLOC_SYNTHETIC\nAs for hwloc(7).\n";
  return text;
}

std::string bash_completion(const CLI::App& app) {
  std::string commands, cases;
  for (const auto* command : shown_commands(app)) {
    commands += (commands.empty() ? "" : " ") + command->get_name();
    std::string words = join(long_names(*command), " ");
    if (command->get_name() == "run" || command->get_name() == "explain")
      words += " " + lab_words();
    cases += fmt::format("    {}) words='{}' ;;\n", command->get_name(), words);
  }
  return fmt::format(R"(_schedlab() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} words='{} {}'
  case ${{COMP_WORDS[1]}} in
{}  esac
  ((COMP_CWORD > 1)) || words='{} {}'
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
  ((${{#COMPREPLY[@]}})) || mapfile -t COMPREPLY < <(compgen -f -- "$word")
}}
complete -F _schedlab schedlab
)",
                     commands, join(long_names(app), " "), cases, commands,
                     join(long_names(app), " "));
}

std::string quoted(std::string text) {
  std::erase_if(text, [](char c) { return c == '\'' || c == '[' || c == ']' || c == ':'; });
  return text;
}

std::string zsh_completion(const CLI::App& app) {
  std::string commands, cases;
  for (const auto* command : shown_commands(app)) {
    commands +=
        fmt::format("    '{}:{}'\n", command->get_name(), quoted(command->get_description()));
    std::string arguments;
    for (const auto* option : command->get_options())
      for (const auto& name : option->get_lnames())
        arguments += fmt::format(" '--{}[{}]{}'", name, quoted(option->get_description()),
                                 option->get_items_expected_max() > 0 ? ": :_files" : "");
    const bool labs = command->get_name() == "run" || command->get_name() == "explain";
    arguments += labs ? fmt::format(" '*:lab:({})'", lab_words()) : " '*:file:_files'";
    cases += fmt::format("    {}) _arguments{} ;;\n", command->get_name(), arguments);
  }
  return fmt::format(R"(#compdef schedlab
_schedlab() {{
  local -a commands=(
{}  )
  if ((CURRENT == 2)); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
{}  esac
}}
_schedlab "$@"
)",
                     commands, cases);
}

std::string fish_completion(const CLI::App& app) {
  std::string text = "complete -c schedlab -f\n";
  for (const auto* command : shown_commands(app)) {
    const std::string name = command->get_name();
    text += fmt::format("complete -c schedlab -n __fish_use_subcommand -a {} -d '{}'\n", name,
                        quoted(command->get_description()));
    const std::string when = fmt::format("-n '__fish_seen_subcommand_from {}'", name);
    for (const auto* option : command->get_options())
      for (const auto& long_name : option->get_lnames()) {
        const auto words = choices(*option);
        text += fmt::format("complete -c schedlab {} -l {} -d '{}'{}{}\n", when, long_name,
                            quoted(option->get_description()),
                            option->get_items_expected_max() > 0 ? " -r" : "",
                            words.empty() ? "" : fmt::format(" -a '{}'", join(words, " ")));
      }
    if (name == "run" || name == "explain")
      text += fmt::format("complete -c schedlab {} -a '{}'\n", when, lab_words());
    if (name == "show")
      text += fmt::format("complete -c schedlab {} -F\n", when);
  }
  return text;
}

}  // namespace

std::string generate(const std::string& what) {
  Options unused;
  const auto app = make_command_line(unused);
  if (what == "man")
    return man_page(*app);
  if (what == "bash")
    return bash_completion(*app);
  if (what == "zsh")
    return zsh_completion(*app);
  if (what == "fish")
    return fish_completion(*app);
  throw BadInput("cannot generate '" + what + "'; man, bash, zsh or fish can be");
}

}  // namespace schedlab::cli
