#pragma once
// Runs one kernel at a time on the calling thread: blocks one after the other, in seeded order; the
// threads of a block as fibers, which switch in barriers and warp functions only, in seeded order.
// It finds: divergent barriers, threads that end while others wait for them, warp functions whose
// mask and lanes do not fit, faults (guard pages, null), more shared memory than there is, writes
// beside shared arrays, kernels that do not end. It cannot find races that no order of lanes shows,
// nor memory-fence errors. The first error ends the kernel: fibers are dropped where they stand.
// Not thread-safe; an Executor stays on the thread that first calls Run. x86-64.

#include <csignal>
#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/simt/fiber.h"
#include "tests/simt/ledger.h"
#include "tests/simt/shared_memory.h"
#include "tests/simt/simt_device.h"

namespace sae::simt {

struct ExecutorOptions {
  /// seed % 4: the order in which threads that can go on do so. 0 ascending, 1 descending, 2 random
  /// at every switch, 3 warp by warp in random order. Blocks: ascending, descending, random,
  /// random.
  std::uint64_t seed = 0;
  /// What shared memory holds before it is written.
  std::uint8_t fill = 0xFF;
  /// Switches of one kernel.
  std::int64_t step_limit = 400'000'000;
  /// Processor time of one kernel.
  double seconds_limit = 60;
};

struct KernelCall {
  std::string name;
  dim3 grid, block;
  std::size_t shared_bytes = 0;
  std::function<void()> body;  ///< called by each thread of each block
};

/// What the hardware refuses to launch, in words; empty: nothing.
std::string LaunchError(const KernelCall& call);

class Executor {
 public:
  /// `ledger` may be null. `describe_address` says in words where a fault happened; empty: unknown.
  Executor(ExecutorOptions options, BarrierLedger* ledger,
           std::function<std::string(const void*)> describe_address);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  /// The first error, or an empty string.
  std::string Run(const KernelCall& call);

  /// The one that runs a kernel on this thread, or null.
  static Executor* Current();

  // For the running fiber.
  void Barrier(const char* file, int id);
  void WarpBarrier(const char* file, int id);
  std::uint64_t WarpExchange(WarpOp op, unsigned mask, std::uint64_t value, int argument,
                             int width);
  void* StaticShared(const void* key, const char* name, std::size_t bytes, std::size_t alignment);
  void* DynamicShared() { return shared_.dynamic(); }

 private:
  friend struct FaultHandler;
  enum class State { kReady, kAtBarrier, kAtWarp, kDone };
  struct Thread {
    ThreadView view;
    State state = State::kReady;
    const char* file = nullptr;  // kAtBarrier
    int id = 0;
    WarpOp op = WarpOp::kShuffle;  // kAtWarp
    unsigned mask = 0;
    std::uint64_t value = 0;
    int argument = 0;
    int width = 32;
    std::uint64_t result = 0;
  };
  struct Warp {
    unsigned waiting = 0;    // lanes in kAtWarp
    unsigned absent = 0;     // lanes that have ended or never were
    bool one_group = false;  // those that wait wait for the same as `last`
    int last = 0;            // the thread that came last
  };
  struct KnownBarrier {
    const char* file;
    int id;
    bool deleted;
  };

  void RunBlock(const KernelCall& call, dim3 block_index, std::uint64_t block_number);
  void RankThreads(std::uint64_t block_number);
  int NextReady();
  void SetReady(int thread);
  void ResumeThread(int thread);
  static void FiberMain(void* executor);
  void Suspend(State state);
  bool IsDeleted(const char* file, int id);
  std::string WarpConflict(int thread, unsigned waiting) const;
  std::string WarpResults(int warp, unsigned mask);
  std::string DescribeDeadlock() const;
  std::string Where(int thread) const;
  std::string Waiting(int thread) const;
  /// Notes the error of the running thread; false when `what` is empty.
  bool NoteError(const std::string& what);
  /// The running fiber never goes on. Its frames are dropped: no caller may own memory.
  [[noreturn]] void GiveUp();
  void StartClock();
  void StopClock();
  void NoteFault();

  const ExecutorOptions options_;
  BarrierLedger* const ledger_;
  const std::function<std::string(const void*)> describe_address_;

  const KernelCall* call_ = nullptr;
  int count_ = 0;  // threads of the block
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<bool> fresh_;  // the fiber stands at its beginning
  std::vector<Thread> threads_;
  std::vector<int> rank_, by_rank_;
  std::vector<std::uint64_t> ready_;  // bit r: the thread of rank r can go on
  std::vector<Warp> warps_;
  std::vector<KnownBarrier> known_;
  SharedMemory shared_;
  int running_ = -1;
  int at_barrier_ = 0;
  int first_at_barrier_ = -1;
  int done_ = 0;
  std::int64_t steps_ = 0;
  std::uint64_t random_ = 0;
  std::string error_;

  // Shared with the signal handler on this thread.
  volatile std::sig_atomic_t in_kernel_ = 0;
  volatile std::sig_atomic_t overtime_ = 0;
  void* volatile fault_address_ = nullptr;
  volatile std::sig_atomic_t fault_is_write_ = 0;
  volatile std::sig_atomic_t fault_is_overtime_ = 0;
  bool has_timer_ = false;
  timer_t timer_{};
  std::vector<char> signal_stack_;
  stack_t signal_stack_before_{};
};

}  // namespace sae::simt
