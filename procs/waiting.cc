#include "procs/waiting.hh"

#include "affinity/pin.hh"

#include <stdexcept>
#include <string>

namespace schedlab::procs {
namespace {

// With a pause each this is some microseconds: about what falling asleep and waking up cost.
constexpr std::uint32_t adaptive_spins = 200;

}  // namespace

std::string_view to_text(Waiting waiting) noexcept {
  switch (waiting) {
  case Waiting::spin:
    return "spin";
  case Waiting::block:
    return "block";
  case Waiting::adaptive:
    break;
  }
  return "adaptive";
}

Waiting waiting_from(std::string_view word) {
  for (const auto waiting : {Waiting::spin, Waiting::block, Waiting::adaptive})
    if (to_text(waiting) == word)
      return waiting;
  throw std::invalid_argument("no way to wait: '" + std::string(word) + "'");
}

bool spinning_helps() {
  return affinity::thread_affinity().count() > 1;
}

Patience Patience::of(Waiting waiting) {
  return of(waiting, waiting != Waiting::block && spinning_helps());
}

Patience Patience::of(Waiting waiting, bool helps) noexcept {
  if (waiting == Waiting::block || !helps)
    return {0};
  return {waiting == Waiting::spin ? forever : adaptive_spins};
}

}  // namespace schedlab::procs
