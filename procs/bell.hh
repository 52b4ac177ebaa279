#pragma once
// Where a task sleeps until another one has done something: threads of a process, or processes
// that share the memory in which the bell lies.
//
// The word has two parts. Bit 0 says that somebody may be asleep, the bits above count the rings.
// Who wants to sleep sets the bit, looks once more at what it waits for, and sleeps only while the
// word is as it was. Who has done something counts, and makes a system call only if it found the
// bit set. Both steps are one read-modify-write of the same word, so one of the two always sees the
// other: no fence is needed, and no wake-up is lost.
//
// Killed tasks. A sleeper that is killed leaves the bit set: the next ring makes a system call for
// nothing, and clears it. All sleepers are woken, so that none relies on one that died. A ringer
// that is killed between its count and its system call leaves a sleeper asleep: a bell of processes
// therefore sleeps for a tenth of a second at most before it looks again.

#include "lab/base/fd.hh"
#include "lab/base/keep.hh"
#include "procs/waiting.hh"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <string_view>
#include <sys/types.h>

namespace schedlab::procs {

// How an exchange with another task ended.
enum class Outcome : std::uint8_t {
  done,
  closed,     // the other side has closed; all that it sent was received before
  gone,       // the other side's process has ended without closing
  broken,     // likewise, in the middle of a message
  timed_out,  // the deadline has passed
  too_long,   // the message is longer than the channel, or than the room for it, allows
};
std::string_view to_text(Outcome outcome) noexcept;

// The process at the other end. A default one stands for a thread of this process, which cannot
// die alone. May be asked from any thread.
class Peer {
public:
  Peer() = default;
  explicit Peer(Fd pidfd) noexcept : pidfd_(std::move(pidfd)) {}
  // Throws std::system_error (ESRCH).
  static Peer of(pid_t pid);

  // Has it ended? One system call.
  [[nodiscard]] bool gone() const noexcept;
  // -1 for a thread. Becomes readable when the process ends.
  [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }

private:
  Fd pidfd_;
};

inline constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

// How long a task waits, and in which way.
struct Wait {
  Patience patience = {};            // how often it looks before it sleeps
  const Peer* peer = nullptr;        // whom it waits for; null: a thread, or nobody knows
  std::int64_t deadline_ns = never;  // of clock::now_ns()

  // Why waiting has no use any more; `done`: it has. Asks the kernel.
  [[nodiscard]] Outcome over() const noexcept;
  // How long to sleep at once, at most.
  [[nodiscard]] std::int64_t slice_ns(std::int64_t longest_ns) const noexcept;
};

// The word of a bell, in memory that all see; what is slept on is another matter.
class BellWord {
public:
  // Counts a ring; true if somebody may be asleep, who then is to be woken after hush().
  [[nodiscard]] bool ring() noexcept {
    return word_.fetch_add(one_ring, std::memory_order_acq_rel) & listening;
  }
  void hush() noexcept { word_.fetch_and(~listening, std::memory_order_relaxed); }
  // Announces a sleeper; the value of the word as long as nobody rings.
  [[nodiscard]] std::uint32_t listen() noexcept {
    return word_.fetch_or(listening, std::memory_order_acq_rel) | listening;
  }
  // Of a moment that may be past; wraps.
  [[nodiscard]] std::uint32_t rings() const noexcept {
    return word_.load(std::memory_order_relaxed) / one_ring;
  }
  [[nodiscard]] std::atomic<std::uint32_t>& word() noexcept { return word_; }

private:
  static constexpr std::uint32_t listening = 1;
  static constexpr std::uint32_t one_ring = 2;
  std::atomic<std::uint32_t> word_{0};
};

// A bell whose sleepers sleep on the word itself, by futex.
class Bell {
public:
  enum class Scope : std::uint32_t { threads, processes };

  explicit Bell(Scope scope) noexcept : scope_(scope) {}
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  // What was done before is seen by who is woken, and by who looks after listen().
  void ring() noexcept {
    if (word_.ring())
      wake();
  }
  // Announces a sleeper, which then looks once more at what it waits for and gives the result to
  // sleep().
  [[nodiscard]] std::uint32_t listen() noexcept { return word_.listen(); }
  // Returns at the next ring after listen(), at the end of a slice, or for no reason.
  void sleep(std::uint32_t heard, const Wait& wait) noexcept;

  [[nodiscard]] std::uint32_t rings() const noexcept { return word_.rings(); }

private:
  void wake() noexcept;

  BellWord word_;
  Scope scope_;
};

namespace detail {
inline constexpr std::uint32_t pauses_at_first = 4;
inline constexpr std::uint32_t looks_between_checks = 4096;
inline constexpr std::uint32_t yields_between_checks = 64;
void yield() noexcept;
}  // namespace detail

// Looks as often as the patience says, then sleeps on the bell, until `ready` says so (done), the
// peer has died (gone) or the deadline has passed. Without a bell it yields instead of sleeping.
// What the peer did before it died counts: `ready` has the last word.
// `AnyBell` is a Bell or has its listen() and sleep().
template <typename AnyBell, typename Ready>
Outcome await(AnyBell* bell, const Wait& wait, Ready ready) noexcept {
  const std::uint32_t spins = wait.patience.spins;
  const auto end = [&](Outcome why) { return ready() ? Outcome::done : why; };
  // The caller has just looked. Whoever asks at once again for the line that the other one writes
  // to gets one item at a time; after a line's way there and back there may be many.
  for (std::uint32_t i = 0; i < std::min(spins, detail::pauses_at_first); ++i)
    pause_cpu();
  for (std::uint32_t looks = 1; spins == Patience::forever || looks <= spins; ++looks) {
    pause_cpu();
    if (ready())
      return Outcome::done;
    if (looks % detail::looks_between_checks == 0)
      if (const Outcome why = wait.over(); why != Outcome::done)
        return end(why);
  }
  for (std::uint32_t turns = 1;; ++turns) {
    const std::uint32_t heard = bell ? bell->listen() : 0;
    if (ready())
      return Outcome::done;
    if (bell)
      bell->sleep(heard, wait);
    else
      detail::yield();
    if (ready())
      return Outcome::done;
    if (bell || turns % detail::yields_between_checks == 0)
      if (const Outcome why = wait.over(); why != Outcome::done)
        return end(why);
  }
}

}  // namespace schedlab::procs
