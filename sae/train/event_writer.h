#pragma once
// Appends to events.jsonl: numbers the lines, stamps them, and makes a verdict durable. Thread-safe: the
// training thread writes, the watchdog may add the last word. Owns the file. Errors: those of Env, DATA_LOSS
// for a file that is there and is not a log of events.
// Format: docs/formats/events.md.

#include <cstdint>
#include <memory>
#include <string>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/base/mutex.h"
#include "sae/base/status.h"
#include "sae/config/events.h"

namespace sae::train {

class EventWriter {
 public:
  /// Goes on after the last whole line of a file that is there; a torn last line is dropped.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<EventWriter>> Open(Env& env, Clock& clock,
                                                                         const std::string& path);

  /// Sets `seq` and `time` (and step and tokens of a `failed` without them, to those of the event before),
  /// writes one line; a verdict is synced to the disk.
  [[nodiscard]] absl::Status Append(config::Event event);
  /// The same when no other thread is inside Append; returns whether it wrote. For the watchdog: a thread
  /// that is stuck in a write must not take it along.
  bool TryAppend(config::Event event);

 private:
  EventWriter(Clock& clock, std::unique_ptr<WritableFile> file, std::int64_t seq)
      : clock_(clock), file_(std::move(file)), seq_(seq) {}
  absl::Status Write(config::Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Clock& clock_;
  Mutex mu_;
  std::unique_ptr<WritableFile> file_ ABSL_GUARDED_BY(mu_);
  std::int64_t seq_ ABSL_GUARDED_BY(mu_);  // of the last line
  std::int64_t step_ ABSL_GUARDED_BY(mu_) = 0;
  std::int64_t tokens_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace sae::train
