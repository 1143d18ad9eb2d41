#pragma once
// One thread that runs what is posted, in order. Thread-safe. Unbounded: what is posted is one item
// for each RPC or stream event in flight, and gRPC bounds those. Owns its thread. Stop() runs what
// is queued, then joins; later posts are dropped.

#include <deque>
#include <functional>
#include <thread>

#include "sae/base/mutex.h"

namespace sae::server {

class TaskQueue {
 public:
  using Task = std::function<void()>;
  /// Tasks begin for so long, then `idle` has its turn.
  static constexpr absl::Duration kBurst = absl::Milliseconds(20);
  /// `idle` runs on the thread after each burst of tasks, and at least every `longest_wait`; it
  /// returns how long at most to wait for the next burst. It may be empty.
  explicit TaskQueue(std::function<absl::Duration()> idle = nullptr,
                     absl::Duration longest_wait = absl::Seconds(1));
  ~TaskQueue() { Stop(); }
  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;

  void Post(Task task);
  void Stop();
  std::size_t size();

 private:
  void Run();

  const std::function<absl::Duration()> idle_;
  const absl::Duration longest_wait_;
  Mutex mu_;
  CondVar changed_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace sae::server
