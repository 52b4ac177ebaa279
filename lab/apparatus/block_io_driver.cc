// Requests through a driver of the library, by operations that begin the next one as they end, and
// through a loop, by coroutines that await one after the other.

#include "iouring/gather.hh"
#include "iouring/perform.hh"
#include "lab/apparatus/block_io.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"

#include <array>
#include <deque>

namespace schedlab::apparatus {

namespace {

using detail::BlockDesk;
using iouring::Op;
using iouring::Request;

Op op_for(Action action) {
  return action == Action::nop ? Op::nop : action == Action::read ? Op::read : Op::write;
}

Request request_for(const BlockDesk& desk, const BlockDesk::Slot& slot) {
  Request request;
  request.op = op_for(desk.options().action);
  if (request.op == Op::nop) {
    request.flags = desk.options().nop_result != 0;
    request.length = static_cast<std::uint32_t>(desk.options().nop_result);
    return request;
  }
  request.fd = desk.fd();
  request.address = slot.area;
  request.length = block_size;
  return request;
}

iouring::DriverOptions driver_options(const BlockIoOptions& options, iouring::DriverChoice choice) {
  iouring::DriverOptions driver;
  driver.choice = choice;
  driver.entries = std::max(options.depth, 8U);
  driver.blocking_threads = options.depth;
  return driver;
}

class DriverIo final : public BlockIo {
public:
  DriverIo(const BlockIoOptions& options, iouring::DriverChoice choice, bool registered)
      : desk_(options), driver_(iouring::make_driver(driver_options(options, choice))) {
    for (auto& slot : desk_.slots())
      requests_.emplace_back(*this, slot);
    if (registered)
      make_known();
  }

  double run(std::uint64_t requests) override {
    left_ = requests;
    const auto begin = clock::begin();
    for (auto& request : requests_)
      request.go_on();
    while (driver_->in_flight() > 0)
      driver_->wait(-1);
    const auto end = clock::end();
    desk_.counts.requests += requests;
    return clock::ns(begin, end);
  }
  BlockIoCounts counts() override {
    BlockIoCounts counts = desk_.counts;
    counts.calls = driver_->counts().calls + calls_of_threads();
    return counts;
  }
  harness::Histogram& latencies() override { return desk_.latencies(); }

private:
  class Running final : public iouring::Operation {
  public:
    Running(DriverIo& owner, BlockDesk::Slot& slot)
        : owner_(owner), slot_(slot), request_(request_for(owner.desk_, slot)) {}
    void go_on() noexcept {
      if (owner_.left_ == 0)
        return;
      --owner_.left_;
      owner_.desk_.begin(slot_);
      request_.offset = slot_.block * block_size;
      owner_.driver_->submit(request_, *this);
    }
    void make_known() noexcept {
      request_.fixed_file = true;
      request_.fd = 0;
      request_.fixed_buffer = 0;
    }

  private:
    void complete(int result, std::uint32_t) noexcept override {
      owner_.desk_.end(slot_, result);
      go_on();
    }
    DriverIo& owner_;
    BlockDesk::Slot& slot_;
    Request request_;
  };

  void make_known() {
    const std::array<std::span<std::byte>, 1> areas = {desk_.memory()};
    const std::array<int, 1> files = {desk_.fd()};
    if (!driver_->register_buffers(areas) || !driver_->register_files(files))
      throw Unsupported("no registered buffers and files; raise the memlock limit (ulimit -l)");
    for (auto& request : requests_)
      request.make_known();
  }

  // What the page cache cannot answer, the epoll driver's threads read by a call each.
  [[nodiscard]] std::uint64_t calls_of_threads() const noexcept {
    return driver_->name() == "epoll" && desk_.options().cache == CacheState::dropped
               ? desk_.counts.requests
               : 0;
  }

  BlockDesk desk_;
  std::uint64_t left_ = 0;  // of the present run, to begin
  std::unique_ptr<iouring::Driver> driver_;
  std::deque<Running> requests_;
};

class LoopIo final : public BlockIo {
public:
  LoopIo(const BlockIoOptions& options, iouring::DriverChoice choice)
      : desk_(options), loop_(loop_options(options, choice)) {}

  double run(std::uint64_t requests) override {
    left_ = requests;
    const auto begin = clock::begin();
    loop_.run(all());
    const auto end = clock::end();
    desk_.counts.requests += requests;
    return clock::ns(begin, end);
  }
  BlockIoCounts counts() override {
    BlockIoCounts counts = desk_.counts;
    counts.calls = loop_.driver().counts().calls;
    return counts;
  }
  harness::Histogram& latencies() override { return desk_.latencies(); }

private:
  static iouring::LoopOptions loop_options(const BlockIoOptions& options,
                                           iouring::DriverChoice choice) {
    iouring::LoopOptions loop;
    loop.driver = driver_options(options, choice);
    return loop;
  }

  iouring::Task<> all() {
    std::vector<iouring::Task<>> tasks;
    for (auto& slot : desk_.slots())
      tasks.push_back(one_by_one(slot));
    co_await iouring::gather(std::move(tasks));
  }

  iouring::Task<> one_by_one(BlockDesk::Slot& slot) {
    Request request = request_for(desk_, slot);
    while (left_ > 0) {
      --left_;
      desk_.begin(slot);
      request.offset = slot.block * block_size;
      const int result = co_await iouring::perform(request);
      desk_.end(slot, result);
    }
  }

  BlockDesk desk_;
  std::uint64_t left_ = 0;
  iouring::Loop loop_;
};

}  // namespace

std::unique_ptr<BlockIo> make_driver_io(const BlockIoOptions& options, iouring::DriverChoice choice,
                                        bool registered) {
  return std::make_unique<DriverIo>(options, choice, registered);
}

std::unique_ptr<BlockIo> make_loop_io(const BlockIoOptions& options, iouring::DriverChoice choice) {
  return std::make_unique<LoopIo>(options, choice);
}

}  // namespace schedlab::apparatus
