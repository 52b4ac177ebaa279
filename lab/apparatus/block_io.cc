#include "lab/apparatus/block_io.hh"

#include "lab/base/clock.hh"
#include "lab/base/error.hh"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>

namespace schedlab::apparatus {

namespace detail {

namespace {

int descriptor_for(const BlockIoOptions& options) {
  if (!options.file)
    return -1;
  if (!options.direct)
    return options.file->buffered(!options.random);
  if (options.file->direct() < 0)
    throw Unsupported("O_DIRECT is refused there: " + errno_text(options.file->direct_error()));
  return options.file->direct();
}

}  // namespace

BlockDesk::BlockDesk(const BlockIoOptions& options)
    : options_(options), order_(options.file ? options.file->blocks() : 1, options.random),
      every_(options.timed_every),
      expected_(options.action == Action::nop ? 0 : static_cast<int>(block_size)),
      fd_(descriptor_for(options)),
      memory_(Mapping::private_memory(std::size_t{options.depth} * block_size)),
      slots_(options.depth) {
  assert(options.file || options.action == Action::nop);
  std::memset(memory_.data(), 1, memory_.size());
  for (unsigned i = 0; i < options.depth; ++i)
    slots_[i].area = memory_.data() + std::size_t{i} * block_size;
}

std::uint64_t BlockDesk::now() noexcept {
  return clock::begin();
}

void BlockDesk::stamp(Slot& slot) noexcept {
  const std::uint64_t own = stamp_of(slot.block);
  std::memcpy(slot.area, &own, sizeof own);
}

void BlockDesk::look(const Slot& slot) noexcept {
  latencies_.record(static_cast<std::uint64_t>(clock::ns(slot.begun, clock::end())));
  if (options_.action != Action::read)
    return;
  std::uint64_t found;
  std::memcpy(&found, slot.area, sizeof found);
  ++counts.looked;
  counts.wrong += found != stamp_of(slot.block);
}

void BlockDesk::fail(int result) noexcept {
  ++counts.failed;
  counts.error = result < 0 ? -result : 0;
}

int transfer(const BlockDesk& desk, const BlockDesk::Slot& slot, int flags) noexcept {
  const iovec area{slot.area, block_size};
  const auto offset = static_cast<off_t>(slot.block * block_size);
  ssize_t result = 0;
  switch (desk.options().action) {
  case Action::nop:
    ::syscall(SYS_getppid);
    break;
  case Action::read:
    result = ::preadv2(desk.fd(), &area, 1, offset, flags);
    break;
  case Action::write:
    result = ::pwritev2(desk.fd(), &area, 1, offset, flags);
    break;
  }
  return result < 0 ? -errno : static_cast<int>(result);
}

}  // namespace detail

namespace {

using detail::BlockDesk;
using detail::transfer;

class CallIo final : public BlockIo {
public:
  CallIo(const BlockIoOptions& options, int flags) : desk_(options), flags_(flags) {
    // Nothing is written by the try.
    BlockDesk::Slot& slot = desk_.slots().front();
    if (flags != 0 && options.action == Action::read && transfer(desk_, slot, flags) == -EOPNOTSUPP)
      throw Unsupported("preadv2 does not take these flags there");
  }

  double run(std::uint64_t requests) override {
    BlockDesk::Slot& slot = desk_.slots().front();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < requests; ++i) {
      desk_.begin(slot);
      desk_.end(slot, transfer(desk_, slot, flags_));
    }
    const auto end = clock::end();
    desk_.counts.requests += requests;
    desk_.counts.calls += requests;
    return clock::ns(begin, end);
  }
  BlockIoCounts counts() override { return desk_.counts; }
  harness::Histogram& latencies() override { return desk_.latencies(); }

private:
  BlockDesk desk_;
  int flags_;
};

}  // namespace

std::unique_ptr<BlockIo> make_call_io(const BlockIoOptions& options, int flags) {
  return std::make_unique<CallIo>(options, flags);
}

}  // namespace schedlab::apparatus
