#pragma once
// Memory that a process holds while it starts others: what a fork has to copy the page tables of.

#include "lab/apparatus/area.hh"

#include <cstdint>
#include <memory>
#include <string_view>

namespace schedlab::apparatus {

enum class BallastPages : std::uint8_t {
  base,    // private, pages of 4 KiB on x86-64
  huge,    // private, transparent huge pages
  shared,  // a shared mapping: a fork copies no entries of it
};
std::string_view to_text(BallastPages pages) noexcept;
// "base", "huge" or "shared".
BallastPages ballast_pages_from(std::string_view word);

struct Ballast {
  std::uint64_t size = 0;  // bytes
  BallastPages pages = BallastPages::base;

  friend bool operator==(const Ballast&, const Ballast&) = default;
};

// What an area for it is asked for.
AreaOptions options_for(const Ballast& ballast);

// The area for it, written once; null for a size of 0. All that ask for the same while it exists
// share one. Called by one thread. Throws what Area throws.
std::shared_ptr<const Area> load(const Ballast& ballast);

}  // namespace schedlab::apparatus
