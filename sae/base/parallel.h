#pragma once
// A fixed set of threads and one loop. Work is cut statically by index, so what a thread computes does
// not depend on timing: results that are sums inside one index are bitwise the same for any thread count.

#include <cstdint>
#include <memory>

#include <absl/functional/function_ref.h>

namespace sae {

class ThreadPool {
 public:
  /// `threads` >= 1, the caller included. Owns threads - 1 threads until destroyed.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  int size() const;
  using Body = absl::FunctionRef<void(std::int64_t begin, std::int64_t end, int worker)>;
  /// Calls body(begin, end, worker) for consecutive parts of [0, count), at most one part a thread, and
  /// waits. One caller at a time; `body` must not throw and must not call ParallelFor. Allocates nothing.
  void ParallelFor(std::int64_t count, Body body);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sae
