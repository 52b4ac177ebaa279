// The switches of Boost.Context. Built where it is installed; stack_switch_no_boost.cc elsewhere.

#include "lab/apparatus/stack_switch.hh"
#include "lab/base/mapping.hh"

#include <boost/context/detail/fcontext.hpp>
#include <boost/context/fiber.hpp>

#include <utility>

namespace schedlab::apparatus {

namespace {

namespace context = boost::context;

constexpr std::size_t stack_size = std::size_t{64} << 10;

class FContext final : public StackSwitch {
public:
  FContext()
      : stack_(Mapping::private_memory(stack_size)),
        there_(context::detail::make_fcontext(stack_.data() + stack_.size(), stack_.size(),
                                              &answer)) {}

  void round_trips(std::uint64_t count) override {
    auto there = there_;
    for (std::uint64_t i = 0; i < count; ++i)
      there = context::detail::jump_fcontext(there, this).fctx;
    there_ = there;
  }
  [[nodiscard]] std::uint64_t answered() const noexcept override { return answered_; }

private:
  static void answer(context::detail::transfer_t from) {
    for (;;) {
      ++static_cast<FContext*>(from.data)->answered_;
      from = context::detail::jump_fcontext(from.fctx, nullptr);
    }
  }

  Mapping stack_;
  context::detail::fcontext_t there_;
  std::uint64_t answered_ = 0;
};

class Fiber final : public StackSwitch {
public:
  Fiber()
      : there_([this](context::fiber&& from) {
          while (!over_) {
            ++answered_;
            from = std::move(from).resume();
          }
          return std::move(from);
        }) {}
  // Lets the fiber return, so that nothing has to be thrown through it.
  ~Fiber() override {
    over_ = true;
    there_ = std::move(there_).resume();
  }

  void round_trips(std::uint64_t count) override {
    for (std::uint64_t i = 0; i < count; ++i)
      there_ = std::move(there_).resume();
  }
  [[nodiscard]] std::uint64_t answered() const noexcept override { return answered_; }

private:
  bool over_ = false;
  std::uint64_t answered_ = 0;
  context::fiber there_;
};

}  // namespace

std::unique_ptr<StackSwitch> detail::make_boost_switch(std::string_view how) {
  if (how == "fcontext")
    return std::make_unique<FContext>();
  if (how == "fiber")
    return std::make_unique<Fiber>();
  return nullptr;
}

std::string detail::boost_refusal() {
  return {};
}

}  // namespace schedlab::apparatus
