#include "iouring/uring_setup.hh"

#include "iouring/probe.hh"
#include "iouring/refusal.hh"
#include "iouring/uring_request.hh"
#include "lab/base/error.hh"

#include <liburing.h>

#include <algorithm>
#include <string>

namespace schedlab::iouring {

namespace {

constexpr std::uint32_t needed_features = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
constexpr unsigned smallest = 8;
constexpr unsigned largest = 32768;

[[noreturn]] void refuse(const std::string& cause, const std::string& fix) {
  throw Unsupported("io_uring: " + cause + (fix.empty() ? "" : "; " + fix));
}

}  // namespace

RingSetUp set_up_ring(io_uring& ring, unsigned entries) {
  const Probe found = quick_probe();
  if (!found.usable)
    refuse(found.cause, found.fix);
  if ((found.features & needed_features) != needed_features)
    refuse("this kernel lacks timeouts of a wait", "boot Linux 5.11 or later");
  entries = std::clamp(entries, smallest, largest);
  for (;; entries = std::max(entries / 2, smallest)) {
    io_uring_params params{};
    const int error = error_that_lasts(entries > smallest ? 2 : patience, [&] {
      params = {};
      params.flags = found.setup_flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
      params.cq_entries = 4 * entries;
      return -::io_uring_queue_init_params(entries, &ring, &params);
    });
    if (error == 0)
      return {params.cq_entries, found.supports(IORING_OP_MSG_RING), found.supports(op_waitid)};
    if (error != ENOMEM || entries == smallest) {
      std::string cause, fix;
      explain_refusal(error, cause, fix);
      refuse(cause, fix);
    }
  }
}

}  // namespace schedlab::iouring
