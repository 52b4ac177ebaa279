#pragma once
// How a request travels to a replicate process and its reply back: one JSON text each, in memfds
// the replicate inherits under fixed numbers.

#include "lab/base/clock.hh"
#include "lab/harness/engine.hh"

#include <string>
#include <string_view>

namespace schedlab::harness {

inline constexpr int request_fd = 3;
inline constexpr int reply_fd = 4;
inline constexpr int progress_fd = 5;

// The argument that makes the program a replicate, never shown to people.
inline constexpr std::string_view replicate_word = "__replicate";

std::string encode(const Request& request, const clock::Calibration& calibration);
Request decode_request(std::string_view text, clock::Calibration& calibration);

std::string encode(const Reply& reply);
// Throws std::runtime_error if the text is not a whole reply.
Reply decode_reply(std::string_view text);

}  // namespace schedlab::harness
