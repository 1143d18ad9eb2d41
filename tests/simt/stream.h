#pragma once
// Inside tests/simt: the queue and worker thread of one stream, events, captures and graphs.

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "sae/base/mutex.h"
#include "tests/simt/runtime.h"

namespace sae::simt {

/// What a graph does: `after` are indices of nodes that must be done before.
struct Node {
  Work work;
  std::vector<std::size_t> after;
};

struct Graph {
  std::vector<Node> nodes;
};

struct Capture {
  Stream* origin = nullptr;
  std::thread::id thread;
  Graph graph;
  std::vector<Stream*> streams;
};

struct Event {
  Mutex mu;
  CondVar changed;
  std::int64_t recorded ABSL_GUARDED_BY(mu) = 0;  // calls of RecordEvent
  std::int64_t done ABSL_GUARDED_BY(mu) = 0;
  std::chrono::steady_clock::time_point when ABSL_GUARDED_BY(mu);
  Capture* capture ABSL_GUARDED_BY(mu) = nullptr;  // recorded last in it, perhaps ended since
  std::vector<std::size_t> nodes ABSL_GUARDED_BY(mu);

  void WaitFor(std::int64_t ticket);
  void MarkDone(std::int64_t ticket);
};

class Stream {
 public:
  explicit Stream(SimtRuntime& runtime);
  ~Stream();  ///< waits for its work
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// Null when the handle is not one of CreateStream.
  static Stream* Of(void* handle);
  SimtRuntime& runtime() { return runtime_; }
  void Push(Work work, bool always);
  void WaitIdle();

  // Guarded by the runtime's mutex.
  Capture* capture = nullptr;
  std::vector<std::size_t> tail;  ///< nodes that the next one comes after

 private:
  struct Item {
    Work work;
    bool always;
  };
  void Loop();

  std::uint64_t magic_;
  SimtRuntime& runtime_;
  Mutex mu_;
  CondVar changed_;
  std::deque<Item> queue_ ABSL_GUARDED_BY(mu_);
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

/// Runs all nodes, each after those it depends on, in an order drawn from `seed`.
std::string RunGraph(const Graph& graph, std::uint64_t seed, Executor& executor);
/// Whether every node is one of `last` or comes before one of them.
bool AllJoined(const Graph& graph, const std::vector<std::size_t>& last);

}  // namespace sae::simt
