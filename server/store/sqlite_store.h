#pragma once
// The event log in one SQLite file (docs/formats/event_log.md): one connection, WAL,
// synchronous=FULL, an exclusive lock for as long as the object lives. Used from one thread at a
// time. Errors as EventStore's.

#include <memory>
#include <string>

#include "server/store/event_store.h"
#include "server/store/sqlite_db.h"

namespace sae::server {

class SqliteStore final : public EventStore {
 public:
  /// Opens or creates `path`, whose folder exists. Checks that the file is ours, sound, not newer
  /// than this version and not in use by another process; brings an older one up to date. `vfs`:
  /// SQLite's file layer by name, "" = the system's.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(
      const std::string& path, const std::string& vfs = "");

  absl::StatusOr<std::int64_t> BeginEpoch() override;
  absl::Status CheckEpoch() override;
  absl::Status Commit(const Transaction& transaction) override;
  absl::Status DeferSync() override;
  bool unsynced() const override { return unsynced_; }
  absl::Status Sync() override;
  void Tidy() override;
  absl::Status Replay(const std::function<absl::Status(LogEvent)>& visit) override;
  absl::StatusOr<std::map<std::string, std::int64_t>> Heads() override;
  absl::StatusOr<std::vector<Acknowledged>> AllAcknowledged() override;
  absl::StatusOr<std::optional<UsedRequest>> FindRequest(const std::string& id) override;
  absl::StatusOr<std::vector<LogEvent>> Read(const std::string& sweep, std::int64_t after,
                                             int limit) override;
  absl::StatusOr<std::vector<LogEvent>> ReadLifecycle(const std::string& sweep,
                                                      const std::optional<std::string>& trial,
                                                      std::int64_t after, int limit) override;
  absl::StatusOr<std::vector<LogEvent>> ReadPoints(const std::string& sweep,
                                                   const std::string& trial, std::int64_t after,
                                                   int limit) override;
  absl::StatusOr<std::vector<LogEvent>> ReadPointsBackward(const std::string& sweep,
                                                           const std::string& trial,
                                                           std::int64_t before, int limit) override;
  absl::StatusOr<std::vector<TokenRecord>> Tokens() override;
  absl::StatusOr<std::vector<AuditRecord>> ReadAudit(std::int64_t after, int limit) override;
  absl::StatusOr<int> TrimAudit(std::int64_t keep, int limit) override;
  std::int64_t SizeBytes() override;
  absl::Status Recover() override;
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
  /// The file may not grow beyond this many pages: beyond it, commits fail as on a full disk.
  [[nodiscard]] absl::Status LimitPages(std::int64_t pages);

 private:
  SqliteStore(std::unique_ptr<SqliteDb> db, std::string vfs)
      : db_(std::move(db)), path_(db_->path()), vfs_(std::move(vfs)) {}
  /// FAILED_PRECONDITION while Recover has not brought the file back.
  absl::Status Opened() const;
  absl::StatusOr<std::int64_t> ReadEpoch();
  /// `write` between BEGIN and COMMIT, if the epoch is still ours.
  absl::Status InTransaction(const std::function<absl::Status()>& write);
  absl::Status Write(const Transaction& transaction);
  absl::Status WriteEvent(const LogEvent& event);
  absl::Status WriteToken(const TokenRecord& token);
  absl::Status WriteAudit(const AuditRecord& record);

  std::unique_ptr<SqliteDb> db_;  // null after a Recover that failed
  const std::string path_;
  const std::string vfs_;
  std::int64_t epoch_ = 0;
  bool deferred_ = false;  // syncs
  bool unsynced_ = false;
};

}  // namespace sae::server
