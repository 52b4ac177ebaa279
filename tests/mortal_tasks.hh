#pragma once
// What the tests of rings and channels share: bounded waits, deaths, and how outcomes are printed.

#include "lab/base/clock.hh"
#include "procs/bell.hh"
#include "tests/waits.hh"

#include <csignal>
#include <ostream>
#include <unistd.h>

namespace schedlab::procs {

inline std::ostream& operator<<(std::ostream& out, Outcome outcome) {
  return out << to_text(outcome);
}
inline std::ostream& operator<<(std::ostream& out, Waiting waiting) {
  return out << to_text(waiting);
}

}  // namespace schedlab::procs

namespace schedlab::testing {

inline procs::Wait watched(procs::Waiting waiting, const procs::Peer* peer = nullptr) {
  return {procs::Patience::of(waiting), peer, watchdog_ns()};
}

inline void pause_for_us(long microseconds) {
  clock::sleep_for(1000 * microseconds);
}
inline void pause_for_ms(long milliseconds) {
  pause_for_us(1000 * milliseconds);
}

[[noreturn]] inline void die() {
  ::raise(SIGKILL);
  ::_exit(1);
}

}  // namespace schedlab::testing
