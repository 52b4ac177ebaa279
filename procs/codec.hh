#pragma once
// Values as bytes, for another process of the same program: no versions, no byte order, no names.
//
// What travels: arithmetic types, enumerations and other trivially copyable types; std::string,
// vector, array, pair, tuple, optional, variant; and types of their own form, with
//   void encode(Encoder&) const;
//   static T decode(Decoder&);
// What cannot mean anything elsewhere (pointers, references, views, closures with captures) is
// refused when it is compiled, with the reason. A class that hides a pointer among trivially
// copyable members cannot be found out.
//
// Thread rule: an Encoder or Decoder belongs to one thread.

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace schedlab::procs {

// The bytes are not what their type asks for.
struct DecodeError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Appends to the memory it is given, and goes on in memory of its own once that is full.
class Encoder {
public:
  explicit Encoder(std::span<std::byte> first = {}) noexcept : first_(first) {}

  void append(const void* data, std::size_t size) {
    if (std::byte* const at = reserve(size); size > 0)
      std::memcpy(at, data, size);
  }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    return more_.empty() ? std::span<const std::byte>(first_.data(), used_)
                         : std::span<const std::byte>(more_);
  }
  // Everything lies in the memory that was given.
  [[nodiscard]] bool in_first() const noexcept { return more_.empty(); }

private:
  std::byte* reserve(std::size_t size) {
    if (more_.empty() && size <= first_.size() - used_) {
      used_ += size;
      return first_.data() + used_ - size;
    }
    if (more_.empty())
      more_.assign(first_.begin(), first_.begin() + static_cast<std::ptrdiff_t>(used_));
    more_.resize(more_.size() + size);
    return more_.data() + more_.size() - size;
  }

  std::span<std::byte> first_;
  std::size_t used_ = 0;
  std::vector<std::byte> more_;
};

class Decoder {
public:
  explicit Decoder(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  // The next `size` bytes, where they lie. Throws DecodeError if there are fewer.
  std::span<const std::byte> take(std::size_t size) {
    if (size > bytes_.size())
      throw DecodeError("the value wants " + std::to_string(size) + " bytes more, and " +
                        std::to_string(bytes_.size()) + " are there");
    const auto taken = bytes_.first(size);
    bytes_ = bytes_.subspan(size);
    return taken;
  }
  [[nodiscard]] std::size_t left() const noexcept { return bytes_.size(); }
  // Throws DecodeError if bytes are left over.
  void finish() const {
    if (!bytes_.empty())
      throw DecodeError(std::to_string(bytes_.size()) + " bytes are left over behind the value");
  }

private:
  std::span<const std::byte> bytes_;
};

// Why a type cannot travel.
enum class Refusal : std::uint8_t { none, pointer, reference, view, capture, form };

namespace detail {

template <typename T>
concept OwnForm = requires(const T& value, Encoder& encoder, Decoder& decoder) {
  value.encode(encoder);
  { T::decode(decoder) } -> std::same_as<T>;
};

template <typename T, template <typename...> typename Template>
inline constexpr bool is_a = false;
template <template <typename...> typename Template, typename... Parts>
inline constexpr bool is_a<Template<Parts...>, Template> = true;
template <typename T>
inline constexpr bool is_array = false;
template <typename T, std::size_t size>
inline constexpr bool is_array<std::array<T, size>> = true;
template <typename T>
inline constexpr bool is_span = false;
template <typename T, std::size_t extent>
inline constexpr bool is_span<std::span<T, extent>> = true;

// A closure is told by how its compiler calls it, "(lambda at" or "<lambda("; without captures it
// can be made again from nothing.
template <typename T>
consteval bool holds_captures() {
  const std::string_view name = __PRETTY_FUNCTION__;
  const bool closure = name.find("(lambda") != name.npos || name.find("<lambda") != name.npos;
  return closure && std::is_class_v<T> && !is_a<T, std::vector> && !is_a<T, std::tuple> &&
         !is_a<T, std::optional> && !is_a<T, std::variant> && !std::is_default_constructible_v<T>;
}

template <typename T>
inline constexpr bool is_view =
    is_a<T, std::basic_string_view> || is_span<T> || is_a<T, std::reference_wrapper>;

template <typename T>
consteval Refusal refusal();

template <typename... Parts>
consteval Refusal first_refusal() {
  Refusal found = Refusal::none;
  static_cast<void>(((found = refusal<Parts>(), found == Refusal::none) && ...));
  return found;
}

template <typename T>
struct PartsOf {
  static constexpr bool known = false;
};
template <>
struct PartsOf<std::string> {
  static constexpr bool known = true;
  static consteval Refusal refusal() { return Refusal::none; }
};
template <template <typename...> typename Template, typename... Parts>
requires(is_a<Template<Parts...>, std::tuple> || is_a<Template<Parts...>, std::pair> ||
         is_a<Template<Parts...>, std::variant> ||
         is_a<Template<Parts...>, std::optional>) struct PartsOf<Template<Parts...>> {
  static constexpr bool known = true;
  static consteval Refusal refusal() { return first_refusal<Parts...>(); }
};
template <typename T>
struct PartsOf<std::vector<T>> {
  static constexpr bool known = true;
  static consteval Refusal refusal() { return detail::refusal<T>(); }
};
template <typename T, std::size_t size>
struct PartsOf<std::array<T, size>> {
  static constexpr bool known = true;
  static consteval Refusal refusal() { return detail::refusal<T>(); }
};

template <typename T>
consteval Refusal refusal() {
  if constexpr (std::is_reference_v<T>)
    return Refusal::reference;
  else if constexpr (OwnForm<T>)
    return Refusal::none;
  else if constexpr (std::is_pointer_v<T> || std::is_member_pointer_v<T> ||
                     std::is_null_pointer_v<T> || is_a<T, std::unique_ptr> ||
                     is_a<T, std::shared_ptr>)
    return Refusal::pointer;
  else if constexpr (is_view<T>)
    return Refusal::view;
  else if constexpr (PartsOf<T>::known)
    return PartsOf<T>::refusal();
  else if constexpr (holds_captures<T>())
    return Refusal::capture;
  else
    return std::is_trivially_copyable_v<T> ? Refusal::none : Refusal::form;
}

template <typename T>
consteval void require_encodable() {
  constexpr Refusal why = refusal<T>();
  static_assert(why != Refusal::pointer,
                "a pointer means nothing in another process: send the value it points to");
  static_assert(why != Refusal::reference,
                "a reference means nothing in another process: send the value");
  static_assert(why != Refusal::view,
                "a view (span, string_view, reference_wrapper) points into this process: send a "
                "vector or string, or procs::Bytes for memory that both processes share");
  static_assert(why != Refusal::capture,
                "a lambda with captures cannot be sent: its captures may point into this process; "
                "name a function, submit<f>(arguments...), or bind_task<f>(arguments...)");
  static_assert(why != Refusal::form,
                "no form for other processes is known: make the type trivially copyable, or give "
                "it 'void encode(Encoder&) const' and 'static T decode(Decoder&)'");
}

inline void encode_size(Encoder& encoder, std::size_t size) {
  const auto number = static_cast<std::uint64_t>(size);
  encoder.append(&number, sizeof number);
}

template <typename T>
T decode_copy(Decoder& decoder) {
  std::array<std::byte, sizeof(T)> bytes;
  std::memcpy(bytes.data(), decoder.take(sizeof(T)).data(), sizeof(T));
  return std::bit_cast<T>(bytes);
}

// A count that is followed by so many elements of at least `least` bytes each.
inline std::size_t decode_size(Decoder& decoder, std::size_t least) {
  const auto number = decode_copy<std::uint64_t>(decoder);
  if (number > decoder.left() / least)
    throw DecodeError("a length of " + std::to_string(number) + " elements, and " +
                      std::to_string(decoder.left()) + " bytes are there");
  return static_cast<std::size_t>(number);
}

}  // namespace detail

template <typename T>
concept Encodable = detail::refusal<T>()
== Refusal::none;

// Throws what the type's own encode throws.
template <typename T>
void encode(Encoder& encoder, const T& value) {
  detail::require_encodable<T>();
  if constexpr (detail::OwnForm<T>) {
    value.encode(encoder);
  } else if constexpr (std::is_same_v<T, bool>) {
    encode(encoder, static_cast<std::uint8_t>(value));
  } else if constexpr (std::is_same_v<T, std::string>) {
    detail::encode_size(encoder, value.size());
    encoder.append(value.data(), value.size());
  } else if constexpr (detail::is_a<T, std::vector>) {
    using Element = typename T::value_type;
    detail::encode_size(encoder, value.size());
    if constexpr (std::is_arithmetic_v<Element> && !std::is_same_v<Element, bool>)
      encoder.append(value.data(), value.size() * sizeof(Element));
    else
      for (const Element& element : value)
        encode<Element>(encoder, element);
  } else if constexpr (detail::is_array<T>) {
    for (const auto& element : value)
      encode(encoder, element);
  } else if constexpr (detail::is_a<T, std::tuple> || detail::is_a<T, std::pair>) {
    std::apply([&](const auto&... parts) { (encode(encoder, parts), ...); }, value);
  } else if constexpr (detail::is_a<T, std::optional>) {
    encode(encoder, value.has_value());
    if (value)
      encode(encoder, *value);
  } else if constexpr (detail::is_a<T, std::variant>) {
    encode(encoder, static_cast<std::uint32_t>(value.index()));
    std::visit([&](const auto& held) { encode(encoder, held); }, value);
  } else {
    encoder.append(&value, sizeof value);
  }
}

template <typename T>
T decode(Decoder& decoder);

namespace detail {

template <typename T>
T decode_vector(Decoder& decoder) {
  using Element = typename T::value_type;
  if constexpr (std::is_arithmetic_v<Element> && !std::is_same_v<Element, bool>) {
    T value(decode_size(decoder, sizeof(Element)));
    if (const auto bytes = decoder.take(value.size() * sizeof(Element)); !bytes.empty())
      std::memcpy(value.data(), bytes.data(), bytes.size());
    return value;
  } else {
    T value;
    for (auto left = decode_size(decoder, 1); left > 0; --left)
      value.push_back(decode<Element>(decoder));
    return value;
  }
}

// In braces the parts are decoded from left to right.
template <typename T, std::size_t... index>
T decode_parts(Decoder& decoder, std::index_sequence<index...>) {
  if constexpr (is_array<T>)
    return T{(static_cast<void>(index), decode<typename T::value_type>(decoder))...};
  else
    return T{decode<std::tuple_element_t<index, T>>(decoder)...};
}

template <typename T, std::size_t index = 0>
T decode_variant(Decoder& decoder, std::uint32_t held) {
  if constexpr (index == std::variant_size_v<T>)
    throw DecodeError("no alternative " + std::to_string(held) + " in a variant");
  else
    return held == index ? T(std::in_place_index<index>,
                             decode<std::variant_alternative_t<index, T>>(decoder))
                         : decode_variant<T, index + 1>(decoder, held);
}

}  // namespace detail

// Throws DecodeError, and what the type's own decode throws.
template <typename T>
T decode(Decoder& decoder) {
  detail::require_encodable<T>();
  if constexpr (detail::OwnForm<T>) {
    return T::decode(decoder);
  } else if constexpr (std::is_same_v<T, bool>) {
    return decode<std::uint8_t>(decoder) != 0;
  } else if constexpr (std::is_same_v<T, std::string>) {
    const auto bytes = decoder.take(detail::decode_size(decoder, 1));
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  } else if constexpr (detail::is_a<T, std::vector>) {
    return detail::decode_vector<T>(decoder);
  } else if constexpr (detail::is_array<T> || detail::is_a<T, std::tuple> ||
                       detail::is_a<T, std::pair>) {
    return detail::decode_parts<T>(decoder, std::make_index_sequence<std::tuple_size_v<T>>());
  } else if constexpr (detail::is_a<T, std::optional>) {
    return decode<bool>(decoder) ? T(decode<typename T::value_type>(decoder)) : T();
  } else if constexpr (detail::is_a<T, std::variant>) {
    const auto held = decode<std::uint32_t>(decoder);
    return detail::decode_variant<T>(decoder, held);
  } else {
    return detail::decode_copy<T>(decoder);
  }
}

}  // namespace schedlab::procs
