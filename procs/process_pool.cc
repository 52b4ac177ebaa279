#include "procs/process_pool.hh"

#include "lab/base/clock.hh"
#include "procs/remote_error.hh"
#include "procs/thread_pool.hh"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace schedlab::procs {
namespace {

ProcessPoolOptions completed(ProcessPoolOptions options) {
  if (options.workers == 0)
    options.workers = default_workers();
  options.most_workers = std::max(options.most_workers, options.workers);
  options.queue = std::max<std::size_t>(options.queue, 1);
  return options;
}

}  // namespace

ProcessPool::ProcessPool(ProcessPoolOptions options)
    : core_(std::make_shared<pool::Core>(completed(std::move(options)))) {}

ProcessPool::~ProcessPool() {
  core_->close();
}

Bytes ProcessPool::bytes(std::size_t size) {
  std::span<std::byte> memory;
  auto hold = core_->arena().take(size, memory);
  if (!hold)
    throw std::bad_alloc();
  return {memory, std::move(hold)};
}

void ProcessPool::shutdown(std::optional<std::chrono::milliseconds> most, bool cancel) {
  std::optional<std::int64_t> deadline;
  if (most)
    deadline = clock::now_ns() + std::chrono::nanoseconds(*most).count();
  core_->shutdown(cancel, deadline);
}

void ProcessPool::resize(unsigned workers) {
  core_->resize(workers);
}

FaultPoint& ProcessPool::worker_fault(unsigned worker) const {
  return core_->arena().memory().lane(worker).fault;
}

FaultPoint& ProcessPool::parent_fault() const {
  return core_->arena().memory().header().fault;
}

namespace pool {

Bytes TaskHost::make(std::size_t size) {
  std::span<std::byte> memory;
  auto hold = core_.arena().take(size, memory);
  if (!hold)
    throw std::bad_alloc();
  return {memory, std::move(hold)};
}

std::uint64_t TaskHost::send(const Bytes& bytes) {
  const Memory& memory = core_.arena().memory();
  const std::uint64_t at = memory.offset(bytes.data());
  if (!bytes.hold() || !memory.block_at(at))
    throw std::invalid_argument("these bytes are not of this pool: take them from its bytes()");
  task_.holds.push_back(bytes.hold());
  return at;
}

// What a result names must be the task's own, or an argument of it.
Bytes TaskHost::receive(std::uint64_t at, std::uint64_t size) {
  const Memory& memory = core_.arena().memory();
  const auto bytes = memory.at(at, size);
  const auto owner = std::ranges::find(task_.holds, static_cast<const void*>(bytes.data()),
                                       [](const auto& hold) { return hold.get(); });
  if (bytes.empty() || owner == task_.holds.end())
    throw DecodeError("the result names shared bytes that the task does not own");
  return {bytes, *owner};
}

TaskRef submit_encoded(Core& core, const TaskRef& task, const Encoder& encoder) {
  const auto bytes = encoder.bytes();
  const Memory& memory = core.arena().memory();
  if (bytes.size() > memory.shape().slot_bytes) {
    std::span<std::byte> large;
    task->payload_hold = core.arena().take(bytes.size(), large);
    if (!task->payload_hold) {
      task->failure = std::make_exception_ptr(
          PoolError("no room for " + std::to_string(bytes.size()) +
                    " bytes of arguments in the pool's shared memory: raise "
                    "ProcessPoolOptions::arena_bytes, or wait for results before more"));
      task->phase.store(Phase::resolved);
      return task;
    }
    std::memcpy(large.data(), bytes.data(), bytes.size());
    task->payload = {memory.offset(large.data()), bytes.size(), checksum(bytes)};
  }
  core.submit(task, bytes);
  return task;
}

void fail_at_once(Task& task) noexcept {
  task.failure = std::current_exception();
  task.phase.store(Phase::resolved);
}

void throw_failure(Task& task) {
  if (task.failure)
    std::rethrow_exception(std::exchange(task.failure, nullptr));
  if (task.kind == ResultKind::value)
    return;
  Decoder decoder(task.result);
  auto chain = decode<std::vector<RemoteCause>>(decoder);
  if (chain.empty())
    throw DecodeError("an exception without a description");
  const Stage stage = task.kind == ResultKind::threw_decoding   ? Stage::decode_arguments
                      : task.kind == ResultKind::threw_encoding ? Stage::encode_result
                                                                : Stage::run;
  throw_remote(RemoteError(std::move(chain), stage, task.pid, task.attempts + 1));
}

}  // namespace pool
}  // namespace schedlab::procs
