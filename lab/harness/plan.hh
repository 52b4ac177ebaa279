#pragma once
// The series of one lab on one machine, before anything is measured. The parent process plans to
// know what will run; each replicate process plans again, from the same inputs, to run it.

#include "affinity/placement.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/sample.hh"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace schedlab::harness {

// What the user chose for one lab.
struct Settings {
  Preset preset = Preset::quick;
  std::string placement = "all";
  std::map<std::string, std::string> values;  // parameter -> text, checked against the descriptor
  std::string driver = "auto";
  unsigned processes = 1;  // replicates of the run
};

// `factor` times the median of a metric of another series.
struct Term {
  std::string series;
  std::size_t metric = 0;
  double factor = 1;
};

// A cost that is subtracted from a metric, with the name it is shown under.
struct FloorTerm {
  std::string name;
  Term term;
};

// How a metric of a series comes about beyond its own samples. Both are evaluated for each
// replicate process, so that a difference has an interval of its own.
struct Derivation {
  std::size_t metric = 0;
  std::vector<Term> value;        // empty: the median of the samples
  std::vector<FloorTerm> floors;  // empty: no net
};

struct SeriesPlan {
  std::string name;   // unique in the lab: "pipe/processes/same-pu"
  std::string group;  // series of a group are set up together and interleaved
  std::vector<std::pair<std::string, std::string>> params;
  std::string relation;        // "" where placement has no meaning
  std::vector<unsigned> cpus;  // kernel numbers; empty: unpinned
  bool floor = false;          // shown with the floors
  std::string driver;
  std::vector<Derivation> derive;
  std::string skip;  // why it cannot run here; then `make` is not called
  // Measured only by the processes whose number leaves `part` when divided by `parts`: what is one
  // of thousands need not be measured by all.
  unsigned part = 0;
  unsigned parts = 1;
  bool optional = false;  // left out where a process has used up its budget
  // What `make` takes, roughly, where it is worth foretelling: it is no part of the budget.
  double set_up_s = 0;
  std::function<std::unique_ptr<Subject>()> make;
};

class Plan {
public:
  // Throws BadInput for a placement that does not exist.
  Plan(const Lab& lab, const affinity::Topology& topology, const Settings& settings);

  [[nodiscard]] const Lab& lab() const noexcept { return lab_; }
  [[nodiscard]] const affinity::Topology& topology() const noexcept { return topology_; }
  [[nodiscard]] Preset preset() const noexcept { return settings_.preset; }
  [[nodiscard]] const affinity::Placement& placement() const noexcept { return placement_; }
  [[nodiscard]] unsigned processes() const noexcept { return settings_.processes; }
  // As asked for: "auto", "io_uring" or "epoll".
  [[nodiscard]] const std::string& driver() const noexcept { return settings_.driver; }

  // Wall-clock seconds for the whole lab where a parameter sets them, instead of the lab's own.
  void set_budget_s(double seconds) noexcept { budget_s_ = seconds; }
  [[nodiscard]] std::optional<double> budget_s() const noexcept { return budget_s_; }

  // A parameter's value, from --set or the preset.
  [[nodiscard]] std::string text(std::string_view param) const;
  [[nodiscard]] std::int64_t number(std::string_view param) const;
  [[nodiscard]] std::vector<std::string> words(std::string_view param) const;
  [[nodiscard]] std::vector<std::int64_t> numbers(std::string_view param) const;

  void add(SeriesPlan series);
  // What was asked for and the machine lacks stays in the result, once each, with the reason.
  void add_absent(std::span<const affinity::Absent> absent);
  [[nodiscard]] const std::vector<SeriesPlan>& series() const noexcept { return series_; }
  [[nodiscard]] const SeriesPlan* find(std::string_view name) const noexcept;
  // How many series will be measured.
  [[nodiscard]] std::size_t runnable() const noexcept;

private:
  [[nodiscard]] const Param& param(std::string_view name) const;

  const Lab& lab_;
  const affinity::Topology& topology_;
  Settings settings_;
  affinity::Placement placement_;
  std::optional<double> budget_s_;
  std::vector<SeriesPlan> series_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
};

// Plans a lab: calls its plan function. A lab that cannot run here at all gives the reason instead.
struct PlanOutcome {
  std::unique_ptr<Plan> plan;
  std::string unsupported;
};
PlanOutcome plan_lab(const Lab& lab, const affinity::Topology& topology, const Settings& settings);

// Checks one --set value against the descriptor. Throws BadInput saying what is allowed.
void check_value(const Lab& lab, std::string_view param, std::string_view value);

}  // namespace schedlab::harness
