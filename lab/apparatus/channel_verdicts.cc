#include "lab/apparatus/channel_verdicts.hh"

#include "lab/apparatus/channel_load.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/verdicts.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>

namespace schedlab::apparatus {

using harness::Findings;
using harness::Judgement;
using harness::Metric;
using harness::Series;
using harness::Verdict;

namespace {

constexpr std::array relations = {"smt",     "l2",     "l3",      "die",     "numa",
                                  "package", "remote", "same-pu", "unpinned"};

double median_of(const Findings& findings, const std::string& series, std::string_view metric) {
  const Metric* found = findings.metric(series, metric);
  return found && found->median ? *found->median : -1;
}

// What became of a stream's messages: how many a second, or how many did not arrive as they should.
std::string told_of(const Findings& findings, const Series& series) {
  if (fails(&series, exchange_check))
    return fmt::format("{:.0f} {}", seen_number(find_check(&series, exchange_check)),
                       exchange_check);
  const std::string rate = quote(findings, series.name, "rate");
  const Metric* p99 = harness::find_metric(series, "p99");
  return (rate.empty() ? "invalid" : rate) +
         (p99 && p99->median ? ", p99 " + harness::quantity(*p99->median, "ns") : "");
}

// Whether every message of these channels arrived in order, with how many of which size that were.
Judgement judge_exchange(const Findings& findings, std::span<const char* const> channels) {
  Judgement judgement;
  bool lost = false, sound = true;
  for (const auto* channel : channels)
    for (const Series* series : streams_of(findings, channel, "processes")) {
      lost = lost || fails(series, exchange_check);
      sound = sound && is_sound(series) && holds(series, exchange_check);
      judgement.evidence += fmt::format("{}{} {}: {}", judgement.evidence.empty() ? "" : ", ",
                                        channel, size_of(*series), told_of(findings, *series));
    }
  if (judgement.evidence.empty())
    return undecided("ipc_throughput between processes");
  if (lost) {
    judgement.verdict = Verdict::refuted;
  } else if (sound) {
    judgement.verdict = Verdict::confirmed;
    judgement.evidence += "; nothing was lost, doubled or out of order";
  } else {
    judgement.needs = "ipc_throughput between processes, all of whose checks hold";
  }
  return judgement;
}

}  // namespace

std::string stream_name(std::string_view relation, std::string_view channel, std::string_view tasks,
                        std::string_view size, std::string_view capacity) {
  return fmt::format("{}/{}/{}/{}/of-{}", relation, channel, tasks, size, capacity);
}

std::string state_name(std::string_view relation, bool owned, std::int64_t write) {
  return fmt::format("{}/state/{}/{}%", relation, owned ? "owned" : "shared", write);
}

std::string queue_join_name(std::size_t bytes, bool get_first) {
  return fmt::format("queue-join/{}/{}-first", bytes, get_first ? "get" : "join");
}

std::vector<const Series*> streams_of(const Findings& findings, std::string_view channel,
                                      std::string_view tasks) {
  std::vector<const Series*> found;
  for (const auto* relation : relations) {
    for (const auto& series : findings.result().series)
      if (series.placement.relation == relation &&
          harness::param_text(series, "channel") == channel &&
          harness::param_text(series, "tasks") == tasks &&
          harness::find_param(series, "capacity") && harness::recorded_metric(series, "rate"))
        found.push_back(&series);
    if (!found.empty())
      break;
  }
  double least = 0;
  for (const Series* series : found) {
    const double capacity = harness::param_number(*series, "capacity");
    least = least == 0 ? capacity : std::min(least, capacity);
  }
  std::erase_if(found, [&](const Series* series) {
    return harness::param_number(*series, "capacity") != least;
  });
  std::ranges::sort(found, {},
                    [](const Series* series) { return harness::param_number(*series, "size"); });
  return found;
}

std::string size_of(const Series& series) {
  return harness::quantity(harness::param_number(series, "size"), "B");
}

Judgement judge_queue_join(const Findings& findings) {
  Judgement judgement;
  const double small = median_of(findings, queue_join_name(queue_join_sizes[0], false), "ended");
  const double large = median_of(findings, queue_join_name(queue_join_sizes[1], false), "ended");
  const double mended = median_of(findings, queue_join_name(queue_join_sizes[1], true), "ended");
  if (small < 0 || large < 0 || mended < 0) {
    judgement.needs = "ipc_throughput with its series queue-join";
    return judgement;
  }
  judgement.evidence =
      fmt::format("of the children that had put {} bytes, {:.0f} % ended before the parent got; of "
                  "those with {} bytes {:.0f} %, and {:.0f} % where the parent got first",
                  queue_join_sizes[0], 100 * small, queue_join_sizes[1], 100 * large, 100 * mended);
  if (small > 0.5 && large < 0.5 && mended > 0.5) {
    judgement.verdict = Verdict::refuted;
    judgement.evidence += ": beyond the 64 KiB of a pipe it is a deadlock";
  } else if (small > 0.5 && large > 0.5) {
    judgement.verdict = Verdict::confirmed;
  } else {
    judgement.needs = "a quieter machine: even what fits the pipe did not arrive in time";
  }
  return judgement;
}

Judgement judge_queues(const Findings& findings) {
  constexpr std::array channels = {"queue", "mq"};
  return judge_exchange(findings, channels);
}

Judgement judge_pipes(const Findings& findings) {
  constexpr std::array channels = {"pipe"};
  return judge_exchange(findings, channels);
}

Judgement judge_shared_memory(const Findings& findings) {
  Judgement judgement;
  const auto rings = streams_of(findings, "ring-adaptive", "processes");
  const auto pipes = streams_of(findings, "pipe", "processes");
  if (rings.size() < 2 || pipes.size() < 2) {
    judgement.needs = "ipc_throughput of two sizes between processes, pipe and ring-adaptive";
    return judgement;
  }
  const double ring_copies = median_of(findings, rings.back()->name, "copies");
  const double pipe_copies = median_of(findings, pipes.back()->name, "copies");
  if (ring_copies < 0 || pipe_copies < 0)
    return undecided("ipc_throughput between processes, all of whose checks hold");
  const auto flat = findings.ratio(rings.back()->name, rings.front()->name, "rate");
  const auto gain = findings.ratio(rings.back()->name, pipes.back()->name, "bytes");
  judgement.evidence = fmt::format("a message of {} is copied {:.2g} times by a ring in place and "
                                   "{:.2g} times by a pipe",
                                   size_of(*rings.back()), ring_copies, pipe_copies);
  if (flat)
    judgement.evidence +=
        fmt::format("; the ring takes {} of the messages of {} that it takes of "
                    "{}",
                    harness::percent(*flat), size_of(*rings.back()), size_of(*rings.front()));
  if (gain)
    judgement.evidence +=
        fmt::format("; it carries {} of the pipe's bytes", harness::percent(*gain));
  if (!gain || !gain->interval)
    judgement.needs = "6 processes or more";
  else if (gain->interval->low > 1 && ring_copies < pipe_copies)
    judgement.verdict = Verdict::confirmed;
  else if (gain->interval->high < 1 || ring_copies >= pipe_copies)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine or more processes";
  return judgement;
}

Judgement judge_shared_state(const Findings& findings) {
  Judgement judgement;
  int seen = 0, better = 0, worse = 0;
  for (const auto& series : findings.result().series) {
    const auto write = static_cast<std::int64_t>(harness::param_number(series, "write"));
    const std::string owned = state_name(series.placement.relation, true, write);
    const std::string shared = state_name(series.placement.relation, false, write);
    if (series.name != shared)
      continue;
    const auto ratio = findings.ratio(shared, owned, "rate");
    if (!ratio || !ratio->interval)
      continue;
    ++seen;
    better += ratio->interval->low > 1;
    worse += ratio->interval->high < 1;
    judgement.evidence += fmt::format("{}{} % writes: {}", judgement.evidence.empty() ? "" : ", ",
                                      write, percent(*ratio));
  }
  if (seen == 0) {
    judgement.needs = "ipc_throughput's table, shared and owned, with 6 processes or more";
    return judgement;
  }
  judgement.evidence = "operations of two threads on a shared table against those that the process "
                       "which owns it does for another: " +
                       judgement.evidence;
  if (2 * better > seen)
    judgement.verdict = Verdict::confirmed;
  else if (2 * worse > seen)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine or more processes";
  return judgement;
}

}  // namespace schedlab::apparatus
