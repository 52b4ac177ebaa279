// lock_primitives: what do semaphores, events, conditions, barriers and guards do, how fast, and
// what goes wrong without them?
//
// Method   Each use is played in several ways by the same threads: ours, the C++ library's,
// glibc's,
//          and where it can be, without any. Every use counts its own results: who was inside, what
//          was torn, lost, or cut wrongly; a check holds them against what must be.
// Reading  Ways of one use are beside each other. "wrong" is of a million operations; "switches" is
//          context switches an operation: a herd that is woken for one lock shows there.
// Traps    Without a lock little goes wrong on one CPU, which is not the same as nothing. A buffer
//          whose threads share a CPU goes as the scheduler lets it. An owner's death is told by
//          robust mutexes alone.

#include "lab/apparatus/crowd.hh"
#include "lab/apparatus/dead_owner.hh"
#include "lab/apparatus/lock_uses.hh"
#include "lab/apparatus/lock_verdicts.hh"
#include "lab/apparatus/quote.hh"
#include "lab/base/error.hh"
#include "lab/base/text.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::quote;
using apparatus::times;

enum : std::size_t { latency, cost, rate, switches, spurious, wrong, inside };

constexpr MetricInfo metrics[] = {
    {.name = "latency",
     .unit = "ns",
     .help = "from the call that wakes (or the kill) until the last one goes on",
     .interval = true},
    {.name = "cost", .unit = "ns", .help = "wall time for one operation", .interval = true},
    {.name = "rate",
     .unit = "1/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "operations in a second, all threads together",
     .show = false},
    {.name = "switches",
     .unit = "",
     .kind = Kind::ratio,
     .help = "context switches for one operation, of a crowd for one telling to one thread"},
    {.name = "spurious",
     .unit = "",
     .kind = Kind::ratio,
     .help = "wake-ups that found nothing to do, for one operation",
     .show = false},
    {.name = "wrong",
     .unit = "",
     .kind = Kind::count,
     .help = "of a million operations, those that came out wrong"},
    {.name = "inside",
     .unit = "",
     .better = Better::none,
     .kind = Kind::count,
     .help = "the most threads that were inside at a time",
     .show = false},
};

// A use, and the ways to do it. `variants` are numbers that the use takes one after the other.
struct UseInfo {
  std::string_view name;
  std::string_view ways;
  std::unique_ptr<Subject> (*make)(const apparatus::UseOptions&);
  std::size_t threads = 0;   // 0: as many as there are CPUs, two at least
  std::string_view variant;  // "" or what the number is
};

constexpr UseInfo uses[] = {
    {"limit", "procs,std,sem_t,none", apparatus::make_limit, 6, ""},
    {"buffer", "procs,std,semaphores", apparatus::make_bounded_buffer, 4, ""},
    {"barrier", "procs,std,pthread", apparatus::make_meeting, 0, ""},
    {"words", "none,mutex,std,rw,seqlock", apparatus::make_pair_of_words, 2, ""},
    {"reading", "procs,std,mutex,std-mutex", apparatus::make_reading, 0, "read_share"},
    {"dictionary", "gil,one-lock,sharded", apparatus::make_dictionary, 0, ""},
    {"tokens", "none,coarse,per-object", apparatus::make_words, 0, ""},
};

constexpr std::string_view use_words[] = {"wake",   "limit",   "event",     "condition",
                                          "buffer", "barrier", "words",     "reading",
                                          "tokens", "owner",   "dictionary"};
constexpr std::string_view all_uses =
    "wake,limit,event,condition,buffer,barrier,words,reading,dictionary,tokens,owner";

constexpr Param params[] = {
    {.name = "use",
     .help = "what is done with them",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_uses,
     .quick = all_uses,
     .full = all_uses,
     .words = use_words},
    {.name = "waiters",
     .help = "how many are told at a time by an event or a condition",
     .list = true,
     .smoke = "3",
     .quick = "8",
     .full = "1,2,4,8,16,32",
     .min = 1,
     .max = 1024},
    {.name = "read_share",
     .help = "operations in a hundred that read, of the use \"reading\"",
     .list = true,
     .smoke = "99",
     .quick = "50,99",
     .full = "0,50,90,99,100",
     .max = 100},
    {.name = "entries",
     .help = "entries through the semaphore, all processes together, of the use \"limit\"",
     .smoke = "2000",
     .quick = "12000",
     .full = "1000000",
     .min = 1,
     .max = 1'000'000'000},
};

std::vector<unsigned> cpus_of(const Plan& plan) {
  const auto usable = plan.topology().usable().count();
  try {
    return affinity::choose_workers(plan.topology(), plan.placement(), usable);
  } catch (const Unsupported&) {
    const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
    return ones.chosen.empty() ? std::vector{plan.topology().usable().first()} : ones.chosen;
  }
}

// At most 64 threads where a use takes as many as there are CPUs.
apparatus::CrewOptions crew_of(const Plan& plan, std::size_t threads) {
  constexpr std::size_t most = 64;
  const auto cpus = cpus_of(plan);
  const std::size_t count = threads > 0 ? threads : std::clamp<std::size_t>(cpus.size(), 2, most);
  return {.cpus = apparatus::dealt_out(cpus, count), .usable = plan.topology().usable()};
}

SeriesPlan blank(std::string name, std::string_view use, std::string_view way,
                 const apparatus::CrewOptions& crew) {
  SeriesPlan series;
  series.name = std::move(name);
  series.group = use;
  series.params = {{"use", std::string(use)},
                   {"way", std::string(way)},
                   {"threads", std::to_string(crew.cpus.size())}};
  std::vector<unsigned> seen = crew.cpus;
  std::ranges::sort(seen);
  seen.erase(std::ranges::unique(seen).begin(), seen.end());
  series.cpus = std::move(seen);
  return series;
}

void add_use(Plan& plan, const UseInfo& use, std::string_view way,
             std::optional<std::int64_t> number) {
  apparatus::UseOptions options{.way = std::string(way),
                                .crew = crew_of(plan, use.threads),
                                .number = static_cast<std::uint64_t>(number.value_or(0)),
                                .cost = cost,
                                .rate = rate,
                                .switches = switches,
                                .spurious = spurious,
                                .wrong = wrong,
                                .inside = inside};
  std::string name = fmt::format("{}/{}", use.name, way);
  if (!use.variant.empty())
    name += fmt::format("/{}", options.number);
  auto series = blank(std::move(name), use.name, way, options.crew);
  if (!use.variant.empty())
    series.params.emplace_back(use.variant, std::to_string(options.number));
  if (use.name == "limit")
    options.number = (options.number + plan.processes() - 1) / plan.processes();
  series.make = [make = use.make, options] { return make(options); };
  plan.add(std::move(series));
}

void add_uses(Plan& plan, const UseInfo& use) {
  std::vector<std::optional<std::int64_t>> numbers = {std::nullopt};
  if (use.name == "limit")
    numbers = {plan.number("entries")};
  if (!use.variant.empty()) {
    const auto chosen = plan.numbers(use.variant);
    numbers.assign(chosen.begin(), chosen.end());
  }
  for (const auto& number : numbers)
    for (const auto way : split(use.ways, ','))
      add_use(plan, use, way, number);
}

using MakeCrowd = std::unique_ptr<Subject> (*)(const apparatus::CrowdOptions&);

void add_crowd(Plan& plan, std::string_view use, std::string_view way, std::size_t threads,
               MakeCrowd make) {
  const apparatus::CrowdOptions options{.way = std::string(way),
                                        .crew = crew_of(plan, threads),
                                        .latency = latency,
                                        .switches = switches};
  const bool counted = threads != 2 || use != "wake";
  auto series = blank(counted ? fmt::format("{}/{}/{}", use, way, threads - 1)
                              : fmt::format("{}/{}", use, way),
                      use, way, options.crew);
  series.make = [make, options] { return make(options); };
  plan.add(std::move(series));
}

void add_owner(Plan& plan, std::string_view way) {
  const apparatus::DeadOwnerOptions options{
      .way = std::string(way), .latency = latency, .lost = wrong};
  auto series = blank(fmt::format("owner/{}", way), "owner", way, {});
  series.make = [options] { return apparatus::make_dead_owner(options); };
  plan.add(std::move(series));
}

void plan_series(Plan& plan) {
  for (const auto& use : plan.words("use")) {
    for (const auto& info : uses)
      if (info.name == use)
        add_uses(plan, info);
    if (use == "wake")
      for (const auto* way : {"procs", "std", "sem_t", "eventfd"})
        add_crowd(plan, use, way, 2, apparatus::make_semaphore_wake);
    if (use == "event" || use == "condition")
      for (const auto waiters : plan.numbers("waiters"))
        for (const auto way : split(use == "event" ? "event,eventfd" : "requeue,wake-all,std", ','))
          add_crowd(plan, use, way, static_cast<std::size_t>(waiters) + 1, apparatus::make_crowd);
    if (use == "owner")
      for (const auto* way : {"robust", "mutex", "semaphore"})
        add_owner(plan, way);
  }
}

std::string against(const Findings& findings, std::string_view ours, std::string_view theirs,
                    std::string_view metric) {
  const auto ratio = findings.ratio(ours, theirs, metric);
  return ratio ? times(*ratio) : "";
}

std::string answer(const Findings& findings) {
  std::string text;
  const auto say = [&](std::string_view sentence, const std::string& number) {
    if (!number.empty())
      text += fmt::format("{}{} {}.", text.empty() ? "" : " ", sentence, number);
  };
  say("A semaphore wakes one in", quote(findings, "wake/procs", "latency"));
  for (const Series* series : apparatus::series_of(findings, "event", "event"))
    say(fmt::format("An event lets {:.0f} through in", param_number(*series, "threads") - 1),
        quote(findings, series->name, "latency"));
  for (const Series* series : apparatus::series_of(findings, "condition", "requeue")) {
    const auto waiters = param_number(*series, "threads") - 1;
    say(fmt::format("{:.0f} who are told by a condition and go over to the mutex need, against "
                    "all being woken,",
                    waiters),
        against(findings, series->name, fmt::format("condition/wake-all/{:.0f}", waiters),
                "switches") +
            " of the switches");
  }
  say("Without a lock of a million readings of two words this many are torn:",
      quote(findings, "words/none", "wrong"));
  say("A killed owner's robust mutex is had and mended after",
      quote(findings, "owner/robust", "latency"));
  return text.empty() ? "No primitive was measured." : text;
}

constexpr ClaimInfo claims[] = {
    {.id = "C2",
     .text = "One big lock makes a built-in dictionary safe without a lock of its own",
     .source = "S0",
     .judge = apparatus::judge_dictionary},
    {.id = "C33",
     .text = "A semaphore of three lets three in at a time, and no more",
     .source = "S1",
     .judge = apparatus::judge_semaphore},
    {.id = "C34",
     .text = "With an event, one thread lets others go on",
     .source = "S1",
     .judge = apparatus::judge_event},
    {.id = "C35",
     .text = "With conditions, threads wait for each other's changes",
     .source = "S1",
     .judge = apparatus::judge_condition},
    {.id = "C36",
     .text = "Careless synchronisation corrupts data",
     .source = "S1",
     .judge = apparatus::judge_torn},
    {.id = "C42",
     .text = "Locks and semaphores of processes are safe between processes",
     .source = "S1",
     .judge = apparatus::judge_process_safe},
    {.id = "C46",
     .text = "One big lock makes libraries usable that are not made for threads",
     .source = "S2",
     .judge = apparatus::judge_library},
};

}  // namespace

extern constinit const Lab lock_primitives = {
    .name = "lock_primitives",
    .family = "procs",
    .question = "what do semaphores, events, conditions, barriers and guards do, and how fast?",
    .version = 1,
    .shape = Shape::workers,
    .params = params,
    .metrics = metrics,
    // Eleven uses in some forty ways.
    .budget = {.quick_s = 4, .full_s = 60},
    .plan = plan_series,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
