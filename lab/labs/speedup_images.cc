// speedup_images: what do threads, processes and asynchronous I/O make of a batch of pictures that
// are fetched and made into thumbnails?
//
// Method   Pictures drawn from a seed lie on a web server on the loopback that answers each request
//          after a given latency, in a process of its own. They are fetched, made into thumbnails
//          (decoded, blurred, made smaller, encoded), or both, by one thread, by threads, by
//          processes, and by the coroutines of one thread, whose thumbnails are made by a pool of
//          as many threads as there are where nothing is fetched. All read their answers with the
//          same decoder. Every thumbnail is compared, byte for byte, with what one thread makes.
// Reading  "cores" is CPU time by wall time: what a way keeps busy. Fetching is waiting, and
//          whoever waits for all at once wins; processing is computing, and wins by CPUs. "one
//          CPU" does both at once on a single CPU: its speedup is what waiting alone had cost.
// Traps    The batch of fetching arms has a thread or process for each picture, that of processing
//          arms one for each CPU. "memory" counts pages that processes share in proportion, and
//          what else this process holds with them: compare it between the ways. The server takes
//          CPU time of its own.

#include "affinity/limits.hh"
#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/image_verdicts.hh"
#include "lab/apparatus/image_work.hh"
#include "lab/apparatus/images.hh"
#include "lab/apparatus/loopback.hh"
#include "lab/apparatus/quote.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::ImageArm;
using apparatus::ImageStage;

enum : std::size_t { batch, speedup, cores, cpu, copied, memory };

constexpr MetricInfo metrics[] = {
    {.name = "batch", .unit = "ns", .help = "all pictures, from first to last", .interval = true},
    {.name = "speedup",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "batch of one thread that does one thing after the other, by this",
     .interval = true},
    {.name = "cores",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "CPU time of all at work by wall time"},
    {.name = "cpu", .unit = "ns", .help = "CPU time of all at work for one picture"},
    {.name = "copied",
     .unit = "B",
     .kind = Kind::size,
     .help = "bytes for one picture, from where one side has it to where the other can"},
    {.name = "memory",
     .unit = "B",
     .kind = Kind::size,
     .help = "of all processes at work, shared pages in proportion (PSS)"},
};

constexpr Param params[] = {
    {.name = "pictures",
     .help = "of a batch",
     .smoke = "2",
     .quick = "8",
     .full = "16",
     .min = 1,
     .max = 256},
    {.name = "width",
     .help = "pixels of a picture",
     .smoke = "64",
     .quick = "256",
     .full = "640",
     .min = apparatus::ThumbnailMaker::factor,
     .max = 8192},
    {.name = "height",
     .help = "pixels of a picture",
     .smoke = "48",
     .quick = "192",
     .full = "480",
     .min = apparatus::ThumbnailMaker::factor,
     .max = 8192},
    {.name = "latency",
     .help = "microseconds that the server takes for an answer",
     .smoke = "500",
     .quick = "1000",
     .full = "5000",
     .max = 10'000'000},
};

// All arenas and pictures of a process together stay well below what a small machine has.
constexpr std::uint64_t most_pixels = std::uint64_t{1} << 25;

// One for each CPU that may be used, by the quota's count too.
unsigned workers_here(const Plan& plan) {
  const unsigned cpus = plan.topology().usable().count();
  if (plan.topology().foreign())
    return cpus;
  const double quota = affinity::cgroup_limits().quota_cpus.value_or(cpus);
  return std::min(cpus, static_cast<unsigned>(std::max(std::ceil(quota), 1.0)));
}

class Planner {
public:
  explicit Planner(Plan& plan)
      : plan_(plan), driver_(apparatus::best_driver(plan)), pictures_(count("pictures")) {
    const std::uint64_t pixels =
        std::uint64_t{count("width")} * count("height") * count("pictures");
    if (pixels > most_pixels)
      throw Unsupported(fmt::format("{} pictures of {} x {} pixels are more than this lab holds in "
                                    "memory; take fewer or smaller ones",
                                    count("pictures"), count("width"), count("height")));
    apparatus::ImageStoreOptions options;
    options.pictures = pictures_;
    options.width = count("width");
    options.height = count("height");
    options.latency = std::chrono::microseconds(plan.number("latency"));
    options.driver = driver_.choice;
    store_ = std::make_shared<apparatus::ImageStore>(options);
  }

  void plan() {
    const auto& all = plan_.topology().usable();
    const unsigned workers = workers_here(plan_);
    for (const ImageStage stage : {ImageStage::fetch, ImageStage::process, ImageStage::pipeline}) {
      const bool computes_only = stage == ImageStage::process;
      const unsigned many = computes_only ? std::min(workers, pictures_) : pictures_;
      add(stage, "sequential", ImageArm::sequential, 1, all);
      add(stage, "threads", ImageArm::threads, many, all);
      add(stage, "processes", ImageArm::processes, many, all);
      if (!computes_only)
        add(stage, "async", ImageArm::tasks, std::min(workers, pictures_), all);
    }
    add(ImageStage::pipeline, "one CPU", ImageArm::tasks, 1, affinity::CpuSet{all.cpus().front()});
  }

private:
  [[nodiscard]] unsigned count(std::string_view param) const {
    return static_cast<unsigned>(plan_.number(param));
  }

  void add(ImageStage stage, std::string_view way, ImageArm arm, unsigned workers,
           const affinity::CpuSet& cpus) {
    const std::string group(to_text(stage));
    SeriesPlan series;
    series.name = apparatus::image_series(group, way);
    series.group = group;
    series.relation = stage == ImageStage::pipeline ? "fetch and process" : group;
    series.cpus = plan_.topology().usable().cpus();
    series.params = {{"stage", group},
                     {"way", std::string(way)},
                     {"workers", std::to_string(workers)},
                     {"pictures", std::to_string(pictures_)}};
    apparatus::ImageOptions options;
    options.stage = stage;
    options.arm = arm;
    options.workers = workers;
    options.cpus = cpus;
    options.metrics = {
        .batch = batch, .cores = cores, .cpu = cpu, .copied = copied, .memory = memory};
    if (arm == ImageArm::tasks) {
      series.driver = driver_.name;
      series.skip = driver_.skip;
      options.driver = driver_.choice;
    }
    if (way == "one CPU")
      series.params.emplace_back("cpu", std::to_string(cpus.cpus().front()));
    series.make = [store = store_, options] { return apparatus::make_image_work(store, options); };
    plan_.add(std::move(series));
  }

  Plan& plan_;
  apparatus::DriverArm driver_;
  unsigned pictures_;
  std::shared_ptr<apparatus::ImageStore> store_;
};

void plan_series(Plan& plan) {
  apparatus::require_loopback();
  Planner(plan).plan();
}

// The speedup of each series over one thread, process by process.
void conclude(const Plan&, LabResult& result) {
  for (Series& series : result.series) {
    const auto one = std::ranges::find(
        result.series, apparatus::image_series(param_text(series, "stage"), "sequential"),
        &Series::name);
    const Metric* took = find_metric(series, "batch");
    const Metric* alone = one == result.series.end() ? nullptr : find_metric(*one, "batch");
    if (!took || !alone)
      continue;
    std::vector<std::vector<double>> runs;
    for (const PerRun& run : took->per_run) {
      auto& gained = runs.emplace_back();
      const auto mine = median_in(*took, run.process), other = median_in(*alone, run.process);
      if (mine && other)
        gained.push_back(*other / *mine);
    }
    series.metrics.insert(series.metrics.begin() + 1, make_metric(metrics[speedup], runs));
  }
}

std::string answer(const Findings& findings) {
  const auto gain = [&](std::string_view stage, std::string_view way) {
    return apparatus::quote(findings, apparatus::image_series(stage, way), "speedup");
  };
  std::string text;
  for (const auto& [stage, doing] :
       {std::pair<std::string_view, std::string_view>{"fetch", "Fetching"},
        {"process", "processing"},
        {"pipeline", "both"}}) {
    std::vector<std::string> parts;
    for (const std::string_view way : {"threads", "processes", "async", "one CPU"})
      if (const std::string found = gain(stage, way); !found.empty())
        parts.push_back(
            fmt::format("{} by {}", found, way == "one CPU" ? "coroutines on one CPU" : way));
    if (!parts.empty())
      text +=
          fmt::format("{}{} is faster {}", text.empty() ? "" : "; ", doing, fmt::join(parts, ", "));
  }
  return text.empty() ? "No picture could be fetched or processed here." : text + ".";
}

constexpr ClaimInfo claims[] = {
    {.id = "C15",
     .text = "Threads download several files in less time than one after the other",
     .source = "S0",
     .judge = apparatus::judge_threads_fetch_pictures},
    {.id = "C16",
     .text = "Processes work on several pictures at once and are done sooner",
     .source = "S0",
     .judge = apparatus::judge_processes_make_thumbnails},
    {.id = "C28",
     .text = "Processes are the choice for multimedia and scientific work",
     .source = "S0",
     .judge = apparatus::judge_processes_for_multimedia},
    {.id = "C63",
     .text = "The CPU is idle while a program waits for I/O",
     .source = "S2 S4",
     .judge = apparatus::judge_idle_while_waiting},
    {.id = "C76",
     .text = "Without concurrency a program idles while it waits for input",
     .source = "S4",
     .judge = apparatus::judge_idle_without_concurrency},
};

}  // namespace

extern constinit const Lab speedup_images = {
    .name = "speedup_images",
    .family = "speedup",
    .question = "what do threads, processes and asynchronous I/O make of a batch of pictures that "
                "are fetched and made into thumbnails?",
    .params = params,
    .metrics = metrics,
    // A batch of one thread takes the sum of all latencies and all thumbnails.
    .budget = {.quick_s = 5, .full_s = 40},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
