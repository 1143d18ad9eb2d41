#pragma once
// Several trials in one process over one stream. Each trial runs on a thread of its own, but only one thread runs
// at a time: it goes on until it wants the next rows, held-out rows, or its encoder's pass over token blocks. When
// all trials wait, what they wait for is made once for all: first the encoders' pass, then held-out rows, then the
// batch that comes first in the stream. So the order of everything, collectives included, is a function of what
// the trials do, the same on every rank; and each trial gets the rows and the bits that it gets alone. Trials may
// stand at different places of the stream (after a resume): those behind catch up. A trial that returns, well or
// badly, leaves; the others do not notice.
// Run is called once, on the thread that made the gang. Borrows pool and source. Errors: those of the source, to
// each trial that asked for these rows.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include <absl/functional/function_ref.h>

#include "sae/base/mutex.h"
#include "sae/base/parallel.h"
#include "sae/base/status.h"
#include "sae/data/activation_source.h"
#include "sae/kernels/aligned.h"
#include "sae/kernels/block_meeting.h"
#include "sae/train/engine/engine_gang.h"

namespace sae::train {

class Gang final : public kernels::BlockMeeting {
 public:
  struct Options {
    int trials = 0;
    ThreadPool* pool = nullptr;
    data::ActivationSource* source = nullptr;
    std::function<absl::Status(std::int64_t first, std::span<float> rows)> read_heldout;
  };
  /// How often something was made for all who waited for it; for tests and logs.
  struct Counts {
    std::int64_t passes = 0;     ///< of encoders
    std::int64_t encoders = 0;   ///< in them
    std::int64_t batches = 0;    ///< read
    std::int64_t heldout = 0;    ///< reads of held-out rows
  };

  explicit Gang(Options options);
  ~Gang() override;
  Gang(const Gang&) = delete;
  Gang& operator=(const Gang&) = delete;

  /// body(trial) for each trial, 0 first; returns when all have.
  void Run(absl::FunctionRef<void(int)> body);

  // For the trial's own thread.
  EngineGang& engines() { return engines_; }
  /// The stream as this trial sees it.
  data::ActivationSource& source(int trial);
  [[nodiscard]] absl::Status ReadHeldout(int trial, std::int64_t first, std::span<float> rows);
  void Run(const kernels::BlockJob& job, ThreadPool& pool) override;

  Counts counts() const { return counts_; }

 private:
  class Source;
  struct Trial;
  static constexpr int kNobody = -1;

  void Wait(Trial& trial);
  void LetRun(int trial);
  bool ServeEncoders();
  bool ServeHeldout();
  bool ServeRows();

  const Options options_;
  EngineGang engines_;
  Counts counts_;
  kernels::AlignedVector<float> rows_, heldout_;
  std::vector<kernels::BlockJob> jobs_;
  std::vector<std::unique_ptr<Trial>> trials_;

  Mutex mu_;
  CondVar waiting_;
  int turn_ ABSL_GUARDED_BY(mu_) = kNobody;  // all else belongs to whose turn it is
};

}  // namespace sae::train
