#include "server/store/sqlite_db.h"

#include <sqlite3.h>
#include <sys/vfs.h>
#include <utility>

namespace sae::server {
namespace {

/// A longer WAL is brought into the database: SQLite's own default.
constexpr int kWalPages = 1000;

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

absl::StatusOr<std::unique_ptr<SqliteDb>> SqliteDb::Open(const std::string& path,
                                                         const std::string& vfs, bool check) {
  if (OnNetworkFileSystem(path)) {
    return absl::FailedPreconditionError(
        absl::StrCat("event log ", path,
                     ": is on a network file system, where SQLite's locks do not hold; give --data "
                     "on a local disk"));
  }
  sqlite3* handle = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int code =
      sqlite3_open_v2(path.c_str(), &handle, flags, vfs.empty() ? nullptr : vfs.c_str());
  std::unique_ptr<SqliteDb> db(new SqliteDb(handle, path));
  if (code != SQLITE_OK) return db->Error(code, "open");
  sqlite3_extended_result_codes(handle, 1);
  SAE_RETURN_IF_ERROR(db->Configure());
  if (check) {
    SAE_RETURN_IF_ERROR(db->Check());
  }
  return db;
}

SqliteDb::~SqliteDb() {
  for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(db_);
}

absl::Status SqliteDb::Configure() {
  // The lock first: with it, WAL needs no shared memory, and a second process is refused here.
  SAE_RETURN_IF_ERROR(Execute("PRAGMA locking_mode=EXCLUSIVE"));
  SAE_RETURN_IF_ERROR(Execute("PRAGMA journal_mode=WAL"));
  SAE_RETURN_IF_ERROR(Execute("PRAGMA synchronous=FULL"));
  // Indexes of points are written all over: with SQLite's 2 MB, half of its time went to reading
  // pages.
  SAE_RETURN_IF_ERROR(Execute("PRAGMA cache_size=-65536"));
  SAE_RETURN_IF_ERROR(Execute("BEGIN EXCLUSIVE; COMMIT"));
  SAE_ASSIGN_OR_RETURN(const std::int64_t synchronous, Integer("PRAGMA synchronous"));
  if (synchronous != 2) {
    return absl::InternalError(
        absl::StrCat("event log ", path_, ": synchronous is ", synchronous, ", not FULL"));
  }
  return absl::OkStatus();
}

absl::Status SqliteDb::DeferSync() {
  SAE_RETURN_IF_ERROR(Execute("PRAGMA synchronous=NORMAL"));
  // In place of SQLite's own hook, which would checkpoint inside a commit.
  const auto committed = [](void* pages, sqlite3*, const char*, int n) {
    *static_cast<int*>(pages) = n;
    return SQLITE_OK;
  };
  sqlite3_wal_hook(db_, committed, &wal_pages_);
  return absl::OkStatus();
}

absl::Status SqliteDb::Sync() {
  sqlite3_file* wal = nullptr;
  int code = sqlite3_file_control(db_, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);
  if (code == SQLITE_OK && wal != nullptr && wal->pMethods != nullptr)
    code = wal->pMethods->xSync(wal, SQLITE_SYNC_NORMAL);
  if (code == SQLITE_OK) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("event log ", path_, ": sync: ", sqlite3_errstr(code), " (", code, ")"));
}

absl::Status SqliteDb::Checkpoint() {
  if (wal_pages_ < kWalPages) return absl::OkStatus();
  wal_pages_ = 0;
  return Execute("PRAGMA wal_checkpoint(PASSIVE)");
}

absl::Status SqliteDb::Check() {
  SqliteQuery check(*this, "PRAGMA quick_check(1)");
  if (!check.Next()) return check.status("quick_check");
  if (const std::string found = check.Text(0); found != "ok") {
    return absl::DataLossError(
        absl::StrCat("event log ", path_, ": corrupt: ", found,
                     "; restore it from a backup, or give an empty --data folder"));
  }
  return absl::OkStatus();
}

absl::Status SqliteDb::Error(int code, const std::string& doing) const {
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

absl::Status SqliteDb::Execute(const std::string& sql) {
  const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql.substr(0, 40));
}

absl::StatusOr<std::int64_t> SqliteDb::Integer(const std::string& sql) {
  SqliteQuery query(*this, sql);
  if (query.Next()) return query.Integer(0);
  SAE_RETURN_IF_ERROR(query.status(sql));
  return absl::InternalError(absl::StrCat("event log ", path_, ": ", sql, ": no row"));
}

bool SqliteDb::in_transaction() const { return sqlite3_get_autocommit(db_) == 0; }

SqliteQuery::SqliteQuery(SqliteDb& db, const std::string& sql) : db_(db) {
  sqlite3_stmt*& cached = db.statements_[sql];
  if (cached == nullptr) {
    code_ =
        sqlite3_prepare_v3(db.db_, sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &cached, nullptr);
  }
  statement_ = cached;
}

SqliteQuery::~SqliteQuery() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

SqliteQuery& SqliteQuery::Bind(const std::string& text) {
  sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()),
                    SQLITE_STATIC);
  return *this;
}

SqliteQuery& SqliteQuery::Bind(std::int64_t value) {
  sqlite3_bind_int64(statement_, ++bound_, value);
  return *this;
}

SqliteQuery& SqliteQuery::BindBlob(const std::string& bytes) {
  sqlite3_bind_blob64(statement_, ++bound_, bytes.data(), bytes.size(), SQLITE_STATIC);
  return *this;
}

bool SqliteQuery::Next() {
  if (code_ == SQLITE_OK || code_ == SQLITE_ROW) code_ = sqlite3_step(statement_);
  return code_ == SQLITE_ROW;
}

absl::Status SqliteQuery::status(const std::string& doing) const {
  return code_ == SQLITE_DONE || code_ == SQLITE_ROW ? absl::OkStatus() : db_.Error(code_, doing);
}

absl::Status SqliteQuery::Run(const std::string& doing) {
  while (Next()) {
  }
  return status(doing);
}

std::int64_t SqliteQuery::Integer(int column) const {
  return sqlite3_column_int64(statement_, column);
}

std::string SqliteQuery::Text(int column) const {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
  return bytes == nullptr
             ? ""
             : std::string(bytes,
                           static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
}

}  // namespace sae::server
