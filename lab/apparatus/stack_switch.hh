#pragma once
// Switching between two stacks of one thread, without the scheduler's help.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

// A second stack, and the thread's own. Used and destroyed by the thread that made it.
class StackSwitch {
public:
  StackSwitch() = default;
  StackSwitch(const StackSwitch&) = delete;
  StackSwitch& operator=(const StackSwitch&) = delete;
  virtual ~StackSwitch() = default;

  // To the other stack and back, that many times.
  virtual void round_trips(std::uint64_t count) = 0;
  // How often the other stack was reached.
  [[nodiscard]] virtual std::uint64_t answered() const noexcept = 0;
};

// "swapcontext" (libc: keeps the signal mask too, a system call each way), "fcontext" and "fiber"
// (Boost.Context: the registers that a callee must keep; the latter owns its stack). Throws
// Unsupported where this program was built without Boost.Context.
std::unique_ptr<StackSwitch> make_stack_switch(std::string_view how);

// Why this program has no such switch; empty if it has.
std::string stack_switch_refusal(std::string_view how);

namespace detail {
// Of Boost.Context; null and the reason where it was not there to build with.
std::unique_ptr<StackSwitch> make_boost_switch(std::string_view how);
std::string boost_refusal();
}  // namespace detail

}  // namespace schedlab::apparatus
