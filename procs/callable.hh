#pragma once
// A function as other processes can name it: not by its address, which address space layout
// randomisation draws anew for each, but by its distance from where the program's file is loaded,
// together with the file's build id. Valid in every process that runs the same file: a forked one,
// one that executed the file afresh, the child of a forkserver. Nothing is registered.
//
// The function may be a static one or a lambda that captures nothing; it must be linked into the
// program itself, not into a shared library. The program is linked with --build-id.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <typeinfo>

namespace schedlab::procs {

// The note that the linker writes into a program (NT_GNU_BUILD_ID); longer ones are cut.
struct BuildId {
  std::array<std::byte, 32> bytes{};
  std::uint32_t size = 0;  // 0: the program has none

  friend bool operator==(const BuildId&, const BuildId&) = default;
};

// Of the running program. Thread-safe.
const BuildId& own_build_id() noexcept;

// The name of a callable: trivially copyable, and without pointers, so that it can be sent.
struct CallableId {
  std::uint64_t offset = 0;  // from the lowest address of the program
  std::uint64_t type = 0;    // of the function's signature
  BuildId build;

  friend bool operator==(const CallableId&, const CallableId&) = default;
};

namespace detail {

using AnyFunction = void (*)();
CallableId name_function(AnyFunction function, std::uint64_t type);
AnyFunction find_function(const CallableId& id, std::uint64_t type);

template <typename Signature>
std::uint64_t type_of() noexcept {
  return typeid(Signature).hash_code();
}

template <auto F, typename Signature>
consteval Signature* as_function() {
  static_assert(std::is_convertible_v<decltype(F), Signature*>,
                "a callable needs the signature that is asked for here, and may capture nothing: "
                "another process gets its name, not its state");
  return F;
}

}  // namespace detail

// Names a function, or a lambda that captures nothing. Throws Unsupported where the program has no
// build id or the function is part of a shared library. Thread-safe.
template <typename Signature, auto CapturesNothing>
CallableId callable() {
  constexpr Signature* function = detail::as_function<CapturesNothing, Signature>();
  return detail::name_function(reinterpret_cast<detail::AnyFunction>(function),
                               detail::type_of<Signature>());
}

// The same of a lambda that is given as a value.
template <typename Signature, typename Lambda>
CallableId callable(Lambda) {
  constexpr bool captures_nothing =
      std::is_empty_v<Lambda> && std::is_default_constructible_v<Lambda>;
  static_assert(captures_nothing,
                "a callable may capture nothing: another process gets its name, not its state; "
                "hand over what it needs as its argument");
  if constexpr (captures_nothing)
    return callable<Signature, Lambda{}>();
}

// The function of that name in this process. Throws Unsupported if the name was given by a program
// of another build, or for another signature. Thread-safe.
template <typename Signature>
Signature* resolve(const CallableId& id) {
  return reinterpret_cast<Signature*>(detail::find_function(id, detail::type_of<Signature>()));
}

}  // namespace schedlab::procs
