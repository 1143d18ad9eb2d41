#include "server/store/sqlite_store.h"

#include <utility>

#include "sae/base/failpoint.h"
#include "server/store/schema.h"

namespace sae::server {
namespace {

/// Columns: seq, trial, time, kind, body.
absl::StatusOr<LogEvent> EventOf(const SqliteQuery& query, const std::string& sweep) {
  LogEvent event;
  event.sweep = sweep;
  event.seq = query.Integer(0);
  event.trial = query.Text(1);
  event.time = absl::FromUnixNanos(query.Integer(2));
  SAE_ASSIGN_OR_RETURN(event.body, ParseBody(query.Text(3), query.Text(4)));
  return event;
}

absl::StatusOr<std::vector<LogEvent>> EventsOf(SqliteQuery& query, const std::string& sweep,
                                               const std::string& doing) {
  std::vector<LogEvent> out;
  while (query.Next()) {
    SAE_ASSIGN_OR_RETURN(LogEvent event, EventOf(query, sweep));
    out.push_back(std::move(event));
  }
  SAE_RETURN_IF_ERROR(query.status(doing));
  return out;
}

/// Points of a sweep may be many megabytes: who follows a stream is spared them. Read and
/// ReadLifecycle give SweepCreated and PointsAdded without them; Replay has them.
constexpr char kStreamBody[] =
    "CASE kind WHEN 'sweep_created' THEN '{\"spec\":{},\"points\":[]}' "
    "WHEN 'points_added' THEN '{\"points\":[]}' ELSE body END";

/// The ends of absl::Time survive: nanoseconds saturate.
absl::Time TimeOf(std::int64_t nanos) {
  if (nanos == INT64_MAX) return absl::InfiniteFuture();
  if (nanos == INT64_MIN) return absl::InfinitePast();
  return absl::FromUnixNanos(nanos);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& path,
                                                               const std::string& vfs) {
  SAE_ASSIGN_OR_RETURN(std::unique_ptr<SqliteDb> db, SqliteDb::Open(path, vfs));
  SAE_RETURN_IF_ERROR(PrepareSchema(*db));
  std::unique_ptr<SqliteStore> store(new SqliteStore(std::move(db), vfs));
  SAE_ASSIGN_OR_RETURN(store->epoch_, store->ReadEpoch());
  return store;
}

absl::StatusOr<std::int64_t> SqliteStore::ReadEpoch() {
  return db_->Integer("SELECT value FROM meta WHERE key = 'epoch'");
}

absl::StatusOr<std::int64_t> SqliteStore::BeginEpoch() {
  SAE_RETURN_IF_ERROR(db_->Execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'"));
  SAE_ASSIGN_OR_RETURN(epoch_, ReadEpoch());
  return epoch_;
}

absl::Status SqliteStore::Opened() const {
  if (db_ != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("event log ", path_, ": is not open"));
}

absl::Status SqliteStore::CheckEpoch() {
  SAE_RETURN_IF_ERROR(Opened());
  SAE_ASSIGN_OR_RETURN(const std::int64_t epoch, ReadEpoch());
  return epoch == epoch_ ? absl::OkStatus()
                         : TakenOver(absl::StrCat("event log ", db_->path()), epoch, epoch_);
}

absl::Status SqliteStore::InTransaction(const std::function<absl::Status()>& write) {
  SAE_RETURN_IF_ERROR(Opened());
  SAE_FAILPOINT_RETURN("store.before_begin");
  SAE_RETURN_IF_ERROR(db_->Execute("BEGIN IMMEDIATE"));
  SAE_FAILPOINT("store.after_begin");
  absl::Status status = CheckEpoch();
  if (status.ok()) status = write();
  SAE_FAILPOINT("store.before_commit");
  if (status.ok()) status = db_->Execute("COMMIT");
  unsynced_ = unsynced_ || (deferred_ && status.ok());
  SAE_FAILPOINT("store.after_commit");
  // SQLite may have rolled back by itself (disk full).
  if (!status.ok() && db_->in_transaction()) db_->Execute("ROLLBACK").IgnoreError();
  return status;
}

absl::Status SqliteStore::Commit(const Transaction& transaction) {
  if (transaction.empty()) return absl::OkStatus();
  return InTransaction([&] { return Write(transaction); });
}

absl::Status SqliteStore::DeferSync() {
  SAE_RETURN_IF_ERROR(Opened());
  deferred_ = true;
  return db_->DeferSync();
}

absl::Status SqliteStore::Sync() {
  if (!unsynced_) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(Opened());
  SAE_FAILPOINT_RETURN("store.before_sync");
  SAE_RETURN_IF_ERROR(db_->Sync());
  SAE_FAILPOINT("store.after_sync");
  unsynced_ = false;
  return absl::OkStatus();
}

void SqliteStore::Tidy() {
  // What cannot be brought in stays in the WAL; a commit or a Sync will meet what is wrong.
  if (db_ != nullptr && deferred_) db_->Checkpoint().IgnoreError();
}

absl::Status SqliteStore::WriteEvent(const LogEvent& event) {
  const std::string body = BodyToJson(event.body);
  const std::int64_t time = absl::ToUnixNanos(event.time);
  if (event.telemetry()) {
    return SqliteQuery(*db_, "INSERT INTO telemetry VALUES(?,?,?,?,?)")
        .Bind(event.sweep)
        .Bind(event.seq)
        .Bind(event.trial)
        .Bind(time)
        .Bind(body)
        .Run("write a point");
  }
  const std::string kind = KindOf(event.body);
  return SqliteQuery(*db_, "INSERT INTO events(sweep,seq,trial,time,kind,body) VALUES(?,?,?,?,?,?)")
      .Bind(event.sweep)
      .Bind(event.seq)
      .Bind(event.trial)
      .Bind(time)
      .Bind(kind)
      .Bind(body)
      .Run("write an event");
}

absl::Status SqliteStore::Write(const Transaction& transaction) {
  for (const LogEvent& event : transaction.events) SAE_RETURN_IF_ERROR(WriteEvent(event));
  for (const Acknowledged& a : transaction.acknowledged) {
    SAE_RETURN_IF_ERROR(SqliteQuery(*db_, "INSERT OR REPLACE INTO acknowledged VALUES(?,?,?,?)")
                            .Bind(a.sweep)
                            .Bind(a.trial)
                            .Bind(std::int64_t{a.attempt})
                            .Bind(a.seq)
                            .Run("write an acknowledged seq"));
  }
  for (const UsedRequest& r : transaction.requests) {
    SAE_RETURN_IF_ERROR(SqliteQuery(*db_, "INSERT INTO requests VALUES(?,?,?,?,?)")
                            .Bind(r.id)
                            .Bind(r.method)
                            .Bind(r.sweep)
                            .Bind(r.response)
                            .Bind(absl::ToUnixNanos(r.time))
                            .Run("write a request id"));
  }
  for (const TokenRecord& t : transaction.tokens) SAE_RETURN_IF_ERROR(WriteToken(t));
  for (const AuditRecord& a : transaction.audit) SAE_RETURN_IF_ERROR(WriteAudit(a));
  return absl::OkStatus();
}

absl::Status SqliteStore::WriteToken(const TokenRecord& t) {
  return SqliteQuery(*db_, "INSERT OR REPLACE INTO tokens VALUES(?,?,?,?,?,?,?,?,?)")
      .Bind(t.id)
      .Bind(t.secret_hash)
      .Bind(t.principal)
      .Bind(t.role)
      .Bind(t.note)
      .Bind(absl::ToUnixNanos(t.created))
      .Bind(absl::ToUnixNanos(t.expires))
      .Bind(absl::ToUnixNanos(t.last_used))
      .Bind(std::int64_t{t.revoked})
      .Run("write a token");
}

absl::Status SqliteStore::WriteAudit(const AuditRecord& a) {
  return SqliteQuery(*db_,
                     "INSERT INTO audit(time,principal,role,method,resource,request_id,code,peer) "
                     "VALUES(?,?,?,?,?,?,?,?)")
      .Bind(absl::ToUnixNanos(a.time))
      .Bind(a.principal)
      .Bind(a.role)
      .Bind(a.method)
      .Bind(a.resource)
      .Bind(a.request_id)
      .Bind(a.code)
      .Bind(a.peer)
      .Run("write the audit");
}

absl::StatusOr<std::vector<TokenRecord>> SqliteStore::Tokens() {
  SAE_RETURN_IF_ERROR(Opened());
  std::vector<TokenRecord> out;
  SqliteQuery query(*db_,
                    "SELECT id,secret_hash,principal,role,note,created,expires,last_used,revoked "
                    "FROM tokens ORDER BY id");
  while (query.Next()) {
    out.push_back({query.Text(0), query.Text(1), query.Text(2), query.Text(3), query.Text(4),
                   TimeOf(query.Integer(5)), TimeOf(query.Integer(6)), TimeOf(query.Integer(7)),
                   query.Integer(8) != 0});
  }
  SAE_RETURN_IF_ERROR(query.status("read tokens"));
  return out;
}

absl::StatusOr<std::vector<AuditRecord>> SqliteStore::ReadAudit(std::int64_t after, int limit) {
  SAE_RETURN_IF_ERROR(Opened());
  std::vector<AuditRecord> out;
  SqliteQuery query(*db_,
                    "SELECT id,time,principal,role,method,resource,request_id,code,peer FROM audit "
                    "WHERE id>? ORDER BY id LIMIT ?");
  query.Bind(after).Bind(std::int64_t{limit});
  while (query.Next()) {
    out.push_back({query.Integer(0), TimeOf(query.Integer(1)), query.Text(2), query.Text(3),
                   query.Text(4), query.Text(5), query.Text(6), query.Text(7), query.Text(8)});
  }
  SAE_RETURN_IF_ERROR(query.status("read the audit"));
  return out;
}

absl::Status SqliteStore::Replay(const std::function<absl::Status(LogEvent)>& visit) {
  return ReplayAfter(0, visit);
}

absl::Status SqliteStore::ReplayAfter(std::int64_t after,
                                      const std::function<absl::Status(LogEvent)>& visit) {
  SqliteQuery query(*db_,
                    "SELECT seq,trial,time,kind,body,sweep FROM events WHERE id>? ORDER BY id");
  query.Bind(after);
  while (query.Next()) {
    SAE_ASSIGN_OR_RETURN(LogEvent event, EventOf(query, query.Text(5)));
    SAE_RETURN_IF_ERROR(visit(std::move(event)));
  }
  return query.status("replay");
}

absl::StatusOr<std::map<std::string, std::int64_t>> SqliteStore::Heads() {
  SAE_RETURN_IF_ERROR(Opened());
  std::map<std::string, std::int64_t> heads;
  // A sweep's first row is an event, so `events` names them all.
  SqliteQuery query(
      *db_,
      "SELECT sweep, max(seq, coalesce((SELECT max(t.seq) FROM telemetry t WHERE t.sweep = "
      "e.sweep), 0)) "
      "FROM (SELECT sweep, max(seq) AS seq FROM events GROUP BY sweep) e");
  while (query.Next()) heads[query.Text(0)] = query.Integer(1);
  SAE_RETURN_IF_ERROR(query.status("read the heads"));
  return heads;
}

absl::StatusOr<std::vector<Acknowledged>> SqliteStore::AllAcknowledged() {
  SAE_RETURN_IF_ERROR(Opened());
  std::vector<Acknowledged> all;
  SqliteQuery query(
      *db_, "SELECT sweep,trial,attempt,seq FROM acknowledged ORDER BY sweep,trial,attempt");
  while (query.Next()) {
    all.push_back(
        {query.Text(0), query.Text(1), static_cast<int>(query.Integer(2)), query.Integer(3)});
  }
  SAE_RETURN_IF_ERROR(query.status("read acknowledged"));
  return all;
}

absl::StatusOr<std::optional<UsedRequest>> SqliteStore::FindRequest(const std::string& id) {
  SAE_RETURN_IF_ERROR(Opened());
  SqliteQuery query(*db_, "SELECT method,sweep,response,time FROM requests WHERE id=?");
  query.Bind(id);
  if (query.Next()) {
    return UsedRequest{id, query.Text(0), query.Text(1), query.Text(2), TimeOf(query.Integer(3))};
  }
  SAE_RETURN_IF_ERROR(query.status("find a request id"));
  return std::nullopt;
}

absl::StatusOr<std::vector<LogEvent>> SqliteStore::Read(const std::string& sweep,
                                                        std::int64_t after, int limit) {
  SAE_RETURN_IF_ERROR(Opened());
  SqliteQuery query(
      *db_,
      absl::StrCat("SELECT seq,trial,time,kind,", kStreamBody,
                   " FROM events WHERE sweep=?1 AND seq>?2 UNION ALL "
                   "SELECT seq,trial,time,'point',body FROM telemetry WHERE sweep=?1 AND seq>?2 "
                   "ORDER BY 1 LIMIT ?3"));
  query.Bind(sweep).Bind(after).Bind(std::int64_t{limit});
  return EventsOf(query, sweep, "read events");
}

absl::StatusOr<std::vector<LogEvent>> SqliteStore::ReadLifecycle(
    const std::string& sweep, const std::optional<std::string>& trial, std::int64_t after,
    int limit) {
  SAE_RETURN_IF_ERROR(Opened());
  const std::string one = trial ? "AND trial=?2 " : "";
  SqliteQuery query(
      *db_, absl::StrCat("SELECT seq,trial,time,kind,", kStreamBody, " FROM events WHERE sweep=?1 ",
                         one, "AND seq>?3 ORDER BY seq LIMIT ?4"));
  const std::string name = trial.value_or("");
  query.Bind(sweep).Bind(name).Bind(after).Bind(std::int64_t{limit});
  return EventsOf(query, sweep, "read lifecycle events");
}

// Left to itself, SQLite takes the primary key and looks at all points of the sweep. With INDEXED
// BY it takes that index or refuses the statement.
absl::StatusOr<std::vector<LogEvent>> SqliteStore::ReadPoints(const std::string& sweep,
                                                              const std::string& trial,
                                                              std::int64_t after, int limit) {
  SAE_RETURN_IF_ERROR(Opened());
  SqliteQuery query(
      *db_,
      "SELECT seq,trial,time,'point',body FROM telemetry INDEXED BY telemetry_by_trial "
      "WHERE sweep=? AND trial=? AND seq>? "
      "ORDER BY seq LIMIT ?");
  query.Bind(sweep).Bind(trial).Bind(after).Bind(std::int64_t{limit});
  return EventsOf(query, sweep, "read points");
}

absl::StatusOr<std::vector<LogEvent>> SqliteStore::ReadPointsBackward(const std::string& sweep,
                                                                      const std::string& trial,
                                                                      std::int64_t before,
                                                                      int limit) {
  SAE_RETURN_IF_ERROR(Opened());
  SqliteQuery query(
      *db_,
      "SELECT seq,trial,time,'point',body FROM telemetry INDEXED BY telemetry_by_trial "
      "WHERE sweep=? AND trial=? AND seq<? "
      "ORDER BY seq DESC LIMIT ?");
  query.Bind(sweep).Bind(trial).Bind(before).Bind(std::int64_t{limit});
  return EventsOf(query, sweep, "read points");
}

absl::Status SqliteStore::LimitPages(std::int64_t pages) {
  return db_->Integer(absl::StrCat("PRAGMA max_page_count=", pages)).status();
}

std::int64_t SqliteStore::SizeBytes() {
  if (db_ == nullptr) return 0;
  const auto pages = db_->Integer("PRAGMA page_count");
  const auto size = db_->Integer("PRAGMA page_size");
  return pages.ok() && size.ok() ? *pages * *size : 0;
}

}  // namespace sae::server
