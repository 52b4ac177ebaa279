#include "lab/apparatus/channel_plan.hh"

#include "lab/base/file.hh"
#include "lab/base/text.hh"

#include <fmt/format.h>

namespace schedlab::apparatus {

namespace {

// ThreadSanitizer ends a forked child of a process with threads that starts one of its own.
#if defined(__SANITIZE_THREAD__)
constexpr bool children_may_start_threads = false;
#elif defined(__has_feature)
constexpr bool children_may_start_threads = !__has_feature(thread_sanitizer);
#else
constexpr bool children_may_start_threads = true;
#endif

}  // namespace

ChannelLoadOptions channel_options(const harness::Plan& plan, std::string_view channel,
                                   std::string_view tasks, const affinity::Pair& pair) {
  ChannelLoadOptions options;
  options.way = channel_way(channel);
  options.kind = task_kind(tasks);
  options.usable = plan.topology().usable();
  if (pair.relation != affinity::Relation::unpinned) {
    options.first = pair.first;
    options.second = pair.second;
  }
  return options;
}

std::string channel_objection(const ChannelLoadOptions& options) {
  const bool certain = options.first && options.first != options.second;
  if (!options.way.sleeps && !certain)
    return "two tasks that spin need a CPU each";
  const bool looks = options.way.patience.spins > 0;
  if (looks && options.first && options.first == options.second)
    return "what one of two tasks on one CPU looks for cannot happen meanwhile; see ring-block";
  if (options.way.transport == procs::Transport::queue && options.kind == TaskKind::processes &&
      !children_may_start_threads)
    return "ThreadSanitizer lets no child of a process with threads start one";
  if (options.way.transport == procs::Transport::mq) {
    const auto longest = to_number(read_text("/proc/sys/fs/mqueue/msgsize_max").value_or(""));
    if (longest && options.size > static_cast<std::size_t>(*longest))
      return fmt::format("a message of a POSIX queue has at most {} bytes here; raise "
                         "fs.mqueue.msgsize_max",
                         *longest);
  }
  return "";
}

}  // namespace schedlab::apparatus
