#pragma once
// Which drivers of asynchronous I/O a lab measures: both, or the one that --driver names.

#include "iouring/driver.hh"
#include "lab/harness/plan.hh"

#include <array>
#include <string>

namespace schedlab::apparatus {

struct DriverArm {
  iouring::DriverChoice choice = iouring::DriverChoice::epoll;
  std::string name;  // "io_uring", "epoll": part of a series' name, and its `driver`
  std::string skip;  // why it is not measured; else empty
};

// For labs that compare drivers: io_uring, then epoll.
std::array<DriverArm, 2> driver_arms(const harness::Plan& plan);

// For labs that need one: the driver asked for, or the best that works here.
DriverArm best_driver(const harness::Plan& plan);

}  // namespace schedlab::apparatus
