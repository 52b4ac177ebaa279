#include "procs/ring_control.hh"

#include "lab/base/error.hh"
#include "procs/record_ring.hh"

#include <bit>
#include <new>
#include <string>

namespace schedlab::procs {
namespace {

constexpr std::uint32_t ring_magic = 0x52494e31;  // "RIN1"

}  // namespace

RingControl& RingControl::make(std::span<std::byte> memory, std::size_t item_size,
                               std::size_t capacity, const RingOptions& options) {
  if (!std::has_single_bit(capacity))
    throw BadInput("the capacity of a ring is a power of two, not " + std::to_string(capacity));
  if (reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(RingControl) != 0)
    throw BadInput("the memory of a ring begins at a multiple of " +
                   std::to_string(alignof(RingControl)) + " bytes");
  if (memory.size() < sizeof(RingControl) ||
      (memory.size() - sizeof(RingControl)) / item_size < capacity)
    throw BadInput("a ring of " + std::to_string(capacity) + " items of " +
                   std::to_string(item_size) + " bytes does not fit " +
                   std::to_string(memory.size()) + " bytes");
  auto* control =
      new (memory.data()) RingControl(static_cast<std::uint32_t>(item_size), capacity, options);
  // Pairs with the acquire load in attach().
  control->magic_.store(ring_magic, std::memory_order_release);
  return *control;
}

RingControl& RingControl::attach(std::span<std::byte> memory, std::size_t item_size) {
  auto* control = reinterpret_cast<RingControl*>(memory.data());
  if (memory.size() < sizeof(RingControl) ||
      control->magic_.load(std::memory_order_acquire) != ring_magic)
    throw Unsupported("no ring lies in this memory; its maker has not made it, or is of another "
                      "version");
  if (control->item_size_ != item_size)
    throw Unsupported("the ring in this memory has items of " +
                      std::to_string(control->item_size_) + " bytes, not " +
                      std::to_string(item_size));
  if ((memory.size() - sizeof(RingControl)) / item_size < control->capacity_)
    throw Unsupported("the ring in this memory is longer than the memory");
  return *control;
}

void RingControl::close(std::uint32_t by) noexcept {
  closed_.fetch_or(by, std::memory_order_release);
  if (sleeps())
    (by == by_producer ? items : room).ring();
}

RecordRing RecordRing::make(std::span<std::byte> memory, std::size_t capacity,
                            const RingOptions& options) {
  constexpr std::size_t least = 4 * sizeof(detail::RecordLength);
  if (capacity < least)
    throw BadInput("a ring of records has " + std::to_string(least) + " bytes or more, not " +
                   std::to_string(capacity));
  return RecordRing(RingControl::make(memory, 1, capacity, options));
}

RecordRing RecordRing::attach(std::span<std::byte> memory) {
  return RecordRing(RingControl::attach(memory, 1));
}

}  // namespace schedlab::procs
