#include "lab/apparatus/sleep_verdicts.hh"

#include "lab/apparatus/sleep_overlap.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/harness/numbers.hh"

#include <fmt/format.h>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Findings;
using harness::Judgement;
using harness::Metric;
using harness::quantity;
using harness::Series;
using harness::Verdict;

constexpr double second_ns = 1e9;
constexpr std::string_view more_processes = "io_timers with 6 processes or more";
constexpr std::string_view quieter = "a quieter machine";

std::string seen(const Series& series, std::string_view check) {
  const Check* found = find_check(&series, check);
  if (!found)
    return "no count";
  return found->seen.number() ? fmt::format("{:.0f}", *found->seen.number()) : *found->seen.text();
}

// A program's series, and its total if that has an interval; null otherwise.
struct Program {
  const Series* series = nullptr;
  const Metric* total = nullptr;
};

Program find_program(const Findings& findings, const std::string& name) {
  return {findings.series(name), bounded(findings.metric(name, "total"))};
}

// Two sleepers whose waits overlap take the time of one, not of two.
Judgement judge_pair(const Findings& findings, const std::string& name, std::string_view what) {
  constexpr double one_and_a_half = 1.5;
  const auto [series, total] = find_program(findings, name);
  if (fails(series, turns_check))
    return refuted(fmt::format("two {} of {} steps changed turns only {} times in a run", what,
                               overlap_steps, seen(*series, turns_check)));
  if (!total || !is_sound(series))
    return undecided(more_processes);
  Judgement judgement;
  judgement.evidence = fmt::format(
      "two {} of {} steps take {} times the waits of one, with at least {} changes of turn "
      "in {} steps",
      what, overlap_steps, with_interval(*total), seen(*series, turns_check), 2 * overlap_steps);
  if (const Metric* late = find_metric(*series, "late"); late && late->median)
    judgement.evidence += fmt::format("; a step is {} longer than asked", with_interval(*late));
  if (total->ci->high < one_and_a_half && holds(series, turns_check))
    judgement.verdict = Verdict::confirmed;
  else if (total->ci->low > one_and_a_half)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

}  // namespace

std::string crowd_name(std::int64_t sleepers, std::string_view arm) {
  return fmt::format("{}/{}", sleepers, arm);
}
std::string alone_name(std::string_view arm, bool slack) {
  return crowd_name(1, arm) + (slack ? "" : "/no-slack");
}
std::string program_name(std::string_view program, std::string_view driver) {
  return driver.empty() ? std::string(program) : fmt::format("{}/{}", program, driver);
}

std::optional<bool> keeps_up(const Series& series) {
  constexpr double soon = 0.1, behind = 1;  // of the period
  const Metric* late = find_metric(series, "p99");
  const double period_ns = 1000 * param_number(series, "period_us");
  if (!late || !late->ci || period_ns <= 0)
    return std::nullopt;
  if (late->ci->high < soon * period_ns)
    return true;
  return late->ci->low > behind * period_ns ? std::optional(false) : std::nullopt;
}

Judgement judge_computing_in_a_loop(const Findings& findings) {
  const auto driver = measured_driver(findings);
  const auto pair = find_program(findings, program_name("compute-pair", driver));
  const auto brief = find_program(findings, program_name("slice-short", driver));
  const auto lasting = find_program(findings, program_name("slice-long", driver));
  if (!pair.total || !brief.total || !lasting.total)
    return undecided(more_processes);
  Judgement judgement;
  judgement.evidence = fmt::format(
      "two computing tasks take {} times what one takes; a timer that falls due as a coroutine "
      "computes is late by {} times what is left of it in a short slice and {} in one four times "
      "as long",
      with_interval(*pair.total), with_interval(*brief.total), with_interval(*lasting.total));
  const auto follows = [](const Metric& share) {
    return share.ci->low > 0.9 && share.ci->high < 1.2;
  };
  const auto escapes = [](const Metric& share) { return share.ci->high < 0.5; };
  if (pair.total->ci->low > 1.8 && follows(*brief.total) && follows(*lasting.total))
    judgement.verdict = Verdict::confirmed;
  else if (pair.total->ci->high < 1.5 || escapes(*brief.total) || escapes(*lasting.total))
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

Judgement judge_sleep(const Findings& findings) {
  constexpr double tolerable = 0.01;  // of the second that the tutorial sleeps
  constexpr std::string_view early = "sleepers that went on before they were due";
  const std::string name = alone_name(measured_driver(findings), true);
  const Series* series = findings.series(name);
  const Metric* late = findings.metric(name, "late");
  if (fails(series, early))
    return refuted(fmt::format("{} of the {}", seen(*series, early), early));
  if (!late || !late->ci)
    return undecided(more_processes);
  Judgement judgement;
  judgement.evidence = fmt::format(
      "a coroutine that slept {:.0f} us went on {} after it was due, {} too early; of a "
      "second that is {:.4f} %",
      param_number(*series, "period_us"), with_interval(*late), seen(*series, early),
      100 * *late->median / second_ns);
  if (late->ci->low > tolerable * second_ns)
    judgement.verdict = Verdict::refuted;
  else if (late->ci->high < tolerable * second_ns && holds(series, early))
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = quieter;
  return judgement;
}

Judgement judge_two_threads(const Findings& findings) {
  return judge_pair(findings, "threads", "threads");
}

Judgement judge_two_processes(const Findings& findings) {
  Judgement judgement = judge_pair(findings, "processes", "processes");
  const auto started = findings.difference("processes-started", "processes", "total");
  const Series* series = findings.series("processes");
  if (judgement.evidence.empty() || !started || !started->interval)
    return judgement;
  const double wait_ns = 1000 * overlap_steps * param_number(*series, "step_us");
  judgement.evidence += fmt::format("; to start and end both adds {}",
                                    harness::below_resolution(*started->interval)
                                        ? "what is below resolution"
                                        : quantity(started->value * wait_ns, "ns"));
  return judgement;
}

Judgement judge_two_coroutines(const Findings& findings) {
  return judge_pair(findings, program_name("coroutines", measured_driver(findings)),
                    "coroutines of one thread");
}

Judgement judge_await_blocks_no_thread(const Findings& findings) {
  const Series* series = findings.series(program_name("sequential", measured_driver(findings)));
  if (!find_check(series, ticks_check))
    return undecided("io_timers with program=sequential");
  Judgement judgement;
  judgement.evidence = fmt::format("while a coroutine waited for {} steps, another one of its "
                                   "thread ticked at least {} times",
                                   overlap_steps, seen(*series, ticks_check));
  if (fails(series, ticks_check))
    judgement.verdict = Verdict::refuted;
  else if (is_sound(series))
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = quieter;
  return judgement;
}

Judgement judge_many_waits(const Findings& findings) {
  const std::string name = crowd_name(many_sleepers, measured_driver(findings));
  const Series* series = findings.series(name);
  const Metric* late = findings.metric(name, "p99");
  const Metric* time = findings.metric(name, "cpu");
  if (!late || !late->ci || !time || !time->median)
    return undecided("io_timers with 10000 sleepers and 6 processes or more");
  Judgement judgement;
  judgement.evidence =
      fmt::format("of {} sleepers in one thread, each due every {}, 99 % are less than {} late; a "
                  "sleep takes {} of CPU time",
                  many_sleepers, quantity(1000 * param_number(*series, "period_us"), "ns"),
                  with_interval(*late), with_interval(*time));
  if (const auto kept_up = keeps_up(*series))
    judgement.verdict = *kept_up ? Verdict::confirmed : Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

Judgement judge_awaits_in_sequence(const Findings& findings) {
  const auto [series, total] =
      find_program(findings, program_name("sequential", measured_driver(findings)));
  if (fails(series, ticks_check))
    return refuted(
        fmt::format("only {} ticks of another task fell into a wait", seen(*series, ticks_check)));
  if (!total)
    return undecided(more_processes);
  Judgement judgement;
  judgement.evidence =
      fmt::format("two waits, one awaited after the other, take {} times one; at least {} ticks of "
                  "another task fell into each",
                  with_interval(*total), seen(*series, ticks_check));
  if (total->ci->low > 1.9 && holds(series, ticks_check))
    judgement.verdict = Verdict::confirmed;
  else if (total->ci->high < 1.5)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

Judgement judge_create_task(const Findings& findings) {
  constexpr double between = 1.25;  // of max(10, 5) / 10 = 1 and (10 + 5) / 10 = 1.5
  const auto [series, total] =
      find_program(findings, program_name("create_task", measured_driver(findings)));
  if (fails(series, began_check) || fails(series, threads_check))
    return refuted(fmt::format("a task had begun before it was awaited in {} runs, in {} thread",
                               seen(*series, began_check), seen(*series, threads_check)));
  if (!total)
    return undecided(more_processes);
  Judgement judgement;
  judgement.evidence = fmt::format(
      "a task of half a wait, started before the wait and awaited after it, and the wait take {} "
      "times the wait; it had begun before it was awaited in {} runs, in {} thread",
      with_interval(*total), seen(*series, began_check), seen(*series, threads_check));
  const bool began = holds(series, began_check), one_thread = holds(series, threads_check);
  if (total->ci->high < between && began && one_thread)
    judgement.verdict = Verdict::confirmed;
  else if (total->ci->low > between)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

}  // namespace schedlab::apparatus
