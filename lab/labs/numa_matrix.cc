// numa_matrix: how far is each node's memory from each node's CPUs?
//
// Method   For each node with CPUs (a row) and each node with memory (a column): the latency of
//          dependent loads by one CPU, and the bandwidth of streaming reads by one CPU and by all
//          CPUs of the node. The memory is bound to its node, and where each page lies is asked of
//          the kernel. No load finds its line in a cache.
// Reading  The diagonal is local memory. A row says what its CPUs pay for each node; firmware
//          distances stand beside it and are checked for their order only, because their unit is
//          arbitrary.
// Traps    A node without CPUs is a column and no row. Remote bandwidth may look like local while
//          NUMA balancing moves the pages: bound memory is left alone. A virtual machine may show
//          nodes that its host does not keep apart.

#include "affinity/memory.hh"
#include "lab/apparatus/node_matrix.hh"
#include "lab/apparatus/node_memory.hh"
#include "lab/apparatus/nodes.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <variant>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Node;
using affinity::Topology;
using apparatus::node_label;

enum : std::size_t { latency, bandwidth, local, remote, local_rate, remote_rate, factor, firmware };

constexpr MetricInfo metrics[] = {
    {.name = "latency", .unit = "ns", .help = "a dependent load that misses all caches"},
    {.name = "bandwidth",
     .unit = "B/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "streaming reads, all readers together"},
    {.name = "local",
     .unit = "ns",
     .help = "latency of a node's own memory, the median of the nodes",
     .interval = true},
    {.name = "remote",
     .unit = "ns",
     .help = "latency of another node's memory, the median of the pairs",
     .interval = true},
    {.name = "local_rate",
     .unit = "B/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "bandwidth of a node's own memory, the median of the nodes",
     .interval = true},
    {.name = "remote_rate",
     .unit = "B/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "bandwidth of another node's memory, the median of the pairs",
     .interval = true},
    {.name = "factor",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "remote divided by local",
     .interval = true},
    {.name = "distance",
     .unit = "",
     .better = Better::none,
     .kind = Kind::matrix,
     .help = "what the firmware says (10: local), for its order"},
};

constexpr std::string_view what_words[] = {"latency", "read-all", "read-one"};

constexpr Param params[] = {
    {.name = "what",
     .help = "which matrices",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "latency,read-all,read-one",
     .quick = "latency,read-all,read-one",
     .full = "latency,read-all,read-one",
     .words = what_words},
    {.name = "size",
     .help = "bytes of the memory that is made on each node",
     .kind = Param::Kind::size,
     .smoke = "4M",
     .quick = "64M",
     .full = "256M",
     .min = 1 << 20,
     .max = std::int64_t{1} << 40},
    {.name = "read",
     .help = "bytes that are read at a time, by all readers together",
     .kind = Param::Kind::size,
     .smoke = "1M",
     .quick = "16M",
     .full = "64M",
     .min = 1 << 20,
     .max = std::int64_t{1} << 40},
    {.name = "rows",
     .help = "how many nodes with CPUs are rows; 0: all",
     .smoke = "4",
     .quick = "4",
     .full = "0",
     .max = 4096},
};

// A node that reads: its usable CPUs, those of one core after those of another.
struct Row {
  Node node;
  std::vector<unsigned> cpus;
};

// The nodes that some CPU of those is closest to.
std::vector<Row> rows_of(const Topology& topology, const affinity::CpuSet& among) {
  std::vector<Row> rows;
  for (const auto& node : topology.nodes()) {
    Row row{node, apparatus::cpus_closest_to(topology, node, among)};
    if (!row.cpus.empty())
      rows.push_back(std::move(row));
  }
  return rows;
}

// The CPUs that --place names, or all that may be used.
affinity::CpuSet readers(const Plan& plan) {
  affinity::CpuSet named;
  for (const auto& item : plan.placement().items)
    if (const auto* location = std::get_if<affinity::Placement::Location>(&item))
      for (const unsigned cpu : location->cpus)
        named.add(cpu);
  return named.empty() ? plan.topology().usable() : named;
}

using Memory = std::shared_ptr<apparatus::NodeMemory>;

// A column: a node's memory, shared by all that read it.
struct Column {
  Node node;
  Memory memory;
  std::string skip;  // why it cannot be had
};

std::vector<Column> columns_of(const Plan& plan, unsigned writer) {
  const auto size = static_cast<std::uint64_t>(plan.number("size"));
  const auto nodes = affinity::usable_nodes(plan.topology());
  const std::string too_much = apparatus::too_large(nodes.size(), size);
  std::vector<Column> columns;
  for (const auto& node : nodes) {
    apparatus::NodeMemoryOptions options;
    options.size = size;
    options.policy = affinity::Policy::bind;
    options.nodes = {node.os};
    options.writer = writer;
    options.usable = plan.topology().usable();
    options.shares = {{node.os, 1.0}};
    columns.push_back(
        {node, std::make_shared<apparatus::NodeMemory>(options),
         too_much.empty() ? apparatus::too_large_on(plan.topology(), node, 1, size) : too_much});
  }
  return columns;
}

void add_cell(Plan& plan, std::string_view what, const Row& row, const Column& column) {
  const auto& usable = plan.topology().usable();
  const Memory memory = column.memory;
  SeriesPlan series;
  series.name = apparatus::node_cell(what, row.node, column.node);
  series.group = "P#" + std::to_string(row.node.os);
  series.params = {{"what", std::string(what)},
                   {"from", node_label(row.node)},
                   {"memory", node_label(column.node)}};
  series.skip = column.skip;
  series.cpus = {row.cpus.front()};
  if (what == "latency") {
    const apparatus::LoopOptions loop{row.cpus.front(), usable, latency};
    series.make = [loop, memory] { return apparatus::make_memory_chase(loop, memory); };
    plan.add(std::move(series));
    return;
  }
  if (what == "read-all")
    series.cpus = row.cpus;
  if (what == "read-all" && row.cpus.size() == 1)
    series.skip = fmt::format("node {} has one usable CPU", node_label(row.node));
  const apparatus::MemoryReadOptions options{.cpus = series.cpus,
                                             .usable = usable,
                                             .bytes =
                                                 static_cast<std::uint64_t>(plan.number("read")),
                                             .metric = bandwidth};
  series.make = [options, memory] { return apparatus::make_memory_read(options, memory); };
  plan.add(std::move(series));
}

void check_sizes(const Plan& plan) {
  const auto page = static_cast<std::int64_t>(page_size());
  if (plan.number("size") % page != 0 || plan.number("read") % page != 0)
    throw BadInput(
        fmt::format("numa_matrix: size and read are whole pages, multiples of {}", page));
  if (plan.number("read") > plan.number("size"))
    throw BadInput(fmt::format("numa_matrix.read: {} is more than the memory there is to read; "
                               "numa_matrix.size is {}",
                               plan.text("read"), plan.text("size")));
}

void plan_series(Plan& plan) {
  check_sizes(plan);
  const auto& topology = plan.topology();
  const auto rows = rows_of(topology, readers(plan));
  if (topology.nodes().size() < 2)
    throw Unsupported("needs 2 NUMA nodes; this machine has one");
  if (rows.empty())
    throw Unsupported("no usable CPU is closest to any of the machine's nodes");
  const auto columns = columns_of(plan, rows.front().cpus.front());
  if (rows.size() == 1 && columns.size() == 1 && rows.front().node.os == columns.front().node.os)
    throw Unsupported(fmt::format("needs 2 NUMA nodes; of the {} here this process may use node {} "
                                  "alone (its CPU affinity, and cpuset.mems of its cgroup)",
                                  topology.nodes().size(), node_label(rows.front().node)));
  const auto most = static_cast<std::size_t>(plan.number("rows"));
  for (const auto& what : plan.words("what"))
    for (std::size_t r = 0; r < rows.size(); ++r)
      for (const auto& column : columns) {
        auto shown = column;
        if (most > 0 && r >= most)
          shown.skip =
              fmt::format("only {} rows are measured; --set numa_matrix.rows=0 takes all", most);
        add_cell(plan, what, rows[r], shown);
      }
}

apparatus::NodeMatrixInfo info_of(std::string_view what) {
  if (what == "latency")
    return {what, metrics[latency], metrics[local], metrics[remote], metrics[factor]};
  return {what, metrics[bandwidth], metrics[local_rate], metrics[remote_rate], metrics[factor]};
}

// Folds the cells into one series for each matrix; the latencies first, then what the firmware says
// of them. What was skipped stays.
void conclude(const Plan& plan, LabResult& result) {
  const auto& topology = plan.topology();
  std::vector<Node> rows;
  for (const auto& row : rows_of(topology, readers(plan)))
    rows.push_back(row.node);
  std::vector<Series> folded;
  for (const auto what : what_words) {
    const apparatus::NodeCells cells(topology, result, info_of(what), rows,
                                     affinity::usable_nodes(topology));
    if (cells.empty())
      continue;
    folded.push_back(cells.folded());
    if (what != "latency")
      continue;
    if (auto warning = cells.contradiction())
      folded.back().warnings.push_back(std::move(*warning));
    if (auto distances = cells.firmware(metrics[firmware]))
      folded.push_back(std::move(*distances));
  }
  std::erase_if(result.series, [](const Series& series) { return !series.metrics.empty(); });
  result.series.insert(result.series.begin(), folded.begin(), folded.end());
}

std::string answer(const Findings& findings) {
  std::string text;
  const Metric* near = findings.metric("matrix/latency", "local");
  const Metric* far = findings.metric("matrix/latency", "remote");
  const Metric* ratio = findings.metric("matrix/latency", "factor");
  if (near)
    text = fmt::format("A load from a node's own memory takes {}", with_interval(*near));
  if (near && far)
    text += fmt::format(", from another node's {}", with_interval(*far));
  else if (far)
    text = fmt::format("A load from another node's memory takes {}", with_interval(*far));
  if (ratio && ratio->median)
    text += fmt::format(" ({})", percent({.value = *ratio->median, .interval = ratio->ci}));
  if (!text.empty())
    text += ".";
  for (const auto* what : {"read-all", "read-one"}) {
    const Metric* own = findings.metric(fmt::format("matrix/{}", what), "local_rate");
    const Metric* other = findings.metric(fmt::format("matrix/{}", what), "remote_rate");
    if (!own || !other)
      continue;
    text += fmt::format("{}{} of a node read {} from their own node and {} from another.",
                        text.empty() ? "" : " ",
                        std::string_view(what) == "read-all" ? "All CPUs" : "One CPU",
                        with_interval(*own), with_interval(*other));
    break;
  }
  return text.empty() ? "No node could be measured." : text;
}

}  // namespace

extern constinit const Lab numa_matrix = {
    .name = "numa_matrix",
    .family = "numa",
    .question = "how far is each node's memory from each node's CPUs?",
    .shape = Shape::workers,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 6, .full_s = 90},  // three cells for each pair of nodes
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
};

}  // namespace schedlab::labs
