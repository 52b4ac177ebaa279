#pragma once
// The ways of spawn.hh, one object each. For the apparatus's own files.

#include "lab/apparatus/spawn.hh"

#include <cstdint>
#include <memory>
#include <string_view>

namespace schedlab::apparatus {

// What a child leaves behind, in memory shared with it; clock ticks, 0 where not stamped.
struct SpawnStamps {
  std::uint64_t begun = 0;
  std::uint64_t ended = 0;
  std::uint64_t faults = 0;
  std::uint64_t answer = 0;
};

class SpawnWay {
public:
  SpawnWay() = default;
  SpawnWay(const SpawnWay&) = delete;
  SpawnWay& operator=(const SpawnWay&) = delete;
  virtual ~SpawnWay() = default;

  // Starts a child that stamps and ends. Throws std::system_error.
  virtual void start(SpawnStamps& stamps) = 0;
  // Waits for its end; whether it ended as it should.
  virtual bool join(SpawnStamps& stamps) = 0;
  // What the stamps must show, beyond the end. Asked once for each child, when nothing is clocked.
  [[nodiscard]] virtual bool right(const SpawnStamps&) { return true; }
};

std::unique_ptr<SpawnWay> make_task_way(std::string_view way);     // threads and copies
std::unique_ptr<SpawnWay> make_program_way(std::string_view way);  // programs, and procs

}  // namespace schedlab::apparatus
