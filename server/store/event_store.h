#pragma once
// Where the event log lives. One transaction holds events of several sweeps, the acknowledged seq
// of attempts, used request ids, tokens and the audit: all of it is durable when Commit returns OK,
// none of it otherwise. Every write checks in its own transaction that the epoch is still the one
// this store began. Used from one thread at a time. Errors: RESOURCE_EXHAUSTED (no space),
// UNAVAILABLE (of a write: its outcome is unknown until Recover), DATA_LOSS (corrupt),
// FAILED_PRECONDITION (locked, or written by a newer version), ABORTED (another coordinator has
// begun a later epoch: this one must end); each with the remedy.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "sae/base/status.h"
#include "server/core/events.h"

namespace sae::server {

/// Lines of events.jsonl up to `seq` are recorded.
struct Acknowledged {
  std::string sweep;
  std::string trial;
  int attempt = 0;
  std::int64_t seq = 0;
  bool operator==(const Acknowledged&) const = default;
};

/// A mutating request that carried an id, and what answers its repetition.
struct UsedRequest {
  std::string id;
  std::string method;
  std::string sweep;
  std::string response;
  /// Wall clock, given by the core; UnixEpoch = not known: written by an older version.
  absl::Time time = absl::UnixEpoch();
  bool operator==(const UsedRequest&) const = default;
};

/// A bearer token; its secret is not kept, only a hash of it.
struct TokenRecord {
  std::string id;  ///< public: the key
  std::string secret_hash;
  std::string principal;
  std::string role;
  std::string note;
  absl::Time created;
  absl::Time expires = absl::InfiniteFuture();
  absl::Time last_used = absl::InfinitePast();  ///< InfinitePast = never
  bool revoked = false;
  bool operator==(const TokenRecord&) const = default;
};

/// One mutating call, whatever its outcome.
struct AuditRecord {
  std::int64_t id = 0;  ///< given by the store: 1, 2, ...
  absl::Time time;
  std::string principal;
  std::string role;
  std::string method;
  std::string resource;
  std::string request_id;
  std::string code;  ///< "OK", "PERMISSION_DENIED", ...
  std::string peer;
  bool operator==(const AuditRecord&) const = default;
};

/// A piece of a snapshot (core/snapshot.h): one part of one sweep, as it was after event `cut`.
struct SnapshotPart {
  std::string sweep;
  int part = 0;
  std::int64_t cut = 0;
  std::string body;
};
struct SnapshotHead {
  std::int64_t cut = 0;  ///< LastEventId when it was taken
  std::string layout;    ///< of its bytes
  std::string body;
};

struct Transaction {
  std::vector<LogEvent> events;  ///< with their seq; a (sweep, seq) that exists is an error
  std::vector<Acknowledged> acknowledged;
  std::vector<UsedRequest> requests;
  std::vector<TokenRecord> tokens;  ///< each replaces the one with its id
  std::vector<AuditRecord> audit;   ///< appended; their ids are not looked at
  bool empty() const {
    return events.empty() && acknowledged.empty() && requests.empty() && tokens.empty() &&
           audit.empty();
  }
  /// `next` after what is here.
  void Append(Transaction next);
};

/// ABORTED: what a write answers when the epoch in the store is not the writer's.
absl::Status TakenOver(const std::string& log, std::int64_t found, std::int64_t own);

class EventStore {
 public:
  virtual ~EventStore() = default;

  /// Increments the epoch and makes it durable: once at each start.
  [[nodiscard]] virtual absl::StatusOr<std::int64_t> BeginEpoch() = 0;
  /// As a write would find it: ABORTED once another coordinator has begun a later epoch. Nothing
  /// may be promised to a worker then.
  [[nodiscard]] virtual absl::Status CheckEpoch() = 0;
  /// What it has written is durable when it returns, or, after DeferSync, with the next Sync.
  [[nodiscard]] virtual absl::Status Commit(const Transaction& transaction) = 0;

  // One Sync for many commits. What a commit wrote survives the end of this process at once, and
  // that of the machine with the Sync. A store may do without: then commits are durable at once.
  [[nodiscard]] virtual absl::Status DeferSync() { return absl::OkStatus(); }
  /// Something was written since the last Sync.
  virtual bool unsynced() const { return false; }
  /// UNAVAILABLE: what was written since the last one may be lost; see Recover.
  [[nodiscard]] virtual absl::Status Sync() { return absl::OkStatus(); }
  /// Work that may wait for a quiet moment, as bringing a WAL into its database.
  virtual void Tidy() {}

  /// Lifecycle events of all sweeps in the order of their commits; stops at the first error of
  /// `visit`.
  [[nodiscard]] virtual absl::Status Replay(const std::function<absl::Status(LogEvent)>& visit) = 0;
  /// The newest seq of each sweep, telemetry included.
  [[nodiscard]] virtual absl::StatusOr<std::map<std::string, std::int64_t>> Heads() = 0;
  [[nodiscard]] virtual absl::StatusOr<std::vector<Acknowledged>> AllAcknowledged() = 0;
  [[nodiscard]] virtual absl::StatusOr<std::optional<UsedRequest>> FindRequest(
      const std::string& id) = 0;

  /// Events of one sweep with seq > after, both kinds, in order; at most `limit`.
  [[nodiscard]] virtual absl::StatusOr<std::vector<LogEvent>> Read(const std::string& sweep,
                                                                   std::int64_t after,
                                                                   int limit) = 0;
  /// Lifecycle events of one sweep with seq > after, in order; at most `limit`; of one trial when
  /// it is given, "" = those about the sweep.
  [[nodiscard]] virtual absl::StatusOr<std::vector<LogEvent>> ReadLifecycle(
      const std::string& sweep, const std::optional<std::string>& trial, std::int64_t after,
      int limit);
  /// Points of one trial with seq > after, in order; at most `limit`.
  [[nodiscard]] virtual absl::StatusOr<std::vector<LogEvent>> ReadPoints(const std::string& sweep,
                                                                         const std::string& trial,
                                                                         std::int64_t after,
                                                                         int limit) = 0;
  /// Points of one trial with seq < before, newest first; at most `limit`.
  [[nodiscard]] virtual absl::StatusOr<std::vector<LogEvent>> ReadPointsBackward(
      const std::string& sweep, const std::string& trial, std::int64_t before, int limit) = 0;
  /// In the order of their ids.
  [[nodiscard]] virtual absl::StatusOr<std::vector<TokenRecord>> Tokens() = 0;
  /// Records with id > after, in order; at most `limit`.
  [[nodiscard]] virtual absl::StatusOr<std::vector<AuditRecord>> ReadAudit(std::int64_t after,
                                                                           int limit) = 0;
  /// Deletes audit records, the oldest first and at most `limit`, until `keep` are left. Returns
  /// how many.
  [[nodiscard]] virtual absl::StatusOr<int> TrimAudit(std::int64_t /*keep*/, int /*limit*/) {
    return 0;
  }
  /// Deletes request ids that were used before `before`, the oldest first; those whose time is not
  /// known count as used at `now` from here on. Of both together at most `limit`; returns how many.
  [[nodiscard]] virtual absl::StatusOr<int> TrimRequests(absl::Time /*before*/, absl::Time /*now*/,
                                                         int /*limit*/) {
    return 0;
  }
  /// Bytes it takes, for a metric.
  virtual std::int64_t SizeBytes() = 0;

  /// After UNAVAILABLE the outcome of a commit is unknown until this is OK: what can be read then
  /// is durable, and nothing else will be. ABORTED as Commit.
  [[nodiscard]] virtual absl::Status Recover() { return absl::OkStatus(); }
  /// Writes something and takes it away: OK when there is space again.
  [[nodiscard]] virtual absl::Status Probe() { return absl::OkStatus(); }

  // Snapshots spare the replay of what is before their cut. A store may have none.
  /// Of lifecycle events, in the order of their commits; 0 = there are none.
  [[nodiscard]] virtual absl::StatusOr<std::int64_t> LastEventId() { return 0; }
  /// As Replay, of events with id > after.
  [[nodiscard]] virtual absl::Status ReplayAfter(
      std::int64_t after, const std::function<absl::Status(LogEvent)>& visit);
  /// Of a snapshot that is not complete yet.
  [[nodiscard]] virtual absl::Status WriteSnapshotParts(
      const std::vector<SnapshotPart>& /*parts*/) {
    return absl::OkStatus();
  }
  /// Makes it the newest; of each sweep the parts with this cut stay, all else goes.
  [[nodiscard]] virtual absl::Status CompleteSnapshot(
      const SnapshotHead& /*head*/, const std::map<std::string, std::int64_t>& /*cuts*/) {
    return absl::OkStatus();
  }
  /// DATA_LOSS when its hash does not fit.
  [[nodiscard]] virtual absl::StatusOr<std::optional<SnapshotHead>> NewestSnapshot() {
    return std::nullopt;
  }
  [[nodiscard]] virtual absl::StatusOr<std::string> ReadSnapshotPart(const std::string& sweep,
                                                                     std::int64_t cut, int part);

  // Old points may go; of each trial the newest of each kind stays.
  /// Looks at up to `limit` points with after < seq <= upto, deletes those that have a newer one of
  /// their kind, and records how far it came as trimmed. Returns the last seq it looked at; upto =
  /// done.
  [[nodiscard]] virtual absl::StatusOr<std::int64_t> TrimTelemetry(const std::string& /*sweep*/,
                                                                   std::int64_t /*after*/,
                                                                   std::int64_t upto,
                                                                   int /*limit*/) {
    return upto;
  }
  /// Sweep to the seq up to which points may be missing.
  [[nodiscard]] virtual absl::StatusOr<std::map<std::string, std::int64_t>> Trimmed() {
    return std::map<std::string, std::int64_t>();
  }
};

}  // namespace sae::server
