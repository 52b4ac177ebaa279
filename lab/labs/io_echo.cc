// io_echo: from how many connections does a loop serve an echo cheaper than a thread for each?
//
// Method   A server on one CPU sends back what it gets: a loop on io_uring, the same loop on epoll,
//          or a blocking thread for each connection. A client on another CPU keeps one message in
//          flight on each connection, over loopback TCP, and never sleeps.
// Reading  `cpu` is what a message costs the server and compares methods at any load; `throughput`
//          does so only where the server's CPU is busy, which `busy` tells. `calls` says why: how
//          many messages share a system call.
// Traps    Loopback has no network card: the one who sends does the receiver's TCP work. A client
//          that is slower than the server measures itself; such series say CLIENT_BOUND. A thread
//          blocked in recv costs nothing until it is woken, and then a context switch.

#include "lab/apparatus/crossover.hh"
#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/echo.hh"
#include "lab/apparatus/loopback.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/base/text.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/validity.hh"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Relation;
using apparatus::EchoMethod;
using apparatus::EchoOptions;

enum : std::size_t { throughput, cpu, busy, calls, p50, p99, memory };

constexpr double saturated = 0.95;  // share of the server's CPU

constexpr MetricInfo metrics[] = {
    {.name = "throughput",
     .unit = "1/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "messages a second, there and back"},
    {.name = "cpu",
     .unit = "ns",
     .help = "CPU time of the server for a message, kernel workers included",
     .interval = true},
    {.name = "busy",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "share of the time in which the server's CPU worked"},
    {.name = "calls",
     .unit = "",
     .kind = Kind::count,
     .help = "the server's system calls for a message"},
    {.name = "p50", .unit = "ns", .help = "median round trip of a sample"},
    {.name = "p99", .unit = "ns", .help = "99th percentile of a sample's round trips"},
    {.name = "memory",
     .unit = "B",
     .kind = Kind::size,
     .help = "resident memory of the server for a connection, the kernel's sockets not counted",
     .show = false},
};

constexpr std::string_view method_words[] = {"io_uring", "epoll", "threads"};

constexpr Param params[] = {
    {.name = "method",
     .help = "how the server serves",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "io_uring,epoll,threads",
     .quick = "io_uring,epoll,threads",
     .full = "io_uring,epoll,threads",
     .words = method_words},
    {.name = "connections",
     .help = "connections, a message in flight on each",
     .list = true,
     .smoke = "2",
     .quick = "1,4,32,128",
     .full = "1,2,4,8,32,128,512",
     .min = 1,
     .max = 8192},
    {.name = "size",
     .help = "bytes of a message",
     .kind = Param::Kind::size,
     .smoke = "64",
     .quick = "64",
     .full = "64",
     .min = 8,
     .max = 64 << 10},
};

std::string series_name(std::string_view relation, std::string_view method,
                        std::int64_t connections) {
  return fmt::format("{}/{}/{}", relation, method, connections);
}

void add_series(Plan& plan, const std::string& method, std::int64_t connections,
                const affinity::Pair& pair, const std::string& skip) {
  EchoOptions options;
  options.method = apparatus::echo_method(method);
  options.connections = static_cast<unsigned>(connections);
  options.size = static_cast<std::size_t>(plan.number("size"));
  options.server = pair.first;
  options.client = pair.second;
  options.usable = plan.topology().usable();
  options.metrics = {throughput, cpu, busy, calls, p50, p99, memory};
  SeriesPlan series;
  series.name = series_name(name(pair.relation), method, connections);
  series.group = fmt::format("{}/{}", name(pair.relation), connections);
  series.params = {{"method", method}, {"connections", std::to_string(connections)}};
  series.relation = name(pair.relation);
  series.cpus = {pair.first, pair.second};
  if (options.method != EchoMethod::threads)
    series.driver = method;
  series.skip = skip;
  series.make = [options] { return apparatus::make_echo(options); };
  plan.add(std::move(series));
}

std::string why_not(const affinity::Pair& pair) {
  if (pair.relation == Relation::unpinned)
    return "the server's CPU could not be told from the client's";
  if (pair.first == pair.second)
    return "the client never sleeps and would take the server's CPU; two CPUs are needed";
  return {};
}

void add_skipped(Plan& plan, std::string name, std::string reason) {
  SeriesPlan series;
  series.name = series.relation = std::move(name);
  series.skip = std::move(reason);
  plan.add(std::move(series));
}

void add_pair(Plan& plan, const affinity::Pair& pair) {
  const auto arms = apparatus::driver_arms(plan);
  for (const auto connections : plan.numbers("connections"))
    for (const auto& method : plan.words("method")) {
      const auto arm = std::ranges::find(arms, method, &apparatus::DriverArm::name);
      add_series(plan, method, connections, pair, arm == arms.end() ? "" : arm->skip);
    }
}

void plan_series(Plan& plan) {
  apparatus::require_loopback();
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  for (const auto& pair : pairs.chosen)
    if (const std::string reason = why_not(pair); reason.empty())
      add_pair(plan, pair);
    else
      add_skipped(plan, name(pair.relation), reason);
  for (const auto& absent : pairs.absent)
    add_skipped(plan, absent.name, absent.reason);
}

// Says of each series whether its throughput is the server's or the client's.
void conclude(const Plan&, LabResult& result) {
  for (auto& series : result.series) {
    const Metric* const share = find_metric(series, "busy");
    if (share && share->median && *share->median < saturated)
      series.warnings.push_back(make_warning(Code::client_bound, {{"busy", *share->median}}));
  }
}

// What was measured for one relation: the first in the result.
class Sweep {
public:
  explicit Sweep(const Findings& findings) : findings_(findings) {
    for (const auto& series : findings.result().series)
      if (relation_.empty() && !series.metrics.empty())
        relation_ = series.placement.relation;
    counts_ = apparatus::measured_numbers(findings, [&](const Series& series) {
      const bool counts = !series.metrics.empty() && series.placement.relation == relation_;
      return counts ? apparatus::whole_param(series, "connections") : std::nullopt;
    });
  }

  [[nodiscard]] const std::vector<std::int64_t>& counts() const noexcept { return counts_; }
  [[nodiscard]] const Metric* metric(std::string_view method, std::int64_t count,
                                     std::string_view name) const {
    return findings_.metric(series_name(relation_, method, count), name);
  }
  [[nodiscard]] std::optional<Estimate> ratio(std::string_view a, std::string_view b,
                                              std::int64_t count, std::string_view name) const {
    return findings_.ratio(series_name(relation_, a, count), series_name(relation_, b, count),
                           name);
  }
  // From which number of connections on does `a` need less?
  [[nodiscard]] std::optional<apparatus::Crossover>
  crossover(std::string_view a, std::string_view b, std::string_view name) const {
    std::vector<apparatus::Rung> rungs;
    for (const auto count : counts_)
      rungs.push_back({static_cast<double>(count), series_name(relation_, a, count),
                       series_name(relation_, b, count)});
    return apparatus::find_crossover(findings_, rungs, name, Better::lower);
  }

private:
  const Findings& findings_;
  std::string relation_;
  std::vector<std::int64_t> counts_;
};

// Which of two takes less CPU, by the interval of their ratio.
enum class Cheaper : std::uint8_t { first, second, neither };

std::optional<Cheaper> cheaper(const std::optional<Estimate>& ratio) {
  if (!ratio || !ratio->interval)
    return {};
  if (ratio->interval->high < 1)
    return Cheaper::first;
  return ratio->interval->low > 1 ? Cheaper::second : Cheaper::neither;
}

// " io_uring takes less CPU than threads from connection count 2.3 [1.9 2.8] on (112 % [103 131] at
// 1, 45 % [44 46] at 512)."
std::string crossover(const Sweep& sweep, std::string_view a, std::string_view b) {
  const auto found = sweep.crossover(a, b, "cpu");
  if (!found)
    return {};
  std::string ends;
  for (const double count : {found->first, found->last})
    if (ends.empty() || found->first != found->last)
      ends +=
          fmt::format("{}{} at {}", ends.empty() ? "" : ", ",
                      percent(*sweep.ratio(a, b, static_cast<std::int64_t>(count), "cpu")), count);
  return fmt::format(" {} takes less CPU than {} {} ({}).", a, b,
                     apparatus::text_of(*found, "connection count"), ends);
}

std::string costs_at(const Sweep& sweep, std::int64_t count) {
  std::string text;
  for (const auto method : method_words)
    if (const Metric* const cost = sweep.metric(method, count, "cpu"))
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", method, with_interval(*cost));
  return text;
}

std::string answer(const Findings& findings) {
  const Sweep sweep(findings);
  if (sweep.counts().empty())
    return "Nothing could be measured: the client needs a CPU beside the server's.";
  const std::int64_t least = sweep.counts().front();
  std::string text = fmt::format("A message costs the server's CPU with {} connection{}: {}", least,
                                 least == 1 ? "" : "s", costs_at(sweep, least));
  if (sweep.counts().size() > 1)
    text +=
        fmt::format("; with {}: {}", sweep.counts().back(), costs_at(sweep, sweep.counts().back()));
  text += ".";
  for (const auto& [a, b] : {std::pair{"io_uring", "threads"}, std::pair{"epoll", "threads"},
                             std::pair{"io_uring", "epoll"}})
    text += crossover(sweep, a, b);
  return text;
}

// The better loop that was measured with so many connections, by CPU time; or empty.
std::string_view best_loop(const Sweep& sweep, std::int64_t count) {
  const Metric* const ring = sweep.metric("io_uring", count, "cpu");
  const Metric* const epoll = sweep.metric("epoll", count, "cpu");
  if (!ring || !ring->median)
    return epoll && epoll->median ? "epoll" : "";
  return epoll && epoll->median && *epoll->median < *ring->median ? "epoll" : "io_uring";
}

std::string quote(const Sweep& sweep, std::string_view method, std::int64_t count,
                  std::string_view name) {
  const Metric* const found = sweep.metric(method, count, name);
  return found && found->median ? with_interval(*found) : "not measured";
}

// C24: with many connections a loop serves a message for less CPU than a thread for each.
Judgement judge_throughput(const Findings& findings) {
  constexpr std::int64_t many = 32;
  const Sweep sweep(findings);
  Judgement judgement;
  judgement.needs = "io_echo with threads and a loop, 32 connections or more, 6 processes or more";
  if (sweep.counts().empty() || sweep.counts().back() < many)
    return judgement;
  const std::int64_t count = sweep.counts().back();
  const std::string_view loop = best_loop(sweep, count);
  const auto ratio = sweep.ratio(loop, "threads", count, "cpu");
  const auto who = cheaper(ratio);
  if (!who)
    return judgement;
  judgement.evidence = fmt::format(
      "{} connections: {} serves {} with {} of CPU a message and p99 {}, threads {} with {} and "
      "{}; a connection keeps {} of memory against {}",
      count, loop, quote(sweep, loop, count, "throughput"), quote(sweep, loop, count, "cpu"),
      quote(sweep, loop, count, "p99"), quote(sweep, "threads", count, "throughput"),
      quote(sweep, "threads", count, "cpu"), quote(sweep, "threads", count, "p99"),
      quote(sweep, loop, count, "memory"), quote(sweep, "threads", count, "memory"));
  if (*who == Cheaper::neither) {
    judgement.needs = "a quieter machine or more processes";
    return judgement;
  }
  judgement.needs.clear();
  judgement.verdict = *who == Cheaper::first ? Verdict::confirmed : Verdict::refuted;
  return judgement;
}

// C85, its first half: one thread with many connections works all the time, and still serves
// thousands of messages a second.
Judgement judge_saturation(const Findings& findings) {
  constexpr std::int64_t many = 128;
  constexpr double thousands = 1000;
  const Sweep sweep(findings);
  Judgement judgement;
  judgement.needs = "io_echo with a loop, 128 connections or more, 6 processes or more";
  if (sweep.counts().empty() || sweep.counts().back() < many)
    return judgement;
  const std::int64_t most = sweep.counts().back();
  const std::string_view loop = best_loop(sweep, most);
  const Metric* const rate = sweep.metric(loop, most, "throughput");
  const Metric* const share = sweep.metric(loop, most, "busy");
  if (!rate || !rate->ci || !share || !share->ci)
    return judgement;
  std::int64_t full_from = 0;
  for (const auto count : sweep.counts()) {
    const Metric* const at = sweep.metric(loop, count, "busy");
    if (full_from == 0 && at && at->median && *at->median >= saturated)
      full_from = count;
  }
  judgement.evidence =
      fmt::format("one thread ({}) with {} connections serves {}, its CPU {:.0f} % busy; {}", loop,
                  most, with_interval(*rate), 100 * *share->median,
                  full_from > 0 ? fmt::format("it is saturated from {} connections on", full_from)
                                : std::string("no number of connections saturated it"));
  if (rate->ci->high < thousands) {
    judgement.verdict = Verdict::refuted;
    judgement.needs.clear();
  } else if (rate->ci->low >= thousands && share->ci->low >= saturated) {
    judgement.verdict = Verdict::confirmed;
    judgement.needs.clear();
  } else {
    judgement.needs = "a client that saturates the server: more CPUs, or more connections";
  }
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C24",
     .text = "An event loop has great throughput for I/O, because it hardly ever blocks",
     .source = "S0 S3 S4",
     .judge = judge_throughput},
    {.id = "C85",
     .text =
         "One thread with an event loop wastes no time waiting and serves thousands of requests",
     .source = "S4",
     .judge = judge_saturation},
};

}  // namespace

extern constinit const Lab io_echo = {
    .name = "io_echo",
    .family = "io",
    .question = "from how many connections does a loop serve cheaper than a thread for each?",
    .version = 1,
    .shape = Shape::pair,
    .min_cpus = 2,
    .params = params,
    .metrics = metrics,
    // 12 series in six processes, each with a server, a client and their connections to set up.
    .budget = {.quick_s = 6, .full_s = 60},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
