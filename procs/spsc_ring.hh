#pragma once
// A bounded queue of one producer and one consumer, threads or processes, in any memory that both
// see. Each side keeps the other's index as it last saw it, and asks again only when the ring looks
// full (or empty): a run of exchanges costs no traffic on the other's words. Indexes only grow.
//
// Killed processes. An item counts from the store of the index on, which is one instruction: what a
// killed producer had not finished does not exist, and what a killed consumer had not finished
// taking is still there. A new process may take a dead one's side at any time: producer() and
// consumer() begin where the last one stopped. While one waits for a process, it needs a Wait with
// its Peer, or with a deadline, to learn that the process has died.
//
// Thread rule: one producer object and one consumer object in use, each by one thread at a time.

#include "procs/ring_control.hh"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <span>
#include <type_traits>

namespace schedlab::procs {

// Not on the consumer's cache lines, wherever the two objects lie.
template <typename T>
class SpscProducer {
public:
  SpscProducer() = default;
  explicit SpscProducer(RingControl& control) noexcept
      : SpscProducer(control, control.items_bell()) {}
  // One that rings another bell than the ring's own, where a consumer sleeps for several rings.
  SpscProducer(RingControl& control, Bell* items) noexcept
      : control_(&control), slots_(reinterpret_cast<T*>(control.slots())),
        mask_(control.capacity() - 1), items_(items),
        tail_(control.tail.load(std::memory_order_relaxed)),
        head_(control.head.load(std::memory_order_acquire)) {}

  // False if the ring is full.
  bool try_push(const T& item) noexcept {
    if (tail_ - head_ > mask_ && !look(1))
      return false;
    slots_[tail_ & mask_] = item;
    publish(1);
    return true;
  }

  // As many as there is room for, in order; how many that were.
  std::size_t push_some(std::span<const T> items) noexcept {
    std::size_t done = 0;
    while (done < items.size()) {
      const std::span<T> room = claim(items.size() - done);
      if (room.empty())
        break;
      std::memcpy(room.data(), items.data() + done, room.size_bytes());
      tail_ += room.size();
      done += room.size();
    }
    tail_ -= done;
    if (done > 0)
      publish(done);
    return done;
  }

  // Waits for room. `closed` if the consumer has closed, which is noticed when the ring is full.
  Outcome push(const T& item, const Wait& wait = {}) noexcept {
    while (!try_push(item))
      if (const Outcome outcome = wait_for_room(wait); outcome != Outcome::done)
        return outcome;
    return Outcome::done;
  }

  // To write items in their place: free slots that lie side by side, at most `most` of them, and
  // fewer at the end of the memory. Nothing is seen of them before publish().
  [[nodiscard]] std::span<T> claim(std::size_t most) noexcept {
    most = static_cast<std::size_t>(std::min<std::uint64_t>(most, mask_ + 1));
    if (tail_ - head_ + most > mask_ + 1)
      look(most);
    const std::uint64_t free = mask_ + 1 - (tail_ - head_);
    const std::uint64_t before_end = mask_ + 1 - (tail_ & mask_);
    return {slots_ + (tail_ & mask_),
            static_cast<std::size_t>(std::min({std::uint64_t{most}, free, before_end}))};
  }
  void publish(std::size_t count) noexcept {
    tail_ += count;
    // Pairs with the acquire load in look() of the consumer.
    control_->tail.store(tail_, std::memory_order_release);
    if (items_)
      items_->ring();
  }

  Outcome wait_for_room(const Wait& wait) noexcept {
    bool closed = false;
    const Outcome outcome = await(control_->room_bell(), wait, [&] {
      closed = control_->closed(RingControl::by_consumer);
      return closed || look(1);
    });
    return closed ? Outcome::closed : outcome;
  }

  // The consumer gets what is there, and then `closed`.
  void close() noexcept {
    control_->close(RingControl::by_producer);
    if (items_)
      items_->ring();
  }
  [[nodiscard]] bool consumer_closed() const noexcept {
    return control_->closed(RingControl::by_consumer);
  }

private:
  // Asks the consumer's index anew; is there room for so many?
  bool look(std::size_t count) noexcept {
    head_ = control_->head.load(std::memory_order_acquire);
    return tail_ - head_ + count <= mask_ + 1;
  }

  alignas(line_pair) RingControl* control_ = nullptr;
  T* slots_ = nullptr;
  std::uint64_t mask_ = 0;
  Bell* items_ = nullptr;   // null: nobody sleeps
  std::uint64_t tail_ = 0;  // ours
  std::uint64_t head_ = 0;  // the consumer's, as last seen
};

template <typename T>
class SpscConsumer {
public:
  SpscConsumer() = default;
  explicit SpscConsumer(RingControl& control) noexcept
      : control_(&control), slots_(reinterpret_cast<const T*>(control.slots())),
        mask_(control.capacity() - 1), room_(control.room_bell()),
        head_(control.head.load(std::memory_order_relaxed)),
        tail_(control.tail.load(std::memory_order_acquire)) {}

  // False if the ring is empty.
  bool try_pop(T& item) noexcept {
    if (head_ == tail_ && !look())
      return false;
    item = slots_[head_ & mask_];
    release(1);
    return true;
  }

  // As many as are there, at most items.size(), in order; how many that were.
  std::size_t pop_some(std::span<T> items) noexcept {
    if (tail_ - head_ < items.size())
      look();
    const auto count =
        static_cast<std::size_t>(std::min<std::uint64_t>(items.size(), tail_ - head_));
    const auto first = std::min<std::size_t>(count, mask_ + 1 - (head_ & mask_));
    if (count == 0)
      return 0;
    std::memcpy(items.data(), slots_ + (head_ & mask_), first * sizeof(T));
    if (count > first)
      std::memcpy(items.data() + first, slots_, (count - first) * sizeof(T));
    release(count);
    return count;
  }

  // Waits for an item. `closed` if the producer has closed and the ring is empty.
  Outcome pop(T& item, const Wait& wait = {}) noexcept {
    while (!try_pop(item))
      if (const Outcome outcome = wait_for_items(wait); outcome != Outcome::done)
        return outcome;
    return Outcome::done;
  }

  // To read items in their place: those that are there and lie side by side. They stay until
  // release().
  [[nodiscard]] std::span<const T> peek() noexcept {
    if (head_ == tail_)
      look();
    const std::uint64_t before_end = mask_ + 1 - (head_ & mask_);
    return {slots_ + (head_ & mask_),
            static_cast<std::size_t>(std::min(tail_ - head_, before_end))};
  }
  void release(std::size_t count) noexcept {
    head_ += count;
    // Pairs with the acquire load in look() of the producer.
    control_->head.store(head_, std::memory_order_release);
    if (room_)
      room_->ring();
  }

  Outcome wait_for_items(const Wait& wait) noexcept {
    bool closed = false;
    const Outcome outcome = await(control_->items_bell(), wait, [&] {
      // Before the look: what came before the close is seen.
      closed = control_->closed(RingControl::by_producer);
      return look() || closed;
    });
    return closed && head_ == tail_ ? Outcome::closed : outcome;
  }

  // The producer is told `closed` when it next finds the ring full.
  void close() noexcept { control_->close(RingControl::by_consumer); }
  [[nodiscard]] bool producer_closed() const noexcept {
    return control_->closed(RingControl::by_producer);
  }
  [[nodiscard]] bool empty() noexcept { return head_ == tail_ && !look(); }

private:
  bool look() noexcept {
    tail_ = control_->tail.load(std::memory_order_acquire);
    return head_ != tail_;
  }

  alignas(line_pair) RingControl* control_ = nullptr;
  const T* slots_ = nullptr;
  std::uint64_t mask_ = 0;
  Bell* room_ = nullptr;    // null: nobody sleeps
  std::uint64_t head_ = 0;  // ours
  std::uint64_t tail_ = 0;  // the producer's, as last seen
};

// A ring of T in memory that outlives this object and the two sides.
template <typename T>
class SpscRing {
  static_assert(std::is_trivially_copyable_v<T>,
                "an item of a ring is copied as bytes, perhaps into another process: it must be "
                "trivially copyable and hold no pointers");
  static_assert(alignof(T) <= line_pair, "the slots of a ring begin at a pair of cache lines");

public:
  // Bytes of memory for a ring of so many items.
  static std::size_t bytes(std::size_t capacity) noexcept {
    return RingControl::bytes(sizeof(T), capacity);
  }
  // As RingControl's, which see for what they throw.
  static SpscRing make(std::span<std::byte> memory, std::size_t capacity,
                       const RingOptions& options = {}) {
    return SpscRing(RingControl::make(memory, sizeof(T), capacity, options));
  }
  static SpscRing attach(std::span<std::byte> memory) {
    return SpscRing(RingControl::attach(memory, sizeof(T)));
  }

  [[nodiscard]] SpscProducer<T> producer() const noexcept { return SpscProducer<T>(*control_); }
  [[nodiscard]] SpscConsumer<T> consumer() const noexcept { return SpscConsumer<T>(*control_); }
  [[nodiscard]] RingControl& control() const noexcept { return *control_; }
  // Items in it; of a moment that may be past.
  [[nodiscard]] std::size_t size() const noexcept {
    const std::uint64_t head = control_->head.load(std::memory_order_acquire);
    return static_cast<std::size_t>(control_->tail.load(std::memory_order_acquire) - head);
  }

private:
  explicit SpscRing(RingControl& control) noexcept : control_(&control) {}
  RingControl* control_;
};

}  // namespace schedlab::procs
