#pragma once
// What can be wrong with a number, and what to do about it. A code travels with the number into
// every output, with the evidence that raised it.

#include "lab/harness/document.hh"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace schedlab::harness {

enum class Code : std::uint8_t {
  affinity_shrunk,
  quota,
  steal,
  migrated,
  preempted,
  busy,
  freq,
  governor,
  throttle,
  swap,
  clock,
  debug_build,
  sanitizer,
  drift,
  bimodal,
  first_slow,
  few,
  resolution,
  isolcpus,
  launcher,
  count,
  cut,
  check,
  topology,
  client_bound,
};
inline constexpr std::size_t code_count = static_cast<std::size_t>(Code::client_bound) + 1;

struct CodeInfo {
  Code code;
  std::string_view name;  // as in the file: "AFFINITY_SHRUNK"
  Severity severity;      // unless the evidence says otherwise
  std::string_view message;
  std::string_view fix;
};

// In the order of Code.
extern const std::array<CodeInfo, code_count> codes;

// Events of one sample that its begin and its end may hide or add: a partner that is late finds its
// turn waiting and does not sleep for it. Of two tasks it is one or two, of a ring a few.
inline constexpr double blurred_events = 4;

// The fewest of the events expected of one sample that are enough: COUNT is raised below. 99 %, or
// all but those that may be blurred.
double enough_events(std::uint64_t expected) noexcept;

const CodeInfo& info(Code code) noexcept;
// By the name in the file, or null.
const CodeInfo* find_code(std::string_view name) noexcept;

// `detail` is appended to the message: "Other work ran on the measured CPUs: load 3.2.". The
// severity is the code's own unless given.
Warning make_warning(Code code, Fields evidence = {}, std::optional<Severity> severity = {},
                     std::string_view detail = {});

// What the warnings leave of a result: ok, noisy or invalid.
Status worst(std::span<const Warning> warnings) noexcept;

// What a whole is if these are its parts: failed if any is, else the worst of those that ran;
// skipped if none ran (also for no parts).
Status overall(std::span<const Status> parts) noexcept;

}  // namespace schedlab::harness
