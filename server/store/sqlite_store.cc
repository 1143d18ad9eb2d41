#include "server/store/sqlite_store.h"

#include <sqlite3.h>
#include <sys/vfs.h>
#include <utility>

namespace sae::server {
namespace {

constexpr int kApplicationId =
    0x5341454c;  // "SAEL": file(1) and we can tell our databases from others

constexpr char kSchema[] = R"sql(
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
)sql";

/// SQLite's locks do not hold on network file systems.
bool OnNetworkFileSystem(const std::string& path) {
  struct statfs fs {};
  const std::string folder = path.substr(0, path.find_last_of('/') + 1);
  if (statfs(folder.empty() ? "." : folder.c_str(), &fs) != 0) return false;
  const auto type = static_cast<std::uint32_t>(fs.f_type);
  return type == 0x6969u || type == 0xFF534D42u || type == 0xFE534D42u ||
         type == 0x517Bu;  // NFS, CIFS, SMB2, SMB
}

}  // namespace

/// One use of a cached prepared statement: binds left to right, steps, resets at the end.
class SqliteStore::Query {
 public:
  Query(SqliteStore& store, const std::string& sql) : store_(store) {
    sqlite3_stmt*& cached = store.statements_[sql];
    if (cached == nullptr)
      code_ = sqlite3_prepare_v3(store.db_, sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &cached,
                                 nullptr);
    statement_ = cached;
  }
  ~Query() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  Query& Bind(const std::string& text) {
    // The caller's string outlives the query.
    sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()),
                      SQLITE_STATIC);
    return *this;
  }
  Query& Bind(std::int64_t value) {
    sqlite3_bind_int64(statement_, ++bound_, value);
    return *this;
  }
  /// True while there is a row. After false, status() tells an end from an error.
  bool Next() {
    if (code_ == SQLITE_OK || code_ == SQLITE_ROW) code_ = sqlite3_step(statement_);
    return code_ == SQLITE_ROW;
  }
  absl::Status status(const std::string& doing) const {
    return code_ == SQLITE_DONE || code_ == SQLITE_ROW ? absl::OkStatus()
                                                       : store_.Error(code_, doing);
  }
  absl::Status Run(const std::string& doing) {
    while (Next()) {
    }
    return status(doing);
  }
  std::int64_t Integer(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string Text(int column) const {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return text == nullptr
               ? ""
               : std::string(text,
                             static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
  }
  /// Columns: seq, trial, time, kind, body.
  absl::StatusOr<LogEvent> Event(const std::string& sweep) const {
    LogEvent event;
    event.sweep = sweep;
    event.seq = Integer(0);
    event.trial = Text(1);
    event.time = absl::FromUnixNanos(Integer(2));
    SAE_ASSIGN_OR_RETURN(event.body, ParseBody(Text(3), Text(4)));
    return event;
  }
  absl::StatusOr<std::vector<LogEvent>> Events(const std::string& sweep, const std::string& doing) {
    std::vector<LogEvent> out;
    while (Next()) {
      SAE_ASSIGN_OR_RETURN(LogEvent event, Event(sweep));
      out.push_back(std::move(event));
    }
    SAE_RETURN_IF_ERROR(status(doing));
    return out;
  }

 private:
  SqliteStore& store_;
  sqlite3_stmt* statement_ = nullptr;
  int code_ = SQLITE_OK;
  int bound_ = 0;
};

absl::Status SqliteStore::Error(int code, const std::string& doing) const {
  const std::string what =
      absl::StrCat("event log ", path_, ": ", doing, ": ", sqlite3_errmsg(db_));
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::FailedPreconditionError(absl::StrCat(
          "event log ", path_,
          " is in use by another process; stop that coordinator, or give another --data folder"));
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return absl::DataLossError(absl::StrCat(
          what, "; restore the file and its -wal from a backup, or give an empty --data folder"));
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(absl::StrCat(what, "; free space on its disk"));
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
      return absl::PermissionDeniedError(absl::StrCat(what, "; make it and its folder writable"));
    case SQLITE_IOERR:
    case SQLITE_NOMEM:
      return absl::UnavailableError(what);
    default:
      return absl::InternalError(what);
  }
}

absl::Status SqliteStore::Execute(const std::string& sql) {
  const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql.substr(0, 40));
}

absl::StatusOr<std::int64_t> SqliteStore::Integer(const std::string& sql) {
  Query query(*this, sql);
  if (query.Next()) return query.Integer(0);
  SAE_RETURN_IF_ERROR(query.status(sql));
  return absl::InternalError(absl::StrCat("event log ", path_, ": ", sql, ": no row"));
}

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& path) {
  if (OnNetworkFileSystem(path)) {
    return absl::FailedPreconditionError(
        absl::StrCat("event log ", path,
                     ": is on a network file system, where SQLite's locks do not hold; give --data "
                     "on a local disk"));
  }
  sqlite3* db = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(path.c_str(), &db, flags, nullptr);
  std::unique_ptr<SqliteStore> store(new SqliteStore(db, path));
  if (code != SQLITE_OK) return store->Error(code, "open");
  sqlite3_extended_result_codes(db, 1);
  SAE_RETURN_IF_ERROR(store->Configure());
  SAE_RETURN_IF_ERROR(store->CheckOrCreateSchema());
  return store;
}

SqliteStore::~SqliteStore() {
  for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(db_);
}

absl::Status SqliteStore::Configure() {
  // The lock first: with it, WAL needs no shared memory, and a second process is refused here.
  SAE_RETURN_IF_ERROR(Execute("PRAGMA locking_mode=EXCLUSIVE"));
  SAE_RETURN_IF_ERROR(Execute("PRAGMA journal_mode=WAL"));
  SAE_RETURN_IF_ERROR(Execute("PRAGMA synchronous=FULL"));
  SAE_RETURN_IF_ERROR(Execute("BEGIN EXCLUSIVE; COMMIT"));
  SAE_ASSIGN_OR_RETURN(const std::int64_t synchronous, Integer("PRAGMA synchronous"));
  if (synchronous != 2) {
    return absl::InternalError(
        absl::StrCat("event log ", path_, ": synchronous is ", synchronous, ", not FULL"));
  }
  Query check(*this, "PRAGMA quick_check(1)");
  if (!check.Next()) return check.status("quick_check");
  if (const std::string found = check.Text(0); found != "ok") {
    return absl::DataLossError(
        absl::StrCat("event log ", path_, ": corrupt: ", found,
                     "; restore it from a backup, or give an empty --data folder"));
  }
  return absl::OkStatus();
}

absl::Status SqliteStore::CheckOrCreateSchema() {
  SAE_ASSIGN_OR_RETURN(const std::int64_t version, Integer("PRAGMA user_version"));
  SAE_ASSIGN_OR_RETURN(const std::int64_t application, Integer("PRAGMA application_id"));
  SAE_ASSIGN_OR_RETURN(const std::int64_t tables, Integer("SELECT count(*) FROM sqlite_schema"));
  if (tables == 0) {
    return Execute(absl::StrCat("BEGIN IMMEDIATE;", kSchema,
                                "PRAGMA application_id=", kApplicationId,
                                ";PRAGMA user_version=", kSchemaVersion, ";COMMIT"));
  }
  if (application != kApplicationId) {
    return absl::FailedPreconditionError(absl::StrCat(
        "event log ", path_, ": is a database of another program; give another --data folder"));
  }
  if (version != kSchemaVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "event log ", path_, ": has schema ", version, ", this version knows ", kSchemaVersion,
        "; run the newer saeloom-coordinator that wrote it, or give another --data folder"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::int64_t> SqliteStore::BeginEpoch() {
  SAE_RETURN_IF_ERROR(Execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'"));
  return Integer("SELECT value FROM meta WHERE key = 'epoch'");
}

absl::Status SqliteStore::Commit(const Transaction& transaction) {
  if (transaction.empty()) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
  absl::Status status = Write(transaction);
  if (status.ok()) status = Execute("COMMIT");
  // SQLite may have rolled back by itself (disk full): then this fails, rightly, and says nothing
  // new.
  if (!status.ok() && sqlite3_get_autocommit(db_) == 0) Execute("ROLLBACK").IgnoreError();
  return status;
}

absl::Status SqliteStore::WriteEvent(const LogEvent& event) {
  const std::string body = BodyToJson(event.body);
  const std::int64_t time = absl::ToUnixNanos(event.time);
  if (event.telemetry()) {
    return Query(*this, "INSERT INTO telemetry VALUES(?,?,?,?,?)")
        .Bind(event.sweep)
        .Bind(event.seq)
        .Bind(event.trial)
        .Bind(time)
        .Bind(body)
        .Run("write a point");
  }
  const std::string kind = KindOf(event.body);
  return Query(*this, "INSERT INTO events(sweep,seq,trial,time,kind,body) VALUES(?,?,?,?,?,?)")
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
    SAE_RETURN_IF_ERROR(Query(*this, "INSERT OR REPLACE INTO acknowledged VALUES(?,?,?,?)")
                            .Bind(a.sweep)
                            .Bind(a.trial)
                            .Bind(std::int64_t{a.attempt})
                            .Bind(a.seq)
                            .Run("write an acknowledged seq"));
  }
  for (const UsedRequest& r : transaction.requests) {
    SAE_RETURN_IF_ERROR(Query(*this, "INSERT INTO requests VALUES(?,?,?,?)")
                            .Bind(r.id)
                            .Bind(r.method)
                            .Bind(r.sweep)
                            .Bind(r.response)
                            .Run("write a request id"));
  }
  return absl::OkStatus();
}

absl::Status SqliteStore::Replay(const std::function<absl::Status(LogEvent)>& visit) {
  Query query(*this, "SELECT seq,trial,time,kind,body,sweep FROM events ORDER BY id");
  while (query.Next()) {
    SAE_ASSIGN_OR_RETURN(LogEvent event, query.Event(query.Text(5)));
    SAE_RETURN_IF_ERROR(visit(std::move(event)));
  }
  return query.status("replay");
}

absl::StatusOr<std::map<std::string, std::int64_t>> SqliteStore::Heads() {
  std::map<std::string, std::int64_t> heads;
  // A sweep's first row is an event, so `events` names them all.
  Query query(*this,
              "SELECT sweep, max(seq, coalesce((SELECT max(t.seq) FROM telemetry t WHERE t.sweep = "
              "e.sweep), 0)) "
              "FROM (SELECT sweep, max(seq) AS seq FROM events GROUP BY sweep) e");
  while (query.Next()) heads[query.Text(0)] = query.Integer(1);
  SAE_RETURN_IF_ERROR(query.status("read the heads"));
  return heads;
}

absl::StatusOr<std::vector<Acknowledged>> SqliteStore::AllAcknowledged() {
  std::vector<Acknowledged> all;
  Query query(*this,
              "SELECT sweep,trial,attempt,seq FROM acknowledged ORDER BY sweep,trial,attempt");
  while (query.Next()) {
    all.push_back(
        {query.Text(0), query.Text(1), static_cast<int>(query.Integer(2)), query.Integer(3)});
  }
  SAE_RETURN_IF_ERROR(query.status("read acknowledged"));
  return all;
}

absl::StatusOr<std::optional<UsedRequest>> SqliteStore::FindRequest(const std::string& id) {
  Query query(*this, "SELECT method,sweep,response FROM requests WHERE id=?");
  query.Bind(id);
  if (query.Next()) return UsedRequest{id, query.Text(0), query.Text(1), query.Text(2)};
  SAE_RETURN_IF_ERROR(query.status("find a request id"));
  return std::nullopt;
}

absl::StatusOr<std::vector<LogEvent>> SqliteStore::Read(const std::string& sweep,
                                                        std::int64_t after, int limit) {
  Query query(*this,
              "SELECT seq,trial,time,kind,body FROM events WHERE sweep=?1 AND seq>?2 UNION ALL "
              "SELECT seq,trial,time,'point',body FROM telemetry WHERE sweep=?1 AND seq>?2 ORDER "
              "BY 1 LIMIT ?3");
  return query.Bind(sweep).Bind(after).Bind(std::int64_t{limit}).Events(sweep, "read events");
}

absl::StatusOr<std::vector<LogEvent>> SqliteStore::ReadPoints(const std::string& sweep,
                                                              const std::string& trial,
                                                              std::int64_t after, int limit) {
  Query query(
      *this,
      "SELECT seq,trial,time,'point',body FROM telemetry WHERE sweep=? AND trial=? AND seq>? "
      "ORDER BY seq LIMIT ?");
  return query.Bind(sweep)
      .Bind(trial)
      .Bind(after)
      .Bind(std::int64_t{limit})
      .Events(sweep, "read points");
}

absl::StatusOr<std::vector<LogEvent>> SqliteStore::ReadPointsBackward(const std::string& sweep,
                                                                      const std::string& trial,
                                                                      std::int64_t before,
                                                                      int limit) {
  Query query(
      *this,
      "SELECT seq,trial,time,'point',body FROM telemetry WHERE sweep=? AND trial=? AND seq<? "
      "ORDER BY seq DESC LIMIT ?");
  return query.Bind(sweep)
      .Bind(trial)
      .Bind(before)
      .Bind(std::int64_t{limit})
      .Events(sweep, "read points");
}

absl::Status SqliteStore::LimitPages(std::int64_t pages) {
  return Integer(absl::StrCat("PRAGMA max_page_count=", pages)).status();
}

std::int64_t SqliteStore::SizeBytes() {
  const auto pages = Integer("PRAGMA page_count");
  const auto size = Integer("PRAGMA page_size");
  return pages.ok() && size.ok() ? *pages * *size : 0;
}

}  // namespace sae::server
