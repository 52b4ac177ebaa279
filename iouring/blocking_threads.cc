#include "iouring/blocking_threads.hh"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

namespace schedlab::iouring {

BlockingThreads::BlockingThreads(unsigned limit) noexcept
    : limit_(std::max(limit, 1U)), process_(::getpid()) {}

BlockingThreads::~BlockingThreads() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  work_came_.notify_all();
  for (std::thread& thread : threads_)
    thread.join();
}

bool BlockingThreads::of_this_process() const noexcept {
  return ::getpid() == process_;
}

void BlockingThreads::submit(BlockingWork& work) {
  bool enough = false;
  {
    const std::lock_guard lock(mutex_);
    enough = idle_ > waiting_;
  }
  // Idle threads only become more meanwhile: nobody else submits.
  if (!enough && threads_.size() < limit_)
    start_one();
  {
    const std::lock_guard lock(mutex_);
    enter_line(work);
  }
  work_came_.notify_one();
}

void BlockingThreads::start_one() {
  threads_.reserve(limit_);
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    threads_.emplace_back([this] { serve(); });
    ::pthread_setname_np(threads_.back().native_handle(), "blocking");
  } catch (const std::system_error&) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (threads_.empty())
      throw;
    return;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool BlockingThreads::withdraw(BlockingWork& work) noexcept {
  const std::lock_guard lock(mutex_);
  if (!work.in_line_)
    return false;
  leave_line(work);
  return true;
}

void BlockingThreads::enter_line(BlockingWork& work) noexcept {
  work.in_line_ = true;
  work.next_ = nullptr;
  work.previous_ = last_;
  (last_ ? last_->next_ : first_) = &work;
  last_ = &work;
  ++waiting_;
}

void BlockingThreads::leave_line(BlockingWork& work) noexcept {
  work.in_line_ = false;
  (work.previous_ ? work.previous_->next_ : first_) = work.next_;
  (work.next_ ? work.next_->previous_ : last_) = work.previous_;
  --waiting_;
}

void BlockingThreads::serve() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    work_came_.wait(lock, [this] { return first_ || closed_; });
    --idle_;
    if (!first_)
      return;
    BlockingWork* const work = first_;
    leave_line(*work);
    lock.unlock();
    work->run();
    lock.lock();
  }
}

}  // namespace schedlab::iouring
