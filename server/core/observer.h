#pragma once
// What the core tells those around it: the streams that wait for events, the metrics. Called on the
// core's thread, after the fact was committed; with a store whose syncs are deferred, it is durable
// with the next Core::Sync. Must not call back into the core.

#include <string>

#include "absl/time/time.h"

#include "sae/base/status.h"
#include "server/core/events.h"

namespace sae::server {

class CoreObserver {
 public:
  virtual ~CoreObserver() = default;
  /// Events up to `head` of this sweep can be read. Lower than before when a Sync has failed and
  /// what it was to make durable is lost.
  virtual void OnHead(const std::string& /*sweep*/, std::int64_t /*head*/) {}
  /// Every event, points too, before OnHead tells of it.
  virtual void OnEvent(const LogEvent& /*event*/) {}
  /// CommandsFor(worker) has something new.
  virtual void OnCommands(const std::string& /*worker*/) {}

  /// Every lifecycle event, once it is applied.
  virtual void OnLifecycle(const LogEvent& /*event*/) {}

  virtual void OnCommit(absl::Duration /*took*/, const absl::Status& /*status*/) {}
  virtual void OnSync(absl::Duration /*took*/) {}
  /// `why`: "first", or the outcome or class of the attempt before; `waited`: since it became
  /// pending.
  virtual void OnAllocated(const std::string& /*why*/, const std::string& /*queue*/,
                           absl::Duration /*waited*/) {}
  /// From allocation to the trainer's first word.
  virtual void OnGangRunning(absl::Duration /*took*/) {}
  /// One that was told to give up its slots has. `saved`: it went as it was asked to.
  virtual void OnPreempted(bool /*saved*/, absl::Duration /*took*/) {}
  virtual void OnTrialEnded(TrialState /*state*/, FailureClass /*failure*/,
                            absl::Duration /*since_created*/) {}
  virtual void OnScheduled(absl::Duration /*took*/, std::size_t /*placed*/,
                           std::size_t /*waiting*/) {}
  virtual void OnPointsDrawn(const std::string& /*algorithm*/, std::size_t /*points*/) {}
  /// `decision`: continue, stop, pause, promote.
  virtual void OnSearchDecided(const std::string& /*algorithm*/, const std::string& /*decision*/) {}
  /// A worker could not do it. `what`: keep (link below TRIAL/kept), delete.
  virtual void OnCheckpointFailed(const std::string& /*what*/) {}
  virtual void OnFenced(const std::string& /*kind: epoch, incarnation, attempt*/) {}
  virtual void OnLeaseExpired(const std::string& /*worker*/) {}
  virtual void OnReconnect(const std::string& /*worker*/) {}
};

}  // namespace sae::server
