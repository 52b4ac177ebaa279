#include "lab/apparatus/echo.hh"

#include "lab/apparatus/echo_load.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/file.hh"
#include "lab/base/mapping.hh"
#include "lab/base/text.hh"

#include <unistd.h>

#include <cstdio>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Sample;

// Shared with the client's process.
struct Desk {
  char failure[256] = {};
  std::uint64_t echoes = 0;
  double elapsed_ns = 0;
  double p50_ns = 0;
  double p99_ns = 0;
  std::int64_t server_cpu_ns = 0;
};

// Ticks of softirq on a CPU; nothing where /proc/stat does not show it.
std::uint64_t softirq_ticks(unsigned cpu) {
  constexpr std::size_t softirq_field = 7;
  const auto stat = read_text("/proc/stat").value_or("");
  const std::string name = "cpu" + std::to_string(cpu);
  for (const auto line : split(stat, '\n')) {
    const auto fields = split(line, ' ');
    if (fields.size() > softirq_field && fields[0] == name)
      return static_cast<std::uint64_t>(to_number(fields[softirq_field]).value_or(0));
  }
  return 0;
}

double tick_ns() {
  return 1e9 / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

// Does the kernel keep the time of interrupts out of that of tasks? The client never sleeps: what
// is missing of its window was neither its own nor a neighbour's.
bool irq_time_is_apart(const TaskRecord& client, double wall_ns) noexcept {
  constexpr double blur = 0.05;
  const double seen = static_cast<double>(client.cpu_ns) +
                      static_cast<double>(client.waited_ns > 0 ? client.waited_ns : 0);
  return seen < (1 - blur) * wall_ns;
}

class Echo final : public harness::Subject {
public:
  explicit Echo(const EchoOptions& options)
      : options_(options), desk_(Mapping::shared_memory(sizeof(Desk))),
        server_(options.method, options.server), resident_before_(server_.resident()),
        client_(TaskOptions{.kind = TaskKind::processes}, {options.client}, options.usable,
                [this](unsigned, std::uint64_t messages) { play(messages); }) {
    new (desk_.data()) Desk;
    exchange(0);  // connects
    exchange(4 * std::uint64_t{options.connections});
    resident_ = server_.resident();
  }

  Sample sample(std::uint64_t operations) override {
    const std::uint64_t calls = server_.calls();
    const std::uint64_t softirq = softirq_ticks(options_.server);
    const auto begin = clock::begin();
    const TaskRecord client = exchange(operations);
    const double window_ns = clock::ns(begin, clock::end());
    const Desk& desk = *desk_.as<Desk>();
    double cpu_ns = static_cast<double>(desk.server_cpu_ns);
    if (irq_time_is_apart(client, desk.elapsed_ns))
      cpu_ns += tick_ns() * static_cast<double>(softirq_ticks(options_.server) - softirq);
    // The question itself was one system call to read and one to answer.
    constexpr std::uint64_t calls_of_question = 2;
    const std::uint64_t asked = server_.calls() - calls;
    echoes_ += desk.echoes;
    messages_ += operations;
    Sample sample = result(operations, cpu_ns, client, window_ns);
    sample.values[options_.metrics.calls] =
        static_cast<double>(asked > calls_of_question ? asked - calls_of_question : 0) /
        static_cast<double>(operations);
    return sample;
  }

  std::vector<harness::Check> checks() override {
    return {{.name = "echoes",
             .expected = static_cast<double>(messages_),
             .seen = static_cast<double>(echoes_),
             .ok = echoes_ == messages_}};
  }

private:
  Sample result(std::uint64_t operations, double cpu_ns, const TaskRecord& client,
                double window_ns) const {
    constexpr std::uint64_t enough_for_p99 = 299;
    const Desk& desk = *desk_.as<Desk>();
    const EchoMetrics& at = options_.metrics;
    const auto count = static_cast<double>(operations);
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = desk.elapsed_ns;
    sample.proof = prove(client, options_.client, window_ns, false);
    sample.proof.cpus.push_back(options_.server);
    sample.values[at.throughput] = 1e9 * count / desk.elapsed_ns;
    sample.values[at.cpu] = cpu_ns / count;
    sample.values[at.busy] = cpu_ns / desk.elapsed_ns;
    sample.values[at.p50] = desk.p50_ns;
    if (operations >= enough_for_p99)
      sample.values[at.p99] = desk.p99_ns;
    if (resident_ > resident_before_)
      sample.values[at.memory] =
          static_cast<double>(resident_ - resident_before_) / options_.connections;
    return sample;
  }

  TaskRecord exchange(std::uint64_t messages) {
    client_.start(messages);
    const TaskRecord record = client_.finish().front();
    if (const char* const failure = desk_.as<Desk>()->failure; *failure)
      throw std::runtime_error(failure);
    return record;
  }

  // In the client's process: connects the first time.
  void play(std::uint64_t messages) noexcept {
    Desk& desk = *desk_.as<Desk>();
    try {
      if (!load_)
        load_ = make_echo_load(
            {.port = server_.port(), .connections = options_.connections, .size = options_.size});
      if (messages > 0)
        measure(messages, desk);
    } catch (const std::exception& failure) {
      std::snprintf(desk.failure, sizeof desk.failure, "%s", failure.what());
    }
  }

  void measure(std::uint64_t messages, Desk& desk) {
    round_trips_.clear();
    const std::int64_t cpu_before = process_cpu_ns(server_.pid());
    const auto begin = clock::begin();
    load_->run(messages, round_trips_);
    const auto end = clock::end();
    desk.server_cpu_ns = process_cpu_ns(server_.pid()) - cpu_before;
    desk.elapsed_ns = clock::ns(begin, end);
    desk.echoes = round_trips_.count();
    desk.p50_ns = round_trips_.percentile(0.5) * clock::current().ns_per_tick;
    desk.p99_ns = round_trips_.percentile(0.99) * clock::current().ns_per_tick;
  }

  EchoOptions options_;
  Mapping desk_;
  harness::Histogram round_trips_;
  std::unique_ptr<EchoLoad> load_;  // in the client's process
  EchoServer server_;
  std::uint64_t resident_before_;
  std::uint64_t resident_ = 0;
  std::uint64_t messages_ = 0;
  std::uint64_t echoes_ = 0;
  Team client_;
};

}  // namespace

std::unique_ptr<harness::Subject> make_echo(const EchoOptions& options) {
  return std::make_unique<Echo>(options);
}

}  // namespace schedlab::apparatus
