#include "lab/harness/runner.hh"

#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/mapping.hh"
#include "lab/base/random.hh"
#include "lab/base/text.hh"
#include "lab/harness/disturbance.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/preflight.hh"
#include "lab/harness/validity.hh"
#include "lab/harness/wire.hh"

#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <csignal>

namespace schedlab::harness {

namespace {

constexpr int progress_period_ms = 250;
constexpr std::size_t reply_limit = std::size_t{256} << 20;

Fd make_memfd(const char* name) {
  return Fd(check(::memfd_create(name, MFD_CLOEXEC), "memfd_create", name));
}

std::string contents(const Fd& memfd) {
  return read_input("/proc/self/fd/" + std::to_string(memfd.get()), reply_limit);
}

std::string last_line(std::string_view text) {
  text = trim(text);
  const auto at = text.rfind('\n');
  return std::string(at == std::string_view::npos ? text : text.substr(at + 1));
}

// Long enough for a slow machine, short enough to end a replicate that hangs.
int patience_ms(double budget_s) {
  return static_cast<int>(60'000 + 10'000 * budget_s);
}

// A smoke run proves that the labs work and is not worth a look at the machine's load.
std::vector<Warning> preflight_for(const affinity::Topology& topology, Preset preset) {
  return preset == Preset::smoke ? standing_conditions(topology) : preflight(topology);
}

// Later processes need not find out again how many operations make a sample.
void keep_operations(const Reply& reply, Request& request) {
  for (const auto& raw : reply.series)
    if (raw.operations > 0)
      request.operations.emplace(raw.name, raw.operations);
}

}  // namespace

struct Runner::State {
  const affinity::Topology& topology;
  RunOptions options;
  clock::Calibration calibration;
  sigset_t before{};
  Fd signals;
  std::vector<Warning> standing;  // what is wrong with the machine whatever is measured
  int interrupted = 0;
  std::function<void(const ProgressView&)> progress;

  struct Replicate {
    std::optional<Reply> reply;
    std::string failure;
    bool hung = false;  // and would again
  };
  Replicate replicate(const Plan& plan, const Request& request);
  bool wait(Child& child, const Plan& plan, const Request& request, const Progress& shared);
  void show(const Plan& plan, const Request& request, const Progress& shared) const;
  std::unique_ptr<Plan> refined(std::unique_ptr<Plan> plan, Request& request, LabResult& result);
  void measure_lab(std::unique_ptr<Plan> plan, LabResult& result);
};

Runner::Runner(const affinity::Topology& topology, const RunOptions& options,
               const clock::Calibration& calibration)
    : state_(new State{.topology = topology,
                       .options = options,
                       .calibration = calibration,
                       .signals = {},
                       .standing = preflight_for(topology, options.preset),
                       .progress = {}}) {
  sigset_t caught;
  sigemptyset(&caught);
  for (const int number : {SIGINT, SIGTERM, SIGHUP})
    sigaddset(&caught, number);
  check(::sigprocmask(SIG_BLOCK, &caught, &state_->before), "sigprocmask");
  state_->signals = Fd(check(::signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd"));
}

Runner::~Runner() {
  ::sigprocmask(SIG_SETMASK, &state_->before, nullptr);
}

void Runner::on_progress(std::function<void(const ProgressView&)> callback) {
  state_->progress = std::move(callback);
}

int Runner::interrupted() const noexcept {
  return state_->interrupted;
}

void Runner::State::show(const Plan& plan, const Request& request, const Progress& shared) const {
  ProgressView view;
  view.lab = &plan.lab();
  const auto index = shared.series.load(std::memory_order_relaxed);
  view.series = index < plan.series().size() ? &plan.series()[index] : nullptr;
  view.process = request.process;
  view.processes = processes_of(options);
  view.round = shared.round.load(std::memory_order_relaxed);
  view.rounds = shared.rounds.load(std::memory_order_relaxed);
  view.done = (request.process + shared.done_permille.load(std::memory_order_relaxed) / 1000.0) /
              view.processes;
  view.estimate = shared.estimate.load(std::memory_order_relaxed);
  progress(view);
}

// Waits for the replicate's end; false after a signal or when patience is out.
bool Runner::State::wait(Child& child, const Plan& plan, const Request& request,
                         const Progress& shared) {
  const std::int64_t deadline =
      clock::now_ns() + std::int64_t{patience_ms(request.budget_s)} * 1'000'000;
  while (clock::now_ns() < deadline) {
    pollfd events[] = {{.fd = child.pidfd(), .events = POLLIN, .revents = 0},
                       {.fd = signals.get(), .events = POLLIN, .revents = 0}};
    const int ready = ::poll(events, 2, progress ? progress_period_ms : 5000);
    if (ready < 0 && errno != EINTR)
      throw_errno(errno, "poll");
    signalfd_siginfo info;
    if (ready > 0 && events[1].revents && ::read(signals.get(), &info, sizeof info) > 0) {
      interrupted = static_cast<int>(info.ssi_signo);
      return false;
    }
    if (ready > 0 && events[0].revents)
      return true;
    if (ready == 0 && progress)
      show(plan, request, shared);
  }
  return false;
}

Runner::State::Replicate Runner::State::replicate(const Plan& plan, const Request& request) {
  const Fd request_file = make_memfd("schedlab-request");
  const Fd reply_file = make_memfd("schedlab-reply");
  const Fd progress_file = make_memfd("schedlab-progress");
  const Fd errors = make_memfd("schedlab-errors");
  write_all(request_file.get(), encode(request, calibration), "request");
  check(::ftruncate(progress_file.get(), sizeof(Progress)), "ftruncate");
  const Mapping shared = Mapping::of_file(progress_file, sizeof(Progress));

  Random random(request.seed);
  SpawnOptions spawn;
  spawn.own_group = true;
  spawn.fds = {{request_file.get(), request_fd},
               {reply_file.get(), reply_fd},
               {progress_file.get(), progress_fd},
               {errors.get(), 1},
               {errors.get(), 2}};
  // A program's speed depends on how its environment moves the stack (Mytkowicz et al. 2009).
  spawn.environment = {{"SCHEDLAB_PADDING", std::string(random.below(4096), '.')}};

  Child child = Child::exec({self_exe, std::string(replicate_word)}, spawn);
  const bool ended = wait(child, plan, request, *shared.as<Progress>());
  if (!ended)
    child.signal(SIGKILL);
  const ExitCause cause = child.wait();
  if (interrupted)
    return {std::nullopt, "interrupted", false};
  if (!ended)
    return {std::nullopt, "a replicate process did not end in time and was killed", true};
  if (!cause.success()) {
    const std::string said = last_line(contents(errors));
    return {std::nullopt,
            "a replicate process failed: " + cause.text() + (said.empty() ? "" : ": " + said),
            false};
  }
  return {decode_reply(contents(reply_file)), "", false};
}

// The plan that a first process's reply asks for, with the operations it found; a process that
// fails leaves the plan as it is, and the next one will say why.
std::unique_ptr<Plan> Runner::State::refined(std::unique_ptr<Plan> plan, Request& request,
                                             LabResult& result) {
  const Lab& lab = plan->lab();
  if (!lab.refine || options.preset == Preset::smoke)
    return plan;
  request.budget_s = budget_of(*plan) / (processes_of(options) + 1);
  request.seed = Random(options.seed)();
  const Replicate scout = replicate(*plan, request);
  if (!scout.reply)
    return plan;
  keep_operations(*scout.reply, request);
  for (auto& [param, value] : lab.refine(*plan, *scout.reply))
    request.settings.values.emplace(param, value);
  PlanOutcome again = plan_lab(lab, topology, request.settings);
  if (!again.unsupported.empty()) {
    result.reason = again.unsupported;
    return plan;
  }
  return std::move(again.plan);
}

void Runner::State::measure_lab(std::unique_ptr<Plan> first_plan, LabResult& result) {
  const Lab& lab = first_plan->lab();
  const unsigned processes = processes_of(options);
  const double budget_s = budget_of(*first_plan);
  const std::int64_t start = clock::now_ns();
  const auto counters = read_counters(topology.usable());
  std::vector<Reply> replies;
  std::string failure;
  Request request{.lab = std::string(lab.name),
                  .settings = settings_for(lab, options),
                  .usable = topology.usable().list(),
                  .process = 0,
                  .seed = 0,
                  .budget_s = 0,
                  .operations = {}};
  const auto owned = refined(std::move(first_plan), request, result);
  const Plan& plan = *owned;
  for (; request.process < processes && !interrupted; ++request.process) {
    const double spent_s = static_cast<double>(clock::now_ns() - start) * 1e-9;
    const double left_s = std::max(budget_s - spent_s, 0.1 * budget_s);
    request.budget_s = left_s / (processes - request.process);
    request.seed = Random(options.seed + request.process)();
    Replicate done = replicate(plan, request);
    if (!done.reply) {
      failure = done.failure;
      if (done.hung)
        break;
      continue;
    }
    keep_operations(*done.reply, request);
    replies.push_back(std::move(*done.reply));
  }
  auto counters_after = read_counters(topology.usable());
  if (lab.starves)
    counters_after.oom_kills.reset();
  for (auto& warning : disturbances(counters, counters_after))
    result.warnings.push_back(std::move(warning));
  result.wall_ns = static_cast<double>(clock::now_ns() - start);
  if (!failure.empty())
    result.reason = failure;
  if (replies.empty()) {
    result.status = Status::failed;
    return;
  }
  result.series = merge(plan, replies);
  if (lab.conclude)
    lab.conclude(plan, result);
  for (auto& warning : lab_warnings(plan, replies))
    result.warnings.push_back(std::move(warning));
  std::vector<Status> parts;
  for (const auto& series : result.series)
    parts.push_back(series.status);
  parts.push_back(worst(result.warnings));
  result.status = !failure.empty() && !interrupted ? Status::failed : overall(parts);
}

namespace {

// A verdict that is open may be so for the numbers that do not count.
Claim judged(const ClaimInfo& claim, const Findings& findings) {
  Judgement judgement = claim.judge(findings);
  const auto& all = findings.result().series;
  const auto invalid = std::ranges::count(all, Status::invalid, &Series::status);
  if (judgement.verdict == Verdict::inconclusive && invalid > 0)
    judgement.needs +=
        fmt::format("; {} of {} series are invalid and do not count", invalid, all.size());
  return {std::string(claim.id), std::string(claim.text),       std::string(claim.source),
          judgement.verdict,     std::move(judgement.evidence), std::move(judgement.needs)};
}

}  // namespace

LabResult Runner::run(const Lab& lab) {
  LabResult result = blank_result(lab);
  result.warnings = state_->standing;
  PlanOutcome outcome = plan_lab(lab, state_->topology, settings_for(lab, state_->options));
  if (!outcome.unsupported.empty() || outcome.plan->runnable() == 0) {
    result.status = Status::skipped;
    result.reason = outcome.unsupported;
    if (result.reason.empty())
      for (const auto& series : outcome.plan->series())
        result.reason = series.skip;
    result.series = merge(*outcome.plan, {});
    return result;
  }
  state_->measure_lab(std::move(outcome.plan), result);
  const Findings findings(result);
  if (result.status != Status::failed && lab.answer)
    result.answer = lab.answer(findings);
  for (const auto& claim : lab.claims)
    result.claims.push_back(judged(claim, findings));
  return result;
}

unsigned processes_of(const RunOptions& options) noexcept {
  if (options.processes)
    return *options.processes;
  switch (options.preset) {
  case Preset::smoke:
    return 1;
  case Preset::quick:
    return 6;
  case Preset::full:
    break;
  }
  return 20;
}

double budget_of(const Lab& lab, Preset preset) noexcept {
  switch (preset) {
  case Preset::smoke:
    return 0.4;
  case Preset::quick:
    return lab.budget.quick_s;
  case Preset::full:
    break;
  }
  return lab.budget.full_s;
}

double budget_of(const Plan& plan) noexcept {
  return plan.budget_s().value_or(budget_of(plan.lab(), plan.preset()));
}

double foretold_s(const Plan& plan) noexcept {
  double set_up_s = 0;
  for (const auto& series : plan.series())
    if (series.skip.empty())
      set_up_s += series.set_up_s / series.parts;
  return budget_of(plan) + set_up_s * plan.processes();
}

Settings settings_for(const Lab& lab, const RunOptions& options) {
  Settings settings{.preset = options.preset,
                    .placement = options.placement,
                    .values = {},
                    .driver = options.driver,
                    .processes = processes_of(options)};
  if (const auto set = options.values.find(std::string(lab.name)); set != options.values.end())
    settings.values = set->second;
  return settings;
}

LabResult blank_result(const Lab& lab) {
  LabResult result;
  result.name = lab.name;
  result.version = lab.version;
  result.code = lab_code(lab.name);
  result.question = lab.question;
  return result;
}

}  // namespace schedlab::harness
