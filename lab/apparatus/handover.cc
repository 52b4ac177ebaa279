#include "lab/apparatus/handover.hh"

namespace schedlab::apparatus {

namespace {

mqd_t open_unnamed_queue(int number) {
  mq_attr shape{};
  shape.mq_maxmsg = 1;
  shape.mq_msgsize = 1;
  const std::string name = "/schedlab-" + std::to_string(::getpid()) + "-" + std::to_string(number);
  const mqd_t queue = ::mq_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600, &shape);
  if (queue == static_cast<mqd_t>(-1)) {
    const int error = errno;
    if (error == ENOSYS)
      throw Unsupported("the kernel has no POSIX message queues (CONFIG_POSIX_MQUEUE)");
    if (error == EMFILE || error == ENOMEM || error == ENOSPC)
      throw Unsupported("no room for a POSIX message queue: " + errno_text(error) +
                        "; raise RLIMIT_MSGQUEUE (ulimit -q) or fs.mqueue.queues_max");
    throw_errno(error, "mq_open", name);
  }
  ::mq_unlink(name.c_str());
  return queue;
}

}  // namespace

MessageQueueHandover::MessageQueueHandover(bool) {
  queues_[0] = open_unnamed_queue(0);
  try {
    queues_[1] = open_unnamed_queue(1);
  } catch (...) {
    ::mq_close(queues_[0]);
    throw;
  }
}

}  // namespace schedlab::apparatus
