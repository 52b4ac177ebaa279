// ipc_throughput: how much goes from one task to another, and what decides it?
//
// Method   A sender sends messages of one size as fast as the channel takes them; the receiver
//          counts, checks their order, and stops the clock when it has released the last. Copies
//          are counted by the bytes that went through the kernel or were moved by the channel.
//          Beside: words of 8 bytes through a bare ring, a table that two tasks use, shared or
//          owned by one, and the tutorials' example of a queue and a join.
// Reading  Small messages show the cost of a message, large ones that of a byte. The channels in
//          shared memory are used in place and copy nothing; ring-copy does as those do that copy
//          in and out.
// Traps    A clock that the sender stops measures the channel's buffer. A queue that never fills
//          measures the sender alone: the capacity is a parameter. Messages are written and read in
//          place, and only their ends are touched: who must fill and read them pays for that
//          besides. p99 here is mostly the time spent waiting in a full channel.

#include "lab/apparatus/cache_sizes.hh"
#include "lab/apparatus/channel_load.hh"
#include "lab/apparatus/channel_plan.hh"
#include "lab/apparatus/channel_verdicts.hh"
#include "lab/apparatus/queue_join.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/ring_stream.hh"
#include "lab/apparatus/shared_state.hh"
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

enum : std::size_t { rate, bytes, p99, copies, calls, cpu, ended };

constexpr MetricInfo metrics[] = {
    {.name = "rate",
     .unit = "1/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "messages, words or operations a second",
     .interval = true},
    {.name = "bytes",
     .unit = "B/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "bytes of messages a second"},
    {.name = "p99",
     .unit = "ns",
     .help = "from the sender's claim until the receiver has it, or of one operation: 99 of 100"},
    {.name = "copies",
     .unit = "",
     .kind = Kind::ratio,
     .help = "how often a byte of a message is moved, by the kernel or the channel"},
    {.name = "calls", .unit = "", .kind = Kind::count, .help = "system calls for a message"},
    {.name = "cpu", .unit = "ns", .help = "CPU time of both tasks for a message", .show = false},
    {.name = "ended",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "share of children that ended when they were waited for"},
};

constexpr std::string_view channel_names[] = {"pipe",          "socketpair", "mq",
                                              "eventfd",       "queue",      "ring-block",
                                              "ring-adaptive", "ring-spin",  "ring-copy"};
constexpr std::string_view all_channels =
    "pipe,socketpair,mq,eventfd,queue,ring-block,ring-adaptive,ring-spin,ring-copy";
constexpr std::string_view task_words[] = {"threads", "processes"};

constexpr Param params[] = {
    {.name = "channel",
     .help = "what carries the messages",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_channels,
     .quick = all_channels,
     .full = all_channels,
     .words = channel_names},
    {.name = "tasks",
     .help = "what exchanges them",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "processes",
     .quick = "processes",
     .full = "threads,processes",
     .words = task_words},
    {.name = "size",
     .help = "bytes of a message",
     .kind = Param::Kind::size,
     .list = true,
     .smoke = "8,64K",
     .quick = "8,64K",
     .full = "8,64,512,4K,32K,256K,1M,4M",
     .min = 8,
     .max = std::int64_t{1} << 26},
    {.name = "capacity",
     .help = "bytes under way at most: pipe and socket buffer, ring",
     .kind = Param::Kind::size,
     .list = true,
     .smoke = "64K",
     .quick = "64K",
     .full = "4K,64K,1M",
     .min = 4096,
     .max = std::int64_t{1} << 26},
    {.name = "items",
     .help = "words that the bare ring holds; a power of two",
     .list = true,
     .smoke = "1024",
     .quick = "16,1024,65536",
     .full = "16,64,256,1024,4096,16384,65536",
     .min = 2,
     .max = 1 << 20},
    {.name = "write",
     .help = "percent of the operations on the table that write",
     .list = true,
     .smoke = "10",
     .quick = "0,10,50",
     .full = "0,1,10,25,50",
     .max = 100},
};

void add_channel(Plan& plan, const std::string& channel, const std::string& tasks,
                 const affinity::Pair& pair, std::int64_t size, std::int64_t capacity) {
  ChannelLoadOptions options = apparatus::channel_options(plan, channel, tasks, pair);
  options.size = static_cast<std::size_t>(size);
  options.capacity = static_cast<std::size_t>(capacity);
  SeriesPlan series;
  series.name = apparatus::stream_name(name(pair.relation), channel, tasks,
                                       apparatus::size_word(options.size),
                                       apparatus::size_word(options.capacity));
  series.group = fmt::format("{}/{}/{}", name(pair.relation), size, capacity);
  series.params = {{"channel", channel},
                   {"tasks", tasks},
                   {"size", std::to_string(size)},
                   {"capacity", std::to_string(capacity)}};
  series.relation = name(pair.relation);
  if (options.first)
    series.cpus = {*options.first, *options.second};
  series.skip = apparatus::channel_objection(options);
  series.make = [options] {
    return apparatus::make_channel_stream(
        options,
        {.rate = rate, .bytes = bytes, .p99 = p99, .copies = copies, .calls = calls, .cpu = cpu});
  };
  plan.add(std::move(series));
}

void add_words(Plan& plan, std::string_view tasks, const affinity::Pair& pair, std::int64_t items,
               std::size_t batch, bool sleeps) {
  apparatus::RingStreamOptions options;
  options.kind = apparatus::task_kind(tasks);
  options.first = pair.first;
  options.second = pair.second;
  options.usable = plan.topology().usable();
  options.items = static_cast<std::size_t>(items);
  options.batch = batch;
  options.sleeps = sleeps;
  options.rate_metric = rate;
  SeriesPlan series;
  const std::string_view kind = sleeps ? "words-may-sleep" : batch > 1 ? "words-batch" : "words";
  series.name = fmt::format("{}/{}/{}/{}", name(pair.relation), kind, tasks, items);
  series.group = "words";
  series.params = {{"channel", std::string(kind)},
                   {"tasks", std::string(tasks)},
                   {"items", std::to_string(items)},
                   {"batch", std::to_string(batch)}};
  series.relation = name(pair.relation);
  series.cpus = {pair.first, pair.second};
  if (pair.relation == Relation::same_pu || pair.relation == Relation::unpinned)
    series.skip = "two tasks that spin need a CPU each";
  if ((items & (items - 1)) != 0)
    series.skip = fmt::format("a ring holds a power of two, not {}", items);
  series.make = [options] { return apparatus::make_ring_stream(options); };
  plan.add(std::move(series));
}

void add_state(Plan& plan, bool owned, const affinity::Pair& pair, std::int64_t write) {
  apparatus::SharedStateOptions options;
  options.owned = owned;
  options.usable = plan.topology().usable();
  options.write_percent = static_cast<unsigned>(write);
  options.rate_metric = rate;
  options.p99_metric = p99;
  SeriesPlan series;
  series.name = apparatus::state_name(name(pair.relation), owned, write);
  series.group = "state";
  series.params = {{"state", owned ? "owned by a process" : "shared by threads"},
                   {"write", std::to_string(write)}};
  series.relation = name(pair.relation);
  if (pair.relation != Relation::unpinned) {
    options.first = pair.first;
    options.second = pair.second;
    series.cpus = {pair.first, pair.second};
  }
  series.make = [options] { return apparatus::make_shared_state(options); };
  plan.add(std::move(series));
}

// In one process of the run only: a child that is waited for in vain takes its time.
void add_queue_join(Plan& plan, std::size_t item, bool get_first) {
  SeriesPlan series;
  series.name = apparatus::queue_join_name(item, get_first);
  series.group = "queue-join";
  series.params = {{"size", std::to_string(item)}, {"first", get_first ? "get" : "join"}};
  series.parts = plan.processes();
  ChannelLoadOptions like;
  like.way = apparatus::channel_way("queue");
  like.kind = apparatus::TaskKind::processes;
  series.skip = apparatus::channel_objection(like);
  series.make = [item, get_first] {
    return apparatus::make_queue_join(
        {.bytes = item, .get_first = get_first, .ended_metric = ended});
  };
  plan.add(std::move(series));
}

// The bare ring and the table are measured on one pair: two CPUs if there are two.
const affinity::Pair& central_pair(const std::vector<affinity::Pair>& pairs) {
  for (const auto& pair : pairs)
    if (pair.relation != Relation::same_pu && pair.relation != Relation::unpinned)
      return pair;
  return pairs.front();
}

void plan_beside(Plan& plan, const affinity::Pair& pair) {
  const auto items = plan.numbers("items");
  for (const auto tasks : task_words) {
    for (const auto count : items)
      add_words(plan, tasks, pair, count, 1, false);
    add_words(plan, tasks, pair, items[items.size() / 2], 16, false);
    add_words(plan, tasks, pair, items[items.size() / 2], 1, true);
  }
  for (const auto write : plan.numbers("write"))
    for (const bool owned : {false, true})
      add_state(plan, owned, pair, write);
  for (const std::size_t item : apparatus::queue_join_sizes)
    for (const bool get_first : {false, true})
      add_queue_join(plan, item, get_first);
}

void plan_series(Plan& plan) {
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  for (const auto& pair : pairs.chosen)
    for (const auto capacity : plan.numbers("capacity"))
      for (const auto size : plan.numbers("size"))
        for (const auto& channel : plan.words("channel"))
          for (const auto& tasks : plan.words("tasks"))
            add_channel(plan, channel, tasks, pair, size, capacity);
  if (!pairs.chosen.empty())
    plan_beside(plan, central_pair(pairs.chosen));
  plan.add_absent(pairs.absent);
}

// The series with the most of a metric, of those of a channel.
const Series* best(const Findings& findings, std::string_view metric) {
  const Series* found = nullptr;
  double most = 0;
  for (const auto& series : findings.result().series) {
    const Metric* one = find_metric(series, metric);
    if (!one || !one->median || !find_param(series, "capacity") || *one->median <= most)
      continue;
    most = *one->median;
    found = &series;
  }
  return found;
}

std::string answer(const Findings& findings) {
  std::string text;
  if (const Series* most = best(findings, "rate"))
    text += fmt::format("The most messages: {} by {}.", quote(findings, most->name, "rate"),
                        most->name);
  for (const auto* channel : {"pipe", "ring-copy"}) {
    const auto names = apparatus::streams_of(findings, channel, "processes");
    if (names.size() < 2)
      continue;
    const std::string least = quote(findings, names.front()->name, "rate"),
                      most = quote(findings, names.back()->name, "bytes");
    if (!least.empty() && !most.empty())
      text += fmt::format("{}{} between processes: {} of {}, {} of {}.", text.empty() ? "" : " ",
                          channel, least, apparatus::size_of(*names.front()), most,
                          apparatus::size_of(*names.back()));
  }
  return text.empty() ? "No channel could be measured." : text;
}

constexpr ClaimInfo claims[] = {
    {.id = "C37",
     .text = "A parent may wait for a child that has put into a queue, and get afterwards",
     .source = "S1",
     .judge = apparatus::judge_queue_join},
    {.id = "C39",
     .text = "Processes can exchange data through a queue",
     .source = "S1",
     .judge = apparatus::judge_queues},
    {.id = "C40",
     .text = "Processes can exchange data through a pipe",
     .source = "S1",
     .judge = apparatus::judge_pipes},
    {.id = "C41",
     .text = "Shared memory spares processes the copying of their data",
     .source = "S1",
     .judge = apparatus::judge_shared_memory},
    {.id = "C95",
     .text = "Threads fit where an application must keep shared state",
     .source = "S2",
     .judge = apparatus::judge_shared_state},
};

}  // namespace

extern constinit const Lab ipc_throughput = {
    .name = "ipc_throughput",
    .family = "procs",
    .question = "how much goes from one task to another, and what decides it?",
    .version = 1,
    .shape = Shape::pair,
    .params = params,
    .metrics = metrics,
    // Nine channels, two sizes, three relations, the bare ring and the table: some 70 series.
    .budget = {.quick_s = 5, .full_s = 90},
    .plan = plan_series,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
