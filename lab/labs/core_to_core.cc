// core_to_core: what does a cache line cost on its way from one core to another?
//
// Method   Two pinned, spinning tasks hand lines to each other by one of three kernels: both
//          compare-exchange one line; each stores to its own and watches the other's; one stores a
//          stamp of its clock and the other subtracts it from its own. One pair of CPUs for each
//          class (what they share, what kinds of core they are) is measured by all kernels, and
//          then as many other pairs as the budget holds, by one kernel, for the matrix.
// Reading  "cas" is one transfer of a line that the other core has written: the number that others
//          publish. "two-lines" and "message" are what a waiting reader sees: the writer has to
//          take the reader's copy away first, so they cost about twice as much.
// Traps    Where a line lies decides its way through a mesh: a sample goes through 16 places. A
//          guest's topology need not be the host's: what is measured is checked against it.
//          The message kernel needs clocks in step; its two directions cancel a constant offset.

#include "lab/apparatus/line_transfer.hh"
#include "lab/apparatus/nodes.hh"
#include "lab/apparatus/pair_classes.hh"
#include "lab/apparatus/pair_matrix.hh"
#include "lab/apparatus/pair_plan.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"
#include "lab/harness/validity.hh"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Pair;
using affinity::Relation;
using apparatus::PairClass;
using apparatus::PairPlan;
using apparatus::TransferKernel;

enum : std::size_t {
  one_way,
  payload_line,
  asymmetry,
  switches,
  pair_count,
  nearest,
  farthest,
  transfer
};

constexpr MetricInfo metrics[] = {
    {.name = "one_way", .unit = "ns", .help = "from one core to the other", .interval = true},
    {.name = "payload_line",
     .unit = "ns",
     .help = "what a line of the payload adds, written before and read after",
     .interval = true},
    {.name = "asymmetry",
     .unit = "ns",
     .better = Better::none,
     .help = "there less back; holds what the two clocks are apart, twice"},
    {.name = "switches",
     .unit = "",
     .kind = Kind::count,
     .help = "context switches of both tasks in a sample; none is needed",
     .show = false},
    {.name = "pairs",
     .unit = "",
     .better = Better::none,
     .kind = Kind::count,
     .help = "pairs of CPUs behind the number"},
    {.name = "nearest", .unit = "ns", .help = "the fastest of these pairs"},
    {.name = "farthest", .unit = "ns", .help = "the slowest"},
    {.name = "transfer",
     .unit = "ns",
     .kind = Kind::matrix,
     .help = "one way, for each pair of CPUs"},
};

constexpr std::string_view kernel_words[] = {"cas", "two-lines", "message"};
constexpr std::string_view task_words[] = {"threads", "processes"};
constexpr std::string_view spin_words[] = {"tight", "pause"};

constexpr Param params[] = {
    {.name = "kernel",
     .help = "how a line is handed over between the CPUs of a class",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "cas,two-lines,message",
     .quick = "cas,two-lines,message",
     .full = "cas,two-lines,message",
     .words = kernel_words},
    {.name = "tasks",
     .help = "what hands it over",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "threads,processes",
     .quick = "threads,processes",
     .full = "threads,processes",
     .words = task_words},
    {.name = "payload",
     .help = "lines written before each hand-over and read after it; not with cas",
     .list = true,
     .smoke = "0",
     .quick = "0,16",
     .full = "0,16,256",
     .max = 1 << 20},
    {.name = "matrix",
     .help = "the kernel that measures all other pairs",
     .kind = Param::Kind::word,
     .smoke = "cas",
     .quick = "cas",
     .full = "cas",
     .words = kernel_words},
    {.name = "budget_s",
     .help = "seconds for the lab, which decide how many pairs are measured; 0: one of each class",
     .smoke = "0",
     .quick = "4",
     .full = "60",
     .max = 36'000},
    {.name = "node",
     .help = "the node that the lines lie on, kernel number; -1: that of the first CPU",
     .smoke = "-1",
     .quick = "-1",
     .full = "-1",
     .min = -1,
     .max = 1 << 16},
    {.name = "spin",
     .help = "pause: PAUSE after every look at the line, which adds its own length",
     .kind = Param::Kind::word,
     .smoke = "tight",
     .quick = "tight",
     .full = "tight",
     .words = spin_words},
};

constexpr std::string_view pair_prefix = "pair/";

// The series of a representative.
struct Cell {
  TransferKernel kernel;
  std::string tasks;
  std::int64_t payload;
};

std::string series_name(std::string_view class_text, const Cell& cell) {
  std::string text = fmt::format("{}/{}/{}", class_text, to_text(cell.kernel), cell.tasks);
  return cell.payload == 0 ? text : fmt::format("{}/{}", text, cell.payload);
}

// A payload goes with the first kind of task only, and not with cas, which takes and gives a line
// in one step.
std::vector<Cell> cells_of(const Plan& plan) {
  std::vector<Cell> cells;
  for (const auto& word : plan.words("kernel"))
    for (const auto& tasks : plan.words("tasks"))
      for (const auto payload : plan.numbers("payload"))
        if (const auto kernel = apparatus::transfer_kernel(word);
            payload == 0 || (kernel != TransferKernel::cas && tasks == plan.words("tasks")[0]))
          cells.push_back({kernel, tasks, payload});
  if (cells.empty())
    throw BadInput("core_to_core.payload: cas takes none; add 0, two-lines or message");
  return cells;
}

apparatus::TransferOptions options_for(const Plan& plan, const Pair& pair, const Cell& cell) {
  apparatus::TransferOptions options;
  options.kernel = cell.kernel;
  options.tasks.kind = apparatus::task_kind(cell.tasks);
  options.first = pair.first;
  options.second = pair.second;
  options.usable = plan.topology().usable();
  options.payload = static_cast<std::uint64_t>(cell.payload);
  options.pause = plan.text("spin") == "pause";
  options.one_way_metric = one_way;
  options.asymmetry_metric = asymmetry;
  options.switches_metric = switches;
  const auto node = plan.number("node");
  options.bind = node >= 0;
  options.node =
      options.bind ? static_cast<unsigned>(node) : apparatus::own_node(plan.topology(), pair.first);
  return options;
}

SeriesPlan blank(const Plan& plan, const Pair& pair, const Cell& cell) {
  SeriesPlan series;
  series.params = {{"kernel", std::string(to_text(cell.kernel))},
                   {"tasks", cell.tasks},
                   {"payload", std::to_string(cell.payload)}};
  series.relation = name(pair.relation);
  series.cpus = {pair.first, pair.second};
  series.make = [options = options_for(plan, pair, cell)] {
    return apparatus::make_line_transfer(options);
  };
  return series;
}

void add_class(Plan& plan, const Pair& pair) {
  const std::string text = apparatus::class_name(plan.topology(), pair);
  for (const Cell& cell : cells_of(plan)) {
    SeriesPlan series = blank(plan, pair, cell);
    series.name = series_name(text, cell);
    series.group = text;
    const std::string bare = series_name(text, {cell.kernel, cell.tasks, 0});
    const auto payloads = plan.numbers("payload");
    if (cell.payload > 0 && std::ranges::find(payloads, 0) != payloads.end()) {
      const double share = 1.0 / static_cast<double>(cell.payload);
      series.derive = {{.metric = payload_line,
                        .value = {{series.name, one_way, share}, {bare, one_way, -share}},
                        .floors = {}}};
    }
    plan.add(std::move(series));
  }
}

// What measures all pairs alike.
Cell matrix_cell(const Plan& plan) {
  return {apparatus::transfer_kernel(plan.text("matrix")), std::string(task_words[0]), 0};
}

void add_pair(Plan& plan, const Pair& pair, unsigned part, unsigned parts) {
  SeriesPlan series = blank(
      plan, pair, {apparatus::transfer_kernel(plan.text("matrix")), std::string(task_words[0]), 0});
  series.name = fmt::format("{}{}-{}", pair_prefix, pair.first, pair.second);
  series.group = series.name;
  series.part = part;
  series.parts = parts;
  series.optional = true;
  plan.add(std::move(series));
}

PairPlan pair_plan(const Plan& plan, const std::vector<Pair>& pairs) {
  std::set<PairClass> classes;
  for (const auto& pair : pairs)
    classes.insert(apparatus::class_of(plan.topology(), pair));
  apparatus::PairPlanOptions options;
  options.budget_s = budget_of(plan);
  options.classes_only = plan.number("budget_s") == 0;
  options.processes = plan.processes();
  options.rounds = rounds_of(plan.preset());
  options.class_series = classes.size() * cells_of(plan).size();
  return apparatus::plan_pairs(plan.topology(), pairs, options);
}

void plan_series(Plan& plan) {
  if (const auto node = plan.number("node"); node >= 0)
    apparatus::require_node(plan.topology(), static_cast<unsigned>(node), "core_to_core.node");
  if (const auto seconds = plan.number("budget_s"); seconds > 0)
    plan.set_budget_s(static_cast<double>(seconds));
  const auto wanted = apparatus::spinning_pairs(plan.topology(), plan.placement());
  const PairPlan chosen = pair_plan(plan, wanted.chosen);
  for (const auto& pair : chosen.classes)
    add_class(plan, pair);
  for (std::size_t i = 0; i < chosen.more.size(); ++i)
    add_pair(plan, chosen.more[i], static_cast<unsigned>(i % chosen.parts), chosen.parts);
  plan.add_absent(wanted.absent);
}

// A pair that was measured by the kernel of the matrix.
struct Measured {
  Pair pair;
  const Series* series;
  const Metric* metric;
};

// The median of undisturbed samples where there are any.
double value_of(const Metric& metric) {
  return metric.clean && metric.clean->median ? *metric.clean->median : metric.median.value_or(0);
}

std::vector<Measured> measured_pairs(const Plan& plan, const LabResult& result) {
  const Cell cell = matrix_cell(plan);
  std::vector<Measured> found;
  for (const auto& series : result.series) {
    const auto& cpus = series.placement.cpus;
    const auto relation = affinity::relation_from(series.placement.relation);
    const Metric* metric = find_metric(series, "one_way");
    if (cpus.size() != 2 || !relation || !metric || value_of(*metric) <= 0)
      continue;
    const Pair pair{*relation, cpus[0], cpus[1]};
    if (series.name.starts_with(pair_prefix) ||
        series.name == series_name(apparatus::class_name(plan.topology(), pair), cell))
      found.push_back({pair, &series, metric});
  }
  return found;
}

// A series that concludes from others; `what` is its part of the name.
Series conclusion(const Plan& plan, const std::string& what, std::string_view relation) {
  Series series;
  series.name = fmt::format("{}/{}", what, plan.text("matrix"));
  series.params = {{"kernel", plan.text("matrix")}, {"tasks", task_words[0]}, {"payload", "0"}};
  series.placement.relation = relation;
  return series;
}

Metric one_value(std::size_t metric, double value) {
  const std::vector<std::vector<double>> runs = {{value}};
  return make_metric(metrics[metric], runs);
}

// Of the codes that disturbed pairs carry, those of more than a tenth of them.
void add_common_warnings(const std::vector<Measured>& pairs, Series& series) {
  std::map<std::string, std::pair<std::size_t, const Warning*>> codes;
  for (const auto& pair : pairs)
    for (const auto& warning : pair.series->warnings) {
      auto& [count, worst] = codes[warning.code];
      ++count;
      if (!worst || warning.severity > worst->severity)
        worst = &warning;
    }
  for (const auto& [code, seen] : codes)
    if (10 * seen.first > pairs.size()) {
      Warning warning = *seen.second;
      warning.evidence = {{"pairs", pairs.size()}, {"pairs_with_this", seen.first}};
      series.warnings.push_back(std::move(warning));
    }
  series.status = worst(series.warnings);
}

// What the pairs of a class say together; their interval is over processes, as everywhere.
Series class_series(const Plan& plan, const std::vector<Measured>& pairs) {
  Series series =
      conclusion(plan, apparatus::class_name(plan.topology(), pairs.front().pair) + "/all pairs",
                 name(pairs.front().pair.relation));
  std::vector<std::vector<double>> runs(plan.processes());
  std::vector<double> values;
  for (const auto& pair : pairs) {
    values.push_back(value_of(*pair.metric));
    for (const auto& run : pair.metric->per_run)
      if (run.median && run.process < runs.size())
        runs[run.process].push_back(*run.median);
  }
  series.metrics.push_back(make_metric(metrics[one_way], runs));
  series.metrics.push_back(one_value(pair_count, static_cast<double>(pairs.size())));
  series.metrics.push_back(one_value(nearest, std::ranges::min(values)));
  series.metrics.push_back(one_value(farthest, std::ranges::max(values)));
  add_common_warnings(pairs, series);
  return series;
}

Series matrix_series(const Plan& plan, const std::vector<apparatus::MeasuredPair>& pairs) {
  Series series = conclusion(plan, "matrix", "");
  Metric metric = make_metric(metrics[transfer], {});
  metric.matrix = apparatus::pair_matrix(plan.topology(), pairs);
  series.metrics.push_back(std::move(metric));
  return series;
}

void warn_left_out(const Plan& plan, std::size_t measured, LabResult& result) {
  const auto wanted = apparatus::spinning_pairs(plan.topology(), plan.placement());
  const PairPlan chosen = pair_plan(plan, wanted.chosen);
  const std::size_t all = chosen.classes.size() + chosen.more.size() + chosen.left_out;
  if (measured == all || plan.number("budget_s") == 0)
    return;
  result.warnings.push_back(make_warning(
      Code::cut, {{"pairs", all}, {"pairs_measured", measured}, {"planned_s", chosen.predicted_s}},
      {}, fmt::format("{} of {} pairs, see core_to_core.budget_s", measured, all)));
}

void conclude(const Plan& plan, LabResult& result) {
  const auto found = measured_pairs(plan, result);
  std::map<PairClass, std::vector<Measured>> classes;
  std::vector<apparatus::MeasuredPair> pairs;
  for (const auto& measured : found) {
    classes[apparatus::class_of(plan.topology(), measured.pair)].push_back(measured);
    pairs.push_back(
        {measured.pair, value_of(*measured.metric), plan.topology().find(measured.pair.first)->l3});
  }
  std::vector<Series> concluded;
  for (const auto& [key, members] : classes)
    if (members.size() > 1)
      concluded.push_back(class_series(plan, members));
  if (!pairs.empty())
    concluded.push_back(matrix_series(plan, pairs));
  if (plan.text("matrix") == to_text(TransferKernel::cas))
    for (auto& warning : apparatus::topology_warnings(pairs))
      result.warnings.push_back(std::move(warning));
  warn_left_out(plan, pairs.size(), result);
  std::erase_if(result.series,
                [](const Series& series) { return series.name.starts_with(pair_prefix); });
  for (auto& series : concluded)
    result.series.push_back(std::move(series));
}

// What others have published for compare-exchange, with its source in the lab's page.
struct Usual {
  Relation relation;
  std::string_view shared;
  std::string_view range;
};
constexpr Usual usual[] = {
    {Relation::smt, "between two threads of a core", "6 to 10 ns"},
    {Relation::l2, "between cores that share an L2", "35 to 50 ns"},
    {Relation::l3, "between cores that share an L3",
     "16 to 25 ns within a cluster, 44 to 51 ns on a mesh"},
    {Relation::die, "between cores of one die", "44 to 115 ns"},
    {Relation::numa, "between cores of one node", "44 to 115 ns"},
    {Relation::package, "between cores of one package", "84 to 115 ns"},
    {Relation::remote, "between packages", "108 to 197 ns"},
};

std::string answer(const Findings& findings) {
  std::string text, seen;
  for (const auto& [relation, shared, range] : usual)
    for (const auto& series : findings.result().series) {
      const Metric* metric = find_metric(series, "one_way");
      if (!metric || !metric->median || series.placement.relation != name(relation))
        continue;
      const auto has = [&](std::string_view part) {
        return series.name.find(part) != std::string::npos;
      };
      if (has("/cas/threads"))
        text += fmt::format("{} {} {} (usual: {})", text.empty() ? "A cache line takes" : ",",
                            with_interval(*metric), shared, range);
      if (has("/two-lines/threads") && seen.empty() && series.name.ends_with("/threads"))
        seen = fmt::format("A store is seen by a waiting reader after {}.", with_interval(*metric));
    }
  if (!text.empty())
    text += ".";
  if (text.empty() && seen.empty())
    return "No pair of CPUs could be measured.";
  return text.empty() ? seen : seen.empty() ? text : text + " " + seen;
}

// C11: what is easy is that nothing has to be mapped; the transfer itself should cost the same.
Judgement judge_shared_memory(const Findings& findings) {
  Judgement judgement;
  for (const auto& series : findings.result().series) {
    const std::string tail = "/two-lines/threads";
    if (!series.name.ends_with(tail))
      continue;
    const std::string class_text = series.name.substr(0, series.name.size() - tail.size());
    const auto ratio = findings.ratio(class_text + "/two-lines/processes", series.name, "one_way");
    const Metric* cost = find_metric(series, "one_way");
    if (!ratio || !ratio->interval || !cost)
      continue;
    judgement.evidence =
        fmt::format("a store reaches a waiting thread in {} without a system call ({}); between "
                    "processes that map the same memory it takes {} of that",
                    with_interval(*cost), class_text, percent(*ratio));
    const auto& [low, high, level, method] = *ratio->interval;
    if (low > 0.9 && high < 1.1)
      judgement.verdict = Verdict::confirmed;
    else if (high < 0.9 || low > 1.1)
      judgement.verdict = Verdict::refuted;
    else
      judgement.needs = "a quieter machine or more processes";
    return judgement;
  }
  judgement.needs = "core_to_core with 6 processes or more, two-lines, threads and processes";
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C11",
     .text = "Threads share memory, which makes communication easy: a transfer costs what it costs "
             "between processes that share a mapping",
     .source = "S0 S1 S2 S3",
     .judge = judge_shared_memory},
};

}  // namespace

extern constinit const Lab core_to_core = {
    .name = "core_to_core",
    .family = "cache",
    .question = "what does a cache line cost on its way from one core to another?",
    .shape = Shape::pair,
    .min_cpus = 2,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 4, .full_s = 60},  // some 10 series a class; the rest goes into pairs
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
