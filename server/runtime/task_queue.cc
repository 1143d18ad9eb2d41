#include "server/runtime/task_queue.h"

#include <algorithm>

#include "sae/base/clock.h"

namespace sae::server {

TaskQueue::TaskQueue(std::function<absl::Duration()> idle, absl::Duration longest_wait)
    : idle_(std::move(idle)), longest_wait_(longest_wait), thread_([this] { Run(); }) {}

void TaskQueue::Post(Task task) {
  MutexLock lock(mu_);
  if (stopping_) return;
  tasks_.push_back(std::move(task));
  changed_.NotifyAll();
}

std::size_t TaskQueue::size() {
  MutexLock lock(mu_);
  return tasks_.size();
}

void TaskQueue::Stop() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void TaskQueue::Run() {
  absl::Duration wait = absl::ZeroDuration();
  std::deque<Task> tasks;  // taken, not run yet
  while (true) {
    bool stopping = false;
    {
      MutexLock lock(mu_);
      if (tasks.empty() && tasks_.empty() && !stopping_ && wait > absl::ZeroDuration()) {
        // Without work at idle, no need to wake.
        if (idle_) {
          changed_.WaitFor(mu_, wait);
        } else {
          while (tasks_.empty() && !stopping_) changed_.Wait(mu_);
        }
      }
      if (tasks.empty()) tasks.swap(tasks_);
      stopping = stopping_;
    }
    const bool ran = !tasks.empty();
    const absl::Duration until = RealClock().SinceBoot() + kBurst;
    while (!tasks.empty()) {
      tasks.front()();
      tasks.pop_front();  // what the task owns goes before the next one, and idle work
      if (idle_ && RealClock().SinceBoot() >= until) break;
    }
    wait = longest_wait_;
    if (idle_) wait = std::min(wait, idle_());
    // Something overdue that cannot be done now (a full disk) must not spin.
    if (!ran) wait = std::max(wait, absl::Milliseconds(5));
    if (stopping && !ran) return;
  }
}

}  // namespace sae::server
