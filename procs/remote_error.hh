#pragma once
// Exceptions that were thrown in another process.
//
// What was thrown there is described (type, text, origin, the chain of nested causes, which worker
// and attempt) and thrown here again: as the type itself if this program has registered it, with
// the description nested in it; else the description alone.

#include "procs/codec.hh"

#include <concepts>
#include <cstdint>
#include <exception>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

namespace schedlab::procs {

// One exception of a chain.
struct RemoteCause {
  std::string type;              // as people write it: "std::out_of_range"
  std::string what;              // empty for what is no std::exception
  std::string origin;            // "file:line" where throw_located threw it, else empty
  std::int32_t error_value = 0;  // errno of a std::system_error

  void encode(Encoder& encoder) const;
  static RemoteCause decode(Decoder& decoder);
};

// What a worker was doing.
enum class Stage : std::uint8_t { decode_arguments, run, encode_result };
std::string_view to_text(Stage stage) noexcept;

class RemoteError : public std::runtime_error {
public:
  RemoteError(std::vector<RemoteCause> chain, Stage stage, pid_t pid, unsigned attempt);

  // The outermost first; never empty.
  [[nodiscard]] const std::vector<RemoteCause>& chain() const noexcept { return chain_; }
  [[nodiscard]] const std::string& type() const noexcept { return chain_.front().type; }
  [[nodiscard]] const std::string& message() const noexcept { return chain_.front().what; }
  [[nodiscard]] Stage stage() const noexcept { return stage_; }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] unsigned attempt() const noexcept { return attempt_; }

private:
  std::vector<RemoteCause> chain_;
  Stage stage_;
  pid_t pid_;
  unsigned attempt_;
};

// Where something was thrown.
class Located {
public:
  Located(std::source_location where, const std::type_info& type) : where_(where), type_(type) {}
  Located(const Located&) = default;
  virtual ~Located() = default;
  [[nodiscard]] const std::source_location& where() const noexcept { return where_; }
  [[nodiscard]] const std::type_info& type() const noexcept { return type_; }

private:
  std::source_location where_;
  const std::type_info& type_;
};

// Throws `error`, which remembers the line it was thrown from. To be caught as E.
template <typename E>
[[noreturn]] void throw_located(E error,
                                std::source_location where = std::source_location::current()) {
  struct With final : E, Located {
    With(E&& thrown, std::source_location at) : E(std::move(thrown)), Located(at, typeid(E)) {}
  };
  throw With(std::move(error), where);
}

// The chain of the exception that is being handled.
std::vector<RemoteCause> describe_current_exception();

namespace detail {
using Rethrow = std::function<void(const RemoteCause&)>;
void register_remote(const std::type_info& type, Rethrow rethrow);
}  // namespace detail

// From now on what another process threw as E is thrown here as E, made of its text. The exceptions
// of <stdexcept>, std::bad_alloc and std::system_error are known without. Any thread.
template <typename E>
requires std::constructible_from<E, const std::string&>
void register_remote_error() {
  detail::register_remote(typeid(E),
                          [](const RemoteCause& cause) { std::throw_with_nested(E(cause.what)); });
}

// Throws `error` as the type that was thrown, with `error` nested in it, or as it is.
[[noreturn]] void throw_remote(const RemoteError& error);

}  // namespace schedlab::procs
