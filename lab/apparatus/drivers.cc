#include "lab/apparatus/drivers.hh"

#include "lab/base/error.hh"

namespace schedlab::apparatus {

namespace {

using iouring::DriverChoice;

// Why io_uring does not work here, with the fix; or nothing.
const std::string& refusal_of_uring() {
  static const std::string refusal = [] {
    try {
      iouring::make_driver({.choice = DriverChoice::io_uring});
    } catch (const Unsupported& reason) {
      return std::string(reason.what());
    }
    return std::string();
  }();
  return refusal;
}

DriverArm uring_arm() {
  return {.choice = DriverChoice::io_uring, .name = "io_uring", .skip = refusal_of_uring()};
}
DriverArm epoll_arm() {
  return {.choice = DriverChoice::epoll, .name = "epoll", .skip = {}};
}

}  // namespace

std::array<DriverArm, 2> driver_arms(const harness::Plan& plan) {
  std::array arms = {uring_arm(), epoll_arm()};
  const DriverChoice asked = iouring::driver_choice(plan.driver());
  for (auto& arm : arms)
    if (asked != DriverChoice::automatic && arm.choice != asked)
      arm.skip = "--driver " + plan.driver();
  return arms;
}

DriverArm best_driver(const harness::Plan& plan) {
  const DriverChoice asked = iouring::driver_choice(plan.driver());
  if (asked == DriverChoice::epoll)
    return epoll_arm();
  const DriverArm ring = uring_arm();
  return asked == DriverChoice::io_uring || ring.skip.empty() ? ring : epoll_arm();
}

}  // namespace schedlab::apparatus
