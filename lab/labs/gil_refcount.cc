// gil_refcount: what does it cost to count references without a lock around the interpreter?
//
// Method   A thread takes a reference and gives it up, with a plain count, an atomic one and a
//          biased one (PEP 703), to an object of its own; then as many threads as there are CPUs,
//          each to its own and all to one. The bytecode machine counts to N in each of the three
//          ways. Last, two threads share plainly counted constants with a lock and without.
// Reading  "pair" on a private object is the price one thread pays; on a shared one it grows with
//          the threads, as the line moves. "overhead" is what a whole interpreter slows down.
//          "lost" are references that went missing: none with a lock.
// Traps    A biased count is cheap for the thread that made the object: to the others it is an
//          atomic one. Real interpreters exempt what everybody shares from counting (immortal
//          objects).

#include "lab/apparatus/counting.hh"
#include "lab/apparatus/gil_verdicts.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/start_line.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::Counting;
using apparatus::quote;
using procs::LockRule;

enum : std::size_t { pair, turn, overhead, lost };

constexpr MetricInfo metrics[] = {
    {.name = "pair",
     .unit = "ns",
     .help = "one thread takes a reference and gives it up",
     .interval = true},
    {.name = "turn", .unit = "ns", .help = "a turn of the interpreted loop", .interval = true},
    {.name = "overhead",
     .unit = "",
     .kind = Kind::ratio,
     .help = "turn or pair divided by that of plain counts",
     .interval = true},
    {.name = "lost",
     .unit = "",
     .kind = Kind::count,
     .help = "references lost or found, of a million taken"},
};

constexpr std::string_view count_words[] = {"plain", "atomic", "biased"};
constexpr std::string_view all_counts = "plain,atomic,biased";

constexpr Param params[] = {
    {.name = "count",
     .help = "how references are counted",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_counts,
     .quick = all_counts,
     .full = all_counts,
     .words = count_words},
    {.name = "threads",
     .help = "most threads that count at the same time; 0: one for each usable CPU, 16 at most",
     .smoke = "2",
     .quick = "0",
     .full = "0",
     .max = 4096},
};

constexpr unsigned usual_most = 16;

std::string private_name(std::string_view count, std::size_t threads) {
  return fmt::format("private/{}/{}", count, threads);
}
std::string shared_name(std::string_view count, std::size_t threads) {
  return fmt::format("shared/{}/{}", count, threads);
}
std::string machine_name(std::string_view count) {
  return fmt::format("machine/{}", count);
}

void add_threads(Plan& plan, const std::vector<unsigned>& cpus, const std::string& count,
                 bool shared) {
  apparatus::CountingOptions options;
  options.counting = apparatus::counting_from(count);
  options.shared = shared;
  options.cpus = cpus;
  options.usable = plan.topology().usable();
  options.pair = pair;
  SeriesPlan series;
  series.name = shared ? shared_name(count, cpus.size()) : private_name(count, cpus.size());
  series.group = fmt::format("{} threads", cpus.size());
  series.params = {{"count", count},
                   {"threads", std::to_string(cpus.size())},
                   {"object", shared ? "shared" : "private"}};
  series.cpus = cpus;
  series.make = [options] { return apparatus::make_counting(options); };
  plan.add(std::move(series));
}

void add_machine(Plan& plan, unsigned cpu, const std::string& count) {
  SeriesPlan series;
  series.name = machine_name(count);
  series.group = "machine";
  series.params = {{"count", count}, {"object", "machine"}};
  series.relation = "same-pu";
  series.cpus = {cpu};
  series.make = [counting = apparatus::counting_from(count), cpu,
                 usable = plan.topology().usable()] {
    return apparatus::make_counting_loop(counting, cpu, usable, turn);
  };
  plan.add(std::move(series));
}

void add_losing(Plan& plan, const std::vector<unsigned>& cpus, LockRule rule) {
  SeriesPlan series;
  series.name = rule == LockRule::none ? "plain/unlocked" : "plain/locked";
  series.group = "losing";
  series.params = {{"rule", std::string(to_text(rule))}};
  series.cpus = cpus;
  if (cpus.size() < 2)
    series.skip = "needs 2 usable CPUs, on which two threads count at the same time";
  series.make = [options = apparatus::LosingOptions{rule, cpus, plan.topology().usable(), lost}] {
    return apparatus::make_losing(options);
  };
  plan.add(std::move(series));
}

void plan_series(Plan& plan) {
  auto cpus = apparatus::cpus_apart(plan.topology(), plan.placement());
  const auto most = static_cast<std::size_t>(plan.number("threads"));
  cpus.resize(std::min(cpus.size(), most == 0 ? usual_most : most));
  std::vector<std::size_t> crowds;
  for (std::size_t threads = 1; threads < cpus.size(); threads *= 2)
    crowds.push_back(threads);
  crowds.push_back(cpus.size());
  for (const std::size_t threads : crowds)
    for (const auto& count : plan.words("count")) {
      const std::vector some(cpus.begin(), cpus.begin() + static_cast<std::ptrdiff_t>(threads));
      add_threads(plan, some, count, false);
      add_threads(plan, some, count, true);
    }
  for (const auto& count : plan.words("count"))
    add_machine(plan, cpus.front(), count);
  cpus.resize(std::min<std::size_t>(cpus.size(), 2));
  add_losing(plan, cpus, LockRule::interval);
  add_losing(plan, cpus, LockRule::none);
}

// What others cost, as a multiple of plain counts.
void conclude(const Plan&, LabResult& result) {
  apparatus::add_multiples(result, metrics[turn], metrics[overhead],
                           [](const Series&) { return machine_name("plain"); });
  apparatus::add_multiples(result, metrics[pair], metrics[overhead], [](const Series& series) {
    return private_name("plain", static_cast<std::size_t>(param_number(series, "threads")));
  });
}

// The most threads that shared an object of this count; 0 without any.
unsigned most_threads(const Findings& findings, std::string_view count) {
  double most = 0;
  for (const auto& series : findings.result().series)
    if (find_metric(series, "pair") && param_text(series, "count") == count &&
        param_text(series, "object") == "shared")
      most = std::max(most, param_number(series, "threads"));
  return static_cast<unsigned>(most);
}

std::string answer(const Findings& findings) {
  std::string text;
  for (const auto count : count_words) {
    const std::string alone = quote(findings, private_name(count, 1), "pair");
    if (alone.empty())
      continue;
    text += fmt::format("{}{} {}", text.empty() ? "A reference is taken and given up in " : ", ",
                        alone, count);
    const unsigned threads = most_threads(findings, count);
    if (threads > 1)
      text += fmt::format(" ({} by each of {} threads that share the object)",
                          quote(findings, shared_name(count, threads), "pair"), threads);
  }
  if (text.empty())
    return "No reference could be counted.";
  text += ".";
  for (const std::string_view count : {"atomic", "biased"})
    if (const auto ratio = findings.ratio(machine_name(count), machine_name("plain"), "turn"))
      text +=
          fmt::format(" A loop in the machine takes {} with {} counts.", percent(*ratio), count);
  return text;
}

// One thread pays if its loop is slower beyond doubt, with the counts that PEP 703 chose.
Judgement judge_single_thread(const Findings& findings) {
  Judgement judgement;
  const auto atomic = findings.ratio(machine_name("atomic"), machine_name("plain"), "turn");
  const auto biased = findings.ratio(machine_name("biased"), machine_name("plain"), "turn");
  if (!atomic || !biased || !biased->interval) {
    judgement.needs = "gil_refcount with 6 processes or more";
    return judgement;
  }
  judgement.evidence = fmt::format("a loop in one thread takes {} with atomic counts and {} with "
                                   "biased ones; PEP 703 gives 105 to 106 % for a whole "
                                   "interpreter, later releases 101 to 140 %",
                                   percent(*atomic), percent(*biased));
  if (biased->interval->low > 1.01)
    judgement.verdict = Verdict::confirmed;
  else if (biased->interval->high < 1.01)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine";
  return judgement;
}

Judgement judge_counts_under_the_lock(const Findings& findings) {
  const Series* locked = findings.series("plain/locked");
  if (apparatus::fails(locked, apparatus::references_check))
    return apparatus::refuted(fmt::format(
        "{:.0f} references to a shared object were lost with the lock",
        apparatus::seen_number(apparatus::find_check(locked, apparatus::references_check))));
  const Metric* with = findings.metric("plain/locked", "lost");
  const Metric* without = findings.metric("plain/unlocked", "lost");
  if (!with || !with->median || !without || !without->median || !apparatus::is_sound(locked))
    return apparatus::undecided("gil_refcount on 2 CPUs or more");
  Judgement judgement;
  const unsigned threads = most_threads(findings, "atomic");
  judgement.evidence =
      fmt::format("of a million references to a shared object {} are lost with the lock and {} "
                  "without; an atomic count takes {} in one thread and {} in each of {} that share "
                  "the object",
                  with_interval(*with), with_interval(*without),
                  quote(findings, shared_name("atomic", 1), "pair"),
                  quote(findings, shared_name("atomic", threads), "pair"), threads);
  if (*with->median > 0)
    judgement.verdict = Verdict::refuted;
  else if (*without->median > 0)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs =
        "two threads that run at the same time: without the lock none was lost either";
  return judgement;
}

Judgement judge_redesign(const Findings&) {
  Judgement judgement;
  judgement.verdict = Verdict::untestable;
  judgement.evidence = "what a redesign takes is no measurement; what it costs one thread is C6";
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C6",
     .text = "Without the interpreter lock a single thread becomes slower",
     .source = "S0",
     .judge = judge_single_thread},
    {.id = "C45",
     .text = "The interpreter lock keeps reference counts right",
     .source = "S2",
     .judge = judge_counts_under_the_lock},
    {.id = "C47",
     .text = "To remove the interpreter lock means to redesign the interpreter",
     .source = "S2",
     .judge = judge_redesign},
};

}  // namespace

extern constinit const Lab gil_refcount = {
    .name = "gil_refcount",
    .family = "gil",
    .question = "what does it cost to count references without a lock around the interpreter?",
    .version = 1,
    .shape = Shape::workers,
    .params = params,
    .metrics = metrics,
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
