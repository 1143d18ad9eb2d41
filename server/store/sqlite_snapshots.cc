// What SqliteStore does besides the log: snapshots, trimming, getting over a disk that failed.
#include <algorithm>

#include "sae/base/hash.h"
#include "server/store/schema.h"
#include "server/store/sqlite_store.h"

namespace sae::server {
namespace {

std::int64_t HashOf(const std::string& body) { return static_cast<std::int64_t>(Xxh3(body)); }

absl::Status Damaged(const std::string& path, const std::string& what) {
  return absl::DataLossError(
      absl::StrCat("event log ", path, ": the snapshot of ", what, " is damaged"));
}

}  // namespace

absl::Status SqliteStore::Recover() {
  // SQLite does not know whether a commit whose sync failed is on the disk. What a new connection
  // finds in the WAL is written into the database and synced, so that it stays true.
  db_ = nullptr;
  unsynced_ = false;
  SAE_ASSIGN_OR_RETURN(std::unique_ptr<SqliteDb> db, SqliteDb::Open(path_, vfs_, false));
  SAE_RETURN_IF_ERROR(db->Execute("PRAGMA wal_checkpoint(TRUNCATE)"));
  if (deferred_) {
    SAE_RETURN_IF_ERROR(db->DeferSync());
  }
  db_ = std::move(db);
  absl::StatusOr<std::int64_t> epoch = ReadEpoch();
  if (epoch.ok() && *epoch != epoch_)
    epoch = TakenOver(absl::StrCat("event log ", path_), *epoch, epoch_);
  if (!epoch.ok()) db_ = nullptr;
  return epoch.status();
}

absl::Status SqliteStore::Probe() {
  SAE_RETURN_IF_ERROR(InTransaction([&] {
    return db_->Execute(
        "INSERT OR REPLACE INTO snapshot_parts(sweep,part,cut,hash,body) "
        "VALUES('',-1,-1,0,zeroblob(65536))");
  }));
  return InTransaction(
      [&] { return db_->Execute("DELETE FROM snapshot_parts WHERE sweep='' AND cut=-1"); });
}

absl::StatusOr<std::int64_t> SqliteStore::LastEventId() {
  return db_->Integer("SELECT coalesce(max(id), 0) FROM events");
}

absl::Status SqliteStore::WriteSnapshotParts(const std::vector<SnapshotPart>& parts) {
  if (parts.empty()) return absl::OkStatus();
  return InTransaction([&] {
    for (const SnapshotPart& p : parts) {
      SAE_RETURN_IF_ERROR(
          SqliteQuery(
              *db_,
              "INSERT OR REPLACE INTO snapshot_parts(sweep,part,cut,hash,body) VALUES(?,?,?,?,?)")
              .Bind(p.sweep)
              .Bind(std::int64_t{p.part})
              .Bind(p.cut)
              .Bind(HashOf(p.body))
              .BindBlob(p.body)
              .Run("write a part of a snapshot"));
    }
    return absl::OkStatus();
  });
}

absl::Status SqliteStore::CompleteSnapshot(const SnapshotHead& head,
                                           const std::map<std::string, std::int64_t>& cuts) {
  return InTransaction([&]() -> absl::Status {
    std::vector<std::pair<std::string, std::int64_t>> old;
    {
      SqliteQuery query(*db_, "SELECT DISTINCT sweep, cut FROM snapshot_parts");
      while (query.Next()) {
        const auto it = cuts.find(query.Text(0));
        if (it == cuts.end() || it->second != query.Integer(1))
          old.emplace_back(query.Text(0), query.Integer(1));
      }
      SAE_RETURN_IF_ERROR(query.status("find old snapshots"));
    }
    for (const auto& [sweep, cut] : old) {
      SAE_RETURN_IF_ERROR(SqliteQuery(*db_, "DELETE FROM snapshot_parts WHERE sweep=? AND cut=?")
                              .Bind(sweep)
                              .Bind(cut)
                              .Run("delete an old snapshot"));
    }
    SAE_RETURN_IF_ERROR(db_->Execute("DELETE FROM snapshots"));
    return SqliteQuery(*db_, "INSERT INTO snapshots VALUES(?,?,?,?)")
        .Bind(head.cut)
        .Bind(head.layout)
        .Bind(HashOf(head.body))
        .BindBlob(head.body)
        .Run("write a snapshot");
  });
}

absl::StatusOr<std::optional<SnapshotHead>> SqliteStore::NewestSnapshot() {
  SqliteQuery query(*db_, "SELECT cut,layout,hash,body FROM snapshots ORDER BY cut DESC LIMIT 1");
  if (query.Next()) {
    SnapshotHead head{query.Integer(0), query.Text(1), query.Text(3)};
    if (HashOf(head.body) != query.Integer(2)) return Damaged(path_, "the state");
    return head;
  }
  SAE_RETURN_IF_ERROR(query.status("read the snapshot"));
  return std::nullopt;
}

absl::StatusOr<std::string> SqliteStore::ReadSnapshotPart(const std::string& sweep,
                                                          std::int64_t cut, int part) {
  SqliteQuery query(*db_,
                    "SELECT hash,body FROM snapshot_parts WHERE sweep=? AND cut=? AND part=?");
  query.Bind(sweep).Bind(cut).Bind(std::int64_t{part});
  if (query.Next()) {
    std::string body = query.Text(1);
    if (HashOf(body) != query.Integer(0)) return Damaged(path_, sweep);
    return body;
  }
  SAE_RETURN_IF_ERROR(query.status("read a part of the snapshot"));
  return Damaged(path_, sweep);
}

absl::StatusOr<std::int64_t> SqliteStore::TrimTelemetry(const std::string& sweep,
                                                        std::int64_t after, std::int64_t upto,
                                                        int limit) {
  std::int64_t last = upto;
  const absl::Status status = InTransaction([&]() -> absl::Status {
    {
      SqliteQuery window(
          *db_,
          "SELECT count(*), coalesce(max(seq), 0) FROM (SELECT seq FROM telemetry WHERE sweep=? "
          "AND seq>? AND seq<=? ORDER BY seq LIMIT ?)");
      window.Bind(sweep).Bind(after).Bind(upto).Bind(std::int64_t{limit});
      if (!window.Next()) return window.status("find old points");
      if (window.Integer(0) == limit) last = window.Integer(1);
    }
    SAE_RETURN_IF_ERROR(
        SqliteQuery(
            *db_,
            "DELETE FROM telemetry AS old WHERE sweep=?1 AND seq>?2 AND seq<=?3 AND EXISTS("
            "SELECT 1 FROM telemetry AS new INDEXED BY telemetry_by_trial WHERE new.sweep=?1 AND "
            "new.trial=old.trial AND "
            "new.seq>old.seq AND json_extract(new.body,'$.evaluation')="
            "json_extract(old.body,'$.evaluation'))")
            .Bind(sweep)
            .Bind(after)
            .Bind(last)
            .Run("delete old points"));
    return SqliteQuery(*db_,
                       "INSERT INTO trimmed VALUES(?,?) ON CONFLICT(sweep) DO UPDATE SET "
                       "seq=max(seq, excluded.seq)")
        .Bind(sweep)
        .Bind(last)
        .Run("record what was deleted");
  });
  if (!status.ok()) return status;
  return last;
}

absl::StatusOr<int> SqliteStore::TrimAudit(std::int64_t keep, int limit) {
  SAE_RETURN_IF_ERROR(Opened());
  // Ids have no gaps but at the front, so no row is counted.
  SAE_ASSIGN_OR_RETURN(const std::int64_t newest,
                       db_->Integer("SELECT coalesce(max(id), 0) FROM audit"));
  SAE_ASSIGN_OR_RETURN(const std::int64_t oldest,
                       db_->Integer("SELECT coalesce(min(id), 1) FROM audit"));
  const std::int64_t n = std::min<std::int64_t>(newest - keep - oldest + 1, limit);
  if (n <= 0) return 0;
  SAE_RETURN_IF_ERROR(InTransaction([&] {
    return SqliteQuery(*db_, "DELETE FROM audit WHERE id<?")
        .Bind(oldest + n)
        .Run("delete old audit records");
  }));
  return static_cast<int>(n);
}

absl::StatusOr<int> SqliteStore::TrimRequests(absl::Time before, absl::Time now, int limit) {
  SAE_RETURN_IF_ERROR(Opened());
  const std::int64_t oldest = absl::ToUnixNanos(before);
  const auto count = [&](const char* which, std::int64_t bound,
                         std::int64_t most) -> absl::StatusOr<std::int64_t> {
    SqliteQuery query(*db_, absl::StrCat("SELECT count(*) FROM (SELECT 1 FROM requests WHERE ",
                                         which, " LIMIT ?)"));
    query.Bind(bound).Bind(most);
    if (query.Next()) return query.Integer(0);
    return query.status("count request ids");
  };
  // Nothing to do is the rule: then nothing is written.
  SAE_ASSIGN_OR_RETURN(const std::int64_t unknown, count("time=?", 0, limit));
  SAE_ASSIGN_OR_RETURN(const std::int64_t old, count("time>0 AND time<?", oldest, limit - unknown));
  if (unknown + old == 0) return 0;
  const absl::Status status = InTransaction([&]() -> absl::Status {
    SAE_RETURN_IF_ERROR(
        SqliteQuery(*db_,
                    "UPDATE requests SET time=? WHERE id IN (SELECT id FROM requests WHERE time=0 "
                    "LIMIT ?)")
            .Bind(absl::ToUnixNanos(now))
            .Bind(unknown)
            .Run("date request ids"));
    return SqliteQuery(*db_,
                       "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE time>0 AND "
                       "time<? ORDER BY time LIMIT ?)")
        .Bind(oldest)
        .Bind(old)
        .Run("delete old request ids");
  });
  if (!status.ok()) return status;
  return static_cast<int>(unknown + old);
}

absl::StatusOr<std::map<std::string, std::int64_t>> SqliteStore::Trimmed() {
  std::map<std::string, std::int64_t> out;
  SqliteQuery query(*db_, "SELECT sweep, seq FROM trimmed");
  while (query.Next()) out[query.Text(0)] = query.Integer(1);
  SAE_RETURN_IF_ERROR(query.status("read what was deleted"));
  return out;
}

}  // namespace sae::server
