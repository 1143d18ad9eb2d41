#pragma once
// The run loop of one trial on one rank: batches through the engine, metrics, evaluations, checkpoints, stop
// requests, resume. All ranks run it together; rank 0 alone writes events and decides by its clock. One
// thread; owns no files but through its parts, which it borrows.
// Errors: those of its parts, the same on every rank where the ranks could still agree. INVALID_ARGUMENT: a
// checkpoint of another run lies in the folder. Nothing is written after an error; the caller has the last word.

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/checkpoint/checkpoint.h"
#include "sae/comm/communicator.h"
#include "sae/config/events.h"
#include "sae/config/run_config.h"
#include "sae/data/activation_source.h"
#include "sae/train/engine/engine.h"
#include "sae/train/event_writer.h"
#include "sae/train/stop.h"

namespace sae::train {

/// Held-out rows that an evaluation looks at, at most.
inline constexpr std::int64_t kMaxHeldoutRows = 65536;
/// Rows that the initialisation looks at, at most (32,768 in Gao et al. 2024).
inline constexpr std::int64_t kMaxSampleRows = 32768;

struct TrainerParts {
  Env* env = nullptr;
  Clock* clock = nullptr;
  comm::Communicator* communicator = nullptr;
  Engine<float>* engine = nullptr;
  data::ActivationSource* source = nullptr;
  /// Rank 0's; null on the others.
  EventWriter* events = nullptr;
  /// This rank's wish, asked once a step.
  std::function<StopReason()> stop_requested;
  /// Called whenever something was achieved: feeds the watchdog.
  std::function<void()> progress;
};

struct TrainerOptions {
  /// Resolved.
  config::TrialConfig config;
  std::string checkpoints;
  /// Tells this attempt's temporary folders apart.
  std::string writer = "a1";
  /// The newest that stay; 0 = all.
  int keep_checkpoints = 2;
  /// Before lines of the log that are about this trial: where several share it.
  std::string label;
  std::string store;
  std::string store_hash;
  std::map<std::string, std::string> source;
  std::string instruction_set;
  /// Width of the inputs; 0 = that of the source's rows (which of a transcoder hold targets too).
  std::int64_t d = 0;
  std::int64_t sample_rows = 0;
  std::int64_t heldout_rows = 0;
  std::function<absl::Status(std::int64_t first, std::span<float> rows)> read_heldout;
  /// Mean training row (transcoder: mean target), raw units.
  std::vector<float> mean;
};

enum class Outcome { kFinished, kYielded };

class Trainer {
 public:
  Trainer(TrainerParts parts, TrainerOptions options);
  [[nodiscard]] absl::StatusOr<Outcome> Run();

 private:
  struct Decision {
    StopReason stop = StopReason::kNone;
    bool checkpoint = false;
  };

  [[nodiscard]] absl::Status Begin();
  [[nodiscard]] absl::Status Resume(const checkpoint::Latest& latest);
  [[nodiscard]] absl::Status Initialise();
  [[nodiscard]] absl::StatusOr<Decision> Decide();
  [[nodiscard]] absl::Status ReadOwnPart(std::int64_t position);
  void ReadBatch();
  [[nodiscard]] absl::Status TrainOneStep();
  [[nodiscard]] absl::Status ReportMetrics();
  [[nodiscard]] absl::Status AddStraggler(std::map<std::string, double>* values);
  [[nodiscard]] absl::Status Evaluate();
  [[nodiscard]] absl::Status SavePeriodic();
  [[nodiscard]] absl::StatusOr<std::string> Write(int keep);
  /// Where it fails, the warning says what happens `then`.
  [[nodiscard]] absl::Status Save(int keep, const std::string& then);
  [[nodiscard]] absl::StatusOr<Outcome> Yield(StopReason reason);
  [[nodiscard]] absl::StatusOr<Outcome> Finish();

  bool root() const { return parts_.events != nullptr; }
  bool EvaluationDue() const;
  /// On rank 0; an error is kept and shared at the next Decide.
  void Emit(config::EventKind kind, const std::function<void(config::Event&)>& fill = nullptr);
  /// `failed`: as Event::failed.
  void Warn(const std::string& message, const std::string& failed = "");
  void LogProgress(const std::map<std::string, double>& values);

  TrainerParts parts_;
  TrainerOptions options_;
  std::int64_t total_steps_;
  std::vector<float> room_;          // of the batch, where the source has none
  std::span<const float> batch_;     // what this replica takes, until the next is read
  std::int64_t position_ = 0;        // of the batch of all replicas that batch_ is of
  std::int64_t next_position_ = 0;   // of the one after it
  absl::Status pending_;             // this rank's, not yet shared
  std::int64_t saved_step_ = -1;
  absl::Duration last_save_;         // since boot
  absl::Duration last_log_;
  // Since the last metrics event.
  double data_seconds_ = 0, step_seconds_ = 0, exchange_seconds_ = 0;
  std::int64_t steps_ = 0;
  std::map<std::string, double> evaluation_;  // of the last one
};

}  // namespace sae::train
