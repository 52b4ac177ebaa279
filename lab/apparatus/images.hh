#pragma once
// Pictures: drawn from a seed, compressed and taken apart by TurboJPEG, blurred and made smaller by
// loops of our own. The same bytes come out in every thread and process of a machine.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace schedlab::apparatus {

// Red, green, blue, a byte each, row by row without gaps.
struct Picture {
  unsigned width = 0;
  unsigned height = 0;
  std::vector<std::uint8_t> bytes = {};
  friend bool operator==(const Picture&, const Picture&) = default;
};

// Shades, discs and some grain, another picture for each index. At least a pixel.
Picture draw_picture(std::uint64_t seed, std::uint64_t index, unsigned width, unsigned height);

// Each pixel becomes the mean of the square that reaches `radius` pixels around it, as far as there
// is a picture, in two passes.
void blur(Picture& picture, unsigned radius, std::vector<std::uint8_t>& scratch);

// The means of squares of `factor` pixels; what is left over at the right and below is cut off.
// Both sides are at least `factor`.
void shrink(const Picture& from, unsigned factor, Picture& into);

// JPEG, 4:2:0. One thread at a time.
class JpegCodec {
public:
  // Throws std::runtime_error, as all of it does, with TurboJPEG's words.
  JpegCodec();
  ~JpegCodec();
  JpegCodec(JpegCodec&&) noexcept;
  JpegCodec& operator=(JpegCodec&&) noexcept;

  // The most bytes that a picture of this size can take.
  static std::size_t most_bytes(unsigned width, unsigned height);
  // Gives the bytes that were written.
  std::size_t encode(const Picture& picture, int quality, std::span<std::byte> into);
  void decode(std::span<const std::byte> jpeg, Picture& into);

private:
  struct Handles;
  std::unique_ptr<Handles> handles_;
};

// From a JPEG to a blurred, smaller one: decode, blur, shrink, encode. One thread at a time.
class ThumbnailMaker {
public:
  static constexpr unsigned factor = 4;  // of each side
  static constexpr unsigned radius = 2;
  static constexpr int quality = 80;

  // Gives the bytes that were written. Throws std::runtime_error.
  std::size_t make(std::span<const std::byte> jpeg, std::span<std::byte> into);

private:
  JpegCodec codec_;
  Picture picture_;
  Picture small_;
  std::vector<std::uint8_t> scratch_;
};

}  // namespace schedlab::apparatus
