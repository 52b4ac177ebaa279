#include "procs/pool_memory.hh"

#include "lab/base/error.hh"

#include <algorithm>
#include <cstring>
#include <new>

namespace schedlab::procs::pool {
namespace {

constexpr std::uint64_t magic = 0x7363'6865'646c'6162;
// In the owner word of a run's first block.
constexpr std::uint64_t head = std::uint64_t{1} << 63;

constexpr std::size_t up(std::size_t size, std::size_t unit) {
  return (size + unit - 1) / unit * unit;
}

constexpr std::size_t slot_count(const Shape& shape) {
  return std::size_t{shape.lanes} * shape.depth;
}
constexpr std::size_t block_count(const Shape& shape) {
  return 2 * std::size_t{shape.lanes} * shape.blocks;
}

template <typename T>
T* place(std::byte* at, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    new (at + i * sizeof(T)) T;
  return reinterpret_cast<T*>(at);
}

}  // namespace

Memory::Parts::Parts(const Shape& shape) noexcept
    : lanes(up(sizeof(Header), cache_line)), slots(lanes + shape.lanes * sizeof(Lane)),
      spaces(slots + slot_count(shape) * sizeof(Slot)),
      owners(up(spaces + slot_count(shape) * 2 * shape.slot_bytes, cache_line)),
      blocks(up(owners + block_count(shape) * sizeof(std::uint64_t), block_size)),
      end(blocks + block_count(shape) * block_size) {}

std::optional<std::size_t> Blocks::take(std::size_t size, std::uint64_t task) noexcept {
  const std::size_t wanted = std::max<std::size_t>(1, up(size, block_size) / block_size);
  std::size_t length = 0;
  for (std::size_t i = 0; i < owners_.size(); ++i) {
    length = owners_[i].load(std::memory_order_acquire) == 0 ? length + 1 : 0;
    if (length < wanted)
      continue;
    const std::size_t begin = i + 1 - wanted;
    for (std::size_t k = begin; k <= i; ++k)
      owners_[k].store(task, std::memory_order_relaxed);
    owners_[begin].store(task | head, std::memory_order_release);
    return first_ + begin;
  }
  return std::nullopt;
}

std::size_t Blocks::run(std::size_t block) const noexcept {
  if (!holds(block))
    return 0;
  const std::uint64_t owner = owners_[block - first_].load(std::memory_order_acquire);
  if ((owner & head) == 0)
    return 0;
  std::size_t length = 1;
  while (block - first_ + length < owners_.size() &&
         owners_[block - first_ + length].load(std::memory_order_relaxed) == (owner & ~head))
    ++length;
  return length;
}

void Blocks::give_back(std::size_t block) noexcept {
  for (std::size_t left = run(block), i = block - first_ + left; left > 0; --left)
    owners_[--i].store(0, std::memory_order_release);
}

void Blocks::sweep(const std::vector<bool>& held) noexcept {
  for (std::size_t i = 0; i < owners_.size();) {
    const std::size_t length = run(first_ + i);
    if (length > 0 && held[first_ + i]) {
      i += length;
      continue;
    }
    owners_[i++].store(0, std::memory_order_release);
  }
}

std::optional<std::size_t> Blocks::find(std::uint64_t task, std::size_t from) const noexcept {
  for (std::size_t i = from > first_ ? from - first_ : 0; i < owners_.size(); ++i)
    if (owners_[i].load(std::memory_order_acquire) == (task | head))
      return first_ + i;
  return std::nullopt;
}

Memory Memory::make(const Shape& shape) {
  const Parts parts(shape);
  Memory memory(SealedMemory::make(parts.end, "schedlab-pool"), shape);
  std::byte* const base = memory.memory_.data();
  auto* header = place<Header>(base, 1);
  header->shape = shape;
  place<Lane>(base + parts.lanes, shape.lanes);
  place<Slot>(base + parts.slots, slot_count(shape));
  place<std::atomic<std::uint64_t>>(base + parts.owners, block_count(shape));
  header->magic = magic;
  return memory;
}

Memory Memory::attach(Fd fd) {
  auto memory = SealedMemory::attach(std::move(fd));
  const auto* header = memory.as<Header>();
  if (memory.size() < sizeof(Header) || header->magic != magic ||
      memory.size() < Parts(header->shape).end)
    throw Unsupported("the memory that was handed over is not that of a process pool");
  const Shape shape = header->shape;
  return {std::move(memory), shape};
}

Lane& Memory::lane(std::uint32_t number) const noexcept {
  return reinterpret_cast<Lane*>(memory_.data() + parts_.lanes)[number];
}

Slot& Memory::slot(std::uint32_t lane, std::uint64_t position) const noexcept {
  auto* slots = reinterpret_cast<Slot*>(memory_.data() + parts_.slots);
  return slots[std::uint64_t{lane} * shape_.depth + position % shape_.depth];
}

std::span<std::byte> Memory::argument_space(const Slot& slot) const noexcept {
  const auto number = static_cast<std::size_t>(
      &slot - reinterpret_cast<const Slot*>(memory_.data() + parts_.slots));
  return {memory_.data() + parts_.spaces + number * 2 * shape_.slot_bytes, shape_.slot_bytes};
}

std::span<std::byte> Memory::result_space(const Slot& slot) const noexcept {
  const auto arguments = argument_space(slot);
  return {arguments.data() + arguments.size(), arguments.size()};
}

Blocks Memory::blocks(std::uint32_t lane) const noexcept {
  auto* owners = reinterpret_cast<std::atomic<std::uint64_t>*>(memory_.data() + parts_.owners);
  const std::size_t first = std::size_t{lane} * shape_.blocks;
  const std::size_t count = lane == shape_.lanes ? first : shape_.blocks;
  return {{owners + first, count}, first};
}

std::span<std::byte> Memory::at(std::uint64_t offset, std::uint64_t size) const noexcept {
  if (offset > memory_.size() || size > memory_.size() - offset)
    return {};
  return memory_.bytes().subspan(offset, size);
}

std::byte* Memory::block(std::size_t number) const noexcept {
  return memory_.data() + parts_.blocks + number * block_size;
}

std::optional<std::size_t> Memory::block_at(std::uint64_t offset) const noexcept {
  if (offset < parts_.blocks || offset >= parts_.end || (offset - parts_.blocks) % block_size != 0)
    return std::nullopt;
  return (offset - parts_.blocks) / block_size;
}

std::uint64_t checksum(std::span<const std::byte> bytes) noexcept {
  constexpr std::uint64_t odd = 0x9e37'79b9'7f4a'7c15;
  std::uint64_t sum = bytes.size() * odd;
  while (!bytes.empty()) {
    std::uint64_t word = 0;
    const std::size_t size = std::min(bytes.size(), sizeof word);
    std::memcpy(&word, bytes.data(), size);
    sum = (sum ^ word) * odd;
    sum ^= sum >> 32;
    bytes = bytes.subspan(size);
  }
  return sum;
}

}  // namespace schedlab::procs::pool
