#pragma once
// Tasks, threads or processes, that play a role again and again on command: the partners of a
// ping-pong, the members of a ring.

#include "lab/apparatus/witness.hh"
#include "lab/base/child.hh"
#include "lab/base/mapping.hh"
#include "procs/sched_attr.hh"
#include "procs/thread.hh"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

enum class TaskKind : std::uint8_t { threads, processes };
std::string_view to_text(TaskKind kind) noexcept;
// "threads" or "processes".
TaskKind task_kind(std::string_view word);

// How the tasks of a subject run, its own thread included.
struct TaskOptions {
  TaskKind kind = TaskKind::threads;
  procs::SchedPolicy policy = procs::SchedPolicy::other;
  std::uint64_t slack_ns = 0;  // timer slack; 0: as it is
};

// Moves the calling thread to a CPU, or (nothing) to all of `usable`, unless it is there already.
void stand_on(std::optional<unsigned> cpu, const affinity::CpuSet& usable);

// Gives the calling thread the options' policy and slack for a scope. Not a SchedScope, which tries
// the way back in a thread of its own first: a process that has ever had a second thread pays for
// it in every read and write of glibc, and these policies can always be left.
class TaskScope {
public:
  explicit TaskScope(const TaskOptions& options);
  TaskScope(const TaskScope&) = delete;
  TaskScope& operator=(const TaskScope&) = delete;
  ~TaskScope();

private:
  std::optional<procs::SchedAttr> before_;
  std::optional<procs::TimerSlack> slack_;
};

class Team {
public:
  // role(member, rounds), played by every member at each start. It must return without throwing
  // when its rounds are done. For processes it runs in forked copies: what it shares with the
  // caller lies in shared mappings or descriptors made before.
  using Role = std::function<void(unsigned member, std::uint64_t rounds)>;

  // One member for each place; returns when all are where they belong. Throws what placing them
  // threw.
  Team(const TaskOptions& options, std::vector<std::optional<unsigned>> places,
       const affinity::CpuSet& usable, Role role);
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  // The members must not be in the middle of a role.
  ~Team();

  // Lets every member play its role.
  void start(std::uint64_t rounds);
  // Waits until all have played it; their records, valid until the next start.
  std::span<const TaskRecord> finish();

private:
  struct Desk;
  void add(unsigned index, const affinity::CpuSet& usable);
  void dismiss();
  void member(unsigned index, const affinity::CpuSet& usable);
  [[nodiscard]] Desk& desk() const noexcept { return *shared_.as<Desk>(); }

  TaskOptions options_;
  std::vector<std::optional<unsigned>> places_;
  Role role_;
  Mapping shared_;
  std::vector<procs::Thread> threads_;
  std::vector<Child> processes_;
};

}  // namespace schedlab::apparatus
