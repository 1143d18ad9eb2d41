#include "tests/simt/stream.h"

#include <algorithm>
#include <cstdio>

#include "sae/base/random.h"

namespace sae::simt {
namespace {

constexpr std::uint64_t kMagic = 0x5AE100F5712EA800ULL;

}  // namespace

void Event::WaitFor(std::int64_t ticket) {
  MutexLock lock(mu);
  while (done < ticket) changed.Wait(mu);
}

void Event::MarkDone(std::int64_t ticket) {
  MutexLock lock(mu);
  done = std::max(done, ticket);
  when = std::chrono::steady_clock::now();
  changed.NotifyAll();
}

Stream::Stream(SimtRuntime& runtime)
    : magic_(kMagic), runtime_(runtime), thread_([this] { Loop(); }) {}

Stream::~Stream() {
  {
    MutexLock lock(mu_);
    stop_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
  magic_ = 0;
}

Stream* Stream::Of(void* handle) {
  auto* stream = static_cast<Stream*>(handle);
  return stream != nullptr && stream->magic_ == kMagic ? stream : nullptr;
}

void Stream::Push(Work work, bool always) {
  MutexLock lock(mu_);
  queue_.push_back({std::move(work), always});
  changed_.NotifyAll();
}

void Stream::WaitIdle() {
  MutexLock lock(mu_);
  while (busy_ || !queue_.empty()) changed_.Wait(mu_);
}

void Stream::Loop() {
  Executor executor(runtime_.options_.executor, runtime_.options_.ledger,
                    [this](const void* address) { return runtime_.memory_.Describe(address); });
  for (;;) {
    Item item;
    {
      MutexLock lock(mu_);
      busy_ = false;
      changed_.NotifyAll();
      while (queue_.empty() && !stop_) changed_.Wait(mu_);
      if (queue_.empty()) return;
      item = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
    }
    if (!item.always && !runtime_.error().empty()) continue;
    const std::string error = item.work(executor);
    if (!error.empty()) runtime_.SetError(error);
  }
}

std::string RunGraph(const Graph& graph, std::uint64_t seed, Executor& executor) {
  const std::size_t n = graph.nodes.size();
  std::vector<std::size_t> missing(n), ready;
  std::vector<std::vector<std::size_t>> next(n);
  for (std::size_t i = 0; i < n; ++i) {
    missing[i] = graph.nodes[i].after.size();
    if (missing[i] == 0) ready.push_back(i);
    for (const std::size_t before : graph.nodes[i].after) next[before].push_back(i);
  }
  Random random(seed);
  while (!ready.empty()) {
    const std::size_t pick = random.Below(ready.size());
    const std::size_t node = ready[pick];
    ready[pick] = ready.back();
    ready.pop_back();
    std::string error = graph.nodes[node].work(executor);
    if (!error.empty()) return error;
    for (const std::size_t after : next[node]) {
      if (--missing[after] == 0) ready.push_back(after);
    }
  }
  return "";
}

bool AllJoined(const Graph& graph, const std::vector<std::size_t>& last) {
  std::vector<bool> before(graph.nodes.size(), false);
  for (const std::size_t node : last) before[node] = true;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {  // nodes come after lower indices only
    if (!before[i]) continue;
    for (const std::size_t j : graph.nodes[i].after) before[j] = true;
  }
  return std::all_of(before.begin(), before.end(), [](bool joined) { return joined; });
}

}  // namespace sae::simt
