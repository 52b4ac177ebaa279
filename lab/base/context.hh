#pragma once
// Values that belong to what is being done, and not to the thread that does it: the request that is
// served, the test that runs. Set for a scope, seen by all that is called there, and carried along
// by work that is handed to a pool of threads or to a loop's blocking threads: by the time it runs
// the scope may be gone, and its thread may be doing something else.
//
//   static ContextVar<int> request;
//   const auto scope = request.set(7);
//   pool.submit([] { log(*request.get()); });  // logs 7
//
// The shape is that of Python's contextvars. What is carried is what was set when the work was
// handed over; the work may set more, for itself. Where nothing is set, nothing is allocated, and
// handing work over costs a load and a branch.
//
// Not carried: to other processes; and a scope belongs to a thread, not to a coroutine, so that it
// must not live across a co_await (the loop asserts that it does not). What is set around
// Loop::run() holds for all of the loop's tasks.

#include <atomic>
#include <cstdint>
#include <utility>

namespace schedlab {

namespace detail {

// A variable's value, in front of what was set before. Never changed; counted by who refers to it.
struct Binding {
  Binding(const void* of, Binding* before) noexcept : variable(of), outer(before) {}
  Binding(const Binding&) = delete;
  Binding& operator=(const Binding&) = delete;
  virtual ~Binding() = default;

  std::atomic<std::uint32_t> references{1};
  const void* const variable;
  Binding* const outer;  // with a reference; null: nothing was set
};

Binding* retain(Binding* binding) noexcept;
void release(Binding* binding) noexcept;

// Of the calling thread; held by whoever put it there. Not of a library that is loaded later.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local Binding* bindings;

}  // namespace detail

// What was set at some place, of all variables. Any thread may have copies.
class Context {
public:
  Context() noexcept = default;  // nothing is set
  [[nodiscard]] static Context current() noexcept {
    Context here;
    if (detail::bindings) [[unlikely]]
      here.bindings_ = detail::retain(detail::bindings);
    return here;
  }
  Context(Context&& other) noexcept : bindings_(std::exchange(other.bindings_, nullptr)) {}
  Context(const Context& other) noexcept : bindings_(detail::retain(other.bindings_)) {}
  Context& operator=(Context other) noexcept {
    std::swap(bindings_, other.bindings_);
    return *this;
  }
  ~Context() {
    if (bindings_) [[unlikely]]
      detail::release(bindings_);
  }
  [[nodiscard]] bool empty() const noexcept { return !bindings_; }

private:
  friend class WithinContext;
  detail::Binding* bindings_ = nullptr;
};

// For its life the calling thread sees that context, which lives as long, and no other.
class [[nodiscard]] WithinContext {
public:
  explicit WithinContext(const Context& context) noexcept
      : before_(std::exchange(detail::bindings, context.bindings_)) {}
  WithinContext(const WithinContext&) = delete;
  WithinContext& operator=(const WithinContext&) = delete;
  ~WithinContext() { detail::bindings = before_; }

private:
  detail::Binding* const before_;
};

// Work that runs in a context.
template <typename F>
struct InContext {
  Context context;
  F work;
  decltype(auto) operator()() {
    const WithinContext inside(context);
    return work();
  }
};

// Outlives every context that it was set in: make it static. Any thread may use it; what it gives
// is shared by all that were handed the context.
template <typename T>
class ContextVar {
  struct Bound final : detail::Binding {
    Bound(const void* of, Binding* before, T&& given)
        : Binding(of, before), value(std::move(given)) {
      detail::retain(before);  // now that nothing throws any more
    }
    const T value;
  };

public:
  // Holds the value until its end, in the thread that made it. Scopes end in reverse order.
  class [[nodiscard]] Scope {
  public:
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() {
      detail::bindings = bound_->outer;
      detail::release(bound_);
    }

  private:
    friend class ContextVar;
    explicit Scope(Bound* bound) noexcept : bound_(bound) { detail::bindings = bound; }
    Bound* const bound_;
  };

  constexpr ContextVar() noexcept = default;
  ContextVar(const ContextVar&) = delete;
  ContextVar& operator=(const ContextVar&) = delete;

  // Throws std::bad_alloc, and what moving the value throws.
  Scope set(T value) { return Scope(new Bound(this, detail::bindings, std::move(value))); }
  // What was set last; null where nothing was. Valid as long as the context.
  [[nodiscard]] const T* get() const noexcept {
    for (auto* at = detail::bindings; at; at = at->outer)
      if (at->variable == this)
        return &static_cast<const Bound*>(at)->value;
    return nullptr;
  }
};

}  // namespace schedlab
