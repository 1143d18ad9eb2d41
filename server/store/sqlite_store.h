#pragma once
// The event log in one SQLite file (docs/formats/event_log.md): one connection, WAL,
// synchronous=FULL, an exclusive lock for as long as the object lives. Used from one thread at a
// time. Errors as EventStore's.

#include <memory>
#include <string>

#include "server/store/event_store.h"

struct sqlite3;
struct sqlite3_stmt;

namespace sae::server {

class SqliteStore final : public EventStore {
 public:
  static constexpr int kSchemaVersion = 1;

  /// Opens or creates `path`, whose folder exists. Checks that the file is ours, sound, not newer
  /// than this version and not in use by another process.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const std::string& path);
  ~SqliteStore() override;

  absl::StatusOr<std::int64_t> BeginEpoch() override;
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
  std::int64_t SizeBytes() override;
  /// The file may not grow beyond this many pages: beyond it, commits fail as on a full disk.
  [[nodiscard]] absl::Status LimitPages(std::int64_t pages);

 private:
  class Query;
  SqliteStore(sqlite3* db, std::string path) : db_(db), path_(std::move(path)) {}
  absl::Status Error(int code, const std::string& doing) const;
  absl::Status Execute(const std::string& sql);
  absl::StatusOr<std::int64_t> Integer(const std::string& sql);
  absl::Status Configure();
  absl::Status CheckOrCreateSchema();
  absl::Status Write(const Transaction& transaction);
  absl::Status WriteEvent(const LogEvent& event);

  sqlite3* db_;
  std::string path_;
  std::map<std::string, sqlite3_stmt*> statements_;  // prepared, by their text
};

}  // namespace sae::server
