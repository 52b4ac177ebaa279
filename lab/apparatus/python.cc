#include "lab/apparatus/python.hh"

#include "affinity/pin.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/text.hh"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

namespace schedlab::apparatus {

namespace {

// Reads a number of operations a line and answers each with a line. In front of the lab's script.
constexpr std::string_view prologue = R"(import json as _json, sys as _sys, time, os
_answers = _sys.stdout
_sys.stdout = _sys.stderr
def die_with_parent():
    import ctypes
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
)";
constexpr std::string_view epilogue = R"(
if __name__ == '__main__':
    for _line in _sys.stdin:
        _answers.write(_json.dumps(sample(int(_line))) + '\n')
        _answers.flush()
)";
constexpr const char* who_are_you =
    "import platform; print(platform.python_implementation(), platform.python_version())";
constexpr int start_ms = 20'000;

Python ask_version(const std::string& path) {
  Python python{path, {}, {}};
  const std::string next = "; install python3, or name one with python=/path/to/python3";
  try {
    const Output said = capture({path, "-IS", "-c", who_are_you}, {}, start_ms);
    if (said.cause.success())
      python.version = trim(said.out);
    if (python.version.empty())
      python.objection = path + " does not run Python: " + said.cause.text() + next;
  } catch (const std::system_error& refusal) {
    python.objection = fmt::format("{}{}", refusal.what(), next);
  }
  return python;
}

}  // namespace

std::optional<Python> find_python(const std::string& word) {
  if (word == "none")
    return {};
  static std::map<std::string, Python> known;
  const auto found = known.find(word);
  if (found != known.end())
    return found->second;
  return known.emplace(word, ask_version(word == "auto" ? "python3" : word)).first->second;
}

struct PythonSession::Wires {
  Fd errors;  // what it wrote to stderr
  Fd line;    // a socket: writing to one whose other end is gone raises no signal
  std::string unread;
  Child child;

  [[noreturn]] void fail(const std::string& what) {
    const auto cause = child.wait_for(100);
    std::array<char, 600> tail{};
    const off_t size = ::lseek(errors.get(), 0, SEEK_END);
    const off_t from = std::max<off_t>(size - static_cast<off_t>(tail.size()), 0);
    const auto got = std::max<ssize_t>(::pread(errors.get(), tail.data(), tail.size(), from), 0);
    throw std::runtime_error(
        fmt::format("python: {} ({}): {}", what, cause ? cause->text() : "it still runs",
                    trim(std::string_view(tail.data(), static_cast<std::size_t>(got)))));
  }

  std::string answer(int timeout_ms) {
    const std::int64_t deadline = clock::now_ns() + std::int64_t{timeout_ms} * 1'000'000;
    for (;;) {
      if (const auto end = unread.find('\n'); end != std::string::npos) {
        const std::string whole = unread.substr(0, end);
        unread.erase(0, end + 1);
        return whole;
      }
      const std::int64_t left_ms = (deadline - clock::now_ns()) / 1'000'000;
      pollfd waiting{.fd = line.get(), .events = POLLIN, .revents = 0};
      if (left_ms <= 0 || ::poll(&waiting, 1, static_cast<int>(left_ms)) == 0)
        fail(fmt::format("no answer within {} ms", timeout_ms));
      std::array<char, 4096> bytes;
      const ssize_t got = ::read(line.get(), bytes.data(), bytes.size());
      if (got < 0 && errno == EINTR)
        continue;
      if (got <= 0)
        fail("the script ended");
      unread.append(bytes.data(), static_cast<std::size_t>(got));
    }
  }
};

PythonSession::PythonSession(const Python& python, std::string_view script,
                             const std::vector<std::string>& arguments,
                             const affinity::CpuSet& cpus)
    : wires_(std::make_unique<Wires>()) {
  wires_->errors = Fd(check(::memfd_create("python-errors", MFD_CLOEXEC), "memfd_create"));
  int ends[2];
  check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
  wires_->line = Fd(ends[0]);
  const Fd its_end(ends[1]);
  std::vector<std::string> command = {python.path, "-IS", "-c",
                                      fmt::format("{}{}{}", prologue, script, epilogue)};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const affinity::Pin there(cpus);  // inherited
  wires_->child = Child::exec(
      command, {.fds = {{its_end.get(), 0}, {its_end.get(), 1}, {wires_->errors.get(), 2}}});
}

PythonSession::~PythonSession() {
  // It ends when there are no more questions; a moment for its own children to end in order.
  wires_->line = Fd();
  wires_->child.wait_for(2000);
}

std::map<std::string, double> PythonSession::ask(std::uint64_t operations, int timeout_ms) {
  const std::string question = fmt::format("{}\n", operations);
  if (::send(wires_->line.get(), question.data(), question.size(), MSG_NOSIGNAL) < 0)
    wires_->fail("the script ended");
  const std::string answer = wires_->answer(timeout_ms);
  const auto json = nlohmann::json::parse(answer, nullptr, false);
  if (!json.is_object())
    wires_->fail("its answer is no JSON object: " + answer.substr(0, 100));
  std::map<std::string, double> values;
  for (const auto& [key, value] : json.items())
    if (value.is_number())
      values[key] = value.get<double>();
  if (!values.contains("ns"))
    wires_->fail("its answer has no \"ns\": " + answer.substr(0, 100));
  return values;
}

namespace {

class PythonSubject final : public harness::Subject {
public:
  explicit PythonSubject(const PythonOptions& options)
      : options_(options),
        session_(options.python, options.script, options.arguments, cpus(options)) {}

  harness::Sample sample(std::uint64_t operations) override {
    const auto said = session_.ask(operations);
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = said.at("ns");
    sample.values[options_.metric] = sample.elapsed_ns / static_cast<double>(operations);
    for (const auto& [key, metric] : options_.values)
      if (const auto value = said.find(key); value != said.end())
        sample.values[metric] = value->second;
    if (const auto done = said.find("done"); done != said.end()) {
      wanted_ += operations;
      done_ += static_cast<std::uint64_t>(std::llround(done->second));
    }
    return sample;
  }
  std::vector<harness::Check> checks() override {
    return {{"operations that Python did", wanted_, done_, wanted_ == done_}};
  }

private:
  static affinity::CpuSet cpus(const PythonOptions& options) {
    affinity::CpuSet set;
    for (const unsigned cpu : options.cpus)
      set.add(cpu);
    return options.cpus.empty() ? options.usable : set;
  }

  PythonOptions options_;
  PythonSession session_;
  std::uint64_t wanted_ = 0;
  std::uint64_t done_ = 0;
};

}  // namespace

std::unique_ptr<harness::Subject> make_python(const PythonOptions& options) {
  return std::make_unique<PythonSubject>(options);
}

}  // namespace schedlab::apparatus
