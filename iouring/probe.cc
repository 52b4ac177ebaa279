#include "iouring/probe.hh"

#include "iouring/refusal.hh"
#include "iouring/uring_setup.hh"
#include "lab/base/text.hh"

#include <liburing.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <span>
#include <string_view>

namespace schedlab::iouring {

namespace {

constexpr unsigned small_ring = 8;
constexpr unsigned largest_asked = 32768;  // the kernel's own limit

// Each rung gives up what the kernel of its time did not know. DEFER_TASKRUN asks for
// SINGLE_ISSUER, and TASKRUN_FLAG for one of the two ways of running tasks.
constexpr std::uint32_t rung_plain = IORING_SETUP_CLAMP;                         // 5.6
constexpr std::uint32_t rung_submit_all = rung_plain | IORING_SETUP_SUBMIT_ALL;  // 5.18
constexpr std::uint32_t rung_cooperative =
    rung_submit_all | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;  // 5.19
constexpr std::uint32_t rung_deferred =
    rung_cooperative | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;  // 6.1
constexpr std::array<std::uint32_t, 5> ladder = {rung_deferred, rung_cooperative, rung_submit_all,
                                                 rung_plain, 0};

// A ring that is closed again.
class Trial {
public:
  Trial(unsigned entries, std::uint32_t flags) {
    params_.flags = flags;
    result_ = ::io_uring_queue_init_params(entries, &ring_, &params_);
  }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;
  ~Trial() {
    if (result_ == 0)
      ::io_uring_queue_exit(&ring_);
  }

  [[nodiscard]] int error() const noexcept { return -result_; }
  [[nodiscard]] std::uint32_t features() const noexcept { return params_.features; }
  io_uring* ring() noexcept { return &ring_; }

private:
  io_uring ring_{};
  io_uring_params params_{};
  int result_;
};

// A filter may let a ring be set up and refuse to enter it. 0 or errno.
int run_nop(io_uring* ring) {
  io_uring_sqe* sqe = ::io_uring_get_sqe(ring);
  if (!sqe)
    return EBUSY;
  ::io_uring_prep_nop(sqe);
  const int submitted = ::io_uring_submit_and_wait(ring, 1);
  if (submitted < 0)
    return -submitted;
  io_uring_cqe* cqe = nullptr;
  if (const int waited = ::io_uring_wait_cqe(ring, &cqe))
    return -waited;
  ::io_uring_cqe_seen(ring, cqe);
  return 0;
}

struct Free {
  void operator()(void* memory) const noexcept { std::free(memory); }
};

// The operations the kernel knows. 0 or errno.
int list_opcodes(io_uring* ring, std::vector<unsigned>& opcodes) {
  constexpr unsigned most = 256;
  constexpr std::size_t size = sizeof(io_uring_probe) + most * sizeof(io_uring_probe_op);
  const std::unique_ptr<void, Free> memory(std::calloc(1, size));
  if (!memory)
    return ENOMEM;
  auto* answer = static_cast<io_uring_probe*>(memory.get());
  if (const int result = ::io_uring_register_probe(ring, answer, most))
    return -result;
  opcodes.clear();
  for (const auto& op : std::span(answer->ops, answer->ops_len))
    if (op.flags & IO_URING_OP_SUPPORTED)
      opcodes.push_back(op.op);
  return 0;
}

// Fills in what the ring can do. 0 or errno.
int examine(Trial& trial, Probe& found) {
  if (trial.error())
    return trial.error();
  found.features = trial.features();
  if (const int error = run_nop(trial.ring()))
    return error;
  return list_opcodes(trial.ring(), found.opcodes);
}

// Goes down the ladder to the first rung that this kernel takes. 0 or errno.
int climb_down(Probe& found) {
  int error = EINVAL;
  for (const auto flags : ladder) {
    Trial trial(small_ring, flags);
    found.setup_flags = flags;
    error = examine(trial, found);
    if (trial.error() != EINVAL)
      break;
  }
  return error;
}

unsigned find_largest(std::uint32_t flags) {
  unsigned entries = largest_asked;
  while (entries >= 1 && error_that_lasts(2, [&] { return Trial(entries, flags).error(); }) != 0)
    entries /= 2;
  return entries;
}

std::string bit_names(std::uint32_t bits, std::span<const std::string_view> names) {
  std::vector<std::string> set;
  for (unsigned bit = 0; bit < 32; ++bit)
    if (bits >> bit & 1)
      set.push_back(bit < names.size() ? std::string(names[bit]) : "bit" + std::to_string(bit));
  return join(set, "|");
}

}  // namespace

bool Probe::supports(unsigned opcode) const noexcept {
  return std::ranges::binary_search(opcodes, opcode);
}

Probe quick_probe() {
  Probe found;
  const int error = error_that_lasts(patience, [&] { return climb_down(found); });
  if (error == 0) {
    found.usable = true;
    return found;
  }
  Probe refused;
  refused.error = error;
  explain_refusal(error, refused.cause, refused.fix);
  return refused;
}

Probe probe() {
  Probe found = quick_probe();
  if (found.usable)
    found.largest_ring = find_largest(found.setup_flags);
  return found;
}

std::string setup_names(std::uint32_t flags) {
  static constexpr std::string_view names[] = {
      "IOPOLL",        "SQPOLL",        "SQ_AFF",     "CQSIZE",
      "CLAMP",         "ATTACH_WQ",     "R_DISABLED", "SUBMIT_ALL",
      "COOP_TASKRUN",  "TASKRUN_FLAG",  "SQE128",     "CQE32",
      "SINGLE_ISSUER", "DEFER_TASKRUN", "NO_MMAP",    "REGISTERED_FD_ONLY",
      "NO_SQARRAY",    "HYBRID_IOPOLL", "CQE_MIXED"};
  return bit_names(flags, names);
}

std::string feature_names(std::uint32_t features) {
  static constexpr std::string_view names[] = {
      "SINGLE_MMAP", "NODROP",      "SUBMIT_STABLE",   "RW_CUR_POS",   "CUR_PERSONALITY",
      "FAST_POLL",   "POLL_32BITS", "SQPOLL_NONFIXED", "EXT_ARG",      "NATIVE_WORKERS",
      "RSRC_TAGS",   "CQE_SKIP",    "LINKED_FILE",     "REG_REG_RING", "RECVSEND_BUNDLE",
      "MIN_TIMEOUT", "RW_ATTR",     "NO_IOWAIT"};
  return bit_names(features, names);
}

}  // namespace schedlab::iouring
