#pragma once
// The descriptors of children that requests wait for by poll. There are none as a rule, and then
// nothing is searched.

#include "lab/base/fd.hh"

#include <unordered_map>
#include <utility>

namespace schedlab::iouring {

class Operation;

class PidFds {
public:
  // Null for a request that does not wait for a child by poll.
  [[nodiscard]] const Fd* find(const Operation& operation) const noexcept {
    if (of_.empty())
      return nullptr;
    const auto found = of_.find(&operation);
    return found == of_.end() ? nullptr : &found->second;
  }
  void add(const Operation& operation, Fd pidfd) { of_.emplace(&operation, std::move(pidfd)); }
  void erase(const Operation& operation) noexcept {
    if (!of_.empty())
      of_.erase(&operation);
  }

private:
  std::unordered_map<const Operation*, Fd> of_;
};

}  // namespace schedlab::iouring
