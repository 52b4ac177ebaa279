#pragma once
// Two documents for the tests: every field filled, and as little as there can be.

#include "lab/harness/document.hh"
#include "lab/harness/validity.hh"

#include <limits>
#include <nlohmann/json.hpp>

namespace schedlab::harness {

inline JsonValue sample_env() {
  auto env = nlohmann::ordered_json::object();
  env["machine_key"] = "a1b2";
  env["config_key"] = nullptr;
  for (const char* key :
       {"cpu", "topology", "kernel", "power", "clock", "limits", "virt", "memory", "io_uring"})
    env[key] = nlohmann::ordered_json::object();
  env["power"]["governor"] = nullptr;
  env["cpu"]["caches"] = {32768, 1048576};
  env["cpu"]["model"] = "Zen \"5\"";
  return JsonValue(env);
}

inline Document minimal_document() {
  Document document;
  document.env = sample_env();
  return document;
}

inline Metric sample_metric() {
  Metric metric;
  metric.name = "hop";
  metric.unit = "ns";
  metric.better = Better::lower;
  metric.kind = Kind::time;
  static_cast<Summary&>(metric) = {6,
                                   600,
                                   1420.25,
                                   Interval{1400, 1440.5, 0.96875, "sign test"},
                                   0.1,
                                   1e-9,
                                   1.0 / 3,
                                   5e300,
                                   2e15,
                                   {},
                                   {{"p999", "needs 2995 samples"}}};
  metric.per_run = {{0, {2, 3}, 3, 5.5, {5, 5.5, 0.1}, {}},
                    {1, {2}, 7, {}, {}, Bins{1, 300.5, {{1, 2}, {129, 4}, {300.5, 1}}}}};
  metric.clean = static_cast<const Summary&>(metric);
  metric.floors = {{"null syscall", 71.5}, {"yield", {}}};
  metric.net = Net{3.5, Interval{-1, 8, 0.96875, "sign test"}, true};
  metric.matrix = Matrix{{"0", "1"}, {"0", "1"}, {{0, 51.5}, {52, 0}}};
  return metric;
}

inline Series sample_series() {
  Series series;
  series.name = "pipe/smt";
  series.params = {{"size", 64}, {"mode", "closed"}, {"alpha", 0.25}};
  series.status = Status::noisy;
  series.reason = "2 of 6 processes";
  series.driver = "epoll";
  series.placement = {"smt", {0, 4}, {0, 1}};
  series.metrics = {sample_metric()};
  series.checks = {{"switches", ">= 1000", 1007, true}, {"cpu", 3, 2, false}};
  series.warnings = {make_warning(Code::steal, {{"ticks", 3}, {"cpu", "2"}}, {}, "3 ticks")};
  return series;
}

inline Document full_document() {
  Document document = minimal_document();
  document.complete = true;
  document.run = {"5f9c",
                  "2026-01-02T03:04:05Z",
                  "2026-01-02T03:05:00Z",
                  "host",
                  "µ-label \x01 </script>",
                  {"schedlab", "run"},
                  "/tmp",
                  "b007",
                  "quick",
                  6,
                  9007199254740991,
                  "auto",
                  {{"kind", "slurm"}, {"rank", 3}},
                  {{"switch_cost.hop", 1500}},
                  true};
  document.tool = {"schedlab", "0.1.0",   "1c97314", "clang 19",
                   "-O2",      "release", "none",    {{"hwloc", "2.9.0"}}};
  document.unavailable = {{"env.power.governor", "ENOENT"}};
  LabResult lab;
  lab.name = "switch_cost";
  lab.version = 3;
  lab.code = "c0de";
  lab.question = "What does a switch cost?";
  lab.status = Status::noisy;
  lab.reason = "cut";
  lab.answer = "1.4 µs";
  lab.wall_ns = 2.5e9;
  lab.series = {sample_series(), {}};
  lab.series[1].status = Status::skipped;
  lab.claims = {{"C07", "text", "threads.md", Verdict::refuted, "ratio 1.02", "2 CPUs"}};
  for (const CodeInfo& row : codes)
    lab.warnings.push_back(make_warning(row.code));
  document.labs = {lab, {}};
  return document;
}

}  // namespace schedlab::harness
