#pragma once
// An event store in memory, for tests and simulation. The contents live in a Disk that outlives the
// store, so that a test can "restart" over them; the next commits can be made to fail. Not
// thread-safe.

#include <memory>
#include <tuple>

#include "server/store/event_store.h"

namespace sae::server {

class MemoryStore : public EventStore {
 public:
  struct Disk {
    std::int64_t epoch = 0;
    std::vector<LogEvent> log;  ///< in the order of the commits
    std::map<std::string, std::map<std::int64_t, std::size_t>> by_seq;  ///< index into log
    std::map<std::tuple<std::string, std::string, int>, std::int64_t> acknowledged;
    std::map<std::string, UsedRequest> requests;
    std::map<std::string, TokenRecord> tokens;
    std::vector<AuditRecord> audit;
    std::optional<SnapshotHead> snapshot;
    std::map<std::tuple<std::string, std::int64_t, int>, std::string> snapshot_parts;
    std::map<std::string, std::int64_t> trimmed;
    /// Returned by the next commits, and removed from here.
    std::vector<absl::Status> failures;
    /// The next failure is of a commit that is durable all the same.
    bool fail_after = false;
  };

  explicit MemoryStore(std::shared_ptr<Disk> disk) : disk_(std::move(disk)), epoch_(disk_->epoch) {}

  absl::StatusOr<std::int64_t> BeginEpoch() override { return epoch_ = ++disk_->epoch; }
  absl::Status CheckEpoch() override {
    return disk_->epoch == epoch_ ? absl::OkStatus() : TakenOver("event log", disk_->epoch, epoch_);
  }
  absl::Status Commit(const Transaction& transaction) override;
  absl::Status Replay(const std::function<absl::Status(LogEvent)>& visit) override;
  absl::StatusOr<std::map<std::string, std::int64_t>> Heads() override;
  absl::StatusOr<std::vector<Acknowledged>> AllAcknowledged() override;
  absl::StatusOr<std::optional<UsedRequest>> FindRequest(const std::string& id) override;
  absl::StatusOr<std::vector<LogEvent>> Read(const std::string& sweep, std::int64_t after,
                                             int limit) override;
  absl::StatusOr<std::vector<LogEvent>> ReadPoints(const std::string& sweep,
                                                   const std::string& trial, std::int64_t after,
                                                   int limit) override;
  absl::StatusOr<std::vector<LogEvent>> ReadPointsBackward(const std::string& sweep,
                                                           const std::string& trial,
                                                           std::int64_t before, int limit) override;
  absl::StatusOr<std::vector<TokenRecord>> Tokens() override;
  absl::StatusOr<std::vector<AuditRecord>> ReadAudit(std::int64_t after, int limit) override;
  std::int64_t SizeBytes() override {
    return static_cast<std::int64_t>(disk_->log.size() * sizeof(LogEvent));
  }
  absl::Status Probe() override;
  absl::StatusOr<std::int64_t> LastEventId() override;
  absl::Status ReplayAfter(std::int64_t after,
                           const std::function<absl::Status(LogEvent)>& visit) override;
  absl::Status WriteSnapshotParts(const std::vector<SnapshotPart>& parts) override;
  absl::Status CompleteSnapshot(const SnapshotHead& head,
                                const std::map<std::string, std::int64_t>& cuts) override;
  absl::StatusOr<std::optional<SnapshotHead>> NewestSnapshot() override;
  absl::StatusOr<std::string> ReadSnapshotPart(const std::string& sweep, std::int64_t cut,
                                               int part) override;
  absl::StatusOr<std::int64_t> TrimTelemetry(const std::string& sweep, std::int64_t after,
                                             std::int64_t upto, int limit) override;
  absl::StatusOr<int> TrimRequests(absl::Time before, absl::Time now, int limit) override;
  absl::StatusOr<std::map<std::string, std::int64_t>> Trimmed() override;

 private:
  const std::map<std::int64_t, std::size_t>& SeqsOf(const std::string& sweep) const;

  std::shared_ptr<Disk> disk_;  // shared with the test that restarts
  std::int64_t epoch_;
};

}  // namespace sae::server
