#include "iouring/wait.hh"

#include "iouring/timers.hh"

#include <algorithm>

namespace schedlab::iouring::detail {

namespace {

bool failed(const StartedBase& task) noexcept {
  return task.done && task.exception() && !is_cancelled(task.exception());
}

// Suspends until enough of the tasks have ended or the time is over.
class Enough final : public Suspension, private Timer {
public:
  Enough(const Several& tasks, When when, std::optional<std::chrono::nanoseconds> limit)
      : tasks_(tasks), when_(when), limit_(limit),
        watches_(std::make_unique<Watch[]>(tasks.size())) {
    for (const StartedBase* const task : tasks)
      if (!task->done)
        ++left_;
  }

  [[nodiscard]] bool await_ready() const noexcept {
    if (left_ == 0 || (when_ == When::first_completed && left_ < tasks_.size()))
      return true;
    return when_ == When::first_exception &&
           std::ranges::any_of(tasks_, [](const StartedBase* task) { return failed(*task); });
  }
  template <std::derived_from<PromiseBase> Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) {
    const auto begin = [this] {
      if (limit_)
        task_->loop->timers().set(*this, from_now(*limit_));
    };
    if (!suspend(coroutine, begin))
      return false;
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
      watches_[i].wait = this;
      watches_[i].task = tasks_[i];
      if (!tasks_[i]->done)
        tasks_[i]->listen(watches_[i]);
    }
    return true;
  }
  void await_resume() const { throw_if_cancelled(); }

private:
  struct Watch final : Listener {
    void task_ended() noexcept override { wait->one_ended(*task); }
    Enough* wait = nullptr;
    StartedBase* task = nullptr;
  };

  void one_ended(const StartedBase& task) noexcept {
    const bool enough = --left_ == 0 || when_ == When::first_completed ||
                        (when_ == When::first_exception && failed(task));
    if (!enough)
      return;
    stop_watching();
    resume();
  }
  void expired() noexcept override {
    stop_watching();
    resume();
  }
  void on_cancel() noexcept override {
    stop_watching();
    cut_short();
  }
  void stop_watching() noexcept {
    task_->loop->timers().unset(*this);
    for (std::size_t i = 0; i < tasks_.size(); ++i)
      if (!tasks_[i]->done)
        tasks_[i]->forget(watches_[i]);
  }

  const Several& tasks_;
  When when_;
  std::optional<std::chrono::nanoseconds> limit_;
  std::unique_ptr<Watch[]> watches_;
  std::size_t left_ = 0;
};

}  // namespace

Task<Waited> wait(Several tasks, When when, std::optional<std::chrono::nanoseconds> limit) {
  co_await Enough(tasks, when, limit);
  Waited waited;
  for (std::size_t i = 0; i < tasks.size(); ++i)
    (tasks[i]->done ? waited.done : waited.pending).push_back(i);
  co_return waited;
}

Ends::Ends(const Several& tasks)
    : watches_(std::make_unique<Watch[]>(tasks.size())), count_(tasks.size()), left_(tasks.size()) {
  for (std::size_t i = 0; i < count_; ++i) {
    Watch& watch = watches_[i];
    watch.ends = this;
    watch.task = tasks[i];
    if (watch.task->done)
      add(watch);
    else
      watch.task->listen(watch);
  }
}

Ends::~Ends() {
  for (std::size_t i = 0; i < count_; ++i)
    if (!watches_[i].ended)
      watches_[i].task->forget(watches_[i]);
}

void Ends::add(Watch& watch) noexcept {
  watch.ended = true;
  (last_ ? last_->next : first_) = &watch;
  last_ = &watch;
  if (Waiter* const waiter = waiter_.pop())
    waiter->wake();
}

std::optional<std::size_t> Ends::take() noexcept {
  if (left_ == 0)
    return {};
  --left_;
  Watch* const watch = first_;
  first_ = watch->next;
  if (!first_)
    last_ = nullptr;
  return static_cast<std::size_t>(watch - watches_.get());
}

}  // namespace schedlab::iouring::detail
