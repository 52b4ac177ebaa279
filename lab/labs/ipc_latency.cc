// ipc_latency: how long does a message take from one task to another, and what decides it?
//
// Method   Two tasks and two channels. The first sends a message of `size` bytes and waits for one
//          as long in return; the other stamps when it has it. Round trips are clocked as a whole;
//          one way is stamped in rounds of its own. Before each message of a series with a gap the
//          first task spins for so long while the other waits.
// Reading  Threads beside processes within a channel: what the other address space costs. Rings
//          beside what the kernel carries: what system calls and copies cost. Block beside spin:
//          what sleeping costs. A longer gap: what waking an idle CPU costs.
// Traps    Half a round trip is not one way where the two sides wait differently, as after a gap:
//          both are measured. A ring is fast where somebody spins, and that somebody keeps a CPU.
//          The message is written and read in place, and only its ends are touched: who must fill
//          it pays for that besides. switch_cost hands over a turn; here is a channel with payload,
//          lengths, an end and a peer that may die, which costs more.

#include "lab/apparatus/cache_sizes.hh"
#include "lab/apparatus/channel_load.hh"
#include "lab/apparatus/channel_plan.hh"
#include "lab/apparatus/quote.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Relation;
using apparatus::ChannelLoadOptions;
using apparatus::quote;
using apparatus::TaskKind;

enum : std::size_t { round_trip, one_way, p99, cpu, calls };

constexpr MetricInfo metrics[] = {
    {.name = "round_trip",
     .unit = "ns",
     .help = "from before the message until the answer is there",
     .interval = true},
    {.name = "one_way",
     .unit = "ns",
     .help = "from before the message until the receiver has it",
     .interval = true},
    {.name = "p99",
     .unit = "ns",
     .help = "one_way that 99 of 100 messages of a sample stay below",
     .show = false},
    {.name = "cpu", .unit = "ns", .help = "CPU time of both tasks for a message, without a gap"},
    {.name = "calls",
     .unit = "",
     .kind = Kind::count,
     .help = "system calls for a message that move it or wake its receiver, of both tasks"},
};

constexpr std::string_view all_channels =
    "pipe,socketpair,mq,eventfd,queue,ring-block,ring-adaptive,ring-spin";
constexpr std::string_view task_words[] = {"threads", "processes"};

constexpr Param params[] = {
    {.name = "channel",
     .help = "what carries the message",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_channels,
     .quick = all_channels,
     .full = all_channels,
     .words = apparatus::channel_words},
    {.name = "tasks",
     .help = "what exchanges it",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "threads,processes",
     .quick = "threads,processes",
     .full = "threads,processes",
     .words = task_words},
    {.name = "size",
     .help = "bytes of a message",
     .kind = Param::Kind::size,
     .list = true,
     .smoke = "8",
     .quick = "8,4K",
     .full = "8,64,512,4K,64K",
     .min = 8,
     .max = std::int64_t{1} << 26},
    {.name = "gap_us",
     .help = "microseconds that the sender spins before each message",
     .list = true,
     .smoke = "0",
     .quick = "0,100",
     .full = "0,10,100,1000,10000",
     .max = 1'000'000},
};

std::string series_name(std::string_view relation, std::string_view channel, std::string_view tasks,
                        std::string_view size, std::int64_t gap_us) {
  const std::string head = fmt::format("{}/{}/{}/{}", relation, channel, tasks, size);
  return gap_us == 0 ? head : fmt::format("{}/{}us", head, gap_us);
}

void add_series(Plan& plan, const std::string& channel, const std::string& tasks,
                const affinity::Pair& pair, std::int64_t size, std::int64_t gap_us) {
  ChannelLoadOptions options = apparatus::channel_options(plan, channel, tasks, pair);
  options.size = static_cast<std::size_t>(size);
  options.gap_ns = 1000 * gap_us;
  SeriesPlan series;
  const std::string size_text = apparatus::size_word(options.size);
  series.name = series_name(name(pair.relation), channel, tasks, size_text, gap_us);
  series.group = fmt::format("{}/{}/{}", name(pair.relation), size, gap_us);
  series.params = {{"channel", channel},
                   {"tasks", tasks},
                   {"size", std::to_string(size)},
                   {"gap_us", std::to_string(gap_us)}};
  series.relation = name(pair.relation);
  if (options.first)
    series.cpus = {*options.first, *options.second};
  series.skip = apparatus::channel_objection(options);
  series.make = [options] {
    return apparatus::make_channel_rounds(
        options,
        {.round_trip = round_trip, .one_way = one_way, .p99 = p99, .cpu = cpu, .calls = calls});
  };
  plan.add(std::move(series));
}

// Only where the sender has a CPU that the receiver does not need does its wait leave one idle.
bool can_rest(Relation relation) {
  return relation != Relation::same_pu && relation != Relation::unpinned;
}

void plan_series(Plan& plan) {
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  for (const auto& pair : pairs.chosen)
    for (const auto size : plan.numbers("size"))
      for (const auto gap_us : plan.numbers("gap_us")) {
        if (gap_us > 0 && !can_rest(pair.relation))
          continue;
        for (const auto& channel : plan.words("channel"))
          for (const auto& tasks : plan.words("tasks"))
            add_series(plan, channel, tasks, pair, size, gap_us);
      }
  plan.add_absent(pairs.absent);
}

// The closest pair of two CPUs that was measured, or of one, by the sizes that a name may have.
std::string relation_of(const Findings& findings) {
  for (const auto* relation :
       {"smt", "l2", "l3", "die", "numa", "package", "remote", "same-pu", "unpinned"})
    for (const auto& series : findings.result().series)
      if (series.placement.relation == relation && find_metric(series, "one_way"))
        return relation;
  return "";
}

std::string answer(const Findings& findings) {
  const std::string relation = relation_of(findings);
  const auto at = [&](std::string_view channel, std::string_view tasks) {
    return series_name(relation, channel, tasks, "8", 0);
  };
  std::string text;
  for (const auto channel : apparatus::channel_words)
    if (const auto cost = quote(findings, at(channel, "processes"), "one_way"); !cost.empty())
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", channel, cost);
  if (text.empty())
    return "No message of 8 bytes between processes was measured.";
  text = fmt::format("One way between processes ({}, 8 bytes): {}.", relation, text);
  if (const auto ratio =
          findings.ratio(at("ring-block", "processes"), at("ring-block", "threads"), "round_trip"))
    text += fmt::format(" A ring in shared memory takes between processes {} of what it takes "
                        "between threads.",
                        percent(*ratio));
  return text;
}

// The first series of a channel that has both tasks, at 8 bytes and without a gap, by relation.
std::optional<Estimate> between_processes(const Findings& findings, std::string_view channel,
                                          std::string_view other_channel,
                                          std::string_view other_tasks) {
  const std::string relation = relation_of(findings);
  return findings.ratio(series_name(relation, channel, "processes", "8", 0),
                        series_name(relation, other_channel, other_tasks, "8", 0), "round_trip");
}

constexpr std::string_view needs_both =
    "ipc_latency of 8 bytes without a gap, threads and processes, with 6 processes or more";

// C11: threads share memory. Is that why it is easy, that is, cheap?
Judgement judge_threads_share(const Findings& findings) {
  Judgement judgement;
  const auto mapped = between_processes(findings, "ring-block", "ring-block", "threads");
  if (!mapped || !mapped->interval) {
    judgement.needs = needs_both;
    return judgement;
  }
  judgement.evidence = fmt::format("the same ring takes between processes {} of what it takes "
                                   "between threads",
                                   percent(*mapped));
  if (const auto pipe = between_processes(findings, "pipe", "ring-block", "threads"))
    judgement.evidence += fmt::format("; a pipe between processes {}", percent(*pipe));
  // The claim holds as far as memory is shared; that only threads can share it is refuted where
  // mapped memory is as fast.
  if (mapped->interval->low > 1.1)
    judgement.verdict = Verdict::confirmed;
  else if (mapped->interval->high < 1.1)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine or more processes";
  return judgement;
}

// C21: what the kernel carries between processes against what threads do among themselves.
Judgement judge_ipc_harder(const Findings& findings) {
  Judgement judgement;
  int seen = 0, dearer = 0, no_dearer = 0;
  for (const auto* channel : {"pipe", "socketpair", "mq", "eventfd", "queue", "ring-block"}) {
    const auto ratio = between_processes(findings, channel, "ring-block", "threads");
    if (!ratio || !ratio->interval)
      continue;
    ++seen;
    dearer += ratio->interval->low > 1.05;
    no_dearer += ratio->interval->high < 1.05;
    judgement.evidence +=
        fmt::format("{}{} {}", judgement.evidence.empty() ? "" : ", ", channel, percent(*ratio));
  }
  if (seen == 0) {
    judgement.needs = needs_both;
    return judgement;
  }
  judgement.evidence = "a round trip between processes against a ring between threads, both "
                       "asleep: " +
                       judgement.evidence;
  if (2 * dearer > seen)
    judgement.verdict = Verdict::confirmed;
  else if (2 * no_dearer > seen)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine or more processes";
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C11",
     .text = "Because threads share memory, they communicate more cheaply than processes can",
     .source = "S0 S1 S2 S3",
     .judge = judge_threads_share},
    {.id = "C21",
     .text = "Communication between processes costs more than between threads",
     .source = "S0 S1 S2",
     .judge = judge_ipc_harder},
};

}  // namespace

extern constinit const Lab ipc_latency = {
    .name = "ipc_latency",
    .family = "procs",
    .question = "how long does a message take from one task to another, and what decides it?",
    .version = 1,
    .shape = Shape::pair,
    .params = params,
    .metrics = metrics,
    // Eight channels, threads and processes, two sizes, and a gap that lasts: some 90 series.
    .budget = {.quick_s = 5, .full_s = 60},
    .plan = plan_series,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
