#pragma once
// A descriptor and what is under way on it. The kernel gives a closed number to the next file that
// is opened, and a request that still names it would meet a stranger: so a descriptor is closed
// only when nothing is under way on it any more. Loop's thread only.

#include "iouring/suspension.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"

#include <concepts>
#include <coroutine>
#include <string>

namespace schedlab::iouring {

namespace detail {

// Waits for one request that is not cut short: cancelling meets the next wait.
class [[nodiscard]] Undisturbed final : public Operation {
public:
  explicit Undisturbed(const Request& request) noexcept : request_(request) {}
  bool await_ready() const noexcept { return false; }
  template <std::derived_from<PromiseBase> Promise>
  void await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
    coroutine_ = coroutine;
    loop_ = coroutine.promise().state->loop;
    loop_->driver().submit(request_, *this);
  }
  // What the call would return, or -errno.
  int await_resume() const noexcept { return result_; }

private:
  void complete(int result, std::uint32_t) noexcept override {
    result_ = result;
    loop_->ready(coroutine_);
  }

  Request request_;
  Loop* loop_ = nullptr;
  std::coroutine_handle<> coroutine_;
  int result_ = 0;
};

// What a Descriptor shares with those who use it; lives as long as any of them.
class OpenFd final : private Operation {
public:
  OpenFd(Fd fd, std::string name) noexcept : fd_(std::move(fd)), name_(std::move(name)) {}

  static void* operator new(std::size_t size) { return allocate_frame(size); }
  static void operator delete(void* memory, std::size_t size) noexcept { free_frame(memory, size); }

  // -1 once it is being closed.
  [[nodiscard]] int get() const noexcept { return closing_ ? -1 : fd_.get(); }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

  void hold() noexcept { ++holders_; }
  void let_go() noexcept;
  void begin_use() noexcept { ++uses_; }
  void end_use() noexcept;
  // One writer at a time, so that what two send is not mixed up. Throws std::system_error (EBUSY).
  void begin_sending(std::string_view call);
  void end_sending() noexcept { sending_ = false; }

  // Its owner goes: what is under way is asked to end, and the last of it closes.
  void abandon() noexcept;
  // Its owner closes it, and ends what is under way before.
  Task<> close();
  Fd release() noexcept;

private:
  // Until nothing is under way. Not cut short.
  class Drained {
  public:
    explicit Drained(OpenFd& shared) noexcept : shared_(shared) {}
    bool await_ready() const noexcept { return shared_.uses_ == 0; }
    template <std::derived_from<PromiseBase> Promise>
    void await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      shared_.loop_ = coroutine.promise().state->loop;
      shared_.closer_ = coroutine;
    }
    void await_resume() const noexcept {}

  private:
    OpenFd& shared_;
  };
  void complete(int result, std::uint32_t flags) noexcept override;

  Fd fd_;
  std::string name_;
  unsigned holders_ = 1;
  unsigned uses_ = 0;
  bool sending_ = false;
  bool closing_ = false;
  bool abandoned_ = false;
  Loop* loop_ = nullptr;            // of whoever closes it
  std::coroutine_handle<> closer_;  // waits until nothing is under way
  Request ending_;                  // of all that is under way, when it was abandoned
};

}  // namespace detail

// Owns a descriptor. Destroying it closes at once if nothing is under way on it; otherwise that is
// asked to end, and it is closed with the last of it.
class Descriptor {
public:
  Descriptor() noexcept = default;
  // The name stands in errors.
  explicit Descriptor(Fd fd, std::string name = {})
      : shared_(new detail::OpenFd(std::move(fd), std::move(name))) {}
  Descriptor(Descriptor&& other) noexcept : shared_(std::exchange(other.shared_, nullptr)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    Descriptor taken(std::move(other));
    std::swap(shared_, taken.shared_);
    return *this;
  }
  ~Descriptor() {
    if (shared_)
      shared_->abandon();
  }

  // -1 when closed.
  [[nodiscard]] int get() const noexcept { return shared_ ? shared_->get() : -1; }
  [[nodiscard]] explicit operator bool() const noexcept { return get() >= 0; }
  [[nodiscard]] std::string name() const { return shared_ ? shared_->name() : std::string(); }

  // Ends what is under way on it (that throws ECANCELED in its tasks), waits for the end of it, and
  // closes. From the call on, new requests throw ECANCELED or EBADF. Is not cut short: a
  // cancellation meets the next wait. Nothing happens if it is closed. Throws std::system_error of
  // close, after which the descriptor is closed too.
  Task<> close();
  // Gives it away. Nothing may be under way.
  Fd release() noexcept;

  // For those who use it. Throws std::system_error (EBADF).
  [[nodiscard]] detail::OpenFd& shared(std::string_view call) const;

private:
  detail::OpenFd* shared_ = nullptr;
};

namespace detail {

// Keeps what a descriptor shares, also when the descriptor is moved or closed.
class Holder {
public:
  // Throws std::system_error (EBADF).
  Holder(const Descriptor& descriptor, std::string_view call) : shared_(&descriptor.shared(call)) {
    shared_->hold();
  }
  Holder(Holder&& other) noexcept : shared_(std::exchange(other.shared_, nullptr)) {}
  Holder& operator=(Holder&& other) noexcept {
    std::swap(shared_, other.shared_);
    return *this;
  }
  ~Holder() {
    if (shared_)
      shared_->let_go();
  }
  OpenFd& operator*() const noexcept { return *shared_; }
  OpenFd* operator->() const noexcept { return shared_; }

private:
  OpenFd* shared_;
};

// As long as it lives, something is under way.
class InUse {
public:
  // Throws std::system_error (EBADF).
  InUse(const Descriptor& descriptor, std::string_view call)
      : InUse(descriptor.shared(call), call) {}
  InUse(OpenFd& shared, std::string_view call) noexcept : shared_(shared), call_(call) {
    shared_.begin_use();
  }
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;
  ~InUse() { shared_.end_use(); }

  // For the next request. Throws std::system_error (ECANCELED) if it is being closed.
  [[nodiscard]] int fd() const {
    if (shared_.get() < 0)
      throw_errno(ECANCELED, call_, shared_.name());
    return shared_.get();
  }
  [[nodiscard]] const std::string& name() const noexcept { return shared_.name(); }
  [[nodiscard]] OpenFd& shared() const noexcept { return shared_; }

private:
  OpenFd& shared_;
  std::string_view call_;
};

}  // namespace detail

}  // namespace schedlab::iouring
