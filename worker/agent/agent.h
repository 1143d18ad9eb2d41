#pragma once
// The worker: runs the attempts that the coordinator commands, keeps its lease, reports what
// happens.
//
// Three threads meet here. The session's threads only put what arrives into an inbox and read what
// is to be said from `outbox_`; the loop thread owns the attempts and is the only one that starts,
// ticks and ends them; the report thread ships events and logs. Everything shared is under mu_, and
// no RPC, file or process is touched while it is held.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "sae/base/clock.h"
#include "sae/base/mutex.h"
#include "worker/agent/attempt.h"
#include "worker/agent/keeper.h"
#include "worker/agent/lease.h"
#include "worker/agent/log_shipper.h"
#include "worker/agent/metrics.h"
#include "worker/agent/reporter.h"
#include "worker/agent/reservations.h"
#include "worker/agent/session.h"
#include "worker/agent/slots.h"

namespace saeloom::agent {

class Agent final : public SessionHandler {
 public:
  struct Options {
    sae::Env* env = nullptr;
    sae::Clock* clock = nullptr;
    const RunsFolder* runs = nullptr;
    Metrics* metrics = nullptr;
    Slots slots;
    std::vector<std::string> gpus;  ///< for gangs, one a rank; none: they compute on CPUs
    std::int64_t memory_bytes = 0;  ///< for all gangs together; 0 = unknown
    GangOptions gang;
    Reservations* reservations =
        nullptr;               ///< for gangs over several workers; null: takes part in none
    std::string rack;          ///< "" = unknown
    std::string peer_address;  ///< of its PeerService
    std::string mpi_host;      ///< by which other hosts reach it
    std::shared_ptr<grpc::Channel> channel;
    std::string coordinator;                                ///< its address, for messages
    std::function<std::string(const std::string&)> advise;  ///< as Session's
    std::string boot_id;
    std::string incarnation;  ///< new for every process
    std::string version;
    std::string metrics_address;
    std::uint64_t random_seed = 0;
    absl::Duration stop_grace =
        absl::Seconds(20);  ///< between the notice of a commanded stop and the kill
    /// For processes of an earlier worker that were killed, to be gone.
    absl::Duration adopt_timeout = absl::Minutes(2);
    absl::Duration tick = absl::Milliseconds(50);
  };
  explicit Agent(Options options);
  ~Agent() override;

  /// Takes back what an earlier incarnation left open and begins.
  [[nodiscard]] absl::Status Start();
  /// Takes no new attempts and asks the running ones to yield; kills them `grace` later.
  void BeginShutdown(absl::Duration grace);
  /// Nothing runs here, and every end was acknowledged.
  bool Idle() const;
  /// No gang runs here.
  bool Quiet() const;
  /// Kills what runs, waits until it is gone, ends all threads. Idempotent.
  void Stop();

  v1::RegisterRequest MakeRegister() override;
  void OnRegistered(const v1::RegisterResponse& response, absl::Duration sent) override;
  v1::WorkerMessage MakeHeartbeat() override;
  void OnMessage(const v1::CoordinatorMessage& message) override;
  void OnLost(const absl::Status& status) override;

 private:
  struct Entry {
    std::unique_ptr<Attempt> attempt;
    int ranks = 1;
    bool unwanted = false;  ///< the coordinator has given up this attempt: end it, say nothing
    bool stopping = false;
    bool finish_told = false;     ///< to the reporter
    std::int64_t end_status = 0;  ///< id of its STATE_ENDED; 0 = not said yet
    /// Earlier attempts of the trial in this runs folder: lines that their worker could not report
    /// any more are told before this one's end, so that the curve has no hole below the checkpoint
    /// it went on from.
    std::vector<AttemptKey> older;
  };
  struct ShutdownRequest {
    absl::Duration grace;
  };
  struct KillAllRequest {};
  using Inbox =
      std::variant<v1::RegisterResponse, v1::CoordinatorMessage, ShutdownRequest, KillAllRequest>;

  void Loop();
  void ReportLoop();
  void Handle(const v1::RegisterResponse& response);
  void Handle(const v1::CoordinatorMessage& message);
  void Handle(const ShutdownRequest& request);
  void Handle(const KillAllRequest& request);
  void Handle(const v1::StartAttempt& start);
  /// A gang of those, on `slots`.
  void StartNew(const std::vector<const v1::StartAttempt*>& fresh, int slots);
  void Begin(const v1::StartAttempt& start, std::unique_ptr<Attempt> attempt);
  void Handle(const v1::StopAttempt& stop);
  void Handle(const v1::FetchLogs& fetch);
  void Handle(const v1::PrepareAttempt& prepare);
  void Handle(const v1::ReleaseAttempt& release);
  absl::Status Reserve(const v1::PrepareAttempt& prepare);
  void NoticePeers();
  void TickReservations();
  /// That of an attempt nothing is here, for a coordinator that waits for its end.
  void SayNotHere(const AttemptKey& key, const std::string& reason,
                  v1::FailureClass failure = v1::FAILURE_CLASS_UNSPECIFIED);
  [[nodiscard]] absl::Status AdoptAll(const std::vector<AttemptKey>& open);
  void Fence();
  void RenewLeases();
  void TickAttempts();
  void Acknowledge(std::int64_t status_id);
  /// Queues a status until it is acknowledged; returns its id.
  std::int64_t Say(v1::AttemptStatus status);
  void SayEnded(Entry& entry);
  void TellOlder(const AttemptKey& key, Entry& entry);
  bool OlderTold(const Entry& entry);
  void DropOlder(const Entry& entry);
  /// The start and what was to start along with it.
  void RefuseAll(const v1::StartAttempt& start, const absl::Status& why);
  void SayRefused(const AttemptKey& key, const absl::Status& why);
  void Publish();
  bool AnyRuns() const;
  bool HoldsAny() const;
  int UsedSlots() const;
  std::set<std::string> TakenGpus() const;
  bool Closed(const AttemptKey& key) const;
  void Close(const AttemptKey& key);
  void Remember(const AttemptKey& key);

  const Options options_;
  Attempt::Context context_;
  Session session_;
  Reporter reporter_;
  LogShipper logs_;
  Keeper keeper_;

  // The loop thread's own.
  std::map<AttemptKey, Entry> entries_;
  std::deque<AttemptKey> closed_;   ///< the newest, so that a late command starts nothing twice
  std::set<AttemptKey> refused_;    ///< said, not yet acknowledged
  std::set<AttemptKey> releasing_;  ///< reservations whose end is awaited
  std::optional<absl::Duration> shutdown_at_;  ///< then reservations end, too
  std::map<std::int64_t, AttemptKey> end_statuses_, refused_statuses_;
  absl::Duration lease_written_;
  bool fenced_ = false;
  bool shutting_down_ = false;
  bool quit_ = false;

  mutable sae::Mutex mu_;
  sae::CondVar wake_, published_;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;  ///< the loop carries out what it took from the inbox
  std::vector<Inbox> inbox_ ABSL_GUARDED_BY(mu_);
  LeaseTracker lease_ ABSL_GUARDED_BY(mu_);
  std::int64_t epoch_ ABSL_GUARDED_BY(mu_) = 0;
  std::int64_t heartbeat_ ABSL_GUARDED_BY(mu_) = 0;
  std::int64_t next_status_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<std::int64_t, v1::AttemptStatus> outbox_ ABSL_GUARDED_BY(mu_);
  std::map<AttemptKey, bool> known_ ABSL_GUARDED_BY(mu_);  ///< attempt -> runs; for Register
  int used_slots_ ABSL_GUARDED_BY(mu_) = 0;
  bool stop_reporting_ ABSL_GUARDED_BY(mu_) = false;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;

  std::thread loop_thread_, report_thread_;
};

}  // namespace saeloom::agent
