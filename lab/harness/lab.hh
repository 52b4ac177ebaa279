#pragma once
// What a lab is: one descriptor at the foot of one file. From it come `list`, `explain`, `--help`,
// the smoke test, the benchmark and the keys of the result file.

#include "lab/harness/document.hh"

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace schedlab::harness {

class Plan;
class Findings;
struct Reply;

enum class Preset : std::uint8_t { smoke, quick, full };
std::string_view to_text(Preset preset) noexcept;

// A parameter, set with --set LAB.PARAM=VALUE. Values are texts; a list is comma separated.
struct Param {
  enum class Kind : std::uint8_t {
    number,  // decimal, within [min, max]
    size,    // bytes, with K, M or G; within [min, max]
    word,    // one of `words`
    text,    // anything but nothing: a path, an address
  };
  std::string_view name;
  std::string_view help;
  Kind kind = Kind::number;
  bool list = false;
  // The value under each preset.
  std::string_view smoke;
  std::string_view quick;
  std::string_view full;
  std::int64_t min = 0;
  std::int64_t max = std::numeric_limits<std::int64_t>::max();
  std::span<const std::string_view> words = {};
};

// A number that a lab reports for each of its series.
struct MetricInfo {
  std::string_view name;
  std::string_view unit;  // "ns", "B", "1/s", "B/s", "" for counts and ratios
  Better better = Better::lower;
  Kind kind = Kind::time;
  std::string_view help;         // what was counted, in one line
  bool show = true;              // a column of the table, or only in the result file
  bool interval = false;         // the column shows the interval
  std::string_view net = "net";  // what is left of it over its floors
};

// How many CPUs a lab's series take, which decides how --place is read.
enum class Shape : std::uint8_t { none, one, pair, workers };

// A statement under test. The verdict is pure: it sees the findings and nothing else.
struct Judgement {
  Verdict verdict = Verdict::inconclusive;
  std::string evidence;
  std::string needs;  // what it would take, where inconclusive
};
struct ClaimInfo {
  std::string_view id;  // "C12"
  std::string_view text;
  std::string_view source;  // "S0 S4"
  Judgement (*judge)(const Findings&);
};

// Wall-clock seconds for a whole lab, all processes together.
struct Budget {
  double quick_s = 3;
  double full_s = 25;
};

struct Lab {
  std::string_view name;
  std::string_view family;
  std::string_view question;
  int version = 1;  // raised when the meaning of a number changes
  Shape shape = Shape::none;
  unsigned min_cpus = 1;
  bool starves = false;  // has its own processes killed for want of memory: no disturbance
  std::span<const Param> params = {};
  std::span<const MetricInfo> metrics;
  Budget budget = {};
  // Declares the series. Throws Unsupported where the lab cannot run at all.
  void (*plan)(Plan&);
  // Looks at the reply of a first process, which is not among the results, and gives values for
  // parameters that the user did not set; the lab is then planned again with them. Null: none.
  std::map<std::string, std::string> (*refine)(const Plan&, const Reply&) = nullptr;
  // Adds to the merged result what only all series together show (a matrix, an edge of a curve),
  // and takes out series that were only its cells. Pure. Null: nothing.
  void (*conclude)(const Plan&, LabResult&) = nullptr;
  // The result in one or two sentences.
  std::string (*answer)(const Findings&);
  std::span<const ClaimInfo> claims = {};
};

// All labs in the order of lab/meson.build. Generated.
std::span<const Lab* const> all_labs();

// Null if this program has no lab of that name.
inline const Lab* find_lab(std::string_view name) {
  for (const Lab* lab : all_labs())
    if (lab->name == name)
      return lab;
  return nullptr;
}

// The page docs/labs/<name>.md. Generated.
std::string_view lab_page(std::string_view name);

// A hash of the lab's source and its apparatus. Generated.
std::string_view lab_code(std::string_view name);

}  // namespace schedlab::harness
