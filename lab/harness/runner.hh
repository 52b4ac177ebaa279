#pragma once
// Runs labs: for each, some replicate processes one after another, each this program executed
// afresh, so that code, heap and stack layout, and what the kernel draws per process, vary from
// replicate to replicate as they do from run to run.

#include "lab/base/clock.hh"
#include "lab/harness/document.hh"
#include "lab/harness/engine.hh"
#include "lab/harness/plan.hh"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace schedlab::harness {

struct RunOptions {
  Preset preset = Preset::quick;
  std::optional<unsigned> processes;  // else by preset: smoke 1, quick 6, full 20
  std::uint64_t seed = 0;
  std::string placement = "all";
  std::string driver = "auto";
  std::map<std::string, std::map<std::string, std::string>> values;  // lab -> parameter -> text
};

unsigned processes_of(const RunOptions& options) noexcept;
// Wall-clock seconds planned for a lab, all processes together.
double budget_of(const Lab& lab, Preset preset) noexcept;
// As above, or what the lab's parameters say instead.
double budget_of(const Plan& plan) noexcept;
// The budget, and what the plan foretells of setting its series up.
double foretold_s(const Plan& plan) noexcept;
Settings settings_for(const Lab& lab, const RunOptions& options);

// What a progress line can show; `series` is null between replicates.
struct ProgressView {
  const Lab* lab = nullptr;
  const SeriesPlan* series = nullptr;
  unsigned process = 0;
  unsigned processes = 0;
  unsigned round = 0;
  unsigned rounds = 0;
  double done = 0;      // of this lab, 0 .. 1
  double estimate = 0;  // the first metric, last sample
};

class Runner {
public:
  // Blocks SIGINT, SIGTERM and SIGHUP for its lifetime, so that they end a run in order. One at a
  // time in a process.
  Runner(const affinity::Topology& topology, const RunOptions& options,
         const clock::Calibration& calibration);
  ~Runner();

  // Called about four times a second while a lab runs; empty: never.
  void on_progress(std::function<void(const ProgressView&)> callback);

  // Runs one lab to its result, whatever happens in it. After an interruption the result holds
  // what was finished.
  LabResult run(const Lab& lab);

  // The signal that interrupted the run, or 0.
  [[nodiscard]] int interrupted() const noexcept;

private:
  struct State;
  std::unique_ptr<State> state_;
};

// The verdict-free start of a result: name, version, question, code.
LabResult blank_result(const Lab& lab);

}  // namespace schedlab::harness
