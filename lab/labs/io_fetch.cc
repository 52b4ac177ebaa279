// io_fetch: when do threads, and when does asynchronous I/O, fetch many things fastest?
//
// Method   N requests over N kept connections to a web server on the loopback that answers each
//          after a given latency, in a process and on a CPU of its own: by one thread, one after
//          the other; by a thread started for each; by a pool of N threads; by N coroutines of one
//          thread, on io_uring and on epoll. All use the same decoder. A batch is clocked from the
//          first start to the last answer, threads started and joined within it.
// Reading  "latencies" is the batch as a multiple of the latency: 1 means all waited at once, N one
//          after the other. The surface is the time of coroutines as a share of that of threads.
// Traps    With a latency far above the cost of a request everything that waits at once takes the
//          same time: look at the CPU time then. The server is one loop: with small latencies and
//          large N it is what limits. On two CPUs the fetching threads share the other.

#include "iouring/http_client.hh"
#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/fetch.hh"
#include "lab/apparatus/fetch_server.hh"
#include "lab/apparatus/fetch_surface.hh"
#include "lab/apparatus/loopback.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::DriverArm;
using apparatus::FetchMethod;
using apparatus::FetchOptions;
using std::chrono::microseconds;

enum : std::size_t { batch, latencies, cpu, calls, refused, share };

constexpr MetricInfo metrics[] = {
    {.name = "batch",
     .unit = "ns",
     .help = "from the first start to the last answer",
     .interval = true},
    {.name = "latencies",
     .unit = "",
     .kind = Kind::ratio,
     .help = "the batch as a multiple of the latency: 1, all at once"},
    {.name = "cpu", .unit = "ns", .help = "CPU time of the fetching process for one fetch"},
    {.name = "calls",
     .unit = "",
     .kind = Kind::count,
     .help = "system calls of the loop for one fetch"},
    {.name = "refused",
     .unit = "",
     .better = Better::none,
     .kind = Kind::count,
     .help = "fetches of a batch whose connection was refused"},
    {.name = "share",
     .unit = "",
     .kind = Kind::matrix,
     .help = "batch of coroutines by that of threads; rows: latency, columns: fetches at once"},
};

constexpr Param params[] = {
    {.name = "latency",
     .help = "microseconds that the server takes for an answer",
     .list = true,
     .smoke = "1000",
     .quick = "0,1000,5000",
     .full = "0,100,1000,10000",
     .max = 10'000'000},
    {.name = "fetches",
     .help = "at once",
     .list = true,
     .smoke = "2",
     .quick = "1,8,64",
     .full = "1,4,16,64,256",
     .min = 1,
     .max = 1024},
    {.name = "size",
     .help = "bytes of an answer's body",
     .kind = Param::Kind::size,
     .smoke = "1K",
     .quick = "1K",
     .full = "1K",
     .max = 16 << 20},
    {.name = "url",
     .help = "http://ADDRESS:PORT/PATH to be fetched, with no latency added; own: our server",
     .kind = Param::Kind::text,
     .smoke = "own",
     .quick = "own",
     .full = "own"},
};

// One after the other takes the sum of all latencies; longer batches are left out.
constexpr std::int64_t longest_sum_us = 20'000;
constexpr std::string_view thread_methods[] = {"threads", "pool"};

// Who runs where: the server on the last CPU, and whoever fetches on the others.
struct Places {
  unsigned server;
  affinity::CpuSet fetching;
};

Places places_for(const Plan& plan) {
  const auto usable = plan.topology().usable().cpus();
  Places places{usable.back(), plan.topology().usable()};
  if (usable.size() > 1)
    places.fetching.remove(usable.back());
  return places;
}

// What all series of a plan share.
struct Setting {
  Plan& plan;
  Places places;
  std::shared_ptr<apparatus::FetchStage> stage;
  std::array<DriverArm, 2> drivers;
};

// Where a series stands in the result.
struct Label {
  std::string name;
  std::string group;
  std::string heading;
  std::string method;
  std::int64_t count = 0;
  std::int64_t latency_us = 0;
};

SeriesPlan new_series(const Setting& setting, Label label, const DriverArm* driver) {
  SeriesPlan series;
  series.name = std::move(label.name);
  series.group = std::move(label.group);
  series.relation = std::move(label.heading);
  series.params = {{"method", std::move(label.method)},
                   {"fetches", std::to_string(label.count)},
                   {"latency_us", std::to_string(label.latency_us)},
                   {"fetching_cpus", setting.places.fetching.list()},
                   {"server_cpu", std::to_string(setting.places.server)}};
  if (driver) {
    series.driver = driver->name;
    series.skip = driver->skip;
  }
  return series;
}

// How one row of the surface is fetched: from our own server, or from a stranger's.
struct Source {
  std::string row;
  std::int64_t latency_us = 0;
  std::optional<iouring::HttpUrl> url;
};

apparatus::FetchMetrics fetch_metrics() {
  return {.batch = batch, .latencies = latencies, .cpu = cpu, .calls = calls, .refused = refused};
}

FetchOptions fetch_options(const Setting& setting, const Source& source, std::int64_t count) {
  FetchOptions options;
  options.count = static_cast<unsigned>(count);
  options.latency = microseconds(source.latency_us);
  options.cpus = setting.places.fetching;
  options.metrics = fetch_metrics();
  if (source.url) {
    options.address = source.url->address;
    options.host = source.url->host;
    options.target = source.url->target;
    options.expected = 0;
  } else {
    options.host = "localhost";
    options.target = apparatus::FetchServer::target(
        microseconds(source.latency_us), static_cast<std::size_t>(setting.plan.number("size")));
  }
  return options;
}

// One way to fetch; with null for threads.
struct Arm {
  std::string_view name;
  FetchMethod method;
  const DriverArm* driver = nullptr;
};

std::vector<Arm> arms_of(const Setting& setting) {
  std::vector<Arm> arms = {{"sequential", FetchMethod::sequential},
                           {"threads", FetchMethod::threads},
                           {"pool", FetchMethod::pool}};
  for (const DriverArm& driver : setting.drivers)
    arms.push_back({driver.name, FetchMethod::tasks, &driver});
  return arms;
}

void add_fetch(const Setting& setting, const Arm& arm, SeriesPlan series, FetchOptions options,
               bool own_server, bool refuses = false) {
  options.method = arm.method;
  if (arm.driver)
    options.driver = arm.driver->choice;
  series.make = [stage = setting.stage, options, own_server, refuses]() mutable {
    if (own_server)
      options.address = stage->address();
    if (refuses)
      options.also = stage->refusing();
    return apparatus::make_fetch(options);
  };
  setting.plan.add(std::move(series));
}

void add_cell(const Setting& setting, const Source& source, std::int64_t count) {
  const std::int64_t sum_us = count * source.latency_us;
  const std::string heading =
      source.url ? "url"
                 : fmt::format("answers after {}", apparatus::latency_name(source.latency_us));
  for (const Arm& arm : arms_of(setting)) {
    auto series = new_series(setting,
                             {apparatus::fetch_cell(source.row, count, arm.name),
                              fmt::format("{}/{}", source.row, count), heading,
                              std::string(arm.name), count, source.latency_us},
                             arm.driver);
    if (arm.method == FetchMethod::sequential && sum_us > longest_sum_us)
      series.skip = fmt::format("one after the other would take {}",
                                quantity(static_cast<double>(sum_us) * 1e3, "ns"));
    add_fetch(setting, arm, std::move(series), fetch_options(setting, source, count), !source.url);
  }
}

// Three URLs and a port that refuses.
void add_three(const Setting& setting, std::int64_t latency_us) {
  const Source source{"three", latency_us, {}};
  for (const Arm& arm : arms_of(setting))
    add_fetch(setting, arm,
              new_series(setting,
                         {fmt::format("three/{}", arm.name), "three",
                          "three URLs and a refused port", std::string(arm.name), 3, latency_us},
                         arm.driver),
              fetch_options(setting, source, 3), true, true);
}

// Three coroutines that sleep.
void add_sleepers(const Setting& setting, std::int64_t latency_us) {
  for (const DriverArm& driver : setting.drivers)
    for (const bool together : {true, false}) {
      const std::string_view method = together ? "gather" : "sequential";
      auto series =
          new_series(setting,
                     {fmt::format("sleep/{}/{}", method, driver.name), "sleep", "three sleeps",
                      fmt::format("{} {}", method, driver.name), 3, latency_us},
                     &driver);
      apparatus::SleepOrderOptions options;
      options.driver = driver.choice;
      options.together = together;
      options.latency = microseconds(latency_us);
      options.cpus = setting.places.fetching;
      options.metrics = fetch_metrics();
      series.make = [options] { return apparatus::make_sleep_order(options); };
      setting.plan.add(std::move(series));
    }
}

std::vector<Source> sources_of(const Plan& plan) {
  if (const std::string url = plan.text("url"); url != "own")
    return {{"url", 0, iouring::HttpUrl(url)}};
  std::vector<Source> sources;
  for (const std::int64_t us : plan.numbers("latency"))
    sources.push_back({apparatus::latency_name(us), us, {}});
  return sources;
}

void plan_series(Plan& plan) {
  apparatus::require_loopback();
  const auto sources = sources_of(plan);
  Setting setting{plan, places_for(plan), std::make_shared<apparatus::FetchStage>(),
                  apparatus::driver_arms(plan)};
  setting.stage->options.cpu = setting.places.server;
  setting.stage->options.driver = apparatus::best_driver(plan).choice;
  for (const Source& source : sources)
    for (const std::int64_t count : plan.numbers("fetches"))
      add_cell(setting, source, count);
  const auto slowest = std::ranges::max(sources, {}, &Source::latency_us).latency_us;
  if (slowest > 0) {
    add_three(setting, slowest);
    add_sleepers(setting, slowest);
  }
}

void conclude(const Plan&, LabResult& result) {
  const Findings findings(result);
  const std::string_view driver = apparatus::measured_driver(findings);
  std::vector<Series> added;
  for (const auto method : thread_methods) {
    auto matrix = apparatus::fetch_surface(findings, driver, method);
    if (!matrix)
      continue;
    Series& series = added.emplace_back();
    series.name = fmt::format("surface/{}", method);
    series.driver = driver;
    series.params = {{"method", std::string(method)}};
    series.metrics.push_back(make_metric(metrics[share], {}));
    series.metrics.back().matrix = std::move(*matrix);
  }
  std::ranges::move(added, std::back_inserter(result.series));
}

// What came of a stranger's server that refuses.
std::string refusals(const Findings& findings) {
  for (const auto& series : findings.result().series)
    if (const Metric* none = find_metric(series, "refused");
        none && none->median && !series.name.starts_with("three/") && *none->median > 0)
      return fmt::format(" {} of {} connections were refused.", *none->median,
                         param_number(series, "fetches"));
  return "";
}

std::string answer(const Findings& findings) {
  const std::string_view driver = apparatus::measured_driver(findings);
  const auto cells = apparatus::fetch_cells(findings, driver);
  if (cells.empty())
    return "Nothing could be fetched asynchronously here.";
  const apparatus::FetchCell& corner = cells.back();
  const Metric* most = findings.metric(corner.with(driver), "batch");
  std::string text = fmt::format("{} fetches at once ({}) take {} by coroutines on {}",
                                 corner.count, corner.row, with_interval(*most), driver);
  std::string where;
  for (const auto method : thread_methods) {
    const std::string_view threads = method == "pool" ? "a pool of threads" : "new threads";
    if (const auto ratio = findings.ratio(corner.with(driver), corner.with(method), "batch"))
      text += fmt::format(", {} of the time of {}", percent(*ratio), threads);
    const std::string found = apparatus::fetch_crossovers(findings, driver, method);
    if (!found.empty())
      where += fmt::format(" N coroutines are faster than {}: {}.", threads, found);
  }
  text += "." + refusals(findings) + where;
  return text;
}

// C15: confirmed if threads fetch several things in clearly less time than one after the other.
Judgement judge_threads_fetch_faster(const Findings& findings) {
  Judgement judgement;
  for (const auto& series : findings.result().series) {
    if (!series.name.ends_with("/threads") || param_number(series, "fetches") < 3 ||
        param_number(series, "latency_us") < 1000 || series.name.starts_with("three/"))
      continue;
    const std::string where = series.name.substr(0, series.name.rfind('/'));
    const auto ratio = findings.ratio(series.name, where + "/sequential", "batch");
    if (!ratio || !ratio->interval)
      continue;
    judgement.evidence +=
        fmt::format("{}{}: threads take {} of one after the other",
                    judgement.evidence.empty() ? "" : ", ", where, percent(*ratio));
    if (ratio->interval->low > 0.9)
      judgement.verdict = Verdict::refuted;
    else if (ratio->interval->high < 0.75 && judgement.verdict != Verdict::refuted)
      judgement.verdict = Verdict::confirmed;
  }
  if (judgement.evidence.empty())
    judgement.needs = "io_fetch with 6 processes or more, latency=1000 or more and fetches=8";
  else if (judgement.verdict == Verdict::inconclusive)
    judgement.needs = "a quieter machine";
  return judgement;
}

// C62: confirmed if three fetches by threads take about one latency and the refused port came back
// as a result each time; refuted if they take the sum, or a refusal was lost.
Judgement judge_three_urls(const Findings& findings) {
  Judgement judgement;
  const Series* series = findings.series("three/threads");
  if (apparatus::fails(series, apparatus::refused_check))
    return apparatus::refuted(
        apparatus::seen_of_expected(*apparatus::find_check(series, apparatus::refused_check)) +
        " refusals came back as a result");
  const Metric* took = findings.metric("three/threads", "latencies");
  const Metric* errors = findings.metric("three/threads", "refused");
  const Metric* sum = findings.metric("three/sequential", "latencies");
  if (!took || !took->ci || !errors || !errors->median)
    return apparatus::undecided("io_fetch with 6 processes or more and latency=1000 or more");
  judgement.evidence = fmt::format(
      "three URLs and a refused port take {} latencies by threads{}; "
      "{} refusal a time came back as a result",
      with_interval(*took),
      sum && sum->median ? fmt::format(", {} one after the other", with_interval(*sum)) : "",
      *errors->median);
  if (*errors->median != 1 || took->ci->low > 2.5)
    judgement.verdict = Verdict::refuted;
  else if (took->ci->high < 1.8)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = "a quieter machine, or a longer latency";
  return judgement;
}

// C70: confirmed if three sleeps by gather take about one, and all begin before one ends.
Judgement judge_gather(const Findings& findings) {
  Judgement judgement;
  bool all = true, any_sum = false;
  for (const std::string_view driver : {"io_uring", "epoll"}) {
    const std::string name = fmt::format("sleep/gather/{}", driver);
    if (apparatus::fails(findings.series(name), apparatus::words_check))
      return apparatus::refuted(fmt::format("{}: three sleeps did not all begin in order", driver));
    const Metric* took = findings.metric(name, "latencies");
    if (!took || !took->ci)
      continue;
    judgement.evidence +=
        fmt::format("{}{}: three sleeps take {} of one, all begin before one ends",
                    judgement.evidence.empty() ? "" : "; ", driver, with_interval(*took));
    any_sum = any_sum || took->ci->low > 2.5;
    all = all && took->ci->high < 1.5;
  }
  if (judgement.evidence.empty())
    judgement.needs = "io_fetch with 6 processes or more and latency=1000 or more";
  else if (any_sum)
    judgement.verdict = Verdict::refuted;
  else if (all)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = "a quieter machine, or a longer latency";
  return judgement;
}

// C93: where the I/O is slow and much of it is under way, coroutines against the better kind of
// threads. They win by time; at equal time, by the CPU that a fetch takes.
Judgement judge_slow_io(const Findings& findings) {
  Judgement judgement;
  const std::string_view driver = apparatus::measured_driver(findings);
  const auto cells = apparatus::fetch_cells(findings, driver);
  judgement.needs =
      "io_fetch with 6 processes or more, latency=5000 or more and fetches=64 or more";
  if (cells.empty() || cells.back().latency_us < 1000 || cells.back().count < 16)
    return judgement;
  const apparatus::FetchCell& corner = cells.back();
  int better = 0, worse = 0, arms = 0;
  for (const auto method : thread_methods) {
    const auto time = findings.ratio(corner.with(driver), corner.with(method), "batch");
    const auto work = findings.ratio(corner.with(driver), corner.with(method), "cpu");
    if (!time || !time->interval || !work || !work->interval)
      continue;
    ++arms;
    judgement.evidence += fmt::format("{}{} of the time and {} of the CPU of {}",
                                      arms > 1 ? ", " : "", percent(*time), percent(*work), method);
    const bool same_time = time->interval->high < 1.03;
    better += time->interval->high < 0.97 || (same_time && work->interval->high < 0.97);
    worse += time->interval->low > 1.03 || (same_time && work->interval->low > 1.03);
  }
  if (arms == 0)
    return judgement;
  judgement.evidence =
      fmt::format("{} fetches at once of {}: coroutines take {}; they are faster than threads: {}",
                  corner.count, corner.row, judgement.evidence,
                  apparatus::fetch_crossovers(findings, driver, "threads"));
  judgement.needs = "a quieter machine, or more fetches at once";
  if (better == arms)
    judgement.verdict = Verdict::confirmed;
  else if (worse > 0)
    judgement.verdict = Verdict::refuted;
  if (judgement.verdict != Verdict::inconclusive)
    judgement.needs.clear();
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C15",
     .text = "Threads download several files in less time than one after the other",
     .source = "S0",
     .judge = judge_threads_fetch_faster},
    {.id = "C62",
     .text = "Threads fetch three URLs in the time of the slowest; an error is a result",
     .source = "S2",
     .judge = judge_three_urls},
    {.id = "C70",
     .text = "Three waits by gather take as long as one; all begin before one ends",
     .source = "S3",
     .judge = judge_gather},
    {.id = "C93",
     .text = "Asynchronous I/O is the choice for slow I/O with much of it under way",
     .source = "S4",
     .judge = judge_slow_io},
};

}  // namespace

extern constinit const Lab io_fetch = {
    .name = "io_fetch",
    .family = "io",
    .question = "when do threads, and when does asynchronous I/O, fetch many things fastest?",
    .params = params,
    .metrics = metrics,
    // A batch cannot be shorter than its latency, and one after the other it is their sum.
    .budget = {.quick_s = 6, .full_s = 60},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
