#pragma once
// Operations in a line, first in, first out. One is in one line at a time.

#include "iouring/driver.hh"

namespace schedlab::iouring {

class OperationLine {
public:
  [[nodiscard]] bool empty() const noexcept { return !first_; }
  [[nodiscard]] Operation* first() const noexcept { return first_; }
  void append(Operation& operation) noexcept {
    operation.next_ = nullptr;
    (first_ ? last_->next_ : first_) = &operation;
    last_ = &operation;
  }
  void remove_first() noexcept { first_ = first_->next_; }
  // Nothing happens if it is not there.
  void remove(Operation& operation) noexcept {
    Operation* before = nullptr;
    for (Operation* at = first_; at; before = at, at = at->next_)
      if (at == &operation) {
        (before ? before->next_ : first_) = at->next_;
        if (last_ == at)
          last_ = before;
        return;
      }
  }

private:
  Operation* first_ = nullptr;
  Operation* last_ = nullptr;
};

}  // namespace schedlab::iouring
