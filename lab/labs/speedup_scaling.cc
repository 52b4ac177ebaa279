// speedup_scaling: how much faster do more workers make a job, and which of its parts holds them
// back?
//
// Method   A job of fixed length is done by 1, 2, ... workers, threads or processes, each pinned to
//          a CPU; they begin together, and the clock stops when the last is done. Four kinds of
//          work: chains of additions, additions that fill a core, a chain with a serial part of
//          known size, and one that adds to a counter of all. Strong growth shares one job; weak
//          growth gives each worker a job's parallel part. Then Amdahl's law, or Gustafson's, and
//          the Universal Scalability Law are fitted to the points, in each process.
// Reading  "speedup" is the rate over that of one worker, "serial" Karp and Flatt's e of a point:
//          if it stays level the cause is a serial part, if it grows with the workers it is their
//          traffic. The fits must find the serial share that was put in. "crowded" has twice as
//          many workers as CPUs.
// Traps    Two CPUs may be one core, a quota may allow less than the CPUs, and a lone core may run
//          faster: coefficients would describe that. Points beyond the quota or with two workers on
//          a core are no part of a fit; chains and wide work together show the rest. Three
//          coefficients fit any five points: below six there is no law.

#include "affinity/limits.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/scaling_curves.hh"
#include "lab/apparatus/shared_job.hh"
#include "lab/apparatus/start_line.hh"
#include "lab/apparatus/work_length.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/scaling.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <variant>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::Curve;
using apparatus::Job;
using apparatus::JobCrew;

enum : std::size_t { time, rate, speedup, efficiency, serial, contention, crosstalk, misfit };

constexpr MetricInfo metrics[] = {
    {.name = "time", .unit = "ns", .help = "of one job, from the first begin to the last end"},
    {.name = "rate",
     .unit = "1/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "jobs in a second; of weak growth what one worker would take that long for",
     .show = false},
    {.name = "speedup",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "rate by that of one worker",
     .interval = true},
    {.name = "efficiency",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "speedup by workers"},
    {.name = "serial",
     .unit = "",
     .kind = Kind::ratio,
     .help = "serial share of the work: Karp and Flatt's e of a point, or what a fit finds",
     .interval = true},
    {.name = "contention",
     .unit = "",
     .kind = Kind::ratio,
     .help = "USL: share of the work for which workers wait for each other",
     .interval = true},
    {.name = "crosstalk",
     .unit = "",
     .kind = Kind::ratio,
     .help = "USL: what each pair of workers costs, as a share of the work",
     .interval = true},
    {.name = "misfit",
     .unit = "",
     .kind = Kind::ratio,
     .help = "distance of the points from the curve, root mean square of the relative ones"},
};

constexpr std::string_view work_words[] = {"chain", "wide", "serial", "shared"};
constexpr std::string_view growth_words[] = {"strong", "weak"};
constexpr std::string_view task_words[] = {"threads", "processes"};

constexpr Param params[] = {
    {.name = "workers",
     .help = "how many at once; 0: some numbers from 1 to the CPUs, and twice the CPUs",
     .list = true,
     .smoke = "0",
     .quick = "0",
     .full = "0",
     .max = 4096},
    {.name = "work",
     .help = "kinds of work: chain, wide (fills a core), serial (a part), shared (a counter)",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "serial",
     .quick = "chain,wide,serial,shared",
     .full = "chain,wide,serial,shared",
     .words = work_words},
    {.name = "growth",
     .help = "strong: one job for all; weak: a job for each, of serial work",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "strong,weak",
     .quick = "strong,weak",
     .full = "strong,weak",
     .words = growth_words},
    {.name = "tasks",
     .help = "what the workers are; wide work is done by threads if they are among them",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "threads",
     .quick = "threads,processes",
     .full = "threads,processes",
     .words = task_words},
    {.name = "serial",
     .help = "percent of serial work that one worker does while the others wait",
     .smoke = "10",
     .quick = "10",
     .full = "10",
     .max = 99},
    {.name = "length",
     .help = "microseconds of a job; 0: 500, or 40 for each CPU if that is more",
     .smoke = "200",
     .quick = "0",
     .full = "0",
     .max = 10'000'000},
    {.name = "turn",
     .help = "nanoseconds between two additions to the counter of shared work",
     .smoke = "250",
     .quick = "250",
     .full = "250",
     .min = 1,
     .max = 1'000'000},
};

constexpr apparatus::ScalingMetrics scaling_metrics = {metrics,    speedup,   efficiency, serial,
                                                       contention, crosstalk, misfit};

// At most `most` numbers from 1 to `cpus`, spread by their logarithms, and the small ones first
// where that leaves some over.
std::set<unsigned> spread(unsigned cpus, unsigned most) {
  std::set<unsigned> numbers = {1, cpus};
  for (unsigned i = 1; i + 1 < most; ++i)
    numbers.insert(
        static_cast<unsigned>(std::lround(std::pow(cpus, static_cast<double>(i) / (most - 1)))));
  for (unsigned small = 2; small < cpus && numbers.size() < most; ++small)
    numbers.insert(small);
  return numbers;
}

// Made by the first series that asks, and kept for the others until the process ends: its members
// sleep meanwhile, and starting hundreds of processes for each curve would take longer than they.
struct Crew {
  std::function<std::shared_ptr<JobCrew>()> make;
  std::shared_ptr<JobCrew> made = {};

  const std::shared_ptr<JobCrew>& get() {
    if (!made)
      made = make();
    return made;
  }
};

// Workers with a CPU each, in the order of a strategy, and the tasks that stand there.
struct Stage {
  std::string place;
  std::vector<unsigned> cpus;
  std::map<std::string, std::shared_ptr<Crew>> crews;  // by kind of tasks

  // The first so many workers: does each have a core?
  [[nodiscard]] bool has_siblings(const affinity::Topology& topology, unsigned workers) const {
    std::set<int> cores;
    for (unsigned i = 0; i < workers; ++i)
      cores.insert(topology.find(cpus[i])->core);
    return cores.size() < workers && !cores.contains(-1);
  }
};

// `size` tasks on the stage's CPUs: pinned to one each, or, where they are more, anywhere on them.
void add_crews(const Plan& plan, Stage& stage, std::size_t size) {
  std::vector<std::optional<unsigned>> places(size);
  const bool apart = size <= stage.cpus.size();
  if (apart)
    std::copy_n(stage.cpus.begin(), size, places.begin());
  const auto usable = affinity::CpuSet::from_numbers(stage.cpus);
  for (const auto& tasks : plan.words("tasks"))
    stage.crews[tasks] = std::make_shared<Crew>(Crew{[=] {
      return std::make_shared<JobCrew>(apparatus::task_kind(tasks), places, usable, apart);
    }});
}

class Planner {
public:
  explicit Planner(Plan& plan)
      : plan_(plan), main_(stage_of(plan, plan.placement(), "")), quota_(quota_of(plan)) {
    const auto cpus = static_cast<unsigned>(main_.cpus.size());
    std::set<unsigned> many;
    for (const std::int64_t workers : plan.numbers("workers"))
      if (workers == 0) {
        numbers_.merge(spread(cpus, plan.preset() == Preset::full ? 12 : 8));
        many.insert(2 * cpus);
      } else {
        (workers <= cpus ? numbers_ : many).insert(static_cast<unsigned>(workers));
      }
    numbers_.insert(1);  // what all is compared with
    if (numbers_.size() > 0)
      add_crews(plan, main_, *numbers_.rbegin());
    for (const unsigned workers : many) {
      Stage crowd{std::string(apparatus::crowded), main_.cpus, {}};
      add_crews(plan, crowd, workers);
      crowds_.emplace_back(workers, std::move(crowd));
    }
  }

  void plan() {
    for (const auto& growth : plan_.words("growth"))
      for (const auto& work : plan_.words("work"))
        for (const auto& tasks : plan_.words("tasks"))
          if (is_wanted(growth, work, tasks))
            add_curve(main_, {growth, work, tasks, main_.place}, true);
    if (plan_.series().empty())
      throw Unsupported("weak growth is that of serial work; add serial to work, or strong to "
                        "growth");
    if (std::holds_alternative<affinity::Placement::All>(plan_.placement().items.front()))
      for (const auto* strategy : {"compact", "scatter"})
        add_strategy(strategy);
  }

private:
  static Stage stage_of(const Plan& plan, const affinity::Placement& placement,
                        std::string_view name) {
    const bool is_all = placement.text == "all";
    return {name.empty() ? (is_all ? "per-core" : placement.text) : std::string(name),
            apparatus::cpus_apart(plan.topology(), placement),
            {}};
  }

  // Another machine's plan knows no quota.
  static double quota_of(const Plan& plan) {
    if (plan.topology().foreign())
      return INFINITY;
    return affinity::cgroup_limits().quota_cpus.value_or(INFINITY);
  }

  // Only a serial part grows otherwise than the rest, and wide work is there to look at the cores.
  [[nodiscard]] bool is_wanted(std::string_view growth, std::string_view work,
                               std::string_view tasks) const {
    if (growth == "weak" && work != "serial")
      return false;
    return work != "wide" || tasks == plan_.words("tasks").front();
  }

  void add_strategy(const char* strategy) {
    Stage stage = stage_of(plan_, affinity::parse_placement(strategy, plan_.topology()), strategy);
    const bool same = std::ranges::all_of(numbers_, [&](unsigned workers) {
      return std::set(stage.cpus.begin(), stage.cpus.begin() + workers) ==
             std::set(main_.cpus.begin(), main_.cpus.begin() + workers);
    });
    if (same) {
      const std::array absent = {
          affinity::Absent{strategy, fmt::format("takes the same CPUs as {} here", main_.place)}};
      plan_.add_absent(absent);
      return;
    }
    add_crews(plan_, stage, *numbers_.rbegin());
    const std::string tasks = plan_.words("tasks").front();
    for (const auto& work : plan_.words("work"))
      if (plan_.words("growth").front() == "strong" && (work == "chain" || work == "shared"))
        add_curve(stage, {"strong", work, tasks, stage.place}, false);
  }

  void add_curve(const Stage& stage, const Curve& curve, bool with_crowds) {
    for (const unsigned workers : numbers_)
      add_point(stage, curve, curve, workers);
    if (!with_crowds || curve.growth != "strong" || curve.tasks != plan_.words("tasks").front())
      return;
    for (const auto& [workers, crowd] : crowds_) {
      Curve beside = curve;
      beside.place = crowd.place;
      add_point(crowd, curve, beside, workers);
    }
  }

  void add_point(const Stage& stage, const Curve& curve, const Curve& point, unsigned workers) {
    SeriesPlan series;
    series.name = point.series(workers);
    series.group = curve.name();
    series.relation = stage.place;
    series.cpus = stage.cpus;
    series.params = {{"growth", point.growth},
                     {"work", point.work},
                     {"tasks", point.tasks},
                     {"place", point.place},
                     {"workers", std::to_string(workers)}};
    if (workers <= stage.cpus.size() && stage.has_siblings(plan_.topology(), workers))
      series.params.emplace_back(apparatus::siblings_param, "yes");
    if (workers > 1 && workers > quota_)
      series.skip = fmt::format("the cgroup's quota is {:.3g} CPUs", quota_);
    const auto length_us = plan_.number("length");
    const double length_ns = length_us > 0
                                 ? 1e3 * static_cast<double>(length_us)
                                 : std::max(500e3, 40e3 * static_cast<double>(main_.cpus.size()));
    apparatus::JobOptions options{.job = apparatus::job_from(curve.work),
                                  .workers = workers,
                                  .weak = curve.growth == "weak",
                                  .serial = static_cast<double>(plan_.number("serial")) / 100,
                                  .time = time,
                                  .rate = rate};
    series.make = [crew = stage.crews.at(curve.tasks), options, length_ns,
                   turn_ns = static_cast<double>(plan_.number("turn"))]() mutable {
      options.steps = apparatus::steps_for(length_ns);
      options.turn = apparatus::steps_for(turn_ns);
      return apparatus::make_shared_job(crew->get(), options);
    };
    plan_.add(std::move(series));
  }

  Plan& plan_;
  Stage main_;
  double quota_;
  std::set<unsigned> numbers_;
  std::vector<std::pair<unsigned, Stage>> crowds_;
};

void plan_series(Plan& plan) {
  Planner(plan).plan();
}

void conclude(const Plan&, LabResult& result) {
  apparatus::add_speedups(result, scaling_metrics);
  std::ranges::move(apparatus::fit_series(result, scaling_metrics),
                    std::back_inserter(result.series));
}

std::string law_of(const Findings& findings) {
  for (const Series& series : findings.result().series) {
    if (param_text(series, "model") != "usl" || param_text(series, "work") != "shared")
      continue;
    if (series.status == Status::skipped)
      return fmt::format(" The Universal Scalability Law was not fitted: {}.", series.reason);
    return fmt::format(" Of work that shares a counter the Universal Scalability Law finds "
                       "contention {}, crosstalk {}{}.",
                       apparatus::quote(findings, series.name, "contention"),
                       apparatus::quote(findings, series.name, "crosstalk"),
                       find_param(series, "peak") ? fmt::format(" and most speed at {:.3g} workers",
                                                                param_number(series, "peak"))
                                                  : "");
  }
  return "";
}

std::string answer(const Findings& findings) {
  std::string text;
  for (const Curve& curve : apparatus::curves_of(findings.result())) {
    if (curve.work != "serial" || curve.growth != "strong")
      continue;
    double most = 0;
    for (const Series& series : findings.result().series)
      if (series.name == curve.series(param_number(series, "workers")) &&
          find_metric(series, "speedup"))
        most = std::max(most, param_number(series, "workers"));
    if (most < 2)
      continue;
    text = fmt::format("{:g} {} do a job with a serial part {} times as fast as one", most,
                       curve.tasks, apparatus::quote(findings, curve.series(most), "speedup"));
    const std::string share =
        apparatus::quote(findings, apparatus::fit_name("amdahl", curve), "serial");
    text += share.empty() ? "." : fmt::format("; by Amdahl's law its share is {}.", share);
    break;
  }
  if (text.empty())
    return "Nothing could be done here by more than one worker with a CPU's worth of time each.";
  const std::string conditions = apparatus::conditions_of(findings.result()).text();
  if (!conditions.empty())
    text += fmt::format(" Looked at before: {}.", conditions);
  return text + law_of(findings);
}

constexpr ClaimInfo claims[] = {
    {.id = "C67",
     .text = "On several cores a program is faster with several processes",
     .source = "S2",
     .judge = apparatus::judge_processes_scale},
};

}  // namespace

extern constinit const Lab speedup_scaling = {
    .name = "speedup_scaling",
    .family = "speedup",
    .question = "how much faster do more workers make a job, and which of its parts holds them "
                "back?",
    .shape = Shape::workers,
    .params = params,
    .metrics = metrics,
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
