#pragma once
// The keys of the result document and their order, once for reading and for writing: describe(at,
// part) tells the archive `at` of each of a part's fields. `required` keys are in every document;
// `optional` ones are additions that a document may lack.

#include "lab/harness/document.hh"

#include <concepts>
#include <type_traits>

namespace schedlab::harness {

template <typename T, typename U>
concept Either = std::same_as<std::remove_const_t<T>, U>;

void describe(auto& at, Either<RunInfo> auto& run) {
  at.required("uuid", run.uuid);
  at.required("started", run.started);
  at.optional("finished", run.finished);
  at.optional("host", run.host);
  at.required("label", run.label);
  at.required("argv", run.argv);
  at.optional("cwd", run.cwd);
  at.optional("boot_id", run.boot_id);
  at.required("preset", run.preset);
  at.required("processes", run.processes);
  at.required("seed", run.seed);
  at.required("driver", run.driver);
  at.required("launcher", run.launcher);
  at.required("predictions", run.predictions);
  at.optional("redacted", run.redacted);
}

void describe(auto& at, Either<ToolInfo> auto& tool) {
  at.required("name", tool.name);
  at.required("version", tool.version);
  at.required("git", tool.git);
  at.required("compiler", tool.compiler);
  at.required("flags", tool.flags);
  at.required("build_type", tool.build_type);
  at.required("sanitizers", tool.sanitizers);
  at.required("libraries", tool.libraries);
}

void describe(auto& at, Either<Placement> auto& placement) {
  at.required("relation", placement.relation);
  at.required("cpus", placement.cpus);
  at.required("logical", placement.logical);
}

void describe(auto& at, Either<Interval> auto& interval) {
  at.required("low", interval.low);
  at.required("high", interval.high);
  at.required("level", interval.level);
  at.required("method", interval.method);
}

void describe(auto& at, Either<Summary> auto& summary) {
  at.required("runs", summary.runs);
  at.required("samples", summary.samples);
  at.required("median", summary.median);
  at.required("ci", summary.ci);
  at.required("min", summary.min);
  at.required("mad", summary.mad);
  at.required("p50", summary.p50);
  at.required("p90", summary.p90);
  at.required("p99", summary.p99);
  at.required("p999", summary.p999);
  at.required("omitted", summary.omitted);
}

void describe(auto& at, Either<Bins> auto& bins) {
  at.constant("scale", "log2x64");
  at.required("min", bins.min);
  at.required("max", bins.max);
  at.required("bins", bins.values);
}

void describe(auto& at, Either<PerRun> auto& run) {
  at.required("process", run.process);
  at.required("cpus", run.cpus);
  at.required("samples", run.samples);
  at.required("median", run.median);
  at.one_of("histogram", run.histogram, "values", run.values);
}

void describe(auto& at, Either<Floor> auto& floor) {
  at.required("name", floor.name);
  at.required("median", floor.median);
}

void describe(auto& at, Either<Net> auto& net) {
  at.required("median", net.median);
  at.required("ci", net.ci);
  at.required("below_resolution", net.below_resolution);
}

void describe(auto& at, Either<Matrix> auto& matrix) {
  at.required("rows", matrix.rows);
  at.required("columns", matrix.columns);
  at.table("values", matrix.values);
  at.optional("borders", matrix.borders);
}

template <Either<Metric> M>
void describe(auto& at, M& metric) {
  using Base = std::conditional_t<std::is_const_v<M>, const Summary, Summary>;
  at.required("name", metric.name);
  at.required("unit", metric.unit);
  at.required("better", metric.better);
  at.required("kind", metric.kind);
  describe(at, static_cast<Base&>(metric));
  at.required("per_run", metric.per_run);
  at.required("clean", metric.clean);
  at.required("floors", metric.floors);
  at.required("net", metric.net);
  at.required("matrix", metric.matrix);
}

void describe(auto& at, Either<Check> auto& check) {
  at.required("name", check.name);
  at.required("expected", check.expected);
  at.required("seen", check.seen);
  at.required("ok", check.ok);
}

void describe(auto& at, Either<Warning> auto& warning) {
  at.required("code", warning.code);
  at.required("severity", warning.severity);
  at.required("message", warning.message);
  at.required("fix", warning.fix);
  at.required("evidence", warning.evidence);
}

void describe(auto& at, Either<Series> auto& series) {
  at.required("name", series.name);
  at.required("params", series.params);
  at.required("status", series.status);
  at.required("reason", series.reason);
  at.required("driver", series.driver);
  at.required("placement", series.placement);
  at.required("metrics", series.metrics);
  at.required("checks", series.checks);
  at.required("warnings", series.warnings);
}

void describe(auto& at, Either<Claim> auto& claim) {
  at.required("id", claim.id);
  at.required("text", claim.text);
  at.required("source", claim.source);
  at.required("verdict", claim.verdict);
  at.required("evidence", claim.evidence);
  at.required("needs", claim.needs);
}

void describe(auto& at, Either<LabResult> auto& lab) {
  at.required("name", lab.name);
  at.required("version", lab.version);
  at.required("code", lab.code);
  at.optional("question", lab.question);
  at.required("status", lab.status);
  at.required("reason", lab.reason);
  at.required("answer", lab.answer);
  at.optional("wall_ns", lab.wall_ns);
  at.required("series", lab.series);
  at.required("claims", lab.claims);
  at.optional("warnings", lab.warnings);
}

void describe(auto& at, Either<Document> auto& document) {
  at.required("complete", document.complete);
  at.required("run", document.run);
  at.required("tool", document.tool);
  at.required("env", document.env);
  at.required("unavailable", document.unavailable);
  at.required("labs", document.labs);
}

}  // namespace schedlab::harness
