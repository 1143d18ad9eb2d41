#pragma once
// One connection to one SQLite file and its prepared statements. Used from one thread at a time.
// Errors as EventStore's, with the file's path and the remedy.

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "sae/base/status.h"

struct sqlite3;
struct sqlite3_stmt;

namespace sae::server {

class SqliteDb {
 public:
  /// Opens or creates `path`, whose folder exists, takes the exclusive lock and, with `check`,
  /// reads the whole file to see that it is sound. `vfs` "" = the system's.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<SqliteDb>> Open(const std::string& path,
                                                                      const std::string& vfs,
                                                                      bool check = true);
  ~SqliteDb();
  SqliteDb(const SqliteDb&) = delete;
  SqliteDb& operator=(const SqliteDb&) = delete;

  const std::string& path() const { return path_; }
  [[nodiscard]] absl::Status Execute(const std::string& sql);
  /// The first column of the only row.
  [[nodiscard]] absl::StatusOr<std::int64_t> Integer(const std::string& sql);
  bool in_transaction() const;

  /// From now on a commit is in the WAL when it returns, and on the disk after Sync; and only
  /// Checkpoint brings the WAL into the database.
  [[nodiscard]] absl::Status DeferSync();
  [[nodiscard]] absl::Status Sync();
  /// Nothing when the WAL is short.
  [[nodiscard]] absl::Status Checkpoint();
  absl::Status Error(int code, const std::string& doing) const;

 private:
  friend class SqliteQuery;
  SqliteDb(sqlite3* db, std::string path) : db_(db), path_(std::move(path)) {}
  absl::Status Configure();
  absl::Status Check();

  sqlite3* db_;
  std::string path_;
  std::map<std::string, sqlite3_stmt*> statements_;  // prepared, by their text
  int wal_pages_ = 0;                                // of the last commit, when syncs are deferred
};

/// One use of a cached prepared statement: binds left to right, steps, resets at the end. Bound
/// strings outlive it.
class SqliteQuery {
 public:
  SqliteQuery(SqliteDb& db, const std::string& sql);
  ~SqliteQuery();
  SqliteQuery(const SqliteQuery&) = delete;
  SqliteQuery& operator=(const SqliteQuery&) = delete;

  SqliteQuery& Bind(const std::string& text);
  SqliteQuery& Bind(std::int64_t value);
  SqliteQuery& BindBlob(const std::string& bytes);
  /// True while there is a row. After false, status() tells an end from an error.
  bool Next();
  absl::Status status(const std::string& doing) const;
  [[nodiscard]] absl::Status Run(const std::string& doing);
  std::int64_t Integer(int column) const;
  /// Also of a blob.
  std::string Text(int column) const;

 private:
  SqliteDb& db_;
  sqlite3_stmt* statement_ = nullptr;
  int code_ = 0;
  int bound_ = 0;
};

}  // namespace sae::server
