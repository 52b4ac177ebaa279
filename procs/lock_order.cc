#include "procs/lock_order.hh"

#include "lab/base/clock.hh"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <tuple>

namespace schedlab::procs {

namespace {

using Lock = LockOrder::Lock;
using Place = LockOrder::Place;
using Locks = std::vector<Lock>;  // ascending

struct Holding {
  Lock lock = 0;
  Place place;
};

struct Wait {
  Lock lock = 0;
  Place place;
};

// A number of the calling thread that no other one ever has: pthread gives its own again.
std::uint64_t this_thread() noexcept {
  static std::atomic<std::uint64_t> last{0};
  thread_local const std::uint64_t mine = last.fetch_add(1, std::memory_order_relaxed);
  return mine;
}

// What is known of a thread. One that is gone holds nothing, unless it left without giving back.
struct Actor {
  std::uint32_t number = 0;
  std::vector<Holding> held;  // in the order in which they were taken
  std::optional<Wait> wait;
};

struct GuardedEdge {
  LockOrder::Edge edge;
  Locks beside;  // what the thread held besides edge.held
};

bool share(const Locks& a, const Locks& b) {
  return std::ranges::any_of(a, [&](Lock lock) { return std::ranges::binary_search(b, lock); });
}

// From the right-hand end of a path as a name of its file.
std::string_view file_of(const Place& place) {
  std::string_view path = place.file_name();
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string text_of(const Place& place) {
  return std::string(file_of(place)) + ":" + std::to_string(place.line());
}

}  // namespace

struct LockOrder::State {
  mutable std::mutex mutex;
  std::vector<std::string> names;
  std::vector<bool> recursive;
  std::map<std::uint64_t, Actor> actors;
  // By the lock held, and within that by wanted, thread and what was held beside.
  std::map<Lock, std::map<std::tuple<Lock, std::uint32_t, Locks>, GuardedEdge>> edges;
  std::size_t edge_count = 0;
  std::set<Locks> reported;
  std::vector<Cycle> cycles;
  std::atomic<std::int64_t> stood_still_ns{0};

  Actor& self() {
    const auto [found, fresh] = actors.try_emplace(this_thread());
    if (fresh)
      found->second.number = static_cast<std::uint32_t>(actors.size() - 1);
    return found->second;
  }

  void add_edges(const Actor& actor, Lock wanted, const Place& place) {
    for (const auto& holding : actor.held) {
      Locks beside;
      for (const auto& other : actor.held)
        if (other.lock != holding.lock)
          beside.push_back(other.lock);
      std::ranges::sort(beside);
      beside.erase(std::ranges::unique(beside).begin(), beside.end());
      const Edge edge{holding.lock, wanted, actor.number, holding.place, place};
      const auto [at, fresh] = edges[holding.lock].try_emplace({wanted, actor.number, beside},
                                                               GuardedEdge{edge, beside});
      if (!fresh)
        continue;
      ++edge_count;
      std::vector<const GuardedEdge*> path = {&at->second};
      close(path);
    }
  }

  // Looks for ways from the end of the path back to its beginning, and keeps what it finds.
  void close(std::vector<const GuardedEdge*>& path) {
    const Lock end = path.back()->edge.wanted;
    const Lock begin = path.front()->edge.held;
    const auto from = edges.find(end);
    if (from == edges.end())
      return;
    for (const auto& [key, next] : from->second) {
      const bool clash = std::ranges::any_of(path, [&](const GuardedEdge* before) {
        return before->edge.thread == next.edge.thread || share(before->beside, next.beside) ||
               (next.edge.wanted == before->edge.held && next.edge.wanted != begin);
      });
      if (clash)
        continue;
      path.push_back(&next);
      if (next.edge.wanted == begin)
        keep(path);
      else
        close(path);
      path.pop_back();
    }
  }

  void keep(const std::vector<const GuardedEdge*>& path) {
    Locks locks;
    Cycle cycle;
    for (const auto* step : path) {
      locks.push_back(step->edge.held);
      cycle.push_back(step->edge);
    }
    std::ranges::sort(locks);
    if (reported.insert(locks).second)
      cycles.push_back(std::move(cycle));
  }

  // The thread that holds a lock, if any does.
  [[nodiscard]] const Actor* holder(Lock lock) const {
    for (const auto& [id, actor] : actors)
      if (find(actor, lock))
        return &actor;
    return nullptr;
  }
  static const Holding* find(const Actor& actor, Lock lock) {
    const auto found = std::ranges::find(actor.held, lock, &Holding::lock);
    return found == actor.held.end() ? nullptr : &*found;
  }

  // Follows waits from a thread; the cycle it is part of, or nothing.
  [[nodiscard]] Cycle around(const Actor& start) const {
    Cycle cycle;
    const Actor* waiter = &start;
    for (std::size_t steps = 0; steps < actors.size() && waiter->wait; ++steps) {
      const Actor* next = holder(waiter->wait->lock);
      if (!next)
        return {};
      const Holding* holding = find(*next, waiter->wait->lock);
      // The edge into the next thread is completed by what that one waits for.
      if (!next->wait)
        return {};
      cycle.push_back(
          {waiter->wait->lock, next->wait->lock, next->number, holding->place, next->wait->place});
      if (next == &start)
        return cycle;
      waiter = next;
    }
    return {};
  }
};

LockOrder::LockOrder() : state_(std::make_unique<State>()) {}
LockOrder::~LockOrder() = default;

LockOrder::Lock LockOrder::add(std::string name, bool recursive) {
  const std::scoped_lock guard(state_->mutex);
  state_->names.push_back(std::move(name));
  state_->recursive.push_back(recursive);
  return static_cast<Lock>(state_->names.size() - 1);
}

std::string LockOrder::name(Lock lock) const {
  const std::scoped_lock guard(state_->mutex);
  return state_->names.at(lock);
}

void LockOrder::waiting(Lock lock, const Place& place) {
  const std::scoped_lock guard(state_->mutex);
  Actor& actor = state_->self();
  const Holding* again = State::find(actor, lock);
  if (again && state_->recursive[lock])
    return;
  if (again && state_->reported.insert({lock}).second)
    state_->cycles.push_back({{lock, lock, actor.number, again->place, place}});
  if (!again)
    state_->add_edges(actor, lock, place);
  actor.wait = Wait{lock, place};
  if (state_->stood_still_ns.load(std::memory_order_relaxed) == 0 && !state_->around(actor).empty())
    state_->stood_still_ns.store(clock::now_ns(), std::memory_order_release);
}

void LockOrder::taken(Lock lock, const Place& place, bool tried) {
  const std::scoped_lock guard(state_->mutex);
  Actor& actor = state_->self();
  if (!tried)
    actor.wait.reset();
  actor.held.push_back({lock, place});
}

void LockOrder::giving_back(Lock lock) noexcept {
  const std::scoped_lock guard(state_->mutex);
  auto& held = state_->self().held;
  const auto last = std::find_if(held.rbegin(), held.rend(),
                                 [&](const Holding& holding) { return holding.lock == lock; });
  if (last != held.rend())
    held.erase(std::next(last).base());
}

void LockOrder::gave_up(Lock) noexcept {
  const std::scoped_lock guard(state_->mutex);
  state_->self().wait.reset();
}

std::vector<LockOrder::Cycle> LockOrder::cycles() const {
  const std::scoped_lock guard(state_->mutex);
  return state_->cycles;
}

LockOrder::Cycle LockOrder::standstill() const {
  const std::scoped_lock guard(state_->mutex);
  for (const auto& [id, actor] : state_->actors)
    if (Cycle cycle = state_->around(actor); !cycle.empty())
      return cycle;
  return {};
}

std::int64_t LockOrder::stood_still_ns() const noexcept {
  return state_->stood_still_ns.load(std::memory_order_acquire);
}

std::size_t LockOrder::edges() const {
  const std::scoped_lock guard(state_->mutex);
  return state_->edge_count;
}

std::string LockOrder::text(const Cycle& cycle) const {
  const std::scoped_lock guard(state_->mutex);
  std::string text;
  for (const auto& edge : cycle)
    text += (text.empty() ? "thread " : "\nthread ") + std::to_string(edge.thread) + " holds " +
            state_->names.at(edge.held) + " (" + text_of(edge.held_at) + ") and wants " +
            state_->names.at(edge.wanted) + " (" + text_of(edge.wanted_at) + ")";
  return text;
}

}  // namespace schedlab::procs
