#pragma once
// The result document, schedlab.result/1, as plain values. Names are the keys of the file
// (docs/result.schema.json); times are in ns, sizes in B, rates in 1/s or B/s. An absent optional
// is null in the file. lab/harness/document_json.hh reads and writes it.

#include "lab/harness/histogram.hh"
#include "lab/harness/statistics.hh"

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace schedlab::harness {

inline constexpr std::string_view schema_name = "schedlab.result/1";

// A JSON value held out of line, so that whoever includes this header does not compile the JSON
// library. Begins as an empty object.
class JsonValue {
public:
  JsonValue();
  explicit JsonValue(nlohmann::ordered_json value);
  JsonValue(const JsonValue& other);
  JsonValue(JsonValue&& other) noexcept;
  JsonValue& operator=(const JsonValue& other);
  JsonValue& operator=(JsonValue&& other) noexcept;
  ~JsonValue();

  // Not after having been moved from.
  [[nodiscard]] const nlohmann::ordered_json& get() const noexcept { return *value_; }
  [[nodiscard]] nlohmann::ordered_json& get() noexcept { return *value_; }
  bool operator==(const JsonValue& other) const;

private:
  std::unique_ptr<nlohmann::ordered_json> value_;
};

// A number or a text. Numbers above 2^53 lose their last digits.
class Value {
public:
  Value() = default;
  template <typename T>
  requires std::is_arithmetic_v<T> Value(T number) : value_(static_cast<double>(number)) {}
  Value(std::string text) : value_(std::move(text)) {}
  Value(std::string_view text) : value_(std::string(text)) {}
  Value(const char* text) : value_(std::string(text)) {}

  // Null if it is the other kind.
  [[nodiscard]] const double* number() const noexcept { return std::get_if<double>(&value_); }
  [[nodiscard]] const std::string* text() const noexcept {
    return std::get_if<std::string>(&value_);
  }
  bool operator==(const Value&) const = default;

private:
  std::variant<double, std::string> value_ = 0.0;
};

// Named values in their order: {{"size", 64}, {"driver", "epoll"}}.
using Fields = std::vector<std::pair<std::string, Value>>;

enum class Status : std::uint8_t { ok, noisy, invalid, skipped, failed };
enum class Severity : std::uint8_t { note, noisy, invalid };
enum class Better : std::uint8_t { lower, higher, none };
enum class Kind : std::uint8_t { time, rate, count, ratio, size, matrix };
enum class Verdict : std::uint8_t { confirmed, refuted, inconclusive, untestable };

// The texts of an enumeration in the file, in its order; the argument only names the type.
std::span<const std::string_view> names_of(Status) noexcept;
std::span<const std::string_view> names_of(Severity) noexcept;
std::span<const std::string_view> names_of(Better) noexcept;
std::span<const std::string_view> names_of(Kind) noexcept;
std::span<const std::string_view> names_of(Verdict) noexcept;

template <typename E>
requires std::is_enum_v<E> std::string_view to_text(E value)
noexcept {
  return names_of(value)[static_cast<std::size_t>(value)];
}

struct RunInfo {
  std::string uuid;
  std::string started;   // RFC 3339, UTC
  std::string finished;  // "" while the run goes on
  std::string host;
  std::string label;
  std::vector<std::string> argv;
  std::string cwd;
  std::string boot_id;
  std::string preset;  // smoke, quick, full
  std::uint32_t processes = 0;
  std::uint64_t seed = 0;                     // below 2^53, so that every reader of JSON keeps it
  std::string driver;                         // as asked for: auto, io_uring, epoll
  Fields launcher;                            // {"kind", "none|slurm|ompi|..."} and what it told
  std::map<std::string, double> predictions;  // "lab.metric"
  bool redacted = false;
  bool operator==(const RunInfo&) const = default;
};

struct ToolInfo {
  std::string name = "schedlab";
  std::string version;
  std::string git;
  std::string compiler;
  std::string flags;
  std::string build_type;
  std::string sanitizers;  // "none", "address,undefined", "thread"
  std::map<std::string, std::string> libraries;
  bool operator==(const ToolInfo&) const = default;
};

struct Placement {
  std::string relation;           // "smt", "remote", ...; "" for a single CPU
  std::vector<unsigned> cpus;     // kernel numbers, P#
  std::vector<unsigned> logical;  // hwloc's numbers of the same CPUs, L#
  bool operator==(const Placement&) const = default;
};

// One process's part. Either values in the order they were taken, or a histogram.
struct PerRun {
  std::uint32_t process = 0;
  std::vector<unsigned> cpus;  // where its samples were seen to run, P#
  std::uint64_t samples = 0;
  std::optional<double> median;
  std::vector<double> values;
  std::optional<Bins> histogram;
  bool operator==(const PerRun&) const = default;
};

struct Floor {
  std::string name;
  std::optional<double> median;
  bool operator==(const Floor&) const = default;
};

// The metric less its floor, paired by process.
struct Net {
  std::optional<double> median;
  std::optional<Interval> ci;
  bool below_resolution = false;
  bool operator==(const Net&) const = default;
};

// values[row][column]; NaN where there is none, as on a diagonal.
struct Matrix {
  std::vector<std::string> rows;
  std::vector<std::string> columns;
  std::vector<std::vector<double>> values;
  // Rows (and columns) before which something begins: a package, a node, a last-level cache.
  std::vector<std::uint32_t> borders = {};
  bool operator==(const Matrix&) const = default;
};

struct Metric : Summary {
  std::string name;
  std::string unit;
  Better better = Better::none;
  Kind kind = Kind::time;
  std::vector<PerRun> per_run;
  std::optional<Summary> clean;  // over undisturbed samples only
  std::vector<Floor> floors;
  std::optional<Net> net;
  std::optional<Matrix> matrix;
  bool operator==(const Metric&) const = default;
};

struct Check {
  std::string name;
  Value expected;
  Value seen;
  bool ok = true;
  bool operator==(const Check&) const = default;
};

// Made by make_warning() of validity.hh.
struct Warning {
  std::string code;
  Severity severity = Severity::note;
  std::string message;
  std::string fix;
  Fields evidence;
  bool operator==(const Warning&) const = default;
};

struct Series {
  std::string name;
  Fields params;
  Status status = Status::ok;
  std::string reason;  // why it is skipped, failed or cut
  std::string driver;  // "io_uring", "epoll", "" where there is none
  Placement placement;
  std::vector<Metric> metrics;
  std::vector<Check> checks;
  std::vector<Warning> warnings;
  bool operator==(const Series&) const = default;
};

struct Claim {
  std::string id;
  std::string text;
  std::string source;
  Verdict verdict = Verdict::untestable;
  std::string evidence;
  std::string needs;  // what would decide it, if this run does not
  bool operator==(const Claim&) const = default;
};

struct LabResult {
  std::string name;
  int version = 1;   // raised when the meaning of a number changes
  std::string code;  // hash of the lab and its apparatus, for information
  std::string question;
  Status status = Status::ok;
  std::string reason;
  std::string answer;
  double wall_ns = 0;
  std::vector<Series> series;
  std::vector<Claim> claims;
  std::vector<Warning> warnings;  // that concern all series: CUT, DEBUG_BUILD
  bool operator==(const LabResult&) const = default;
};

struct Document {
  bool complete = false;
  RunInfo run;
  ToolInfo tool;
  JsonValue env;                                   // an object; what is unknown is null ...
  std::map<std::string, std::string> unavailable;  // ... and why: {"env.power.governor", "..."}
  std::vector<LabResult> labs;
  bool operator==(const Document&) const = default;
};

}  // namespace schedlab::harness
