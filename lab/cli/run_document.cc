#include "lab/cli/run_document.hh"

#include "iouring/probe.hh"
#include "lab/base/file.hh"
#include "lab/base/random.hh"
#include "lab/cli/command_line.hh"
#include "lab/harness/environment.hh"
#include "lab/harness/launcher.hh"
#include "lab/harness/tool_info.hh"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/random.h>
#include <unistd.h>

#include <array>
#include <ctime>
#include <filesystem>

namespace schedlab::cli {

namespace {

// "2026-01-31T12:00:00Z", or without punctuation for a file name.
std::string utc_now(const char* format) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text;
  return {text.data(), std::strftime(text.data(), text.size(), format, &parts)};
}

// RFC 4122, version 4. Two runs with one seed still have two names.
std::string make_uuid() {
  std::array<std::uint64_t, 2> bits{};
  static_cast<void>(!::getrandom(bits.data(), sizeof bits, 0));
  bits[0] = (bits[0] & ~std::uint64_t{0xf000}) | 0x4000;
  bits[1] = (bits[1] & ~(std::uint64_t{3} << 62)) | std::uint64_t{1} << 63;
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", bits[0] >> 32, bits[0] >> 16 & 0xffff,
                     bits[0] & 0xffff, bits[1] >> 48, bits[1] & 0xffff'ffff'ffff);
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

// What only a try can tell of io_uring.
void add_probe(nlohmann::ordered_json& section) {
  const iouring::Probe probe = iouring::quick_probe();
  section["usable"] = probe.usable;
  section["cause"] = nullptr;
  if (!probe.usable)
    section["cause"] = probe.cause;
  section["setup_flags"] = iouring::setup_names(probe.setup_flags);
  section["features"] = iouring::feature_names(probe.features);
  section["opcodes"] = probe.opcodes.size();
}

harness::RunInfo run_info(const Options& options, const harness::RunOptions& run) {
  harness::RunInfo info;
  info.uuid = make_uuid();
  info.started = utc_now("%Y-%m-%dT%H:%M:%SZ");
  info.host = host_name();
  info.label = options.label;
  info.argv = options.arguments;
  std::error_code unknown;
  info.cwd = std::filesystem::current_path(unknown);
  info.boot_id = read_text("/proc/sys/kernel/random/boot_id").value_or("");
  info.preset = to_text(run.preset);
  info.processes = processes_of(run);
  info.seed = run.seed;
  info.driver = run.driver;
  info.launcher = harness::launcher();
  info.predictions = options.predictions;
  return info;
}

}  // namespace

harness::Document begin_document(const Options& options, const harness::RunOptions& run,
                                 const affinity::Topology& topology,
                                 const clock::Calibration& calibration) {
  harness::Environment environment = harness::capture_environment(topology, calibration);
  add_probe(environment.env.get()["io_uring"]);
  harness::Document document;
  document.run = run_info(options, run);
  document.tool = harness::tool_info();
  if (options.redact) {
    redact(environment);
    redact(document.run);
  }
  document.env = std::move(environment.env);
  document.unavailable = std::move(environment.unavailable);
  return document;
}

void end_document(harness::Document& document) {
  document.run.finished = utc_now("%Y-%m-%dT%H:%M:%SZ");
}

std::string default_file_name(bool redact) {
  const std::string time = utc_now("%Y%m%dT%H%M%SZ");
  return redact ? "schedlab-" + time + ".json" : "schedlab-" + host_name() + "-" + time + ".json";
}

std::string version_text() {
  const harness::ToolInfo tool = harness::tool_info();
  return fmt::format("schedlab {} ({}, {}, {}{})", tool.version, tool.git, tool.compiler,
                     tool.build_type,
                     tool.sanitizers == "none" ? "" : ", sanitizers " + tool.sanitizers);
}

}  // namespace schedlab::cli
