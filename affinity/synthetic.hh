#pragma once
#include <cstdint>
#include <string_view>

namespace schedlab::affinity {

// The most PUs of a described machine: twice what a Linux kernel can be built for. hwloc takes any
// number and needs time with its square: some seconds here, half a minute for 65536.
inline constexpr std::uint64_t max_described_pus = 16384;

// How many PUs an hwloc synthetic description asks for: the product of its arities, at most
// UINT64_MAX. Says nothing of whether hwloc will take the description.
std::uint64_t described_pus(std::string_view description) noexcept;

}  // namespace schedlab::affinity
