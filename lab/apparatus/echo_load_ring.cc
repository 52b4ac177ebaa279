// One ring: a multishot recv on each connection that picks buffers from a ring of them, sends whose
// completion is not asked for unless they fail, and a call to the kernel only when there is
// something to hand over or the kernel says that it has something.
#include "iouring/probe.hh"
#include "iouring/uring_setup.hh"
#include "lab/apparatus/echo_load_ways.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"

#include <liburing.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>

namespace schedlab::apparatus {

namespace {

constexpr unsigned least_entries = 64;
constexpr unsigned most_entries = 4096;
constexpr unsigned area_size = 4096;
// Not a power of two, or the first lines of all areas would share a few sets of the caches.
constexpr unsigned area_stride = area_size + 64;
constexpr std::uint16_t group = 0;
enum Kind : std::uint64_t { receiving, sending };

class Ring {
public:
  explicit Ring(unsigned entries) { iouring::set_up_ring(ring, entries); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() { ::io_uring_queue_exit(&ring); }
  io_uring ring{};
};

class RingLoad final : public EchoLoad {
public:
  explicit RingLoad(const EchoLoadOptions& options)
      : EchoLoad(options), areas_(std::bit_ceil(std::clamp(options.connections, 64U, 4096U))),
        ring_(std::clamp(std::bit_ceil(options.connections + 1), least_entries, most_entries)),
        free_(Mapping::private_memory(areas_ * sizeof(io_uring_buf))),
        memory_(Mapping::private_memory(std::size_t{areas_} * area_stride)) {
    ::io_uring_register_ring_fd(&ring_.ring);  // without it a call costs some ns more
    io_uring_buf_reg wanted{};
    wanted.ring_addr = reinterpret_cast<std::uint64_t>(free_.data());
    wanted.ring_entries = areas_;
    wanted.bgid = group;
    check_kernel(::io_uring_register_buf_ring(&ring_.ring, &wanted, 0),
                 "io_uring_register_buf_ring");
    for (unsigned i = 0; i < areas_; ++i)
      give_back(static_cast<std::uint16_t>(i));
    for (std::size_t line = 0; line < connections(); ++line)
      receive(line);
  }

  [[nodiscard]] std::string_view name() const noexcept override { return "io_uring"; }

private:
  void exchange() override {
    for (std::size_t line = 0; line < connections() && may_begin(); ++line)
      send(line, next_message(line));
    while (!done()) {
      if (!enter()) {
        idle();
        continue;
      }
      stamp_received();
      unsigned head = 0;
      unsigned seen = 0;
      io_uring_cqe* cqe = nullptr;
      io_uring_for_each_cqe(&ring_.ring, head, cqe) {
        handle(*cqe);
        ++seen;
      }
      ::io_uring_cq_advance(&ring_.ring, seen);
    }
  }

  // Is there something to look at?
  bool enter() {
    if (::io_uring_sq_ready(&ring_.ring) > 0) {
      stamp_sent();
      const int result = ::io_uring_submit_and_get_events(&ring_.ring);
      if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
        fail(result);
    } else if (::io_uring_cq_ready(&ring_.ring) == 0) {
      // Rings without DEFER_TASKRUN show completions by themselves.
      if ((IO_URING_READ_ONCE(*ring_.ring.sq.kflags) &
           (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) == 0)
        return false;
      ::io_uring_get_events(&ring_.ring);
    }
    return ::io_uring_cq_ready(&ring_.ring) > 0;
  }

  io_uring_sqe* entry() {
    for (;;) {
      if (io_uring_sqe* const sqe = ::io_uring_get_sqe(&ring_.ring))
        return sqe;
      stamp_sent();
      check_kernel(::io_uring_submit(&ring_.ring), "io_uring_submit");
    }
  }

  void receive(std::size_t line) {
    io_uring_sqe* const sqe = entry();
    ::io_uring_prep_recv_multishot(sqe, fd(line), nullptr, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = group;
    ::io_uring_sqe_set_data64(sqe, line << 1 | receiving);
  }

  // A message is alone in its socket, which therefore takes all of it at once.
  void send(std::size_t line, std::span<const std::byte> message) {
    io_uring_sqe* const sqe = entry();
    ::io_uring_prep_send(sqe, fd(line), message.data(), message.size(), MSG_NOSIGNAL | MSG_WAITALL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    ::io_uring_sqe_set_data64(sqe, line << 1 | sending);
  }

  void handle(const io_uring_cqe& cqe) {
    const std::size_t line = cqe.user_data >> 1;
    if ((cqe.user_data & 1) == sending)
      return cqe.res > 0 ? void() : fail(cqe.res);
    if (cqe.res <= 0 && cqe.res != -ENOBUFS)
      fail(cqe.res);
    if (cqe.res > 0) {
      const auto area = static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
      const auto bytes = memory_.bytes().subspan(std::size_t{area} * area_stride,
                                                 static_cast<std::size_t>(cqe.res));
      const bool whole = take(line, bytes);
      give_back(area);
      if (whole && may_begin())
        send(line, next_message(line));
    }
    if (!(cqe.flags & IORING_CQE_F_MORE))
      receive(line);
  }

  // The tail lies in the reserved part of the first entry.
  void give_back(std::uint16_t area) noexcept {
    auto* const free = free_.as<io_uring_buf>();
    const std::uint16_t tail = free[0].resv;
    io_uring_buf& entry = free[tail & (areas_ - 1)];
    entry.addr = reinterpret_cast<std::uint64_t>(memory_.data() + std::size_t{area} * area_stride);
    entry.len = area_size;
    entry.bid = area;
    std::atomic_ref(free[0].resv)
        .store(static_cast<std::uint16_t>(tail + 1), std::memory_order_release);
  }

  unsigned areas_;
  Ring ring_;
  Mapping free_;
  Mapping memory_;
};

}  // namespace

std::unique_ptr<EchoLoad> make_ring_load(const EchoLoadOptions& options) {
  // A multishot recv and SEND_ZC came with the same kernel, and only the latter can be asked for.
  const iouring::Probe probe = iouring::quick_probe();
  if (!probe.usable || !probe.supports(IORING_OP_SEND_ZC))
    return nullptr;
  try {
    return std::make_unique<RingLoad>(options);
  } catch (const Unsupported&) {
    return nullptr;
  } catch (const std::system_error& error) {
    if (error.code().value() != EINVAL && error.code().value() != ENOMEM)
      throw;
    return nullptr;
  }
}

}  // namespace schedlab::apparatus
