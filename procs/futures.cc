#include "procs/futures.hh"

#include "lab/base/clock.hh"

#include <condition_variable>
#include <mutex>

namespace schedlab::procs {

struct AsCompleted::Board {
  std::mutex mutex;
  std::condition_variable came;
  std::vector<std::size_t> places;  // in the order of their ends; there is room for all
};

AsCompleted::AsCompleted(std::size_t size) : board_(std::make_shared<Board>()) {
  board_->places.reserve(size);
  cores_.reserve(size);
}

AsCompleted::~AsCompleted() = default;

void AsCompleted::add(detail::FutureCore& core) {
  core.retain();
  cores_.emplace_back(&core);
}

void AsCompleted::pin(Board& board, std::size_t place) noexcept {
  {
    const std::lock_guard lock(board.mutex);
    board.places.push_back(place);
  }
  board.came.notify_one();
}

std::optional<std::size_t> AsCompleted::next(std::chrono::nanoseconds most) {
  if (left() == 0)
    return {};
  const auto come = [this] { return board_->places.size() > given_; };
  std::unique_lock lock(board_->mutex);
  // Work that waits for this thread is done one by one, until one has ended.
  for (std::size_t i = 0; most == forever && !come() && i < cores_.size(); ++i) {
    lock.unlock();
    cores_[i]->help();
    lock.lock();
  }
  if (most == forever)
    board_->came.wait(lock, come);
  else if (!board_->came.wait_for(lock, most, come))
    return {};
  return board_->places[given_++];
}

}  // namespace schedlab::procs
