#include "affinity/pin.hh"
#include "lab/apparatus/handover.hh"
#include "lab/base/child.hh"
#include "lab/base/mapping.hh"
#include "procs/thread.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <new>
#include <string>
#include <type_traits>
#include <variant>

using namespace schedlab;
using namespace schedlab::apparatus;
namespace bdata = boost::unit_test::data;

namespace {

constexpr std::uint32_t turns = 10'000;

// Loses a wake-up now and then, as a broken mechanism would.
struct Forgetful : FutexHandover<true> {
  using FutexHandover::FutexHandover;
  void give(int to) noexcept {
    if (++gives_ < turns / 2)
      FutexHandover::give(to);
  }

private:
  std::atomic<std::uint32_t> gives_{0};
};

// Never waits for its turn.
struct Impatient {
  explicit Impatient(bool) {}
  void give(int) noexcept {}
  void take(int) noexcept {}
};

// Who had the turn, in order. Only the holder of the turn writes: no read-modify-write, so that
// two holders at one time would lose entries.
struct Log {
  std::atomic<std::uint32_t> length{0};
  std::array<std::atomic<char>, turns> holders{};

  void add(char holder) noexcept {
    const auto at = length.load(std::memory_order_relaxed);
    if (at < turns)
      holders[at].store(holder, std::memory_order_relaxed);
    length.store(at + 1, std::memory_order_relaxed);
  }
  bool alternates() const noexcept {
    bool right = length == turns;
    for (std::uint32_t i = 0; i < turns; ++i)
      right = right && holders[i] == (i % 2 == 0 ? 'a' : 'b');
    return right;
  }
};

// What two tasks share, processes or not.
template <typename Mechanism>
struct Table {
  Log log;
  Mechanism mechanism;
  explicit Table(bool processes) : mechanism(processes) {}
};

template <typename Mechanism>
void play_first(Table<Mechanism>& table) noexcept {
  for (std::uint32_t i = 0; i < turns / 2; ++i) {
    table.log.add('a');
    table.mechanism.give(1);
    table.mechanism.take(0);
  }
}

template <typename Mechanism>
void play_second(Table<Mechanism>& table) noexcept {
  for (std::uint32_t i = 0; i < turns / 2; ++i) {
    table.mechanism.take(1);
    table.log.add('b');
    table.mechanism.give(0);
  }
}

struct Setting {
  bool processes;
  bool two_cpus;
};

enum Result { alternated, overlapped, unsupported };

template <typename Mechanism>
Result play(const Setting& setting) {
  const auto cpus = affinity::thread_affinity().cpus();
  const unsigned second = setting.two_cpus ? cpus[1] : cpus[0];
  const Mapping memory = Mapping::shared_memory(sizeof(Table<Mechanism>));
  auto& table = *new (memory.data()) Table<Mechanism>(setting.processes);
  affinity::bind_thread(0, {cpus[0]});
  if (setting.processes) {
    Child partner = Child::fork([&] {
      affinity::bind_thread(0, {second});
      play_second(table);
      return 0;
    });
    play_first(table);
    partner.wait();
  } else {
    procs::Thread partner({.name = "", .cpus = affinity::CpuSet{second}, .sched = {}},
                          [&] { play_second(table); });
    play_first(table);
    partner.join();
  }
  return table.log.alternates() ? alternated : overlapped;
}

// Plays in a process of its own, which is killed if it takes too long: a wake-up was lost.
template <typename Mechanism>
std::string played(const Setting& setting, int patience_ms = 60'000) {
  Child game = Child::fork([&]() -> int {
    try {
      return play<Mechanism>(setting);
    } catch (const Unsupported&) {
      return unsupported;
    }
  });
  const auto end = game.wait_for(patience_ms);
  if (!end)
    return "stuck";
  const std::array<std::string, 3> results = {"alternated", "overlapped", "unsupported"};
  return end->kind == ExitCause::Kind::exited ? results.at(static_cast<std::size_t>(end->value))
                                              : end->text();
}

using AnyMechanism =
    std::variant<std::type_identity<PipeHandover>, std::type_identity<EventfdHandover>,
                 std::type_identity<FutexHandover<false>>, std::type_identity<FutexHandover<true>>,
                 std::type_identity<CondvarHandover>, std::type_identity<UnixHandover>,
                 std::type_identity<MessageQueueHandover>>;

template <typename Visit, std::size_t... Is>
void for_each_mechanism(Visit visit, std::index_sequence<Is...>) {
  (visit(std::variant_alternative_t<Is, AnyMechanism>()), ...);
}

template <typename Visit>
void for_each_mechanism(Visit visit) {
  for_each_mechanism(visit, std::make_index_sequence<std::variant_size_v<AnyMechanism>>());
}

std::vector<Setting> settings() {
  std::vector<Setting> all = {{false, false}, {true, false}};
  if (affinity::thread_affinity().count() > 1)
    all.insert(all.end(), {{false, true}, {true, true}});
  return all;
}

}  // namespace
