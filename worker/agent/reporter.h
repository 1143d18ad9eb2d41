#pragma once
// Sends the lines of events.jsonl to the coordinator, each exactly once: keeps no cursor on disk,
// begins after the seq that Register acknowledged, and moves on only by what ReportBatch
// acknowledges. One request at a time, bounded in lines and bytes; nothing is buffered: the files
// are the buffer. Thread-safe. Owns no thread: Step is called in a loop by one.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "sae/base/mutex.h"
#include "sae/base/status.h"
#include "saeloom/v1/worker_service.pb.h"
#include "worker/agent/attempt_key.h"
#include "worker/agent/event_log.h"

namespace saeloom::agent {

/// What every message to the coordinator carries.
struct SessionIdentity {
  std::string worker_id;
  std::string incarnation;
  std::int64_t epoch = 0;
};

class Reporter {
 public:
  /// The RPC, with a deadline of its own.
  using Send = std::function<absl::Status(const v1::ReportBatchRequest&, v1::ReportBatchResponse*)>;
  /// `on_stale`: the coordinator refused us as out of date; register again.
  Reporter(Send send, std::function<void()> on_stale)
      : send_(std::move(send)), on_stale_(std::move(on_stale)) {}

  /// Registered: reports may flow. `nullptr` = the session is lost: none may.
  void SetSession(const SessionIdentity* identity);
  /// Goes on from `acknowledged` + 1; may be called again after each Register.
  void Track(const AttemptKey& key, const std::string& events_path, std::int64_t acknowledged);
  /// Nothing more will be written to its file.
  void Finish(const AttemptKey& key);
  void Drop(const AttemptKey& key);
  /// Finished, and every line was acknowledged - or can never be (a broken line, a refusal for
  /// good).
  bool Done(const AttemptKey& key);

  /// Sends at most one batch of each attempt. True when any was acknowledged: there may be more.
  bool Step();
  std::int64_t reported() const;  ///< lines acknowledged since the start

 private:
  struct Stream {
    explicit Stream(std::string path) : log(std::move(path)) {}
    EventLog log;  ///< touched by Step alone
    std::int64_t acknowledged = 0;
    std::int64_t generation = 0;  ///< of Track: an answer to a request from before it is ignored
    bool finished = false;
    bool done = false;
    bool given_up = false;
  };
  bool StepOne(const AttemptKey& key, const std::shared_ptr<Stream>& stream);
  void GiveUp(const AttemptKey& key, Stream& stream, const absl::Status& why);

  Send send_;
  std::function<void()> on_stale_;
  mutable sae::Mutex mu_;
  bool online_ ABSL_GUARDED_BY(mu_) = false;
  SessionIdentity identity_ ABSL_GUARDED_BY(mu_);
  // Shared with a Step in progress, which outlives Drop.
  std::map<AttemptKey, std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mu_);
  std::int64_t reported_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace saeloom::agent
