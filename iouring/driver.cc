#include "iouring/driver.hh"

#include "lab/base/error.hh"

namespace schedlab::iouring {

DriverChoice driver_choice(std::string_view word) {
  if (word == "auto")
    return DriverChoice::automatic;
  if (word == "io_uring")
    return DriverChoice::io_uring;
  if (word == "epoll")
    return DriverChoice::epoll;
  throw BadInput("no such driver: '" + std::string(word) + "'; there are auto, io_uring, epoll");
}

std::unique_ptr<Driver> make_driver(const DriverOptions& options) {
  if (options.choice == DriverChoice::epoll)
    return make_epoll_driver(options);
  try {
    return make_uring_driver(options);
  } catch (const Unsupported&) {
    if (options.choice == DriverChoice::io_uring)
      throw;
    return make_epoll_driver(options);
  }
}

}  // namespace schedlab::iouring
