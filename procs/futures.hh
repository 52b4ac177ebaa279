#pragma once
// Waiting for many futures: for the first, for the first that fails, for all; and one by one as
// they end.

#include "procs/future.hh"

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace schedlab::procs {

inline constexpr std::chrono::nanoseconds forever = std::chrono::nanoseconds::max();

// The places of futures in a list, in the order in which they end; those that have ended already
// come first, in the order of the list. The futures may go before it, and be asked for their value
// meanwhile. Belongs to one thread.
class AsCompleted {
public:
  // Throws std::bad_alloc.
  template <typename T>
  explicit AsCompleted(std::span<Future<T>> futures) : AsCompleted(futures.size()) {
    for (auto& future : futures)
      add(future.core());
    for (std::size_t place = 0; place < futures.size(); ++place)
      futures[place].on_ready([board = board_, place]() noexcept { pin(*board, place); });
  }
  AsCompleted(AsCompleted&&) noexcept = default;
  ~AsCompleted();

  // Waits for the next; nothing once all were given, or if it took longer than `most`.
  std::optional<std::size_t> next(std::chrono::nanoseconds most = forever);
  [[nodiscard]] std::size_t left() const noexcept { return cores_.size() - given_; }

private:
  struct Board;
  explicit AsCompleted(std::size_t size);
  void add(detail::FutureCore& core);
  static void pin(Board& board, std::size_t place) noexcept;

  std::shared_ptr<Board> board_;
  std::vector<detail::CoreRef<detail::FutureCore>> cores_;
  std::size_t given_ = 0;
};

enum class Until : std::uint8_t { first_ended, first_failed, all_ended };

// Waits, at most so long; then gives the places of all that have ended, ascending. A future that
// was cancelled has ended and has not failed; where none fails, the first that does is all.
template <typename T>
std::vector<std::size_t> wait(std::span<Future<T>> futures, Until until = Until::all_ended,
                              std::chrono::nanoseconds most = forever) {
  if (until == Until::all_ended && most == forever) {
    for (auto& future : futures)
      future.wait();
  } else {
    const std::int64_t deadline_ns = detail::deadline_after(most);
    AsCompleted ended(futures);
    while (const auto place = ended.next(detail::time_until(deadline_ns))) {
      const auto& core = futures[*place].core();
      if (until == Until::first_ended || (until == Until::first_failed && core.failed()))
        break;
    }
  }
  std::vector<std::size_t> places;
  for (std::size_t place = 0; place < futures.size(); ++place)
    if (futures[place].ready())
      places.push_back(place);
  return places;
}

}  // namespace schedlab::procs
