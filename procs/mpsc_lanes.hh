#pragma once
// A bounded queue of many producers and one consumer that survives the death of any of them: each
// producer has a ring of its own, its lane, and the consumer looks at the lanes in turn and sleeps
// on one bell for all. Nothing is shared between producers but that bell, which holds nobody up.
//
// Items of one producer keep their order; between producers there is none. A lane whose producer
// has died is read to its end, and a new producer may begin on it; not on one that was closed.
//
// Thread rule: one producer object for each lane and one consumer object in use, each by one thread
// at a time.

#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "procs/spsc_ring.hh"

#include <cassert>
#include <new>
#include <vector>

namespace schedlab::procs {

template <typename T>
class MpscConsumer {
public:
  MpscConsumer(Bell& items, std::vector<SpscConsumer<T>> lanes)
      : items_(&items), lanes_(std::move(lanes)), peers_(lanes_.size()),
        ends_(lanes_.size(), Outcome::done) {}

  // Tells whose lane it is: a thread's, until told otherwise. The lane counts as open again.
  void watch(std::size_t lane, Peer peer) {
    peers_[lane] = std::move(peer);
    ends_[lane] = Outcome::done;
  }

  // The next item of any lane; false if all are empty.
  bool try_pop(T& item, std::size_t* from = nullptr) noexcept {
    for (std::size_t looked = 0; looked < lanes_.size(); ++looked) {
      const std::size_t lane = next_;
      next_ = next_ + 1 < lanes_.size() ? next_ + 1 : 0;
      if (!lanes_[lane].try_pop(item))
        continue;
      if (from)
        *from = lane;
      return true;
    }
    return false;
  }

  // Waits for an item. When every lane has ended and is empty: closed, or gone if one of the
  // producers died without closing. The wait's peer is not looked at: watch() names the peers.
  Outcome pop(T& item, const Wait& wait = {}, std::size_t* from = nullptr) noexcept {
    if (try_pop(item, from))
      return Outcome::done;
    for (;;) {
      bool popped = false;
      const Wait slice{wait.patience, nullptr,
                       std::min(wait.deadline_ns, clock::now_ns() + check_ns)};
      await(items_, slice, [&] {
        popped = try_pop(item, from);
        return popped || all_closed();
      });
      if (popped)
        return Outcome::done;
      if (const Outcome end = ended(); end != Outcome::done)
        return try_pop(item, from) ? Outcome::done : end;
      if (clock::now_ns() >= wait.deadline_ns)
        return Outcome::timed_out;
    }
  }

  // `gone` where a lane's producer has died: each is told once it was asked about.
  [[nodiscard]] Outcome end_of(std::size_t lane) noexcept {
    if (ends_[lane] == Outcome::done) {
      if (lanes_[lane].producer_closed())
        ends_[lane] = Outcome::closed;
      else if (peers_[lane].gone())
        ends_[lane] = Outcome::gone;
    }
    return ends_[lane];
  }

private:
  static constexpr std::int64_t check_ns = 100'000'000;

  [[nodiscard]] bool all_closed() const noexcept {
    return std::ranges::all_of(lanes_, [](const auto& lane) { return lane.producer_closed(); });
  }
  // How the queue ended; `done`: it has not.
  Outcome ended() noexcept {
    Outcome end = Outcome::closed;
    for (std::size_t lane = 0; lane < lanes_.size(); ++lane)
      if (const Outcome one = end_of(lane); one != Outcome::closed) {
        if (one == Outcome::done)
          return one;
        end = one;
      }
    return end;
  }

  Bell* items_;
  std::vector<SpscConsumer<T>> lanes_;
  std::vector<Peer> peers_;
  std::vector<Outcome> ends_;  // as found out so far
  std::size_t next_ = 0;
};

// Lanes in memory that outlives this object and all sides.
template <typename T>
class MpscLanes {
public:
  static std::size_t bytes(std::size_t lanes, std::size_t capacity) noexcept {
    return sizeof(Head) + lanes * stride(capacity);
  }
  // `capacity` items, a power of two, for each lane. Throws BadInput.
  static MpscLanes make(std::span<std::byte> memory, std::size_t lanes, std::size_t capacity,
                        Bell::Scope scope = Bell::Scope::processes) {
    if (lanes == 0 || memory.size() < bytes(lanes, capacity))
      throw BadInput(std::to_string(lanes) + " lanes of " + std::to_string(capacity) +
                     " items do not fit " + std::to_string(memory.size()) + " bytes");
    MpscLanes made(new (memory.data())
                       Head{.items = Bell(scope), .lanes = lanes, .capacity = capacity});
    for (std::size_t lane = 0; lane < lanes; ++lane)
      SpscRing<T>::make({made.memory_of(lane), stride(capacity)}, capacity,
                        {.sleeps = true, .scope = scope});
    return made;
  }
  // Lanes that somebody else made there. Throws Unsupported if the first is no lane of T.
  static MpscLanes attach(std::span<std::byte> memory) {
    SpscRing<T>::attach(memory.subspan(sizeof(Head)));
    return MpscLanes(reinterpret_cast<Head*>(memory.data()));
  }

  [[nodiscard]] std::size_t lanes() const noexcept { return head_->lanes; }
  [[nodiscard]] SpscProducer<T> producer(std::size_t lane) const {
    assert(lane < lanes());
    return SpscProducer<T>(ring(lane).control(), &head_->items);
  }
  [[nodiscard]] MpscConsumer<T> consumer() const {
    std::vector<SpscConsumer<T>> all;
    for (std::size_t lane = 0; lane < lanes(); ++lane)
      all.push_back(ring(lane).consumer());
    return MpscConsumer<T>(head_->items, std::move(all));
  }

private:
  struct alignas(line_pair) Head {
    Bell items;  // any producer rings, the consumer sleeps
    std::size_t lanes;
    std::size_t capacity;
  };
  explicit MpscLanes(Head* head) noexcept : head_(head) {}

  // From one lane to the next, in whole pairs of lines.
  static std::size_t stride(std::size_t capacity) noexcept {
    return (SpscRing<T>::bytes(capacity) + line_pair - 1) / line_pair * line_pair;
  }
  [[nodiscard]] std::byte* memory_of(std::size_t lane) const noexcept {
    return reinterpret_cast<std::byte*>(head_ + 1) + lane * stride(head_->capacity);
  }
  [[nodiscard]] SpscRing<T> ring(std::size_t lane) const {
    return SpscRing<T>::attach({memory_of(lane), stride(head_->capacity)});
  }

  Head* head_;
};

}  // namespace schedlab::procs
