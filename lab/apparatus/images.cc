#include "lab/apparatus/images.hh"

#include "lab/base/random.hh"

#include <turbojpeg.h>

#include <algorithm>
#include <cassert>
#include <stdexcept>

namespace schedlab::apparatus {

namespace {

constexpr unsigned colours = 3;

std::size_t bytes_of(unsigned width, unsigned height) {
  return std::size_t{colours} * width * height;
}

void check_jpeg(int result, tjhandle handle, const char* what) {
  if (result != 0)
    throw std::runtime_error(std::string(what) + ": " + tjGetErrorStr2(handle));
}

// One row or column: `count` pixels, `stride` bytes apart, each the mean of its neighbours.
void blur_line(const std::uint8_t* from, std::uint8_t* into, unsigned count, std::size_t stride,
               unsigned radius) {
  for (unsigned colour = 0; colour < colours; ++colour) {
    const auto at = [&](unsigned i) { return from[i * stride + colour]; };
    unsigned sum = 0, within = std::min(radius, count - 1) + 1;
    for (unsigned i = 0; i < within; ++i)
      sum += at(i);
    for (unsigned i = 0; i < count; ++i) {
      into[i * stride + colour] = static_cast<std::uint8_t>((sum + within / 2) / within);
      if (i + radius + 1 < count) {
        sum += at(i + radius + 1);
        ++within;
      }
      if (i >= radius) {
        sum -= at(i - radius);
        --within;
      }
    }
  }
}

}  // namespace

Picture draw_picture(std::uint64_t seed, std::uint64_t index, unsigned width, unsigned height) {
  assert(width > 0 && height > 0);
  Random random(seed + index);
  Picture picture{width, height, std::vector<std::uint8_t>(bytes_of(width, height))};
  struct Disc {
    std::int64_t x, y, squared;
    std::uint8_t colour[colours];
  };
  std::vector<Disc> discs(12);
  for (Disc& disc : discs) {
    const auto radius = static_cast<std::int64_t>(random.below(std::max(height / 4, 1u)) + 1);
    disc.x = static_cast<std::int64_t>(random.below(width));
    disc.y = static_cast<std::int64_t>(random.below(height));
    disc.squared = radius * radius;
    for (auto& value : disc.colour)
      value = static_cast<std::uint8_t>(random.below(256));
  }
  std::uint8_t* pixel = picture.bytes.data();
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x, pixel += colours) {
      const auto grain = static_cast<std::int64_t>(random.below(16));
      const std::int64_t shades[] = {255 * x / width, 255 * y / height, 128};
      for (unsigned i = 0; i < colours; ++i)
        pixel[i] = static_cast<std::uint8_t>(std::min<std::int64_t>(shades[i] + grain, 255));
      for (const Disc& disc : discs)
        if ((x - disc.x) * (x - disc.x) + (y - disc.y) * (y - disc.y) < disc.squared)
          std::copy_n(disc.colour, colours, pixel);
    }
  return picture;
}

void blur(Picture& picture, unsigned radius, std::vector<std::uint8_t>& scratch) {
  scratch.resize(picture.bytes.size());
  const std::size_t row = std::size_t{colours} * picture.width;
  for (unsigned y = 0; y < picture.height; ++y)
    blur_line(&picture.bytes[y * row], &scratch[y * row], picture.width, colours, radius);
  for (unsigned x = 0; x < picture.width; ++x)
    blur_line(&scratch[std::size_t{colours} * x], &picture.bytes[std::size_t{colours} * x],
              picture.height, row, radius);
}

void shrink(const Picture& from, unsigned factor, Picture& into) {
  assert(factor > 0 && from.width >= factor && from.height >= factor);
  into.width = from.width / factor;
  into.height = from.height / factor;
  into.bytes.resize(bytes_of(into.width, into.height));
  const std::size_t row = std::size_t{colours} * from.width;
  std::uint8_t* pixel = into.bytes.data();
  for (unsigned y = 0; y < into.height; ++y)
    for (unsigned x = 0; x < into.width; ++x)
      for (unsigned colour = 0; colour < colours; ++colour) {
        unsigned sum = 0;
        for (unsigned j = 0; j < factor; ++j)
          for (unsigned i = 0; i < factor; ++i)
            sum += from.bytes[(std::size_t{y} * factor + j) * row +
                              std::size_t{colours} * (x * factor + i) + colour];
        *pixel++ = static_cast<std::uint8_t>((sum + factor * factor / 2) / (factor * factor));
      }
}

struct JpegCodec::Handles {
  tjhandle encoder = tjInitCompress();
  tjhandle decoder = tjInitDecompress();

  Handles() {
    if (!encoder || !decoder) {
      const std::string why = tjGetErrorStr2(nullptr);
      close();
      throw std::runtime_error("TurboJPEG cannot begin: " + why);
    }
  }
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;
  ~Handles() { close(); }
  void close() const {
    for (const tjhandle handle : {encoder, decoder})
      if (handle)
        tjDestroy(handle);
  }
};

JpegCodec::JpegCodec() : handles_(std::make_unique<Handles>()) {}
JpegCodec::~JpegCodec() = default;
JpegCodec::JpegCodec(JpegCodec&&) noexcept = default;
JpegCodec& JpegCodec::operator=(JpegCodec&&) noexcept = default;

std::size_t JpegCodec::most_bytes(unsigned width, unsigned height) {
  return tjBufSize(static_cast<int>(width), static_cast<int>(height), TJSAMP_420);
}

std::size_t JpegCodec::encode(const Picture& picture, int quality, std::span<std::byte> into) {
  if (into.size() < most_bytes(picture.width, picture.height))
    throw std::runtime_error("tjCompress2: the buffer is too small");
  auto* bytes = reinterpret_cast<unsigned char*>(into.data());
  unsigned long size = into.size();
  check_jpeg(tjCompress2(handles_->encoder, picture.bytes.data(), static_cast<int>(picture.width),
                         0, static_cast<int>(picture.height), TJPF_RGB, &bytes, &size, TJSAMP_420,
                         quality, TJFLAG_NOREALLOC),
             handles_->encoder, "tjCompress2");
  return size;
}

void JpegCodec::decode(std::span<const std::byte> jpeg, Picture& into) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(jpeg.data());
  int width = 0, height = 0, sampling = 0, space = 0;
  check_jpeg(tjDecompressHeader3(handles_->decoder, bytes, jpeg.size(), &width, &height, &sampling,
                                 &space),
             handles_->decoder, "tjDecompressHeader3");
  into.width = static_cast<unsigned>(width);
  into.height = static_cast<unsigned>(height);
  into.bytes.resize(bytes_of(into.width, into.height));
  check_jpeg(tjDecompress2(handles_->decoder, bytes, jpeg.size(), into.bytes.data(), width, 0,
                           height, TJPF_RGB, 0),
             handles_->decoder, "tjDecompress2");
}

std::size_t ThumbnailMaker::make(std::span<const std::byte> jpeg, std::span<std::byte> into) {
  codec_.decode(jpeg, picture_);
  if (picture_.width < factor || picture_.height < factor)
    throw std::runtime_error("the picture is too small");
  blur(picture_, radius, scratch_);
  shrink(picture_, factor, small_);
  return codec_.encode(small_, quality, into);
}

}  // namespace schedlab::apparatus
