// Signals as something to wait for, the same on all drivers.

#include "iouring/signals.hh"

#include "tests/iouring_io.hh"

#include <unistd.h>

using namespace schedlab;
using namespace schedlab::testing;
using iouring::Signals;
using iouring::Task;

namespace {

bool is_blocked(int number) {
  sigset_t blocked;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  return ::sigismember(&blocked, number) == 1;
}

Task<> take_signals() {
  Signals signals({SIGUSR1, SIGTERM});
  ::kill(::getpid(), SIGTERM);  // of the process
  int number = co_await signals.next();
  BOOST_TEST(number == SIGTERM);
  ::raise(SIGUSR1);  // of this thread
  const signalfd_siginfo info = co_await signals.next_info();
  BOOST_TEST(info.ssi_signo == static_cast<unsigned>(SIGUSR1));
  BOOST_TEST(info.ssi_pid == static_cast<unsigned>(::getpid()));
  // While somebody waits.
  auto waiting = iouring::create_task(signals.next());
  co_await settle();
  BOOST_TEST(!waiting.done());
  ::kill(::getpid(), SIGUSR1);
  number = co_await waiting;
  BOOST_TEST(number == SIGUSR1);
}

Task<int> next_of(Signals& signals) {
  const int number = co_await signals.next();
  co_return number;
}

Task<> cancel_a_wait() {
  Signals signals({SIGUSR1});
  auto waiting = iouring::create_task(is_cancelled(next_of(signals)));
  co_await settle();
  waiting.cancel();
  const bool cancelled = co_await waiting;
  BOOST_TEST(cancelled);
  ::raise(SIGUSR1);
  const int number = co_await signals.next();
  BOOST_TEST(number == SIGUSR1);
}

Task<> restore_the_mask() {
  sigset_t one;
  ::sigemptyset(&one);
  ::sigaddset(&one, SIGUSR2);
  ::pthread_sigmask(SIG_BLOCK, &one, nullptr);
  {
    const Signals signals({SIGUSR1, SIGUSR2});
    BOOST_TEST(is_blocked(SIGUSR1));
    BOOST_TEST(is_blocked(SIGUSR2));
    {
      const Signals inner({SIGUSR1, SIGTERM});
      BOOST_TEST(is_blocked(SIGTERM));
    }
    BOOST_TEST(is_blocked(SIGUSR1));
    BOOST_TEST(!is_blocked(SIGTERM));
  }
  BOOST_TEST(!is_blocked(SIGUSR1));
  BOOST_TEST(is_blocked(SIGUSR2));
  ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  co_return;
}

volatile std::sig_atomic_t handled = 0;

Task<> leave_one_waiting() {
  const Signals signals({SIGUSR1});
  ::raise(SIGUSR1);
  BOOST_TEST(handled == 0);
  co_return;
}

int refusal_of_set(int number) {
  try {
    const Signals signals({number});
    return 0;
  } catch (const std::system_error& error) {
    return error.code().value();
  }
}

}  // namespace

BOOST_DATA_TEST_CASE(signals_come_one_by_one, on_all_drivers, choice) {
  run_io(choice, take_signals);
}

BOOST_DATA_TEST_CASE(a_cancelled_wait_loses_no_signal, on_all_drivers, choice) {
  run_io(choice, cancel_a_wait);
}

BOOST_DATA_TEST_CASE(the_mask_is_restored, on_all_drivers, choice) {
  run_io(choice, restore_the_mask);
}

BOOST_DATA_TEST_CASE(a_signal_that_nobody_took_does_what_it_was_set_to_do, on_all_drivers, choice) {
  handled = 0;
  const auto before = ::signal(SIGUSR1, [](int) { handled = 1; });
  run_io(choice, leave_one_waiting);
  BOOST_TEST(handled == 1);
  ::signal(SIGUSR1, before);
}

BOOST_AUTO_TEST_CASE(what_cannot_wait_is_refused) {
  BOOST_TEST(refusal_of_set(SIGKILL) == EINVAL);
  BOOST_TEST(refusal_of_set(SIGSTOP) == EINVAL);
  BOOST_TEST(refusal_of_set(0) == EINVAL);
  BOOST_TEST(refusal_of_set(1000) == EINVAL);
  BOOST_TEST(refusal_of_set(SIGUSR1) == 0);
}
