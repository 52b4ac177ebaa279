// cache_bandwidth: how many bytes a second do the caches and the memory give, to one CPU and to
// all?
//
// Method   Workers on CPUs of their own stream at the same time with the kernels of STREAM
//          (McCalpin), a plain read and a plain write. They begin together at a spinning start
//          line; the bandwidth is the bytes of all over the time from the first begin to the last
//          end. Bytes are those that the kernel names, by STREAM's rule.
// Reading  A level's bandwidth is that of its arrays: half of an L1d, L2 or L3 cache for each
//          worker, or, for memory, each array 4 x the last-level caches. What one worker gets is a
//          matter of how many misses a core can have under way; what all get, of the memory.
// Traps    An ordinary store fetches its line first: the memory moves 3/2 to 2 times the bytes that
//          count. Arrays that are too small for the rule are told; so are the caches that a guest
//          is shown but does not have. A worker's part lies on its node because it wrote it first.

#include "lab/apparatus/cache_share.hh"
#include "lab/apparatus/start_line.hh"
#include "lab/apparatus/stream_crew.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::Deal;
using apparatus::Pages;
using apparatus::Shared;
using apparatus::Stores;
using apparatus::StreamCrew;
using apparatus::StreamKernel;
using apparatus::StreamMemory;

enum : std::size_t { rate, each, together };

constexpr MetricInfo metrics[] = {
    {.name = "rate",
     .unit = "B/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "of all workers, by STREAM's count: write-allocate traffic is not in it",
     .interval = true},
    {.name = "each",
     .unit = "B/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "the same for one worker"},
    {.name = "together",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "the share of the time in which all workers were streaming",
     .show = false},
};

constexpr std::string_view kernel_words[] = {"read", "write", "copy", "scale", "add", "triad"};
constexpr std::string_view level_words[] = {"memory", "l1", "l2", "l3"};
constexpr std::string_view store_words[] = {"ordinary", "nontemporal", "library"};
constexpr std::string_view page_words[] = {"base", "huge"};
constexpr std::string_view vector_words[] = {"widest", "baseline", "avx2", "avx512"};

constexpr std::int64_t most_bytes = std::int64_t{64} << 40;

constexpr Param params[] = {
    {.name = "kernel",
     .help =
         "read: a; write: c = s; copy: c = a; scale: c = s a; add: c = a + b; triad: c = a + s b",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "read,triad",
     .quick = "read,write,copy,scale,add,triad",
     .full = "read,write,copy,scale,add,triad",
     .words = kernel_words},
    {.name = "level",
     .help = "where the arrays fit: in memory, or in half of a cache",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "memory,l1",
     .quick = "memory,l1,l2",
     .full = "memory,l1,l2,l3",
     .words = level_words},
    {.name = "stores",
     .help = "all but the ordinary ones are for memory only; library: memcpy, for copy only",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "ordinary,nontemporal",
     .quick = "ordinary,nontemporal,library",
     .full = "ordinary,nontemporal,library",
     .words = store_words},
    {.name = "workers",
     .help = "how many stream together, each on a CPU of its own; 0: on all that may be used",
     .list = true,
     .smoke = "1,0",
     .quick = "1,0",
     .full = "1,2,4,8,16,32,64,128,256,512,0",
     .max = 1 << 20},
    {.name = "pages",
     .help = "4 KiB (base) or transparent huge pages",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "base",
     .quick = "base",
     .full = "base,huge",
     .words = page_words},
    {.name = "size",
     .help = "bytes of each array in memory, all workers together; 0: 4 x the last-level caches "
             "that the workers have, and at least 8 MB, as STREAM asks for",
     .kind = Param::Kind::size,
     .smoke = "0",
     .quick = "0",
     .full = "0",
     .max = most_bytes},
    // Memory that is touched for the first time costs up to a second a GiB and CPU on a guest, in
    // each process. Physical machines, with 1 to 4 MiB of last-level cache a CPU, keep the rule
    // with a tenth of this.
    {.name = "limit",
     .help = "with size 0: the most bytes that a worker's part of all three arrays may take",
     .kind = Param::Kind::size,
     .smoke = "4M",
     .quick = "384M",
     .full = "1024G",
     .min = 1 << 20,
     .max = most_bytes},
    {.name = "vector",
     .help = "what the kernels are vectorised with",
     .kind = Param::Kind::word,
     .smoke = "widest",
     .quick = "widest",
     .full = "widest",
     .words = vector_words},
};

constexpr std::uint64_t rule = 4;                 // arrays to last-level caches
constexpr std::uint64_t least_array = 8'000'000;  // bytes: STREAM's million elements
constexpr std::uint64_t memory_chunk = 256 << 10;
constexpr std::uint64_t vector_block = 256;  // bytes that the kernels take in one turn

// The workers of one width of the lab, and what they share.
struct Width {
  std::vector<unsigned> cpus;
  std::shared_ptr<Shared<StreamCrew>> crew;
};

// The arrays of some series: in memory those of all workers, in a cache those of each.
struct Arrays {
  std::uint64_t size = 0;  // bytes of each array
  std::uint64_t chunk = 0;
  std::shared_ptr<Shared<StreamMemory>> memory;
  Deal deal = Deal::all;
  std::string group;
  std::string skip;
};

int level_number(std::string_view level) {
  return level == "memory" ? 0 : level[1] - '0';
}

// The numbers of workers asked for that can be had, ascending; those that cannot become a series
// that says so.
std::vector<Width> widths_of(Plan& plan) {
  const auto most =
      static_cast<unsigned>(apparatus::cpus_apart(plan.topology(), plan.placement()).size());
  std::set<unsigned> counts;
  std::string too_many;
  for (const auto wanted : plan.numbers("workers")) {
    if (wanted <= most)
      counts.insert(wanted == 0 ? most : static_cast<unsigned>(wanted));
    else
      too_many += (too_many.empty() ? "" : ",") + std::to_string(wanted);
  }
  if (!too_many.empty()) {
    SeriesPlan series;
    series.name = "workers/" + too_many;
    series.params = {{"workers", too_many}};
    series.skip = fmt::format("--place {} has {} usable CPU{}", plan.placement().text, most,
                              most == 1 ? "" : "s");
    plan.add(std::move(series));
  }
  std::vector<Width> widths;
  for (const unsigned count : counts) {
    const auto cpus = apparatus::cpus_apart(plan.topology(), plan.placement(), count);
    widths.push_back(
        {cpus, std::make_shared<Shared<StreamCrew>>([cpus, usable = plan.topology().usable()] {
           return std::make_shared<StreamCrew>(cpus, usable);
         })});
  }
  return widths;
}

std::shared_ptr<Shared<StreamMemory>> memory_for(const Plan& plan,
                                                 const std::vector<unsigned>& cpus,
                                                 const Arrays& arrays, std::uint64_t chunks,
                                                 std::string_view pages) {
  const auto& topology = plan.topology();
  apparatus::StreamMemoryOptions options;
  for (const unsigned cpu : cpus) {
    const auto* entry = topology.find(cpu);
    options.owners.push_back({cpu, topology.nodes().size() > 1 && entry ? entry->numa_os : -1});
  }
  options.usable = topology.usable();
  options.chunk = arrays.chunk;
  options.chunks = chunks;
  options.pages = apparatus::pages_from(pages);
  return std::make_shared<Shared<StreamMemory>>(
      [options] { return std::make_shared<StreamMemory>(options); });
}

// The size of each array by STREAM's rule, cut to what a worker may take and what memory allows.
std::uint64_t size_by_rule(const Plan& plan, const std::vector<unsigned>& cpus) {
  const std::uint64_t caches = apparatus::last_level_sum(plan.topology(), cpus);
  const auto limit = static_cast<std::uint64_t>(plan.number("limit"));
  std::uint64_t size = std::max(rule * caches, least_array);
  size = std::min(size, limit / 3 * cpus.size());
  while (size > memory_chunk && !apparatus::too_large(3, size).empty())
    size /= 2;
  return size;
}

// Arrays in memory that `owners` write first.
Arrays in_memory(const Plan& plan, const std::vector<unsigned>& owners, std::string_view pages,
                 std::string group) {
  const auto wanted = static_cast<std::uint64_t>(plan.number("size"));
  const std::uint64_t size = wanted == 0 ? size_by_rule(plan, owners) : wanted;
  const std::uint64_t part = size / owners.size() / vector_block * vector_block;
  Arrays arrays;
  arrays.group = std::move(group);
  arrays.skip = apparatus::too_large(3, size);
  if (part == 0)
    arrays.skip = fmt::format("{} bytes are too few for {} workers", size, owners.size());
  if (!arrays.skip.empty())
    return arrays;
  arrays.chunk = std::min(part, memory_chunk);
  const std::uint64_t chunks = part / arrays.chunk;
  arrays.size = arrays.chunk * chunks * owners.size();
  arrays.memory = memory_for(plan, owners, arrays, chunks, pages);
  return arrays;
}

// Arrays of which `kernel_arrays` together fill half of what each worker has of a cache.
Arrays in_cache(const Plan& plan, const std::vector<unsigned>& cpus, int level,
                std::uint64_t kernel_arrays, std::string_view pages) {
  const auto& topology = plan.topology();
  const std::uint64_t share = apparatus::cache_share(topology, cpus, level);
  Arrays arrays;
  arrays.group = fmt::format("l{}/{}/{}", level, pages, cpus.size());
  arrays.deal = Deal::one_each;
  if (share == 0) {
    arrays.skip = fmt::format("the topology shows no data cache of level {}", level);
    return arrays;
  }
  const std::uint64_t inner = level > 1 ? apparatus::cache_share(topology, cpus, level - 1) : 0;
  if (share / 2 <= inner) {
    arrays.skip = fmt::format("half of the L{} cache that a worker has here ({}) fits the L{}",
                              level, quantity(static_cast<double>(share / 2), "B"), level - 1);
    return arrays;
  }
  arrays.skip = apparatus::too_large(3 * cpus.size(), share / 2 / kernel_arrays);
  arrays.chunk = share / 2 / kernel_arrays / vector_block * vector_block;
  arrays.size = arrays.chunk;
  arrays.memory = memory_for(plan, cpus, arrays, 1, pages);
  return arrays;
}

void add_series(Plan& plan, const Width& width, std::string_view level, std::string_view pages,
                const Arrays& arrays, apparatus::StreamSubject subject) {
  const std::string kernel(to_text(subject.kernel));
  const bool writes = subject.kernel != StreamKernel::read;
  const std::string stores(writes ? to_text(subject.stores) : "none");
  SeriesPlan series;
  series.name = fmt::format("{}/{}{}/{}/{}", level, kernel, writes ? "/" + stores : "",
                            width.cpus.size(), pages);
  series.group = arrays.group;
  series.params = {{"level", std::string(level)},
                   {"kernel", kernel},
                   {"stores", stores},
                   {"workers", std::to_string(width.cpus.size())},
                   {"pages", std::string(pages)},
                   {"array", quantity(static_cast<double>(arrays.size), "B")},
                   {"vector", std::string(to_text(subject.set))}};
  const std::uint64_t caches = apparatus::last_level_sum(plan.topology(), width.cpus);
  if (level == "memory" && caches > 0)
    series.params.emplace_back(
        "array_to_caches",
        fmt::format("{:.2f}", static_cast<double>(arrays.size) / static_cast<double>(caches)));
  series.relation = width.cpus.size() > 1 ? plan.placement().text : "";
  series.cpus = width.cpus;
  series.skip = arrays.skip;
  if (series.skip.empty() && !apparatus::has_stores(subject.stores))
    series.skip = "this build has non-temporal stores for x86-64 only";
  subject.rate_metric = rate;
  subject.share_metric = each;
  subject.common_metric = together;
  series.make = [crew = width.crew, memory = arrays.memory, deal = arrays.deal, subject] {
    return apparatus::make_stream(crew->get(), memory->get(), deal, subject);
  };
  plan.add(std::move(series));
}

apparatus::VectorSet vector_set(const Plan& plan) {
  const std::string word = plan.text("vector");
  if (word == "widest")
    return apparatus::widest_stream_set();
  const auto set = apparatus::vector_set_from(word);
  if (!apparatus::has_vector_set(set))
    throw Unsupported(fmt::format("this CPU has no {}; vector=widest takes what it has", word));
  return set;
}

void plan_memory(Plan& plan, const std::vector<Width>& widths, std::string_view pages) {
  const auto& topology = plan.topology();
  const auto& all = widths.back().cpus;
  // Where all CPUs are equally near to it, workers may use each other's memory, and all numbers of
  // workers stream over the same.
  const bool alike = std::ranges::all_of(all, [&](unsigned cpu) {
    const auto *one = topology.find(cpu), *other = topology.find(all.front());
    return one && other && one->numa == other->numa;
  });
  const auto set = vector_set(plan);
  Arrays arrays;
  if (alike)
    arrays = in_memory(plan, all, pages, fmt::format("memory/{}", pages));
  for (const auto& width : widths) {
    if (!alike)
      arrays =
          in_memory(plan, width.cpus, pages, fmt::format("memory/{}/{}", pages, width.cpus.size()));
    for (const auto& word : plan.words("kernel")) {
      const auto kernel = apparatus::stream_kernel_from(word);
      const auto stores = kernel == StreamKernel::read ? std::vector<std::string>{"ordinary"}
                                                       : plan.words("stores");
      for (const auto& how : stores)
        if (how != "library" || kernel == StreamKernel::copy)
          add_series(plan, width, "memory", pages, arrays,
                     {.kernel = kernel, .stores = apparatus::stores_from(how), .set = set});
    }
  }
}

void plan_cache(Plan& plan, const std::vector<Width>& widths, const std::string& level,
                std::string_view pages) {
  const auto set = vector_set(plan);
  const auto stores = plan.words("stores");
  const bool ordinary = std::ranges::find(stores, "ordinary") != stores.end();
  for (const auto& width : widths) {
    std::map<std::uint64_t, Arrays> by_arrays;  // those that a kernel uses
    for (const auto& word : plan.words("kernel")) {
      const auto kernel = apparatus::stream_kernel_from(word);
      if (!ordinary && kernel != StreamKernel::read)
        continue;
      const std::uint64_t used = apparatus::stream_bytes(kernel) / sizeof(double);
      const auto [found, fresh] = by_arrays.try_emplace(used);
      if (fresh)
        found->second = in_cache(plan, width.cpus, level_number(level), used, pages);
      add_series(plan, width, level, pages, found->second,
                 {.kernel = kernel, .stores = Stores::ordinary, .set = set});
    }
  }
}

void plan_series(Plan& plan) {
  const auto widths = widths_of(plan);
  if (widths.empty())
    return;
  for (const auto& pages : plan.words("pages"))
    for (const auto& level : plan.words("level")) {
      if (level == "memory")
        plan_memory(plan, widths, pages);
      else
        plan_cache(plan, widths, level, pages);
    }
}

// Says so where the arrays in memory are smaller than the rule asks for.
void conclude(const Plan& plan, LabResult& result) {
  if (plan.preset() == Preset::smoke)
    return;
  double least = rule;
  std::string array;
  for (const auto& series : result.series) {
    const std::string times = param_text(series, "array_to_caches");
    if (series.metrics.empty() || times.empty() || std::stod(times) >= least)
      continue;
    least = std::stod(times);
    array = param_text(series, "array");
  }
  if (least > 0.95 * rule)  // parts are whole chunks
    return;
  result.warnings.push_back(
      apparatus::below_rule(plan.lab().name, "each array", array, least, rule));
}

// The rate of one kernel with ordinary stores, of the fewest or of the most workers; the first kind
// of page that was measured.
const Series* pick(const Findings& findings, std::string_view level, std::string_view kernel,
                   bool most) {
  const Series* found = nullptr;
  for (const auto& series : findings.result().series) {
    const Metric* metric = find_metric(series, "rate");
    if (!metric || !metric->median || param_text(series, "level") != level ||
        param_text(series, "kernel") != kernel || param_text(series, "stores") == "nontemporal" ||
        param_text(series, "stores") == "library" ||
        (found && param_text(series, "pages") != param_text(*found, "pages")))
      continue;
    const std::size_t workers = series.placement.cpus.size();
    if (!found ||
        (most ? workers > found->placement.cpus.size() : workers < found->placement.cpus.size()))
      found = &series;
  }
  return found;
}

std::string who(const Series& series) {
  const std::size_t workers = series.placement.cpus.size();
  return workers == 1 ? "one CPU" : fmt::format("{} CPUs together", workers);
}

// "read 9.81 GB/s [9.7 9.9], triad 8.92 GB/s [8.8 9.0]"; empty if neither was measured.
std::string rates(const Findings& findings, std::string_view level, bool most, const Series** of) {
  std::string text;
  for (const std::string_view kernel : {"read", "triad"}) {
    const Series* series = pick(findings, level, kernel, most);
    if (!series)
      continue;
    *of = series;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", kernel,
                        with_interval(*find_metric(*series, "rate")));
  }
  return text;
}

std::string answer(const Findings& findings) {
  std::string text;
  for (const std::string_view level : level_words) {
    const Series *few = nullptr, *many = nullptr;
    const std::string one = rates(findings, level, false, &few);
    const std::string all = rates(findings, level, true, &many);
    if (!few)
      continue;
    const std::string name = level == "memory" ? "Memory" : fmt::format("L{}", level.substr(1));
    text += fmt::format("{}{} gives {} {}", text.empty() ? "" : " ", name, who(*few), one);
    if (level == "memory" && many->placement.cpus.size() > few->placement.cpus.size())
      text += fmt::format("; {} {}", who(*many), all);
    text += ".";
  }
  return text.empty() ? "Neither read nor triad was measured." : text;
}

}  // namespace

extern constinit const Lab cache_bandwidth = {
    .name = "cache_bandwidth",
    .family = "cache",
    .question = "how many bytes a second do the caches and the memory give, to one CPU and to all?",
    .shape = Shape::workers,
    .params = params,
    .metrics = metrics,
    // Some 40 series, and memory that is touched for the first time in each of six processes. In
    // full the rule holds, which takes 12 GiB in each of 20 processes where a guest of two CPUs is
    // shown 480 MiB of cache.
    .budget = {.quick_s = 5, .full_s = 240},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
};

}  // namespace schedlab::labs
