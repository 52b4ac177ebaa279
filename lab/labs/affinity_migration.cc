// affinity_migration: what does it cost to move a task to another CPU, and what do tasks lose that
// are not pinned?
//
// Method   A task walks its working set, is moved to the other CPU of a pair by sched_setaffinity,
//          walks again, and goes back. The control makes the same calls with the CPU it is on.
//          Moved less control is the cost of a migration; less that with an empty set it is the
//          refill of the caches. Beside it as many workers as there are CPUs do a fixed amount of
//          work, pinned and unpinned.
// Reading  A migration is paid once, its refill with the working set: compare relations, and sets
//          below and above the L2 cache. "slowdown" is the time of unpinned workers as a share of
//          the time of pinned ones.
// Traps    A set that is only read stays valid in both CPUs' caches, and a task that returns finds
//          it there: the sets are written. The control's calls are cheaper by the change of the
//          mask, which the kernel leaves out where nothing changes. Workers lose nothing on a
//          machine where nothing else runs.

#include "lab/apparatus/cache_sizes.hh"
#include "lab/apparatus/mover.hh"
#include "lab/apparatus/workers.hh"
#include "lab/base/error.hh"
#include "lab/base/text.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/validity.hh"

#include <fmt/format.h>

#include <algorithm>
#include <variant>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Relation;
using apparatus::Access;
using apparatus::size_word;

enum : std::size_t { moved, migration, stay, step, slowdown, migrations, running, cpus };

constexpr MetricInfo metrics[] = {
    {.name = "moved", .unit = "ns", .help = "be moved to the other CPU and walk the set there"},
    {.name = "migration",
     .unit = "ns",
     .help = "moved less the same calls and walk without a move",
     .interval = true,
     .net = "refill"},
    {.name = "stay", .unit = "ns", .help = "the same calls and walk without a move"},
    {.name = "step",
     .unit = "ns",
     .help = "one step of work, from the first worker's start to the last one's end",
     .interval = true},
    {.name = "slowdown",
     .unit = "",
     .kind = Kind::ratio,
     .help = "a step of unpinned workers divided by one of pinned workers",
     .interval = true},
    {.name = "migrations",
     .unit = "1/s",
     .kind = Kind::rate,
     .help = "migrations of one worker, counted by the kernel"},
    {.name = "running",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "workers that ran at the same time, on average"},
    {.name = "cpus",
     .unit = "",
     .better = Better::none,
     .kind = Kind::count,
     .help = "different CPUs that the workers were seen on"},
};

constexpr std::string_view access_words[] = {"read", "write"};
constexpr std::string_view cache_words[] = {"none", "l1", "l2", "l3"};
constexpr std::string_view task_words[] = {"threads", "processes"};

constexpr Param params[] = {
    {.name = "size",
     .help = "bytes of the working set",
     .kind = Param::Kind::size,
     .list = true,
     .smoke = "0,16K",
     .quick = "0,16K,128K",
     .full = "0,16K,64K,256K,1M,4M",
     .max = std::int64_t{64} << 30},
    {.name = "cache",
     .help = "caches of the first CPU whose size is added to the sizes",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "none",
     .quick = "l2",
     .full = "l2",
     .words = cache_words},
    {.name = "stride",
     .help = "bytes between two accesses",
     .kind = Param::Kind::size,
     .smoke = "64",
     .quick = "64",
     .full = "64",
     .min = 8,
     .max = 1 << 20},
    {.name = "access",
     .help = "how the set is walked",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "write",
     .quick = "write",
     .full = "read,write",
     .words = access_words},
    {.name = "workers",
     .help = "how many workers, pinned and unpinned; 0: one for each usable CPU",
     .smoke = "0",
     .quick = "0",
     .full = "0",
     .max = 4096},
    {.name = "share",
     .help = "bytes of each worker's set",
     .kind = Param::Kind::size,
     .smoke = "64K",
     .quick = "256K",
     .full = "256K",
     .min = 4096,
     .max = std::int64_t{1} << 30},
    {.name = "tasks",
     .help = "what the workers are",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "threads,processes",
     .quick = "threads,processes",
     .full = "threads,processes",
     .words = task_words},
};

// A working set that begins on one CPU. All series that walk it share its memory: other memory
// would lie on other pages, and which lines conflict in the caches with them.
struct Set {
  unsigned cpu = 0;
  std::uint64_t size = 0;
  std::string access;
  std::shared_ptr<apparatus::SharedArea> area;

  [[nodiscard]] std::string tail() const { return size_word(size) + "/" + access; }
  [[nodiscard]] std::string control() const { return fmt::format("stay/cpu{}/{}", cpu, tail()); }
};

Set make_set(unsigned cpu, std::uint64_t size, const std::string& access) {
  apparatus::AreaOptions options;
  options.size = size;
  return {cpu, size, access, std::make_shared<apparatus::SharedArea>(options)};
}

// A series of a set, with a task that goes to and fro between the set's CPU and `other`.
SeriesPlan walking(const Plan& plan, const Set& set, unsigned other, std::size_t metric) {
  SeriesPlan series;
  series.group = set.tail();
  series.params = {{"size", size_word(set.size)}, {"access", set.access}};
  series.cpus = {set.cpu, other};
  series.skip = apparatus::too_large(1, set.size);
  apparatus::MoverOptions options;
  options.first = set.cpu;
  options.second = other;
  options.usable = plan.topology().usable();
  options.size = set.size;
  options.stride = static_cast<std::uint64_t>(plan.number("stride"));
  options.access = set.access == "read" ? Access::read : Access::write;
  options.metric = metric;
  options.area = set.area;
  series.make = [options] { return apparatus::make_mover(options); };
  return series;
}

void add_control(Plan& plan, const Set& set) {
  SeriesPlan series = walking(plan, set, set.cpu, stay);
  series.name = set.control();
  series.relation = name(Relation::same_pu);
  series.floor = true;
  plan.add(std::move(series));
}

void add_moves(Plan& plan, const affinity::Pair& pair, const Set& set) {
  SeriesPlan series = walking(plan, set, pair.second, moved);
  const std::string head =
      fmt::format("{}/cpu{}-cpu{}/", name(pair.relation), pair.first, pair.second);
  series.name = head + set.tail();
  series.relation = name(pair.relation);
  Derivation cost{.metric = migration,
                  .value = {{series.name, moved, 1}, {set.control(), stay, -1}},
                  .floors = {}};
  if (set.size > 0)
    cost.floors = {{"empty set", {head + "0/" + set.access, migration}}};
  series.derive = {cost};
  plan.add(std::move(series));
}

// 0, which the refill is measured against, then the sizes asked for and those of caches.
apparatus::Sizes sizes_for(const Plan& plan, unsigned cpu) {
  apparatus::Sizes sizes = {0};
  const auto add = [&](std::uint64_t size) {
    if (std::ranges::find(sizes, size) == sizes.end())
      sizes.push_back(size);
  };
  for (const auto size : plan.numbers("size"))
    add(static_cast<std::uint64_t>(size));
  for (const auto& cache : plan.words("cache"))
    if (cache != "none")
      add(plan.topology().cache_size(cpu, cache.back() - '0'));
  std::ranges::sort(sizes);
  return sizes;
}

// All pairs of one first CPU, interleaved set by set, with one control for each set.
void add_pairs(Plan& plan, const std::vector<affinity::Pair>& pairs) {
  std::vector<unsigned> firsts;
  for (const auto& pair : pairs)
    if (std::ranges::find(firsts, pair.first) == firsts.end())
      firsts.push_back(pair.first);
  for (const unsigned first : firsts)
    for (const auto& access : plan.words("access"))
      for (const auto size : sizes_for(plan, first)) {
        const Set set = make_set(first, size, access);
        for (const auto& pair : pairs)
          if (pair.first == first)
            add_moves(plan, pair, set);
        add_control(plan, set);
      }
}

std::string workers_name(std::string_view tasks, bool pinned) {
  return fmt::format("workers/{}/{}", tasks, pinned ? "pinned" : "unpinned");
}

void add_workers(Plan& plan, const std::vector<unsigned>& places, std::string_view tasks,
                 bool pinned) {
  apparatus::WorkersOptions options;
  options.tasks.kind = apparatus::task_kind(tasks);
  options.usable = affinity::CpuSet::from_numbers(places);
  for (const unsigned cpu : places)
    options.places.push_back(pinned ? std::optional(cpu) : std::nullopt);
  options.size = static_cast<std::uint64_t>(plan.number("share"));
  options.step = step;
  options.migrations = migrations;
  options.running = running;
  options.cpus = cpus;
  SeriesPlan series;
  series.name = workers_name(tasks, pinned);
  series.group = "workers";
  series.params = {{"workers", std::to_string(places.size())},
                   {"tasks", std::string(tasks)},
                   {"affinity", pinned ? "pinned" : "unpinned"}};
  series.relation = pinned ? "per-core" : name(Relation::unpinned);
  if (pinned)
    series.cpus = {options.usable.cpus()};
  series.skip = apparatus::too_large(places.size(), options.size);
  series.make = [options] { return apparatus::make_workers(options); };
  plan.add(std::move(series));
}

// The CPUs of the workers: those named by --place, or all usable ones. Empty where the placement
// asks for something else than workers.
std::vector<unsigned> places_for(const Plan& plan) {
  std::vector<unsigned> row;
  bool wanted = false;
  for (const auto& item : plan.placement().items) {
    const auto* relation = std::get_if<Relation>(&item);
    const auto* location = std::get_if<affinity::Placement::Location>(&item);
    wanted = wanted || !relation || *relation == Relation::unpinned;
    if (location)
      row.insert(row.end(), location->cpus.begin(), location->cpus.end());
  }
  if (!wanted)
    return {};
  if (row.empty())
    row = plan.topology().usable().cpus();
  std::ranges::sort(row);
  row.erase(std::ranges::unique(row).begin(), row.end());
  const auto count = static_cast<std::size_t>(plan.number("workers"));
  std::vector<unsigned> places;
  for (std::size_t i = 0; i < (count == 0 ? row.size() : count); ++i)
    places.push_back(row[i % row.size()]);
  return places;
}

void plan_series(Plan& plan) {
  if (plan.number("stride") % 8 != 0)
    throw BadInput("affinity_migration.stride: a multiple of 8 is needed, the size of one access");
  auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  std::erase_if(pairs.chosen, [](const affinity::Pair& pair) { return pair.first == pair.second; });
  add_pairs(plan, pairs.chosen);
  plan.add_absent(pairs.absent);
  const auto places = places_for(plan);
  if (affinity::CpuSet::from_numbers(places).count() >= 2)
    for (const auto& tasks : plan.words("tasks"))
      for (const bool pinned : {true, false})
        add_workers(plan, places, tasks, pinned);
  if (plan.runnable() == 0)
    throw Unsupported(
        fmt::format("a migration needs two CPUs; '{}' gives one of the {} usable here",
                    plan.placement().text, plan.topology().usable().count()));
}

// The slowdown of unpinned workers, process by process.
void conclude(const Plan&, LabResult& result) {
  const Findings findings(result);
  for (const auto tasks : task_words) {
    const Metric* pinned = findings.metric(workers_name(tasks, true), "step");
    const Metric* unpinned = findings.metric(workers_name(tasks, false), "step");
    if (!pinned || !unpinned)
      continue;
    std::vector<std::vector<double>> runs;
    for (const auto& run : unpinned->per_run) {
      const auto other = median_in(*pinned, run.process);
      auto& ratios = runs.emplace_back();
      if (run.median && other && *other > 0)
        ratios.push_back(*run.median / *other);
    }
    const auto at = std::ranges::find(result.series, workers_name(tasks, false), &Series::name);
    at->metrics.push_back(make_metric(metrics[slowdown], runs));
  }
}

std::string answer_migrations(const Findings& findings) {
  const Metric* cheapest = nullptr;
  const Series* dearest = nullptr;
  double most = 0;
  std::string relation;
  for (const auto& series : findings.result().series) {
    const Metric* cost = find_metric(series, "migration");
    if (!cost || !cost->median)
      continue;
    if (!cheapest && !cost->net) {
      cheapest = cost;
      relation = series.placement.relation;
    }
    const bool above = cost->net && cost->net->median && !cost->net->below_resolution;
    if (above && *cost->net->median > most) {
      most = *cost->net->median;
      dearest = &series;
    }
  }
  if (!cheapest)
    return "";
  std::string text = fmt::format("Moving a task with an empty working set to another CPU ({}) "
                                 "costs {}.",
                                 relation, with_interval(*cheapest));
  if (dearest)
    text +=
        fmt::format(" Refilling the caches adds up to {} ({}).",
                    with_interval(*find_metric(*dearest, "migration")->net, "ns"), dearest->name);
  else
    text += " Refilling the caches stayed below resolution.";
  return text;
}

std::string answer_workers(const Findings& findings) {
  const std::string unpinned = workers_name("threads", false);
  const Metric* ratio = findings.metric(unpinned, "slowdown");
  if (!ratio || !ratio->median)
    return "";
  const Estimate estimate{.value = *ratio->median, .interval = ratio->ci};
  std::string text =
      fmt::format("Unpinned threads take {} of the time of pinned ones", percent(estimate));
  if (const Metric* rate = findings.metric(unpinned, "migrations"); rate && rate->median)
    text += fmt::format(", with {} migrations of each", quantity(*rate->median, "1/s"));
  return text + ".";
}

std::string answer(const Findings& findings) {
  const std::string migrations = answer_migrations(findings);
  const std::string workers = answer_workers(findings);
  if (migrations.empty() && workers.empty())
    return "No migration could be measured.";
  return migrations + (migrations.empty() || workers.empty() ? "" : " ") + workers;
}

// C57: confirmed if as many processes as there are CPUs were each seen on a CPU of its own and ran
// at the same time; refuted if one ran while the others waited, and not for somebody else's work.
Judgement judge_separate_cores(const Findings& findings) {
  Judgement judgement;
  const std::string name = workers_name("processes", true);
  const Series* series = findings.series(name);
  const Metric* used = findings.metric(name, "cpus");
  const Metric* together = findings.metric(name, "running");
  if (!used || !used->median || !together || !together->ci) {
    judgement.needs = "affinity_migration with 6 processes or more, on 2 CPUs or more";
    return judgement;
  }
  const auto workers = static_cast<double>(to_number(param_text(*series, "workers")).value_or(0));
  judgement.evidence = fmt::format("{} processes were seen on {} CPUs, {} of them running at once",
                                   workers, *used->median, with_interval(*together));
  const Metric* free = findings.metric(workers_name("processes", false), "migrations");
  if (free && free->median)
    judgement.evidence +=
        fmt::format("; unpinned, each migrated {} times a second", quantity(*free->median, ""));
  const bool quiet =
      series->status == Status::ok && worst(findings.result().warnings) == Status::ok;
  if (*used->median == workers && together->ci->low > 0.75 * workers)
    judgement.verdict = Verdict::confirmed;
  else if (together->ci->high < 1.1 && quiet)
    judgement.verdict = Verdict::refuted;
  else if (*used->median < workers && quiet)
    judgement.needs = "a CPU for each process";
  else
    judgement.needs = "a quieter machine";
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C57",
     .text = "each process can run on a separate core",
     .source = "S2 S3",
     .judge = judge_separate_cores},
};

}  // namespace

extern constinit const Lab affinity_migration = {
    .name = "affinity_migration",
    .family = "affinity",
    .question = "what does it cost to move a task to another CPU, and what do unpinned tasks lose?",
    .shape = Shape::pair,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 4, .full_s = 60},  // five sizes and their controls, and the workers
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
