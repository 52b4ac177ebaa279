#include "lab/apparatus/stack_switch.hh"

#include "lab/base/error.hh"
#include "lab/base/mapping.hh"

#include <ucontext.h>

#include <stdexcept>

namespace schedlab::apparatus {

namespace {

constexpr std::size_t stack_size = std::size_t{64} << 10;

class SwapContext final : public StackSwitch {
public:
  SwapContext() : stack_(Mapping::private_memory(stack_size)) {
    check(::getcontext(&there_), "getcontext");
    there_.uc_stack.ss_sp = stack_.data();
    there_.uc_stack.ss_size = stack_.size();
    // makecontext hands over ints: a pointer takes two.
    const auto self = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(this));
    ::makecontext(&there_, reinterpret_cast<void (*)()>(&enter), 2,
                  static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
  }

  void round_trips(std::uint64_t count) override {
    for (std::uint64_t i = 0; i < count; ++i)
      ::swapcontext(&here_, &there_);
  }
  [[nodiscard]] std::uint64_t answered() const noexcept override { return answered_; }

private:
  static void enter(unsigned high, unsigned low) {
    const auto self = (static_cast<std::uint64_t>(high) << 32) | low;
    reinterpret_cast<SwapContext*>(static_cast<std::uintptr_t>(self))->answer();
  }
  [[noreturn]] void answer() {
    for (;;) {
      ++answered_;
      ::swapcontext(&there_, &here_);
    }
  }

  Mapping stack_;
  ucontext_t here_{};
  ucontext_t there_{};
  std::uint64_t answered_ = 0;
};

}  // namespace

std::string stack_switch_refusal(std::string_view how) {
  return how == "swapcontext" ? "" : detail::boost_refusal();
}

std::unique_ptr<StackSwitch> make_stack_switch(std::string_view how) {
  if (how == "swapcontext")
    return std::make_unique<SwapContext>();
  if (const std::string why = detail::boost_refusal(); !why.empty())
    throw Unsupported(why);
  auto made = detail::make_boost_switch(how);
  if (!made)
    throw std::logic_error("no such switch: " + std::string(how));
  return made;
}

}  // namespace schedlab::apparatus
