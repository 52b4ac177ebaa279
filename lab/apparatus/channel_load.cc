#include "lab/apparatus/channel_load.hh"

#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/keep.hh"
#include "lab/harness/statistics.hh"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace schedlab::apparatus {

namespace {

using harness::Sample;
using procs::Channel;
using procs::Outcome;
using procs::Patience;
using procs::Side;
using procs::Traffic;
using procs::Transport;
using Number = std::uint64_t;

// Some microseconds of looking before falling asleep.
constexpr Patience adaptive{200};

std::unique_ptr<Channel> make_channel(const ChannelLoadOptions& options) {
  procs::ChannelOptions made;
  made.transport = options.way.transport;
  made.scope = options.kind == TaskKind::processes ? procs::Bell::Scope::processes
                                                   : procs::Bell::Scope::threads;
  made.longest = options.size;
  made.capacity = options.capacity;
  made.patience = options.way.patience;
  made.sleeps = options.way.sleeps;
  return Channel::make(made);
}

// Writes the number of a message to its beginning, and sends it.
bool send_number(Channel& channel, std::vector<std::byte>* copy, std::size_t size,
                 Number number) noexcept {
  if (copy) {
    std::memcpy(copy->data(), &number, sizeof number);
    return channel.send(*copy) == Outcome::done;
  }
  Outcome outcome;
  std::byte* const room = channel.claim(size, outcome);
  if (!room)
    return false;
  std::memcpy(room, &number, sizeof number);
  return channel.publish() == Outcome::done;
}

// The number of the next message; nothing at the channel's end, or if it is no message of this
// size.
std::optional<Number> receive_number(Channel& channel, std::vector<std::byte>* copy,
                                     std::size_t size) noexcept {
  Outcome outcome;
  const auto message = channel.peek(outcome);
  if (!message || message->size() != size)
    return std::nullopt;
  Number number;
  std::memcpy(&number, message->data(), sizeof number);
  if (copy) {
    std::memcpy(copy->data(), message->data(), size);
    keep(*copy->data());
  }
  channel.release();
  return number;
}

// What both kinds of load have in common.
class ChannelLoad : public harness::Subject {
public:
  std::vector<harness::Check> checks() override {
    return {{std::string(exchange_check), harness::Value(0), harness::Value(wrong_), wrong_ == 0}};
  }

protected:
  explicit ChannelLoad(const ChannelLoadOptions& options) : options_(options) {}

  [[nodiscard]] std::array<std::optional<unsigned>, 2> places() const {
    return {options_.first, options_.second};
  }
  std::vector<std::byte>* copy_of(std::vector<std::byte>& buffer) const {
    if (!options_.way.copies)
      return nullptr;
    buffer.resize(options_.size);
    return &buffer;
  }
  void expect(std::optional<Number> seen, Number expected) noexcept { wrong_ += seen != expected; }

  ChannelLoadOptions options_;  // both tasks read it
  alignas(line_pair) std::uint64_t wrong_ = 0;
};

class Rounds final : public ChannelLoad {
public:
  Rounds(const ChannelLoadOptions& options, const RoundMetrics& metrics)
      : ChannelLoad(options), metrics_(metrics), there_(make_channel(options)),
        back_(make_channel(options)), shared_(Mapping::shared_memory(sizeof(Shared))),
        team_({.kind = options.kind}, {options.second}, options.usable,
              [this](unsigned, std::uint64_t rounds) { answer(rounds); }) {
    stand_on(options.first, options.usable);
    team_.start(0);
    team_.finish();
    there_->join(Side::sender);
    back_->join(Side::receiver);
    own_copy_ = copy_of(own_);
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.first, options_.usable);
    // One way is stamped in rounds of their own, because reading the clock is not the channel's.
    const std::uint64_t stamped = std::min<std::uint64_t>(operations, most_stamps);
    const std::uint64_t plain = options_.gap_ns > 0 ? 0 : operations;
    const std::uint64_t rounds = settling + plain + stamped;
    one_way_.clear();
    one_way_.reserve(stamped);
    there_and_back_.clear();
    there_and_back_.reserve(stamped);
    const double calls_before = calls();
    team_.start(rounds);
    const auto window_begin = clock::begin();
    witness_.begin();
    Number next = 0;
    for (; next < settling; ++next)
      round_trip(next);
    const auto begin = clock::begin();
    for (const Number end = next + plain; next < end; ++next)
      round_trip(next);
    const auto middle = clock::begin();
    stamp(next, stamped);
    const auto end = clock::end();
    std::array records = {witness_.end(), TaskRecord{}};
    const double window_ns = clock::ns(window_begin, clock::end());
    records[1] = team_.finish()[0];

    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof = prove(records, places(), window_ns, false);
    if (plain > 0)
      sample.values[metrics_.round_trip] = clock::ns(begin, middle) / static_cast<double>(plain);
    fill_in(sample);
    const auto messages = static_cast<double>(2 * rounds);
    // The feeders of a queue are no tasks of ours, and what spins through a gap is no channel.
    if (options_.way.transport != Transport::queue && options_.gap_ns == 0)
      sample.values[metrics_.cpu] =
          static_cast<double>(records[0].cpu_ns + records[1].cpu_ns) / messages;
    sample.values[metrics_.calls] = (calls() - calls_before) / messages;
    return sample;
  }

private:
  static constexpr std::uint64_t settling = 8;
  static constexpr std::uint64_t most_stamps = 2000;
  struct Shared {
    alignas(line_pair) std::atomic<std::uint64_t> seen{0};  // ticks, when the partner had it
    std::atomic<std::uint64_t> calls{0};                    // of the partner
  };
  [[nodiscard]] Shared& shared() const noexcept { return *shared_.as<Shared>(); }

  void round_trip(Number number) noexcept {
    send_number(*there_, own_copy_, options_.size, number);
    expect(receive_number(*back_, own_copy_, options_.size), number);
  }

  void rest() const noexcept {
    const auto gap_ns = static_cast<double>(options_.gap_ns);
    for (const auto begin = clock::begin(); clock::ns(begin, clock::begin()) < gap_ns;)
      pause_cpu();
  }

  void stamp(Number next, std::uint64_t rounds) noexcept {
    for (const Number end = next + rounds; next < end; ++next) {
      if (options_.gap_ns > 0)
        rest();
      const auto before = clock::begin();
      round_trip(next);
      const auto answered = clock::end();
      one_way_.push_back(clock::ns(before, shared().seen.load(std::memory_order_relaxed)));
      there_and_back_.push_back(clock::ns(before, answered));
      wrong_ += one_way_.back() < 0 || one_way_.back() > there_and_back_.back();
    }
  }

  void fill_in(Sample& sample) {
    sample.values[metrics_.one_way] = harness::median(one_way_);
    if (options_.gap_ns > 0)
      sample.values[metrics_.round_trip] = harness::median(there_and_back_);
    if (one_way_.size() >= harness::samples_needed(0.99))
      sample.values[metrics_.p99] = harness::quantile(one_way_, 0.99);
  }

  // The partner's part. It joins in its first, which has no rounds.
  void answer(std::uint64_t rounds) noexcept {
    if (rounds == 0) {
      there_->join(Side::receiver);
      back_->join(Side::sender);
      partner_copy_ = copy_of(partner_);
    }
    for (std::uint64_t i = 0; i < rounds; ++i) {
      const auto number = receive_number(*there_, partner_copy_, options_.size);
      shared().seen.store(clock::end(), std::memory_order_relaxed);
      // What was not understood is answered with what is never right.
      send_number(*back_, partner_copy_, options_.size, number.value_or(~Number{0}));
    }
    shared().calls = there_->traffic(Side::receiver).calls + back_->traffic(Side::sender).calls;
  }

  [[nodiscard]] double calls() const noexcept {
    return static_cast<double>(there_->traffic(Side::sender).calls +
                               back_->traffic(Side::receiver).calls + shared().calls);
  }

  RoundMetrics metrics_;
  std::unique_ptr<Channel> there_;
  std::unique_ptr<Channel> back_;
  Mapping shared_;
  std::vector<std::byte> own_;
  std::vector<std::byte> partner_;
  std::vector<std::byte>* own_copy_ = nullptr;
  std::vector<std::byte>* partner_copy_ = nullptr;
  std::vector<double> one_way_;
  std::vector<double> there_and_back_;
  Witness witness_;
  Team team_;  // last: its member uses the rest
};

// What read and write moved of this thread, by the kernel's own count; negative where it does not
// tell (CONFIG_TASK_XACCT).
class KernelBytes {
public:
  KernelBytes() : io_(::open("/proc/thread-self/io", O_RDONLY | O_CLOEXEC)) {}
  // `which` is "rchar" or "wchar".
  [[nodiscard]] double count(std::string_view which) const noexcept {
    std::array<char, 256> text;
    const auto got = ::pread(io_.get(), text.data(), text.size(), 0);
    const std::string_view all(text.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
    const auto at = all.find(which);
    std::uint64_t bytes = 0;
    if (at == std::string_view::npos ||
        std::from_chars(all.data() + at + which.size() + 2, all.data() + all.size(), bytes).ec !=
            std::errc{})
      return -1;
    return static_cast<double>(bytes);
  }

private:
  Fd io_;
};

class Stream final : public ChannelLoad {
public:
  Stream(const ChannelLoadOptions& options, const StreamMetrics& metrics)
      : ChannelLoad(options), metrics_(metrics), channel_(make_channel(options)),
        shared_(Mapping::shared_memory(sizeof(Shared))),
        team_({.kind = options.kind}, {options.second}, options.usable,
              [this](unsigned, std::uint64_t messages) { send(messages); }) {
    stand_on(options.first, options.usable);
    team_.start(0);
    team_.finish();
    channel_->join(Side::receiver);
    own_copy_ = copy_of(own_);
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.first, options_.usable);
    const std::uint64_t messages = operations * at_least();
    const KernelBytes kernel;
    const Traffic before = channel_->traffic(Side::receiver);
    const Traffic sent_before = shared().traffic;
    waits_.clear();
    waits_.reserve(messages / stamped_each + 1);
    const double read_before = kernel.count("rchar");
    team_.start(messages);
    const auto window_begin = clock::begin();
    witness_.begin();
    receive(messages);
    const auto end = clock::end();
    std::array records = {witness_.end(), TaskRecord{}};
    const double window_ns = clock::ns(window_begin, clock::end());
    const double read = kernel.count("rchar") - read_before;
    records[1] = team_.finish()[0];

    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(shared().begun, end);
    sample.proof = prove(records, places(), window_ns, false);
    const Traffic& received = channel_->traffic(Side::receiver);
    compare(static_cast<double>(received.kernel_bytes - before.kernel_bytes), read, read_before);
    fill_in(sample, messages, difference(received, before),
            difference(shared().traffic, sent_before));
    if (options_.way.transport != Transport::queue)  // whose feeder is no task of ours
      sample.values[metrics_.cpu] = static_cast<double>(records[0].cpu_ns + records[1].cpu_ns) /
                                    static_cast<double>(messages);
    return sample;
  }

  std::vector<harness::Check> checks() override {
    auto made = ChannelLoad::checks();
    if (kernel_read_ > 0)
      made.push_back({"bytes read, as the kernel counts them", harness::Value(counted_),
                      harness::Value(kernel_read_),
                      kernel_read_ >= counted_ && kernel_read_ <= 1.01 * counted_ + 1e5});
    return made;
  }

private:
  static constexpr Number stamped_each = 32;
  static constexpr std::size_t stamps = 1 << 16;
  struct Shared {
    std::uint64_t begun = 0;  // ticks, before the sender's first claim
    Traffic traffic;          // the sender's
    // When the sender claimed every 32nd message; more of them than any channel holds.
    std::array<std::atomic<std::uint64_t>, stamps> claimed;
  };
  [[nodiscard]] Shared& shared() const noexcept { return *shared_.as<Shared>(); }

  static Traffic difference(const Traffic& now, const Traffic& before) noexcept {
    return {.kernel_bytes = now.kernel_bytes - before.kernel_bytes,
            .copied_bytes = now.copied_bytes - before.copied_bytes,
            .calls = now.calls - before.calls};
  }

  // The sender's part. It joins in its first, which has no messages.
  void send(std::uint64_t messages) noexcept {
    if (messages == 0) {
      channel_->join(Side::sender);
      partner_copy_ = copy_of(partner_);
      return;
    }
    Shared& shared = this->shared();
    shared.begun = clock::begin();
    for (Number i = 0; i < messages; ++i) {
      if (i % stamped_each == 0)
        shared.claimed[i / stamped_each % stamps].store(clock::begin(), std::memory_order_relaxed);
      if (!send_number(*channel_, partner_copy_, options_.size, i))
        break;
    }
    shared.traffic = channel_->traffic(Side::sender);
  }

  void receive(std::uint64_t messages) noexcept {
    for (Number i = 0; i < messages; ++i) {
      expect(receive_number(*channel_, own_copy_, options_.size), i);
      if (own_copy_)
        copied_ += options_.size;
      if (i % stamped_each == 0)
        waits_.push_back(
            clock::ns(shared().claimed[i / stamped_each % stamps].load(std::memory_order_relaxed),
                      clock::end()));
    }
  }

  // Pipe and socket are read by read(2) in this thread and nowhere else.
  void compare(double counted, double read, double before) noexcept {
    const auto transport = options_.way.transport;
    if (before < 0 || (transport != Transport::pipe && transport != Transport::socketpair))
      return;
    counted_ += counted;
    kernel_read_ += read;
  }

  // Messages of an operation: one alone would show how long it takes, and not how many go through.
  [[nodiscard]] std::uint64_t at_least() const noexcept { return options_.size < 65536 ? 16 : 4; }

  void fill_in(Sample& sample, std::uint64_t count, const Traffic& received, const Traffic& sent) {
    const auto messages = static_cast<double>(count);
    const double payload = messages * static_cast<double>(options_.size);
    sample.values[metrics_.rate] = messages / sample.elapsed_ns * 1e9;
    sample.values[metrics_.bytes] = payload / sample.elapsed_ns * 1e9;
    const std::uint64_t moved = received.kernel_bytes + received.copied_bytes + sent.kernel_bytes +
                                sent.copied_bytes + std::exchange(copied_, 0);
    sample.values[metrics_.copies] = static_cast<double>(moved) / payload;
    sample.values[metrics_.calls] = static_cast<double>(received.calls + sent.calls) / messages;
    if (waits_.size() >= harness::samples_needed(0.99))
      sample.values[metrics_.p99] = harness::quantile(waits_, 0.99);
  }

  StreamMetrics metrics_;
  std::unique_ptr<Channel> channel_;
  Mapping shared_;
  std::vector<std::byte> own_;
  std::vector<std::byte> partner_;
  std::vector<std::byte>* own_copy_ = nullptr;
  std::vector<std::byte>* partner_copy_ = nullptr;
  std::uint64_t copied_ = 0;
  double counted_ = 0;
  double kernel_read_ = 0;
  std::vector<double> waits_;
  Witness witness_;
  Team team_;  // last: its member uses the rest
};

}  // namespace

const std::vector<ChannelWay>& channel_ways() {
  static const std::vector<ChannelWay> ways = {
      {.name = "pipe", .transport = Transport::pipe},
      {.name = "socketpair", .transport = Transport::socketpair},
      {.name = "mq", .transport = Transport::mq},
      {.name = "eventfd", .transport = Transport::eventfd},
      {.name = "queue", .transport = Transport::queue},
      {.name = "ring-block", .transport = Transport::ring},
      {.name = "ring-adaptive", .transport = Transport::ring, .patience = adaptive},
      {.name = "ring-spin",
       .transport = Transport::ring,
       .patience = {Patience::forever},
       .sleeps = false},
      {.name = "ring-copy", .transport = Transport::ring, .patience = adaptive, .copies = true},
  };
  return ways;
}

const ChannelWay& channel_way(std::string_view name) {
  for (const auto& way : channel_ways())
    if (way.name == name)
      return way;
  throw std::logic_error("no such channel: " + std::string(name));
}

std::unique_ptr<harness::Subject> make_channel_rounds(const ChannelLoadOptions& options,
                                                      const RoundMetrics& metrics) {
  return std::make_unique<Rounds>(options, metrics);
}

std::unique_ptr<harness::Subject> make_channel_stream(const ChannelLoadOptions& options,
                                                      const StreamMetrics& metrics) {
  return std::make_unique<Stream>(options, metrics);
}

}  // namespace schedlab::apparatus
