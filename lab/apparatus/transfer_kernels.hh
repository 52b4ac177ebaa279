#pragma once
// The spinning loops of line_transfer.hh. Each kernel is played by both tasks at once, each with a
// Side of its own; what they share lies in the lines and in a Control.

#include "lab/apparatus/line_transfer.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/keep.hh"
#include "lab/base/mapping.hh"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace schedlab::apparatus::transfer {

// Untimed hand-overs that bring both tasks into step before the clock starts.
inline constexpr std::uint64_t settling = 16;
// Places for a pair of lines that a sample goes through, and one more for settling. Tasks stay at a
// place for a while, because the first hand-over there is another one.
inline constexpr std::uint64_t places = 16;
inline constexpr std::uint64_t shortest_stay = 512;
inline constexpr std::size_t place_stride = 1152;  // no power of two: other sets, other slices
inline constexpr std::size_t second_line = 512;

// Looks at a line without PAUSE, which would add its own length to a hand-over; some microseconds.
// After them the partner is not running, or the machine is an emulation that takes the hint to run
// another CPU.
inline constexpr unsigned tight_looks = 8192;
// After some 100 us with PAUSE a task sleeps between its looks. Other work on both CPUs can make
// two spinning tasks run by turns and never together, a time slice for each hand-over; a sleeper
// is let in as soon as it wakes.
inline constexpr unsigned paused_looks = 2048;
inline constexpr std::int64_t nap_ns = 20'000;

using Word = std::atomic<std::uint64_t>;

// One of the two tasks, for the length of a sample.
struct Side {
  bool leads = true;
  std::uint64_t turn = 0;
  std::uint64_t wrong_payload = 0;  // lines that were not read as they were written
  // What one way took at each place, in ns; kept by the leader. An interrupt or a switch stretches
  // one of them, and not their median.
  std::array<double, places> stays{};
  std::size_t stay_count = 0;
  // Of messages only.
  std::uint64_t last_stamp = 0;  // in ticks, of the last message that arrived
  std::uint64_t arrived = 0;
  std::uint64_t early = 0;  // before they were sent
  double clock_ticks = 0;   // that two readings of the clock take
};

// Shared by both tasks, away from the lines.
struct Control {
  // Raised by whoever gives up; the other looks at it when it has waited for long.
  alignas(line_pair) std::atomic<bool> stop{false};
  // Written before the partner is started, for each sample.
  std::uint64_t first_place = 0;
  std::int64_t deadline_ns = 0;       // of clock::now_ns()
  alignas(line_pair) Side partner{};  // written by the partner at the end of its role
};

// Waiting for the other task, with an end.
class Patience {
public:
  Patience(Control& control, bool pause) : control_(control), pause_(pause) {}

  // Looks until ready() says yes; false if it does not before the deadline.
  template <typename Ready>
  bool wait(Ready ready) const noexcept {
    for (unsigned i = 0; i < tight_looks; ++i) {
      if (ready())
        return true;
      if (pause_)
        pause_cpu();
    }
    return wait_long(ready);
  }

private:
  template <typename Ready>
  [[gnu::noinline]] bool wait_long(Ready ready) const noexcept {
    for (unsigned i = 0; i < paused_looks; ++i) {
      if (ready())
        return true;
      pause_cpu();
    }
    while (!ready()) {
      if (control_.stop.load(std::memory_order_relaxed))
        return false;
      if (clock::now_ns() > control_.deadline_ns) {
        control_.stop.store(true, std::memory_order_relaxed);
        return false;
      }
      clock::sleep_for(nap_ns);
    }
    return true;
  }

  Control& control_;
  bool pause_;
};

// The lines to be written before a hand-over and read after it, a row for each direction.
class Payload {
public:
  Payload(std::byte* area, std::uint64_t lines)
      : rows_{area, area + lines * cache_line}, lines_(lines) {}
  static std::uint64_t size(std::uint64_t lines) { return 2 * lines * cache_line; }

  void write(const Side& side) const noexcept {
    for (std::uint64_t i = 0; i < lines_; ++i)
      line(side.leads, i).store(side.turn, std::memory_order_relaxed);
  }
  void read(Side& side) const noexcept {
    for (std::uint64_t i = 0; i < lines_; ++i)
      side.wrong_payload += line(!side.leads, i).load(std::memory_order_relaxed) != side.turn;
  }

private:
  [[nodiscard]] Word& line(bool from_leader, std::uint64_t i) const noexcept {
    return *reinterpret_cast<Word*>(rows_[from_leader ? 0 : 1] + i * cache_line);
  }

  std::array<std::byte*, 2> rows_;
  std::uint64_t lines_;
};

// Pairs of lines on which a turn goes to and fro.
class Places {
public:
  explicit Places(std::byte* area) : area_(area) {}
  static constexpr std::size_t size() { return (places + 1) * place_stride; }

  [[nodiscard]] Word& line(std::uint64_t place, bool second) const noexcept {
    return *reinterpret_cast<Word*>(area_ + place * place_stride + (second ? second_line : 0));
  }
  void reset() const noexcept {
    for_each([](Word& word) { word.store(0, std::memory_order_relaxed); });
  }
  [[nodiscard]] std::uint64_t sum() const noexcept {
    std::uint64_t total = 0;
    for_each([&](const Word& word) { total += word.load(std::memory_order_relaxed); });
    return total;
  }
  // stay(place, count) for each of the places that `count` round trips are divided among; false as
  // soon as one is. The leader clocks each.
  template <typename Stay>
  static bool visit(std::uint64_t first_place, std::uint64_t count, Side& side,
                    Stay stay) noexcept {
    const std::uint64_t longest = std::max(shortest_stay, (count + places - 1) / places);
    for (std::uint64_t done = 0, i = first_place; done < count; ++i) {
      const std::uint64_t here = std::min(longest, count - done);
      const std::uint64_t begin = side.leads ? clock::begin() : 0;
      if (!stay(i % places, here))
        return false;
      if (side.leads)
        side.stays[side.stay_count++] =
            clock::ns(begin, clock::end()) / static_cast<double>(2 * here);
      done += here;
    }
    return true;
  }

private:
  template <typename Visit>
  void for_each(Visit visit) const noexcept {
    for (std::uint64_t place = 0; place <= places; ++place)
      for (const bool second : {false, true})
        visit(line(place, second));
  }

  std::byte* area_;
};

// One line that each task raises by one in turn. With a failed exchange it takes the line away from
// its partner, so this is the price of handing over a lock rather than data.
class Cas {
public:
  Cas(std::byte* area, const TransferOptions& options, Control& control)
      : places_(area), patience_(control, options.pause), control_(control) {}
  static std::uint64_t size(const TransferOptions&) { return Places::size(); }

  void reset() noexcept { places_.reset(); }
  bool settle(Side& side) noexcept { return stay(side, places, settling); }
  bool play(Side& side, std::uint64_t rounds) noexcept {
    return Places::visit(control_.first_place, rounds, side,
                         [&](auto place, auto count) { return stay(side, place, count); });
  }
  // Hand-overs that the lines themselves counted.
  [[nodiscard]] std::uint64_t counted(const Side&) const noexcept { return places_.sum(); }

private:
  bool stay(const Side& side, std::uint64_t place, std::uint64_t rounds) noexcept {
    Word& line = places_.line(place, false);
    for (std::uint64_t turn = side.leads ? 0 : 1; turn < 2 * rounds; turn += 2) {
      const bool came = patience_.wait([&line, turn] {
        std::uint64_t expected = turn;
        // Nothing but the line itself is handed over: no release is needed.
        return line.compare_exchange_weak(expected, turn + 1, std::memory_order_acquire,
                                          std::memory_order_relaxed);
      });
      if (!came)
        return false;
    }
    const auto last = [&] { return line.load(std::memory_order_acquire) == 2 * rounds; };
    return !side.leads || patience_.wait(last);
  }

  Places places_;
  Patience patience_;
  Control& control_;
};

// Each task stores to a line of its own and watches the other's.
class TwoLines {
public:
  TwoLines(std::byte* area, const TransferOptions& options, Control& control)
      : places_(area), payload_(area + Places::size(), options.payload),
        patience_(control, options.pause), control_(control) {}
  static std::uint64_t size(const TransferOptions& options) {
    return Places::size() + Payload::size(options.payload);
  }

  void reset() noexcept { places_.reset(); }
  bool settle(Side& side) noexcept { return stay(side, places, settling); }
  bool play(Side& side, std::uint64_t rounds) noexcept {
    return Places::visit(control_.first_place, rounds, side,
                         [&](auto place, auto count) { return stay(side, place, count); });
  }
  [[nodiscard]] std::uint64_t counted(const Side&) const noexcept { return places_.sum(); }

private:
  bool stay(Side& side, std::uint64_t place, std::uint64_t rounds) noexcept {
    Word& mine = places_.line(place, !side.leads);
    const Word& theirs = places_.line(place, side.leads);
    for (std::uint64_t i = 1; i <= rounds; ++i) {
      ++side.turn;
      if (side.leads)
        give(side, mine, i);
      // Pairs with the release store of the other's give().
      if (!patience_.wait([&theirs, i] { return theirs.load(std::memory_order_acquire) == i; }))
        return false;
      payload_.read(side);
      if (!side.leads)
        give(side, mine, i);
    }
    return true;
  }
  void give(const Side& side, Word& mine, std::uint64_t turn) const noexcept {
    payload_.write(side);
    mine.store(turn, std::memory_order_release);
  }

  Places places_;
  Payload payload_;
  Patience patience_;
  Control& control_;
};

// A writer waits until its last message is acknowledged and the reader has had time to watch the
// next line, reads its clock and stores that; the reader reads its own clock when it sees it. Half
// of the messages go each way: an offset between the clocks adds to one way what it takes from the
// other.
class Messages {
public:
  // Throws Unsupported where no counter is common to all CPUs.
  Messages(std::byte* area, const TransferOptions& options, Control& control)
      : area_(area), payload_(area + lines_size, options.payload), log_(log_memory()),
        patience_(control, options.pause) {
    const auto& calibration = clock::current();
    if (calibration.source == clock::Source::monotonic_raw)
      throw Unsupported("needs a counter that is in step on all CPUs: " + calibration.reason);
    delay_ticks_ = static_cast<std::uint64_t>(delay_ns / calibration.ns_per_tick);
  }
  static std::uint64_t size(const TransferOptions& options) {
    return lines_size + Payload::size(options.payload);
  }

  void reset() noexcept {
    for (const bool from_leader : {true, false}) {
      for (std::uint64_t i = 0; i < slots; ++i)
        slot(from_leader, i).store(0, std::memory_order_relaxed);
      acknowledged(from_leader).store(0, std::memory_order_relaxed);
    }
  }
  bool settle(Side& side) noexcept {
    side.clock_ticks = clock_pair_ticks();
    return exchange(side, 1, settling);
  }
  bool play(Side& side, std::uint64_t rounds) noexcept {
    return exchange(side, settling + 1, rounds);
  }
  // Messages that arrived.
  [[nodiscard]] static std::uint64_t counted(const Side& side) noexcept { return side.arrived; }

  // What one message took on its way, in ticks, the clock's own share taken off.
  [[nodiscard]] double took(bool from_leader, std::uint64_t rounds, const Side& leader,
                            const Side& partner) const noexcept {
    const std::span entries(log(from_leader), std::min(rounds, log_size));
    return trimmed_mean(entries) - (leader.clock_ticks + partner.clock_ticks) / 2;
  }

private:
  static constexpr std::uint64_t slots = 64;
  static constexpr std::size_t row_size = (slots + 4) * line_pair;
  static constexpr std::size_t lines_size = 2 * row_size;
  static constexpr std::uint64_t log_size = 4096;  // of the last messages of a sample
  static constexpr double delay_ns = 500;

  static Mapping log_memory() {
    Mapping memory = Mapping::shared_memory(2 * log_size * sizeof(std::int32_t));
    std::ranges::fill(memory.bytes(), std::byte{0});
    return memory;
  }
  [[nodiscard]] Word& word(bool from_leader, std::uint64_t line) const noexcept {
    return *reinterpret_cast<Word*>(area_ + (from_leader ? 0 : row_size) + line * line_pair);
  }
  [[nodiscard]] Word& slot(bool from_leader, std::uint64_t i) const noexcept {
    return word(from_leader, i % slots);
  }
  [[nodiscard]] Word& acknowledged(bool from_leader) const noexcept {
    return word(from_leader, slots + 2);
  }
  [[nodiscard]] std::int32_t* log(bool from_leader) const noexcept {
    return log_.as<std::int32_t>() + (from_leader ? 0 : log_size);
  }

  static double clock_pair_ticks() noexcept {
    std::array<std::int32_t, 256> spans;
    for (auto& span : spans) {
      const auto begin = clock::begin();
      span = static_cast<std::int32_t>(clock::end() - begin);
    }
    return trimmed_mean(spans);
  }

  bool exchange(Side& side, std::uint64_t from, std::uint64_t count) noexcept {
    for (const bool from_leader : {true, false}) {
      const bool whole = from_leader == side.leads ? write(side, from_leader, from, count)
                                                   : read(side, from_leader, from, count);
      if (!whole)
        return false;
    }
    return true;
  }

  bool write(Side& side, bool from_leader, std::uint64_t from, std::uint64_t count) noexcept {
    const Word& answered = acknowledged(from_leader);
    for (std::uint64_t i = from; i < from + count; ++i) {
      // Pairs with the release store of read().
      const auto all_read = [&] { return answered.load(std::memory_order_acquire) == i - 1; };
      if (!patience_.wait(all_read))
        return false;
      side.turn = i;
      payload_.write(side);
      const std::uint64_t until = clock::begin() + delay_ticks_;
      while (clock::begin() < until)
        pause_cpu();
      // A counter that moves in steps of 10 ns would always be read just after a step.
      for (std::uint64_t step = i % slots; step > 0; --step)
        launder(step);
      slot(from_leader, i).store(clock::begin(), std::memory_order_release);
    }
    return true;
  }

  bool read(Side& side, bool from_leader, std::uint64_t from, std::uint64_t count) noexcept {
    std::int32_t* const entries = log(from_leader);
    Word& answer = acknowledged(from_leader);
    for (std::uint64_t i = from; i < from + count; ++i) {
      const Word& watched = slot(from_leader, i);
      std::uint64_t stamp = 0;
      // What a slot holds from its last lap is older. Pairs with the release store of write().
      const auto came = [&] {
        stamp = watched.load(std::memory_order_acquire);
        return stamp > side.last_stamp;
      };
      if (!patience_.wait(came))
        return false;
      side.turn = i;
      payload_.read(side);
      const auto took = static_cast<std::int64_t>(clock::end() - stamp);
      side.last_stamp = stamp;
      ++side.arrived;
      side.early += took < 0;
      constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
      entries[(i - from) % log_size] =
          static_cast<std::int32_t>(std::clamp<std::int64_t>(took, -most, most));
      answer.store(i, std::memory_order_release);
    }
    return true;
  }

  std::byte* area_;
  Payload payload_;
  Mapping log_;
  Patience patience_;
  std::uint64_t delay_ticks_ = 0;
};

}  // namespace schedlab::apparatus::transfer
