#include "procs/pool_task.hh"

namespace schedlab::procs::pool {
namespace {

constexpr std::uint64_t parents_task = 1;  // marks the parent's blocks: whose they are it knows

}  // namespace

Arena::Arena(const Shape& shape)
    : memory_(Memory::make(shape)), held_(2 * std::size_t{shape.lanes} * shape.blocks) {}

Blocks Arena::owner_of(std::size_t block) const noexcept {
  const Shape& shape = memory_.shape();
  const std::size_t lane = shape.blocks == 0 ? 0 : block / shape.blocks;
  return memory_.blocks(static_cast<std::uint32_t>(std::min<std::size_t>(lane, shape.lanes)));
}

std::shared_ptr<const void> Arena::hold(std::size_t block) {
  held_[block] = true;
  const auto self = shared_from_this();
  return {memory_.block(block), [self, block](const std::byte*) { self->release(block); }};
}

void Arena::release(std::size_t block) noexcept {
  const std::lock_guard lock(mutex_);
  owner_of(block).give_back(block);
  held_[block] = false;
}

std::shared_ptr<const void> Arena::take(std::size_t size, std::span<std::byte>& bytes) {
  const std::lock_guard lock(mutex_);
  const auto block = memory_.blocks(memory_.shape().lanes).take(size, parents_task);
  if (!block)
    return nullptr;
  bytes = {memory_.block(*block), size};
  return hold(*block);
}

std::vector<std::shared_ptr<const void>> Arena::adopt(std::uint32_t lane, std::uint64_t task,
                                                      std::uint64_t without) {
  const std::lock_guard lock(mutex_);
  const auto left_out = memory_.block_at(without);
  Blocks blocks = memory_.blocks(lane);
  std::vector<std::shared_ptr<const void>> adopted;
  for (auto run = blocks.find(task); run; run = blocks.find(task, *run + 1))
    if (run == left_out)
      blocks.give_back(*run);
    else
      adopted.push_back(hold(*run));
  return adopted;
}

void Arena::sweep(std::uint32_t lane) {
  const std::lock_guard lock(mutex_);
  memory_.blocks(lane).sweep(held_);
}

}  // namespace schedlab::procs::pool
