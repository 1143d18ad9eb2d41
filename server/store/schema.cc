#include "server/store/schema.h"

#include <array>

namespace sae::server {
namespace {

constexpr int kApplicationId =
    0x5341454c;  // "SAEL": file(1) and we can tell our databases from others

/// kSteps[i] makes version i + 1 of version i. A step that was released is never edited.
constexpr std::array<const char*, kSchemaVersion> kSteps = {
    R"sql(
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES('epoch', 0);
CREATE TABLE events(id INTEGER PRIMARY KEY, sweep TEXT NOT NULL, seq INTEGER NOT NULL, trial TEXT NOT NULL,
                    time INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, UNIQUE(sweep, seq));
CREATE TABLE telemetry(sweep TEXT NOT NULL, seq INTEGER NOT NULL, trial TEXT NOT NULL, time INTEGER NOT NULL,
                       body TEXT NOT NULL, PRIMARY KEY(sweep, seq)) WITHOUT ROWID;
CREATE INDEX telemetry_by_trial ON telemetry(sweep, trial, seq);
CREATE TABLE acknowledged(sweep TEXT NOT NULL, trial TEXT NOT NULL, attempt INTEGER NOT NULL,
                          seq INTEGER NOT NULL, PRIMARY KEY(sweep, trial, attempt)) WITHOUT ROWID;
CREATE TABLE requests(id TEXT PRIMARY KEY, method TEXT NOT NULL, sweep TEXT NOT NULL,
                      response TEXT NOT NULL) WITHOUT ROWID;
)sql",
    R"sql(
CREATE TABLE tokens(id TEXT PRIMARY KEY, secret_hash TEXT NOT NULL, principal TEXT NOT NULL, role TEXT NOT NULL,
                    note TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
                    last_used INTEGER NOT NULL, revoked INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE audit(id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, principal TEXT NOT NULL,
                   role TEXT NOT NULL, method TEXT NOT NULL, resource TEXT NOT NULL, request_id TEXT NOT NULL,
                   code TEXT NOT NULL, peer TEXT NOT NULL);
CREATE TABLE snapshots(cut INTEGER PRIMARY KEY, layout TEXT NOT NULL, hash INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE snapshot_parts(id INTEGER PRIMARY KEY, sweep TEXT NOT NULL, part INTEGER NOT NULL,
                            cut INTEGER NOT NULL, hash INTEGER NOT NULL, body BLOB NOT NULL,
                            UNIQUE(sweep, cut, part));
CREATE INDEX events_by_trial ON events(sweep, trial, seq);
CREATE TABLE trimmed(sweep TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
)sql",
    R"sql(
ALTER TABLE requests ADD COLUMN time INTEGER NOT NULL DEFAULT 0;
CREATE INDEX requests_by_time ON requests(time);
)sql"};

}  // namespace

absl::Status PrepareSchema(SqliteDb& db) {
  SAE_ASSIGN_OR_RETURN(std::int64_t version, db.Integer("PRAGMA user_version"));
  SAE_ASSIGN_OR_RETURN(const std::int64_t application, db.Integer("PRAGMA application_id"));
  SAE_ASSIGN_OR_RETURN(const std::int64_t tables, db.Integer("SELECT count(*) FROM sqlite_schema"));
  if (tables == 0) {
    version = 0;
  } else if (application != kApplicationId) {
    return absl::FailedPreconditionError(absl::StrCat(
        "event log ", db.path(), ": is a database of another program; give another --data folder"));
  }
  if (version > kSchemaVersion || (tables > 0 && version < 1)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "event log ", db.path(), ": has schema ", version, ", this version knows ", kSchemaVersion,
        "; run the newer saeloom-coordinator that wrote it, or give another --data folder"));
  }
  for (; version < kSchemaVersion; ++version) {
    const absl::Status status = db.Execute(absl::StrCat(
        "BEGIN IMMEDIATE;", kSteps[static_cast<std::size_t>(version)],
        "PRAGMA application_id=", kApplicationId, ";PRAGMA user_version=", version + 1, ";COMMIT"));
    if (status.ok()) continue;
    if (db.in_transaction()) db.Execute("ROLLBACK").IgnoreError();
    return status;
  }
  return absl::OkStatus();
}

}  // namespace sae::server
