#include "tests/cli/support.hh"

#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace schedlab::tests {

std::string program() {
  const char* path = std::getenv("SCHEDLAB");
  if (!path)
    throw BadInput("SCHEDLAB must name the program under test");
  return path;
}

Output run_program(std::vector<std::string> arguments, const SpawnOptions& options) {
  arguments.insert(arguments.begin(), program());
  return capture(arguments, options, 120'000);
}

std::vector<pid_t> processes_with(const std::string& name, const std::string& value) {
  const std::string wanted = name + "=" + value;
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const auto pid = to_number(entry.path().filename().string());
    if (!pid)
      continue;
    const std::string environment = read_text(entry.path() / "environ").value_or("");
    const auto words = split(environment, '\0');
    if (std::ranges::find(words, wanted) != words.end())
      found.push_back(static_cast<pid_t>(*pid));
  }
  return found;
}

bool wait_for_processes(const std::string& name, const std::string& value, std::size_t at_least,
                        std::size_t at_most, int seconds) {
  const std::int64_t deadline = clock::now_ns() + std::int64_t{seconds} * 1'000'000'000;
  while (clock::now_ns() < deadline) {
    const std::size_t count = processes_with(name, value).size();
    if (count >= at_least && count <= at_most)
      return true;
    clock::sleep_for(20'000'000);
  }
  return false;
}

bool has_warning(const harness::Document& document, std::string_view code) {
  const auto holds = [&](const std::vector<harness::Warning>& warnings) {
    return std::ranges::find(warnings, code, &harness::Warning::code) != warnings.end();
  };
  return std::ranges::any_of(document.labs, [&](const harness::LabResult& lab) {
    return holds(lab.warnings) ||
           std::ranges::any_of(
               lab.series, [&](const harness::Series& series) { return holds(series.warnings); });
  });
}

std::size_t lines(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count(text, '\n'));
}

}  // namespace schedlab::tests
