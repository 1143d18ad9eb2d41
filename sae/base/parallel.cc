#include "sae/base/parallel.h"

#include <algorithm>
#include <thread>
#include <vector>

#include "sae/base/check.h"
#include "sae/base/mutex.h"

namespace sae {

struct ThreadPool::Impl {
  Mutex mu;
  CondVar changed;
  const Body* body ABSL_GUARDED_BY(mu) = nullptr;
  std::int64_t count ABSL_GUARDED_BY(mu) = 0;
  std::uint64_t generation ABSL_GUARDED_BY(mu) = 0;
  int running ABSL_GUARDED_BY(mu) = 0;
  bool stopping ABSL_GUARDED_BY(mu) = false;
  int size = 1;
  std::vector<std::thread> threads;

  static void RunPart(Body body, std::int64_t count, int worker, int size) {
    const std::int64_t begin = count * worker / size;
    const std::int64_t end = count * (worker + 1) / size;
    if (begin < end) body(begin, end, worker);
  }

  void Loop(int worker) {
    std::uint64_t seen = 0;
    for (;;) {
      const Body* work = nullptr;
      std::int64_t total = 0;
      {
        MutexLock lock(mu);
        while (generation == seen && !stopping) changed.Wait(mu);
        if (stopping) return;
        seen = generation;
        work = body;
        total = count;
      }
      RunPart(*work, total, worker, size);
      MutexLock lock(mu);
      if (--running == 0) changed.NotifyAll();
    }
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
  SAE_CHECK_MSG(threads >= 1, "%d threads", threads);
  impl_->size = threads;
  for (int worker = 1; worker < threads; ++worker) {
    impl_->threads.emplace_back([impl = impl_.get(), worker] { impl->Loop(worker); });
  }
}

ThreadPool::~ThreadPool() {
  {
    MutexLock lock(impl_->mu);
    impl_->stopping = true;
  }
  impl_->changed.NotifyAll();
  for (std::thread& thread : impl_->threads) thread.join();
}

int ThreadPool::size() const { return impl_->size; }

void ThreadPool::ParallelFor(std::int64_t count, Body body) {
  if (count <= 0) return;
  if (impl_->size == 1 || count == 1) {
    body(0, count, 0);
    return;
  }
  {
    MutexLock lock(impl_->mu);
    impl_->body = &body;
    impl_->count = count;
    impl_->running = impl_->size - 1;
    ++impl_->generation;
  }
  impl_->changed.NotifyAll();
  Impl::RunPart(body, count, 0, impl_->size);
  MutexLock lock(impl_->mu);
  while (impl_->running > 0) impl_->changed.Wait(impl_->mu);
}

}  // namespace sae
