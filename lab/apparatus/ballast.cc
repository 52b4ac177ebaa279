#include "lab/apparatus/ballast.hh"

#include <array>
#include <vector>

namespace schedlab::apparatus {

namespace {

constexpr std::array<std::string_view, 3> words = {"base", "huge", "shared"};

struct Loaded {
  Ballast ballast;
  std::weak_ptr<const Area> area;
};

std::vector<Loaded>& all_loaded() {
  static std::vector<Loaded> loaded;
  return loaded;
}

}  // namespace

std::string_view to_text(BallastPages pages) noexcept {
  return words[static_cast<std::size_t>(pages)];
}

BallastPages ballast_pages_from(std::string_view word) {
  return word == "huge"     ? BallastPages::huge
         : word == "shared" ? BallastPages::shared
                            : BallastPages::base;
}

AreaOptions options_for(const Ballast& ballast) {
  return {.size = ballast.size,
          .pages = ballast.pages == BallastPages::huge ? Pages::huge : Pages::base,
          .node = {},
          .shared = ballast.pages == BallastPages::shared};
}

std::shared_ptr<const Area> load(const Ballast& ballast) {
  if (ballast.size == 0)
    return nullptr;
  auto& loaded = all_loaded();
  std::erase_if(loaded, [](const Loaded& one) { return one.area.expired(); });
  for (const Loaded& one : loaded)
    if (one.ballast == ballast)
      return one.area.lock();
  auto area = std::make_shared<const Area>(options_for(ballast));
  loaded.push_back({ballast, area});
  return area;
}

}  // namespace schedlab::apparatus
