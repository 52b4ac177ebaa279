#pragma once
// Memory to measure: of a known page size, on a known node, written once before use, and both read
// back from the kernel instead of assumed.

#include "lab/base/mapping.hh"
#include "lab/harness/document.hh"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

enum class Pages : std::uint8_t {
  base,  // the machine's smallest, 4 KiB on x86-64; transparent huge pages refused
  huge,  // transparent huge pages, 2 MiB on x86-64
};
std::string_view to_text(Pages pages) noexcept;
// "base" or "huge".
Pages pages_from(std::string_view word);

// The size in bytes of a page of this kind; 0 where there are no huge pages.
std::uint64_t size_of(Pages pages);

struct AreaOptions {
  std::uint64_t size = 0;  // bytes
  Pages pages = Pages::base;
  std::optional<unsigned> node;  // kernel number; nothing: wherever the writer's policy puts it
  bool shared = false;           // forked children see the same memory
};

// Built by the thread whose node it shall lie on, unless a node is given. Its memory is zero.
class Area {
public:
  // Throws Unsupported where pages of this kind are not granted (with what to set),
  // std::system_error where there is not enough memory, and BadInput for a node that does not
  // exist.
  explicit Area(const AreaOptions& options);

  // Aligned to a page of its kind.
  [[nodiscard]] std::byte* data() const noexcept { return bytes_.data(); }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  template <typename T>
  [[nodiscard]] T* as() const noexcept {
    return reinterpret_cast<T*>(bytes_.data());
  }

  // The share of its bytes that lie on pages of the kind asked for, as the kernel says now.
  [[nodiscard]] double granted() const;
  // Page size and, if a node was asked for, the node of every page: for Subject::checks().
  [[nodiscard]] std::vector<harness::Check> checks() const;

private:
  AreaOptions options_;
  Mapping mapping_;  // larger than the area by the alignment
  std::span<std::byte> bytes_;
};

// Why a lab should not take `count` areas of `size` bytes here, or empty: half of what memory is
// left to this process, by the kernel and by its cgroup, is the limit.
std::string too_large(std::uint64_t count, std::uint64_t size);

}  // namespace schedlab::apparatus
