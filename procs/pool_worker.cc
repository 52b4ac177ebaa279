#include "procs/pool_worker.hh"

#include "lab/base/clock.hh"
#include "lab/base/file.hh"
#include "lab/base/futex.hh"
#include "lab/base/keep.hh"
#include "lab/base/text.hh"
#include "procs/bytes.hh"

#include <cxxabi.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <new>
#include <string>
#include <vector>

namespace schedlab::procs::pool {
namespace {

constexpr std::int64_t rss_period_ns = 100'000'000;

// Of this process, in bytes; 0 if it cannot be read.
std::uint64_t resident() {
  const auto text = read_text("/proc/self/statm");
  if (!text || text->find(' ') == std::string::npos)
    return 0;
  const auto words = split(*text, ' ');
  return static_cast<std::uint64_t>(to_number(words[1]).value_or(0)) * page_size();
}

// Gives Bytes to one task, and takes back those that are not in its result.
class TaskBytes final : public BytesHost {
public:
  TaskBytes(const Memory& memory, std::uint32_t lane, std::uint64_t task)
      : memory_(memory), blocks_(memory.blocks(lane)), task_(task) {}

  Bytes make(std::size_t size) override {
    const auto block = blocks_.take(size, task_);
    if (!block)
      throw std::bad_alloc();
    used_ = true;
    return {std::span<std::byte>(memory_.block(*block), size), nullptr};
  }
  std::uint64_t send(const Bytes& bytes) override {
    const std::uint64_t at = memory_.offset(bytes.data());
    const auto block = memory_.block_at(at);
    if (!block)
      throw std::invalid_argument("these bytes are not of this pool");
    sent_.push_back(*block);
    return at;
  }
  Bytes receive(std::uint64_t at, std::uint64_t size) override {
    const auto bytes = memory_.at(at, size);
    if (bytes.empty() || !memory_.block_at(at))
      throw DecodeError("no shared bytes are there");
    return {bytes, nullptr};
  }
  // The task made some, and some of them stay; `sending` says whether what was sent counts.
  bool settle(bool sending) {
    if (!used_)
      return false;
    bool kept = false;
    for (auto run = blocks_.find(task_); run; run = blocks_.find(task_, *run + 1))
      if (sending && std::ranges::find(sent_, *run) != sent_.end())
        kept = true;
      else
        blocks_.give_back(*run);
    return kept;
  }

private:
  const Memory& memory_;
  Blocks blocks_;
  std::uint64_t task_;
  std::vector<std::size_t> sent_;
  bool used_ = false;
};

class Worker {
public:
  Worker(Memory memory, std::uint32_t lane, std::uint32_t generation, Fd bell)
      : memory_(std::move(memory)), number_(lane), lane_(memory_.lane(lane)),
        generation_(generation), bell_(std::move(bell)) {}

  void run() {
    lane_.ready.store(generation_);
    ring();  // there may be tasks that nobody could take
    std::uint64_t position = 0;
    while (Slot* const slot = await(position)) {
      lane_.fault.reach(Step::woken);
      fetch_lines(*slot);
      auto seen = SlotState::queued;
      if (!slot->state.compare_exchange_strong(seen, SlotState::claimed)) {
        if (seen == SlotState::skipped) {
          slot->state.store(SlotState::done);
          announce(++position);
        }
        continue;  // else it was taken back
      }
      lane_.fault.reach(Step::claimed);
      const std::uint64_t task = slot->task;
      execute(*slot);
      slot->ended.store(task);  // the slot itself may be another task's by now
      ++position;
      announce(position);
      lane_.fault.reach(Step::announced);
      if (leave_after(position))
        return;
    }
  }

private:
  [[nodiscard]] bool is_for_me(const Slot& slot) const noexcept {
    const SlotState state = slot.state.load();
    return (state == SlotState::queued || state == SlotState::skipped) &&
           slot.generation == generation_;
  }

  // Waits for the task at this position; null when it is time to leave.
  Slot* await(std::uint64_t position) noexcept {
    Slot& slot = memory_.slot(number_, position);
    const std::uint32_t spins = memory_.header().spins;
    for (std::uint32_t asked = 0;; ++asked) {
      if (lane_.told_to_leave.load() != 0) {
        lane_.leaving.store(Leaving::told);
        return nullptr;
      }
      if (is_for_me(slot))
        return &slot;
      if (asked < spins)
        pause_cpu();
      else
        sleep(slot);
    }
  }

  // What the task will touch comes at once, and not one line after the other.
  void fetch_lines(const Slot& slot) const noexcept {
    prefetch(memory_.argument_space(slot).data());
    prefetch_to_write(&slot.ended);
    prefetch_to_write(memory_.result_space(slot).data());
  }

  // Whoever wakes it sets the word to 0 before.
  void sleep(const Slot& slot) noexcept {
    lane_.asleep.store(1);
    if (!is_for_me(slot) && lane_.told_to_leave.load() == 0)
      futex_wait(lane_.asleep, 1, true);
    lane_.asleep.store(0);
  }

  void execute(Slot& slot) {
    if (slot.timed != 0)
      slot.began_ns.store(clock::now_ns(), std::memory_order_relaxed);
    slot.state.store(SlotState::running, std::memory_order_release);
    lane_.fault.reach(Step::running);
    TaskBytes bytes(memory_, number_, slot.task);
    const HostScope scope(bytes);
    Encoder result(memory_.result_space(slot));
    slot.kind = call(slot, result);
    slot.has_blocks = 0;
    if (slot.kind == ResultKind::value) {
      hand_in(slot, bytes, result);
    } else {
      bytes.settle(false);
      hand_in(slot, bytes, result);
    }
    if (bytes.settle(true))
      slot.has_blocks = 1;
    lane_.fault.reach(Step::encoded);
    auto running = SlotState::running;
    if (!slot.state.compare_exchange_strong(running, SlotState::done))
      for (;;)  // its time was up: the kill is on its way
        ::pause();
    lane_.fault.reach(Step::done);
  }

  ResultKind call(const Slot& slot, Encoder& result) {
    Stage stage = Stage::decode_arguments;
    try {
      const auto bytes = memory_.at(slot.arguments.at, slot.arguments.size);
      if (bytes.size() != slot.arguments.size || checksum(bytes) != slot.arguments.sum)
        throw DecodeError("the arguments were changed on their way: somebody writes where he "
                          "should not");
      Decoder arguments(bytes);
      Call work{arguments, result, stage, lane_.fault};
      resolve<void(Call&)>({slot.entry, signature_, own_build_id()})(work);
      return ResultKind::value;
    } catch (abi::__forced_unwind&) {
      throw;  // pthread_exit: the end of this process
    } catch (...) {
      result = Encoder(memory_.result_space(slot));
      encode(result, describe_current_exception());
    }
    switch (stage) {
    case Stage::decode_arguments:
      return ResultKind::threw_decoding;
    case Stage::encode_result:
      return ResultKind::threw_encoding;
    case Stage::run:
      break;
    }
    return ResultKind::threw;
  }

  // Puts the result where the parent finds it: in the slot, or in blocks.
  void hand_in(Slot& slot, TaskBytes& bytes, Encoder& result) {
    if (!result.in_first()) {
      try {
        const auto large = bytes.make(result.bytes().size());
        std::memcpy(large.data(), result.bytes().data(), large.size());
        slot.result = {bytes.send(large), large.size(), checksum(large.span())};
        return;
      } catch (const std::bad_alloc&) {
        refuse(slot, result);
      }
    }
    slot.result = {memory_.offset(result.bytes().data()), result.bytes().size(),
                   checksum(result.bytes())};
  }

  // Instead of a result for which there is no room.
  void refuse(Slot& slot, Encoder& result) {
    const std::string text = "no room for " + std::to_string(result.bytes().size()) +
                             " bytes in the worker's " +
                             std::to_string(std::size_t{memory_.shape().blocks} * block_size) +
                             " bytes of shared memory: raise ProcessPoolOptions::arena_bytes";
    const bool value = slot.kind == ResultKind::value;
    slot.kind = value ? ResultKind::threw_encoding : slot.kind;
    result = Encoder(memory_.result_space(slot));
    encode(result,
           std::vector<RemoteCause>{{.type = "std::length_error", .what = text, .origin = ""}});
  }

  void announce(std::uint64_t position) noexcept {
    lane_.results.fetch_add(1);
    if (lane_.sleepers.load() != 0)
      futex_wake(lane_.results, INT32_MAX, true);
    const bool wanted = lane_.callbacks.load() != 0 ||
                        (memory_.header().refill.load() != 0 &&
                         (!is_for_me(memory_.slot(number_, position)) || half_way(position)));
    if (wanted)
      ring();
  }

  [[nodiscard]] bool half_way(std::uint64_t position) const noexcept {
    const std::uint32_t half = memory_.shape().depth / 2;
    return half != 0 && position % half == 0;
  }

  void ring() noexcept {
    if (memory_.header().supervisor_asleep.exchange(0) != 0)
      ::eventfd_write(bell_.get(), 1);
  }

  // It has done its share, or has grown too large.
  bool leave_after(std::uint64_t tasks) {
    const Header& header = memory_.header();
    if (header.tasks_per_worker != 0 && tasks >= header.tasks_per_worker) {
      lane_.leaving.store(Leaving::tasks);
      return true;
    }
    if (header.rss_growth == 0)
      return false;
    if (const std::int64_t now = clock::now_ns(); tasks == 1 || now >= next_look_ns_) {
      next_look_ns_ = now + rss_period_ns;
      const std::uint64_t size = resident();
      baseline_ = tasks == 1 ? size : baseline_;
      if (size > baseline_ + header.rss_growth) {
        lane_.rss.store(size);
        lane_.leaving.store(Leaving::rss);
        return true;
      }
    }
    return false;
  }

  Memory memory_;
  std::uint32_t number_;
  Lane& lane_;
  std::uint32_t generation_;
  Fd bell_;
  const std::uint64_t signature_ = procs::detail::type_of<void(Call&)>();
  std::int64_t next_look_ns_ = 0;
  std::uint64_t baseline_ = 0;
};

}  // namespace

int run_worker(Memory memory, std::uint32_t lane, std::uint32_t generation, Fd bell) {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGINT, SIG_IGN);  // a terminal sends it to all: the parent decides
  ::signal(SIGTERM, SIG_DFL);
  Worker(std::move(memory), lane, generation, std::move(bell)).run();
  return 0;
}

}  // namespace schedlab::procs::pool
