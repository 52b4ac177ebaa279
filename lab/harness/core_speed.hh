#pragma once

namespace schedlab::harness {

// The speed of the core the caller runs on, in MHz, by timing a chain of dependent additions that
// each take one cycle: the fastest of about 20 tries of 70 us, so that an interrupt does not count.
// 0 where the clock is too coarse to tell. The core is busy meanwhile.
double core_mhz();

}  // namespace schedlab::harness
