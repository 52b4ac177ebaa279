#pragma once
// Ways for one task to hand the turn to another and sleep until it comes back. Each is a class
// with give(to), which lets task `to` go on, and take(me), which sleeps until it is `me`'s turn;
// tasks are 0 and 1. Objects are built before a partner process is forked, in memory that both
// see; nothing in give or take throws, allocates or prints. Errors of their system calls cannot
// happen on a healthy machine, and would show as switches that were not counted.
//
// A task alone that calls give(0) and take(0) makes the same system calls without a switch: the
// floor of the mechanism.

#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "lab/base/futex.hh"

#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <string>

namespace schedlab::apparatus {

class PipeHandover {
public:
  explicit PipeHandover(bool) : pipes_{make_pipe(), make_pipe()} {}
  void give(int to) noexcept { static_cast<void>(!::write(pipes_[to].write.get(), "t", 1)); }
  void take(int me) noexcept {
    char token;
    static_cast<void>(!::read(pipes_[me].read.get(), &token, 1));
  }

private:
  Pipe pipes_[2];  // by reader
};

class EventfdHandover {
public:
  explicit EventfdHandover(bool)
      : events_{Fd(check(::eventfd(0, EFD_CLOEXEC), "eventfd")),
                Fd(check(::eventfd(0, EFD_CLOEXEC), "eventfd"))} {}
  void give(int to) noexcept { ::eventfd_write(events_[to].get(), 1); }
  void take(int me) noexcept {
    eventfd_t count;
    ::eventfd_read(events_[me].get(), &count);
  }

private:
  Fd events_[2];  // by reader
};

// A word that says whose turn it is. Every give wakes, as a program must that cannot know whether
// its partner sleeps.
template <bool Shared>
class FutexHandover {
public:
  explicit FutexHandover(bool) {}
  void give(int to) noexcept {
    turn_.store(static_cast<std::uint32_t>(to), std::memory_order_release);
    futex_wake(turn_, 1, Shared);
  }
  void take(int me) noexcept {
    const auto mine = static_cast<std::uint32_t>(me);
    for (auto seen = turn_.load(std::memory_order_acquire); seen != mine;
         seen = turn_.load(std::memory_order_acquire))
      futex_wait(turn_, seen, Shared);
  }

private:
  std::atomic<std::uint32_t> turn_{0};
};

// Mutex and condition variable of glibc.
class CondvarHandover {
public:
  explicit CondvarHandover(bool shared) {
    const int scope = shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE;
    pthread_mutexattr_t mutex;
    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, scope);
    pthread_mutex_init(&mutex_, &mutex);
    pthread_condattr_t condition;
    pthread_condattr_init(&condition);
    pthread_condattr_setpshared(&condition, scope);
    pthread_cond_init(&turned_[0], &condition);
    pthread_cond_init(&turned_[1], &condition);
  }
  void give(int to) noexcept {
    pthread_mutex_lock(&mutex_);
    turn_ = to;
    pthread_mutex_unlock(&mutex_);
    // After the unlock: on one CPU a waiter woken under the lock would preempt us, find the lock
    // taken and go back to sleep, two switches more.
    pthread_cond_signal(&turned_[to]);
  }
  void take(int me) noexcept {
    pthread_mutex_lock(&mutex_);
    while (turn_ != me)
      pthread_cond_wait(&turned_[me], &mutex_);
    pthread_mutex_unlock(&mutex_);
  }

private:
  pthread_mutex_t mutex_;
  pthread_cond_t turned_[2];  // by waiter
  int turn_ = 0;
};

class UnixHandover {
public:
  explicit UnixHandover(bool) {
    for (auto& pair : pairs_) {
      int ends[2];
      check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
      pair.read = Fd(ends[0]);
      pair.write = Fd(ends[1]);
    }
  }
  void give(int to) noexcept { ::send(pairs_[to].write.get(), "t", 1, MSG_NOSIGNAL); }
  void take(int me) noexcept {
    char token;
    ::recv(pairs_[me].read.get(), &token, 1, 0);
  }

private:
  Pipe pairs_[2];  // by reader; one direction of each is used
};

// POSIX message queues, one message of one byte. Their names are gone as soon as they exist.
class MessageQueueHandover {
public:
  explicit MessageQueueHandover(bool);
  ~MessageQueueHandover() {
    for (const mqd_t queue : queues_)
      ::mq_close(queue);
  }
  MessageQueueHandover(const MessageQueueHandover&) = delete;
  MessageQueueHandover& operator=(const MessageQueueHandover&) = delete;
  void give(int to) noexcept { ::mq_send(queues_[to], "t", 1, 0); }
  void take(int me) noexcept {
    char token;
    ::mq_receive(queues_[me], &token, 1, nullptr);
  }

private:
  mqd_t queues_[2];  // by reader
};

}  // namespace schedlab::apparatus
