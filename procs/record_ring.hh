#pragma once
// A bounded queue of byte strings of any length, of one producer and one consumer: a ring of bytes
// in which each record lies in one piece behind its length, so that both sides may work in place.
// A record that does not fit before the end of the memory begins at its beginning.
//
// Killed processes, waiting and the thread rule are those of spsc_ring.hh: a record counts from
// publish() on, whole, and stays until release().

#include "procs/ring_control.hh"

#include <cassert>
#include <cstring>
#include <optional>
#include <span>

namespace schedlab::procs {

namespace detail {

using RecordLength = std::uint64_t;
inline constexpr RecordLength to_the_beginning = ~RecordLength{0};

// Of a record with its length, in whole lengths.
constexpr std::uint64_t record_bytes(std::uint64_t size) noexcept {
  return sizeof(RecordLength) +
         (size + sizeof(RecordLength) - 1) / sizeof(RecordLength) * sizeof(RecordLength);
}

}  // namespace detail

class RecordProducer {
public:
  RecordProducer() = default;
  explicit RecordProducer(RingControl& control) noexcept
      : control_(&control), mask_(control.capacity() - 1), items_(control.items_bell()),
        tail_(control.tail.load(std::memory_order_relaxed)),
        head_(control.head.load(std::memory_order_acquire)) {}

  // The longest record that always fits in the end, in bytes.
  [[nodiscard]] std::size_t longest() const noexcept {
    return (mask_ + 1) / 2 - sizeof(detail::RecordLength);
  }

  // Room for a record of `size` bytes, aligned to 8, to be written and then published; null if
  // there is none now. `size` is at most longest(). What is not published does not exist.
  [[nodiscard]] std::byte* try_claim(std::size_t size) noexcept {
    assert(size <= longest());
    const std::uint64_t need = detail::record_bytes(size);
    const std::uint64_t before_end = mask_ + 1 - (tail_ & mask_);
    const std::uint64_t skipped = need > before_end ? before_end : 0;
    if (tail_ - head_ + skipped + need > mask_ + 1 && !look(skipped + need))
      return nullptr;
    if (skipped > 0)
      put_length(tail_, detail::to_the_beginning);
    put_length(tail_ + skipped, size);
    claimed_ = skipped + need;
    return control_->slots() + ((tail_ + skipped) & mask_) + sizeof(detail::RecordLength);
  }
  void publish() noexcept {
    tail_ += claimed_;
    claimed_ = 0;
    // Pairs with the acquire load in look() of the consumer.
    control_->tail.store(tail_, std::memory_order_release);
    if (items_)
      items_->ring();
  }

  // False if there is no room now.
  bool try_push(std::span<const std::byte> record) noexcept {
    std::byte* const room = try_claim(record.size());
    if (!room)
      return false;
    fill(room, record);
    return true;
  }

  // As try_claim, but waits; null with the reason in `outcome`: too_long, closed, gone, timed_out.
  [[nodiscard]] std::byte* claim(std::size_t size, const Wait& wait, Outcome& outcome) noexcept {
    outcome = size > longest() ? Outcome::too_long : Outcome::done;
    std::byte* room = nullptr;
    while (outcome == Outcome::done && !(room = try_claim(size)))
      outcome = wait_for_room(size, wait);
    return room;
  }
  Outcome push(std::span<const std::byte> record, const Wait& wait = {}) noexcept {
    Outcome outcome;
    if (std::byte* const room = claim(record.size(), wait, outcome))
      fill(room, record);
    return outcome;
  }

  void close() noexcept { control_->close(RingControl::by_producer); }
  [[nodiscard]] bool consumer_closed() const noexcept {
    return control_->closed(RingControl::by_consumer);
  }

private:
  void fill(std::byte* room, std::span<const std::byte> record) noexcept {
    if (!record.empty())  // which may have no address
      std::memcpy(room, record.data(), record.size());
    publish();
  }
  void put_length(std::uint64_t at, detail::RecordLength length) noexcept {
    std::memcpy(control_->slots() + (at & mask_), &length, sizeof length);
  }
  bool look(std::uint64_t bytes) noexcept {
    head_ = control_->head.load(std::memory_order_acquire);
    return tail_ - head_ + bytes <= mask_ + 1;
  }
  Outcome wait_for_room(std::size_t size, const Wait& wait) noexcept {
    bool closed = false;
    const Outcome outcome = await(control_->room_bell(), wait, [&] {
      closed = consumer_closed();
      return closed || try_claim(size) != nullptr;
    });
    return closed ? Outcome::closed : outcome;
  }

  alignas(line_pair) RingControl* control_ = nullptr;
  std::uint64_t mask_ = 0;
  Bell* items_ = nullptr;      // null: nobody sleeps
  std::uint64_t tail_ = 0;     // ours
  std::uint64_t head_ = 0;     // the consumer's, as last seen
  std::uint64_t claimed_ = 0;  // bytes behind the tail, being written
};

class RecordConsumer {
public:
  RecordConsumer() = default;
  explicit RecordConsumer(RingControl& control) noexcept
      : control_(&control), mask_(control.capacity() - 1), room_(control.room_bell()),
        head_(control.head.load(std::memory_order_relaxed)),
        tail_(control.tail.load(std::memory_order_acquire)) {}

  // The next record in its place, which stays until release(); nothing if there is none now.
  [[nodiscard]] std::optional<std::span<const std::byte>> try_peek() noexcept {
    if (head_ == tail_ && !look())
      return std::nullopt;
    detail::RecordLength length = length_at(head_);
    if (length == detail::to_the_beginning) {
      head_ += mask_ + 1 - (head_ & mask_);
      length = length_at(head_);
    }
    return std::span<const std::byte>(
        control_->slots() + (head_ & mask_) + sizeof(detail::RecordLength), length);
  }
  // After a peek that gave a record.
  void release() noexcept {
    head_ += detail::record_bytes(length_at(head_));
    // Pairs with the acquire load in look() of the producer.
    control_->head.store(head_, std::memory_order_release);
    if (room_)
      room_->ring();
  }

  // As try_peek, but waits; nothing with the reason in `outcome`: closed, gone, timed_out.
  [[nodiscard]] std::optional<std::span<const std::byte>> peek(const Wait& wait,
                                                               Outcome& outcome) noexcept {
    outcome = Outcome::done;
    std::optional<std::span<const std::byte>> record;
    while (outcome == Outcome::done && !(record = try_peek()))
      outcome = wait_for_records(wait);
    return record;
  }

  void close() noexcept { control_->close(RingControl::by_consumer); }

private:
  [[nodiscard]] detail::RecordLength length_at(std::uint64_t at) const noexcept {
    detail::RecordLength length;
    std::memcpy(&length, control_->slots() + (at & mask_), sizeof length);
    return length;
  }
  bool look() noexcept {
    tail_ = control_->tail.load(std::memory_order_acquire);
    return head_ != tail_;
  }
  Outcome wait_for_records(const Wait& wait) noexcept {
    bool closed = false;
    const Outcome outcome = await(control_->items_bell(), wait, [&] {
      closed = control_->closed(RingControl::by_producer);
      return look() || closed;
    });
    return closed && head_ == tail_ ? Outcome::closed : outcome;
  }

  alignas(line_pair) RingControl* control_ = nullptr;
  std::uint64_t mask_ = 0;
  Bell* room_ = nullptr;    // null: nobody sleeps
  std::uint64_t head_ = 0;  // ours
  std::uint64_t tail_ = 0;  // the producer's, as last seen
};

// A ring of records in memory that outlives this object and the two sides. `capacity`, in bytes
// with the lengths, is a power of two of 32 or more; records are at most half as long, less 8.
class RecordRing {
public:
  static std::size_t bytes(std::size_t capacity) noexcept {
    return RingControl::bytes(1, capacity);
  }
  static RecordRing make(std::span<std::byte> memory, std::size_t capacity,
                         const RingOptions& options = {});
  static RecordRing attach(std::span<std::byte> memory);

  [[nodiscard]] RecordProducer producer() const noexcept { return RecordProducer(*control_); }
  [[nodiscard]] RecordConsumer consumer() const noexcept { return RecordConsumer(*control_); }
  [[nodiscard]] RingControl& control() const noexcept { return *control_; }

private:
  explicit RecordRing(RingControl& control) noexcept : control_(&control) {}
  RingControl* control_;
};

}  // namespace schedlab::procs
