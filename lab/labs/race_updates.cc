// race_updates: how many updates does a race lose, and what does each mend cost?
//
// Method   Tasks add one to a counter by reading, adding and writing back. Each keeps a journal of
//          its own; what is missing in the counter was lost. Between CPUs, on one CPU, with a
//          window between reading and writing, in memory and in a file; and under each mend. Runs
//          of a few updates are asked one thing: did this run show the race? Seeds replay cases.
//          Writers are killed in the middle of a record.
// Reading  "lost" is the share of all updates, "shows" the share of runs in which any was lost,
//          "torn" the share of kills after which a reader finds half a record.
// Traps    The plain update is a relaxed atomic load and store: the lost update itself, without
//          what a compiler may do to a data race. On one CPU a task must be preempted inside the
//          window, so that next to nothing is lost in most runs, and then a time slice at once.

#include "lab/apparatus/data_file.hh"
#include "lab/apparatus/interleaving.hh"
#include "lab/apparatus/pair_plan.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/race_verdicts.hh"
#include "lab/apparatus/shares.hh"
#include "lab/apparatus/torn_record.hh"
#include "lab/apparatus/update_race.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Relation;
using apparatus::series_with;
using apparatus::share;
using apparatus::TaskKind;
using apparatus::Update;
using apparatus::Writing;

enum : std::size_t { lost, each, shows, torn };

constexpr MetricInfo metrics[] = {
    {.name = "lost",
     .unit = "",
     .kind = Kind::ratio,
     .help = "updates missing in the counter, of all that were made",
     .interval = true},
    {.name = "each",
     .unit = "ns",
     .help = "from first start to last end, an update",
     .interval = true},
    {.name = "shows",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "runs in which anything was lost",
     .interval = true},
    {.name = "torn",
     .unit = "",
     .kind = Kind::ratio,
     .help = "kills after which a reader found half a record",
     .interval = true},
};
constexpr std::size_t share_metrics[] = {lost, shows, torn};

constexpr std::string_view part_words[] = {"plain", "mends", "runs", "yields", "seeds", "torn"};
constexpr std::string_view all_parts = "plain,mends,runs,yields,seeds,torn";

constexpr Param params[] = {
    {.name = "part",
     .help = "which questions are asked",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_parts,
     .quick = all_parts,
     .full = all_parts,
     .words = part_words},
    {.name = "window",
     .help = "additions between reading and writing",
     .list = true,
     .smoke = "0,100",
     .quick = "0,100,1000",
     .full = "0,10,30,100,300,1000,3000",
     .max = 1'000'000},
    {.name = "run",
     .help = "updates of each thread in a run",
     .list = true,
     .smoke = "1,100",
     .quick = "1,10,100,1000",
     .full = "1,3,10,30,100,300,1000,3000",
     .min = 1,
     .max = 1'000'000},
    {.name = "skew_ns",
     .help = "how much later than the other a thread of a run may begin, at most",
     .smoke = "10000",
     .quick = "10000",
     .full = "10000",
     .min = 1,
     .max = 10'000'000},
    {.name = "slice",
     .help = "updates of each task in a run on one CPU: more than fit into a time slice",
     .smoke = "100000",
     .quick = "3000000",
     .full = "10000000",
     .min = 1,
     .max = 1'000'000'000},
    {.name = "yield",
     .help = "on one CPU: one in so many updates yields between reading and writing",
     .list = true,
     .smoke = "10",
     .quick = "10,100,1000",
     .full = "2,10,30,100,300,1000,10000",
     .min = 1,
     .max = 1'000'000},
    {.name = "crowd",
     .help = "threads anywhere, more than CPUs",
     .list = true,
     .smoke = "4",
     .quick = "4",
     .full = "4,16,64",
     .min = 2,
     .max = 256},
    {.name = "seed",
     .help = "of the first case that is played step by step",
     .smoke = "1",
     .quick = "1",
     .full = "1"},
};

constexpr unsigned seeded_updates = 4;
constexpr std::uint64_t yielding_run = 1000;

std::string_view kind_text(TaskKind kind) {
  return apparatus::to_text(kind);
}

// A pair and the options that its series begin with.
struct Here {
  affinity::Pair pair;
  apparatus::UpdateRaceOptions options;
  [[nodiscard]] bool apart() const { return pair.relation < Relation::unpinned && !together(); }
  [[nodiscard]] bool together() const { return pair.relation == Relation::same_pu; }
  [[nodiscard]] std::string relation() const { return affinity::name(pair.relation); }
};

Here here_of(const Plan& plan, const affinity::Pair& pair) {
  Here here{pair, {}};
  here.options.usable = plan.topology().usable();
  here.options.places = {pair.first, pair.second};
  if (pair.relation == Relation::unpinned)
    here.options.places.assign(2, std::nullopt);
  here.options.seed = static_cast<std::uint64_t>(plan.number("seed"));
  here.options.lost = lost;
  here.options.each = each;
  here.options.shows = shows;
  return here;
}

void add(Plan& plan, const Here& here, std::string name, std::string group,
         std::vector<std::pair<std::string, std::string>> values,
         const apparatus::UpdateRaceOptions& options) {
  SeriesPlan series;
  series.name = std::move(name);
  series.group = std::move(group);
  series.params = std::move(values);
  series.params.insert(series.params.begin(),
                       {{"update", std::string(apparatus::to_text(options.update))},
                        {"tasks", std::string(kind_text(options.tasks.kind))}});
  series.relation = here.relation();
  for (const auto& place : options.places)
    if (place && !std::ranges::count(series.cpus, *place))
      series.cpus.push_back(*place);
  if (here.together() && !series.cpus.empty())
    series.cpus = {here.pair.first, here.pair.first};
  series.make = [options] { return apparatus::make_update_race(options); };
  plan.add(std::move(series));
}

std::string name_of(const Here& here, Update update, TaskKind kind) {
  return fmt::format("{}/{}/{}", apparatus::to_text(update), here.relation(), kind_text(kind));
}

// Between CPUs by the length of the window; on one CPU long enough for preemption to happen.
void add_plain(Plan& plan, const Here& here) {
  for (const auto kind : {TaskKind::threads, TaskKind::processes}) {
    apparatus::UpdateRaceOptions options = here.options;
    options.tasks.kind = kind;
    const std::string name = name_of(here, Update::plain, kind);
    if (here.apart()) {
      for (const auto window : plan.numbers("window")) {
        options.window = static_cast<std::uint32_t>(window);
        add(plan, here, fmt::format("{}/{}", name, window),
            fmt::format("{}/{}", here.relation(), window), {{"window", std::to_string(window)}},
            options);
      }
      continue;
    }
    options.run = static_cast<std::uint64_t>(plan.number("slice"));
    add(plan, here, name, here.relation(), {{"updates", std::to_string(options.run)}}, options);
  }
}

void add_crowds(Plan& plan) {
  const affinity::Pair anywhere{Relation::unpinned, 0, 0};
  for (const auto count : plan.numbers("crowd")) {
    const Here here = here_of(plan, anywhere);
    apparatus::UpdateRaceOptions options = here.options;
    options.places.assign(static_cast<std::size_t>(count), std::nullopt);
    options.run = static_cast<std::uint64_t>(plan.number("slice") / count);
    add(plan, here, fmt::format("crowd/{}", count), "crowd",
        {{"count", std::to_string(count)}, {"updates", std::to_string(options.run)}}, options);
  }
}

void add_mends(Plan& plan, const Here& here) {
  for (const auto kind : {TaskKind::threads, TaskKind::processes})
    for (const auto update :
         {Update::atomic, Update::lock, Update::sharded, Update::file, Update::file_locked}) {
      const bool on_file = update == Update::file || update == Update::file_locked;
      if (on_file && (kind == TaskKind::threads || here.together()))
        continue;
      apparatus::UpdateRaceOptions options = here.options;
      options.tasks.kind = kind;
      options.update = update;
      add(plan, here, name_of(here, update, kind), here.relation() + (on_file ? "/file" : "/0"), {},
          options);
    }
}

void add_runs(Plan& plan, const Here& here) {
  for (const auto run : plan.numbers("run")) {
    apparatus::UpdateRaceOptions options = here.options;
    options.run = static_cast<std::uint64_t>(run);
    options.skew_ns = static_cast<std::uint32_t>(plan.number("skew_ns"));
    add(plan, here, fmt::format("run/{}/{}", here.relation(), run), here.relation() + "/run",
        {{"updates", std::to_string(run)}}, options);
  }
}

void add_yields(Plan& plan, const Here& here) {
  if (!here.together())
    return;
  for (const auto one_in : plan.numbers("yield")) {
    apparatus::UpdateRaceOptions options = here.options;
    options.run = yielding_run;
    options.yield_one_in = static_cast<std::uint32_t>(one_in);
    add(plan, here, fmt::format("yield/{}", one_in), "yield",
        {{"updates", std::to_string(yielding_run)}, {"yield", std::to_string(one_in)}}, options);
  }
}

void add_seeds(Plan& plan, unsigned cpu) {
  SeriesPlan series;
  series.name = "seeded";
  series.params = {
      {"update", "plain"}, {"tasks", "threads"}, {"updates", std::to_string(seeded_updates)}};
  series.relation = "same-pu";
  series.cpus = {cpu, cpu};
  const apparatus::SeededOptions options{.cpu = cpu,
                                         .usable = plan.topology().usable(),
                                         .updates = seeded_updates,
                                         .seed = static_cast<std::uint64_t>(plan.number("seed")),
                                         .lost = lost,
                                         .each = each};
  series.make = [options] { return apparatus::make_seeded_updates(options); };
  plan.add(std::move(series));
}

void add_torn(Plan& plan, const affinity::Pair& pair) {
  std::string folder, refusal;
  try {
    folder = apparatus::data_folder("auto", "");
  } catch (const Unsupported& why) {
    refusal = why.what();
  }
  for (const auto writing : {Writing::memory, Writing::memory_published, Writing::file_pieces,
                             Writing::file, Writing::file_renamed}) {
    SeriesPlan series;
    series.name = fmt::format("torn/{}", apparatus::to_text(writing));
    series.group = "torn";
    series.params = {{"update", std::string(apparatus::to_text(writing))}, {"tasks", "processes"}};
    series.relation = affinity::name(pair.relation);
    if (writing >= Writing::file_pieces)
      series.skip = refusal;
    apparatus::TornRecordOptions options{.writing = writing,
                                         .writer = pair.second,
                                         .killer = pair.first,
                                         .usable = plan.topology().usable(),
                                         .folder = folder,
                                         .seed = static_cast<std::uint64_t>(plan.number("seed")),
                                         .torn = torn};
    if (pair.relation == Relation::unpinned)
      options.writer = options.killer = std::nullopt;
    else
      series.cpus = {pair.first, pair.second};
    series.make = [options] { return apparatus::make_torn_record(options); };
    plan.add(std::move(series));
  }
}

void plan_series(Plan& plan) {
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  plan.add_absent(pairs.absent);
  if (pairs.chosen.empty())
    return;
  // Killing, and playing step by step, ask for no particular distance.
  const affinity::Pair widest = apparatus::farthest(pairs.chosen);
  const unsigned cpu =
      widest.relation == Relation::unpinned ? plan.topology().usable().first() : widest.first;
  for (const auto& part : plan.words("part")) {
    for (const auto& pair : pairs.chosen) {
      if (pair.relation == Relation::unpinned)
        continue;
      const Here here = here_of(plan, pair);
      if (part == "plain")
        add_plain(plan, here);
      else if (part == "mends")
        add_mends(plan, here);
      else if (part == "runs")
        add_runs(plan, here);
      else if (part == "yields")
        add_yields(plan, here);
    }
    if (part == "plain")
      add_crowds(plan);
    else if (part == "seeds")
      add_seeds(plan, cpu);
    else if (part == "torn")
      add_torn(plan, widest);
  }
}

void conclude(const Plan& plan, LabResult& result) {
  apparatus::pool_shares(plan, share_metrics, result);
}

// The first relation between CPUs that was measured with threads, or "".
std::string relation_apart(const Findings& findings) {
  for (const auto* series : series_with(findings, "plain/", "lost"))
    if (apparatus::is_apart(*series))
      return series->placement.relation;
  return "";
}

std::string mends_sentence(const Findings& findings, const std::string& relation) {
  std::string text;
  for (const auto update : {Update::atomic, Update::lock, Update::sharded}) {
    const std::string cost = apparatus::quote(
        findings, fmt::format("{}/{}/threads", apparatus::to_text(update), relation), "each");
    if (!cost.empty())
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", apparatus::to_text(update), cost);
  }
  const std::string plain =
      apparatus::quote(findings, fmt::format("plain/{}/threads/0", relation), "each");
  return text.empty() || plain.empty()
             ? text
             : fmt::format("An update costs {} plain; mended: {}. ", plain, text);
}

std::string runs_sentence(const Findings& findings) {
  const auto runs = series_with(findings, "run/", "shows");
  std::string text;
  for (const auto* series : runs)
    if (series->placement.relation == runs.back()->placement.relation)
      text += fmt::format("{}{} of runs of {} update{}", text.empty() ? "" : ", ",
                          share(findings, series->name, "shows"), param_text(*series, "updates"),
                          param_text(*series, "updates") == "1" ? "" : "s");
  return text.empty() ? "" : "The race shows in " + text + ". ";
}

std::string answer(const Findings& findings) {
  std::string text;
  const std::string relation = relation_apart(findings);
  for (const auto* kind : {"threads", "processes"}) {
    const std::string name = fmt::format("plain/{}/{}/0", relation, kind);
    if (const std::string part = share(findings, name, "lost"); !part.empty())
      text += fmt::format("Two {} that add to one counter ({}) lose {} of their updates. ", kind,
                          relation, part);
  }
  if (const std::string part = share(findings, "plain/same-pu/threads", "shows"); !part.empty())
    text += fmt::format("On one CPU a thread must be preempted in the middle: {} of runs of {} "
                        "updates lose any. ",
                        part, param_text(*findings.series("plain/same-pu/threads"), "updates"));
  text += mends_sentence(findings, relation) + runs_sentence(findings);
  if (const std::string part = share(findings, "torn/memory", "torn"); !part.empty())
    text += fmt::format("Of writers that were killed {} left half a record in memory, {} when they "
                        "publish it whole. ",
                        part, share(findings, "torn/published", "torn"));
  if (text.empty())
    return "Nothing was measured.";
  text.pop_back();
  return text;
}

constexpr ClaimInfo claims[] = {
    {.id = "C13",
     .text = "Races occur on shared data",
     .source = "S0 S1 S2 S4",
     .judge = apparatus::judge_races_occur},
    {.id = "C69",
     .text = "Processes have no risk of data corruption or race conditions",
     .source = "S3",
     .judge = apparatus::judge_processes_are_safe},
    {.id = "C94",
     .text = "Debugging is hard because races hide: one run seldom shows them",
     .source = "S2",
     .judge = apparatus::judge_races_hide},
};

}  // namespace

extern constinit const Lab race_updates = {
    .name = "race_updates",
    .family = "procs",
    .question = "how many updates does a race lose, and what does each mend cost?",
    .version = 1,
    .shape = Shape::pair,
    .params = params,
    .metrics = metrics,
    // Runs on one CPU must outlast a time slice, and each kill takes a process.
    .budget = {.quick_s = 4, .full_s = 40},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
