// Requests through a ring by liburing alone: what a loop and a driver cost is the difference.

#include "iouring/probe.hh"
#include "iouring/refusal.hh"
#include "iouring/uring_setup.hh"
#include "lab/apparatus/block_io.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/keep.hh"
#include "lab/base/text.hh"

#include <liburing.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>

namespace schedlab::apparatus {

namespace {

using detail::BlockDesk;

constexpr unsigned polling_idle_ms = 1;            // then the kernel's thread goes to sleep
constexpr std::int64_t settling_ns = 200'000'000;  // longest wait for that
constexpr unsigned looks_before_sleep = 2000;      // at the completions, each with a pause

class Ring {
public:
  Ring(unsigned entries, const RingIoOptions& options) {
    io_uring_params params{};
    const iouring::Probe found = iouring::quick_probe();
    if (!found.usable)
      throw Unsupported("io_uring: " + found.cause + "; " + found.fix);
    if (options.polling_cpu) {
      params.flags = IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF;
      params.sq_thread_cpu = *options.polling_cpu;
      params.sq_thread_idle = polling_idle_ms;
    } else {
      params.flags = found.setup_flags;
    }
    const io_uring_params wanted = params;
    const int error = iouring::error_that_lasts(iouring::patience, [&] {
      params = wanted;
      return -::io_uring_queue_init_params(entries, &ring_, &params);
    });
    if (error != 0) {
      std::string cause, fix;
      iouring::explain_refusal(error, cause, fix);
      throw Unsupported("io_uring: " + cause + (fix.empty() ? "" : "; " + fix));
    }
    ::io_uring_ring_dontfork(&ring_);
    ::io_uring_register_ring_fd(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() { ::io_uring_queue_exit(&ring_); }
  io_uring* get() noexcept { return &ring_; }

private:
  io_uring ring_{};
};

class RingIo final : public BlockIo {
public:
  RingIo(const BlockIoOptions& options, const RingIoOptions& ring)
      : desk_(options), options_(ring),
        owner_(ring.polling_cpu ? 2 * options.depth : options.depth, ring), ring_(owner_.get()) {
    if (ring.registered)
      make_known();
  }

  double run(std::uint64_t requests) override {
    left_ = requests;
    under_way_ = 0;
    const auto begin = clock::begin();
    for (auto& slot : desk_.slots())
      go_on(slot);
    while (under_way_ > 0) {
      hand_over();
      collect();
    }
    const auto end = clock::end();
    desk_.counts.requests += requests;
    return clock::ns(begin, end);
  }
  BlockIoCounts counts() override { return desk_.counts; }
  harness::Histogram& latencies() override { return desk_.latencies(); }

  void settle() noexcept override {
    if (!options_.polling_cpu)
      return;
    const std::int64_t deadline = clock::now_ns() + settling_ns;
    while (!polling_sleeps() && clock::now_ns() < deadline)
      clock::sleep_for(100'000);
  }

  std::vector<harness::Check> checks() override {
    if (!options_.polling_cpu)
      return {};
    const auto seen = polling_cpu();
    return {{"CPU of the kernel's polling thread", *options_.polling_cpu,
             seen ? harness::Value(*seen) : harness::Value("unknown"),
             !seen || *seen == *options_.polling_cpu}};
  }

private:
  void make_known() {
    const iovec area{desk_.memory().data(), desk_.memory().size()};
    const int file = desk_.fd();
    if (::io_uring_register_buffers(ring_, &area, 1) != 0 ||
        ::io_uring_register_files(ring_, &file, 1) != 0)
      throw Unsupported("no registered buffers and files; raise the memlock limit (ulimit -l)");
  }

  void go_on(BlockDesk::Slot& slot) noexcept {
    if (left_ == 0)
      return;
    --left_;
    ++under_way_;
    desk_.begin(slot);
    // There are as many as slots; twice as many where a completion may be seen before the polling
    // thread has said that it took the entry.
    io_uring_sqe* const sqe = ::io_uring_get_sqe(ring_);
    prepare(sqe, slot);
    ::io_uring_sqe_set_data(sqe, &slot);
  }

  void prepare(io_uring_sqe* sqe, const BlockDesk::Slot& slot) const noexcept {
    const std::uint64_t offset = slot.block * block_size;
    const int fd = options_.registered ? 0 : desk_.fd();
    switch (desk_.options().action) {
    case Action::nop:
      ::io_uring_prep_nop(sqe);
      return;
    case Action::read:
      if (options_.registered)
        ::io_uring_prep_read_fixed(sqe, fd, slot.area, block_size, offset, 0);
      else
        ::io_uring_prep_read(sqe, fd, slot.area, block_size, offset);
      break;
    case Action::write:
      if (options_.registered)
        ::io_uring_prep_write_fixed(sqe, fd, slot.area, block_size, offset, 0);
      else
        ::io_uring_prep_write(sqe, fd, slot.area, block_size, offset);
      break;
    }
    if (options_.registered)
      sqe->flags |= IOSQE_FIXED_FILE;
  }

  // One call hands over and waits; with a polling thread there is one only to wake it, or when
  // nothing has come for long.
  void hand_over() {
    if (!options_.polling_cpu)
      return enter();
    // liburing makes the entries visible, and enters the kernel only if the thread sleeps.
    desk_.counts.calls += polling_sleeps();
    ::io_uring_submit(ring_);
    for (unsigned looks = 0; looks < looks_before_sleep; ++looks) {
      if (::io_uring_cq_ready(ring_) > 0)
        return;
      pause_cpu();
    }
    enter();
  }

  void enter() {
    ++desk_.counts.calls;
    const int result = ::io_uring_submit_and_wait(ring_, 1);
    if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
      throw_errno(-result, "io_uring_enter");
  }

  void collect() noexcept {
    std::array<io_uring_cqe*, 64> ready;
    while (::io_uring_cq_ready(ring_) > 0) {  // asked first: an empty peek may enter the kernel
      const unsigned count = ::io_uring_peek_batch_cqe(ring_, ready.data(), ready.size());
      for (unsigned i = 0; i < count; ++i) {
        auto& slot = *static_cast<BlockDesk::Slot*>(::io_uring_cqe_get_data(ready[i]));
        desk_.end(slot, ready[i]->res);
        --under_way_;
        go_on(slot);
      }
      ::io_uring_cq_advance(ring_, count);
    }
  }

  [[nodiscard]] bool polling_sleeps() const noexcept {
    return (IO_URING_READ_ONCE(*ring_->sq.kflags) & IORING_SQ_NEED_WAKEUP) != 0;
  }

  // As the kernel says, where it does.
  [[nodiscard]] std::optional<unsigned> polling_cpu() const {
    const std::string about =
        read_text("/proc/self/fdinfo/" + std::to_string(ring_->ring_fd)).value_or("");
    const auto cpu = number_behind(about, "SqThreadCpu:");
    return cpu && *cpu >= 0 ? std::optional(static_cast<unsigned>(*cpu)) : std::nullopt;
  }

  BlockDesk desk_;
  RingIoOptions options_;
  Ring owner_;
  io_uring* ring_;
  std::uint64_t left_ = 0;  // of the present run, to begin
  std::uint64_t under_way_ = 0;
};

}  // namespace

std::unique_ptr<BlockIo> make_ring_io(const BlockIoOptions& options, const RingIoOptions& ring) {
  return std::make_unique<RingIo>(options, ring);
}

}  // namespace schedlab::apparatus
