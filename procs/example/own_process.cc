// Runs a function of this program in a process of its own, and says how that ended.
#include <procs/enter.hh>
#include <procs/process.hh>

#include <cstdio>

using namespace schedlab;

namespace {

int count(std::span<const std::byte> argument) {
  return static_cast<int>(argument.size());
}

}  // namespace

int main(int argc, char** argv) {
  procs::enter(argc, argv);
  const std::string_view word = "seven..";
  procs::Process process =
      procs::Process::start<count>({.name = "count"}, std::as_bytes(std::span(word)));
  const procs::Ending ending = process.end_within(10'000);
  std::printf("%s\n", ending.text().c_str());
  return ending.cause.value == 7 ? 0 : 1;
}
