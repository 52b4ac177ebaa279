#pragma once
// All operations that a driver has under way, so that each can be told when the driver fails.

#include "iouring/driver.hh"

#include <cstdint>
#include <vector>

namespace schedlab::iouring {

// A place of a freed entry holds the number of the next free one. Entering and leaving touch the
// place used last, whatever the number of operations.
class UnderWay {
public:
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  void enter(Operation& operation) {
    if (first_free_ == places_.size())
      places_.push_back(free_place(places_.size() + 1));
    operation.place_ = static_cast<std::uint32_t>(first_free_);
    first_free_ = places_[operation.place_] >> 1;
    places_[operation.place_] = reinterpret_cast<std::uintptr_t>(&operation);
    ++size_;
  }
  void leave(const Operation& operation) noexcept {
    places_[operation.place_] = free_place(first_free_);
    first_free_ = operation.place_;
    --size_;
  }
  // Each of them, which may leave meanwhile, and so may others.
  template <typename F>
  void for_each(F end) noexcept {
    for (std::size_t i = 0; i < places_.size(); ++i)
      if ((places_[i] & 1) == 0)
        end(*reinterpret_cast<Operation*>(places_[i]));
  }

private:
  static std::uintptr_t free_place(std::size_t next) noexcept { return next << 1 | 1; }

  std::vector<std::uintptr_t> places_;
  std::size_t first_free_ = 0;
  std::size_t size_ = 0;
};

}  // namespace schedlab::iouring
