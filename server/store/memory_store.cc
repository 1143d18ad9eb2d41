#include "server/store/memory_store.h"

#include <algorithm>
#include <utility>

namespace sae::server {

const std::map<std::int64_t, std::size_t>& MemoryStore::SeqsOf(const std::string& sweep) const {
  static const std::map<std::int64_t, std::size_t> none;
  const auto it = disk_->by_seq.find(sweep);
  return it == disk_->by_seq.end() ? none : it->second;
}

absl::Status MemoryStore::Commit(const Transaction& transaction) {
  absl::Status failure;
  if (!disk_->failures.empty()) {
    failure = disk_->failures.front();
    disk_->failures.erase(disk_->failures.begin());
    if (!failure.ok() && !std::exchange(disk_->fail_after, false)) return failure;
  }
  if (disk_->epoch != epoch_) return TakenOver("event log", disk_->epoch, epoch_);
  for (const LogEvent& event : transaction.events) {
    const auto sweep = disk_->by_seq.find(event.sweep);
    if (sweep != disk_->by_seq.end() && sweep->second.contains(event.seq)) {
      return absl::InternalError(
          absl::StrCat("event log: ", event.sweep, " seq ", event.seq, " exists"));
    }
  }
  for (const LogEvent& event : transaction.events) {
    disk_->by_seq[event.sweep][event.seq] = disk_->log.size();
    disk_->log.push_back(event);
  }
  for (const Acknowledged& a : transaction.acknowledged) {
    disk_->acknowledged[{a.sweep, a.trial, a.attempt}] = a.seq;
  }
  for (const UsedRequest& r : transaction.requests) disk_->requests[r.id] = r;
  for (const TokenRecord& t : transaction.tokens) disk_->tokens[t.id] = t;
  for (const AuditRecord& a : transaction.audit) {
    disk_->audit.push_back(a);
    disk_->audit.back().id = static_cast<std::int64_t>(disk_->audit.size());
  }
  return failure;
}

absl::Status MemoryStore::Replay(const std::function<absl::Status(LogEvent)>& visit) {
  for (const LogEvent& event : disk_->log) {
    if (event.telemetry()) continue;
    SAE_RETURN_IF_ERROR(visit(event));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, std::int64_t>> MemoryStore::Heads() {
  std::map<std::string, std::int64_t> heads;
  for (const auto& [sweep, seqs] : disk_->by_seq) heads[sweep] = seqs.rbegin()->first;
  return heads;
}

absl::StatusOr<std::vector<Acknowledged>> MemoryStore::AllAcknowledged() {
  std::vector<Acknowledged> all;
  for (const auto& [key, seq] : disk_->acknowledged) {
    all.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key), seq});
  }
  return all;
}

absl::StatusOr<std::optional<UsedRequest>> MemoryStore::FindRequest(const std::string& id) {
  const auto it = disk_->requests.find(id);
  return it == disk_->requests.end() ? std::nullopt : std::optional(it->second);
}

absl::StatusOr<std::vector<LogEvent>> MemoryStore::Read(const std::string& sweep,
                                                        std::int64_t after, int limit) {
  std::vector<LogEvent> out;
  const std::map<std::int64_t, std::size_t>& seqs = SeqsOf(sweep);
  for (auto it = seqs.upper_bound(after); it != seqs.end() && static_cast<int>(out.size()) < limit;
       ++it) {
    out.push_back(disk_->log[it->second]);
  }
  return out;
}

absl::StatusOr<std::vector<LogEvent>> MemoryStore::ReadPoints(const std::string& sweep,
                                                              const std::string& trial,
                                                              std::int64_t after, int limit) {
  std::vector<LogEvent> out;
  const std::map<std::int64_t, std::size_t>& seqs = SeqsOf(sweep);
  for (auto it = seqs.upper_bound(after); it != seqs.end() && static_cast<int>(out.size()) < limit;
       ++it) {
    const LogEvent& event = disk_->log[it->second];
    if (event.telemetry() && event.trial == trial) out.push_back(event);
  }
  return out;
}

absl::StatusOr<std::vector<LogEvent>> MemoryStore::ReadPointsBackward(const std::string& sweep,
                                                                      const std::string& trial,
                                                                      std::int64_t before,
                                                                      int limit) {
  std::vector<LogEvent> out;
  const std::map<std::int64_t, std::size_t>& seqs = SeqsOf(sweep);
  for (auto it = seqs.lower_bound(before);
       it != seqs.begin() && static_cast<int>(out.size()) < limit;) {
    const LogEvent& event = disk_->log[(--it)->second];
    if (event.telemetry() && event.trial == trial) out.push_back(event);
  }
  return out;
}

absl::Status MemoryStore::Probe() {
  Transaction write;
  write.acknowledged.push_back({"", "", 0, 0});
  const absl::Status status = Commit(write);
  disk_->acknowledged.erase({"", "", 0});
  return status;
}

absl::StatusOr<std::int64_t> MemoryStore::LastEventId() {
  return static_cast<std::int64_t>(disk_->log.size());
}

absl::Status MemoryStore::ReplayAfter(std::int64_t after,
                                      const std::function<absl::Status(LogEvent)>& visit) {
  for (auto i = static_cast<std::size_t>(after); i < disk_->log.size(); ++i) {
    if (disk_->log[i].telemetry()) continue;
    SAE_RETURN_IF_ERROR(visit(disk_->log[i]));
  }
  return absl::OkStatus();
}

absl::Status MemoryStore::WriteSnapshotParts(const std::vector<SnapshotPart>& parts) {
  for (const SnapshotPart& p : parts) disk_->snapshot_parts[{p.sweep, p.cut, p.part}] = p.body;
  return absl::OkStatus();
}

absl::Status MemoryStore::CompleteSnapshot(const SnapshotHead& head,
                                           const std::map<std::string, std::int64_t>& cuts) {
  disk_->snapshot = head;
  std::erase_if(disk_->snapshot_parts, [&](const auto& part) {
    const auto it = cuts.find(std::get<0>(part.first));
    return it == cuts.end() || it->second != std::get<1>(part.first);
  });
  return absl::OkStatus();
}

absl::StatusOr<std::optional<SnapshotHead>> MemoryStore::NewestSnapshot() {
  return disk_->snapshot;
}

absl::StatusOr<std::string> MemoryStore::ReadSnapshotPart(const std::string& sweep,
                                                          std::int64_t cut, int part) {
  const auto it = disk_->snapshot_parts.find({sweep, cut, part});
  if (it == disk_->snapshot_parts.end())
    return absl::NotFoundError(absl::StrCat("snapshot: no part of ", sweep));
  return it->second;
}

absl::StatusOr<std::int64_t> MemoryStore::TrimTelemetry(const std::string& sweep,
                                                        std::int64_t after, std::int64_t upto,
                                                        int limit) {
  std::int64_t& trimmed = disk_->trimmed[sweep];
  std::map<std::int64_t, std::size_t>& seqs = disk_->by_seq[sweep];
  const auto newer = [&](std::int64_t seq, const LogEvent& event) {
    for (auto it = seqs.upper_bound(seq); it != seqs.end(); ++it) {
      const LogEvent& other = disk_->log[it->second];
      if (other.telemetry() && other.trial == event.trial &&
          std::get<Point>(other.body).evaluation == std::get<Point>(event.body).evaluation)
        return true;
    }
    return false;
  };
  for (auto it = seqs.upper_bound(after); it != seqs.end() && it->first <= upto;) {
    const auto [seq, at] = *it++;
    const LogEvent& event = disk_->log[at];
    if (!event.telemetry()) continue;
    if (newer(seq, event)) seqs.erase(seq);
    if (--limit == 0) {
      trimmed = std::max(trimmed, seq);
      return seq;
    }
  }
  trimmed = std::max(trimmed, upto);
  return upto;
}

absl::StatusOr<int> MemoryStore::TrimRequests(absl::Time before, absl::Time now, int limit) {
  int done = 0;
  std::vector<std::pair<absl::Time, std::string>> old;
  for (auto& [id, request] : disk_->requests) {
    if (request.time == absl::UnixEpoch()) {
      if (done == limit) break;
      request.time = now;
      ++done;
    } else if (request.time < before) {
      old.emplace_back(request.time, id);
    }
  }
  std::sort(old.begin(), old.end());
  for (const auto& [time, id] : old) {
    if (done == limit) break;
    disk_->requests.erase(id);
    ++done;
  }
  return done;
}

absl::StatusOr<std::map<std::string, std::int64_t>> MemoryStore::Trimmed() {
  return disk_->trimmed;
}

absl::StatusOr<std::vector<TokenRecord>> MemoryStore::Tokens() {
  std::vector<TokenRecord> out;
  for (const auto& [id, token] : disk_->tokens) out.push_back(token);
  return out;
}

absl::StatusOr<std::vector<AuditRecord>> MemoryStore::ReadAudit(std::int64_t after, int limit) {
  std::vector<AuditRecord> out;
  for (const AuditRecord& a : disk_->audit) {
    if (a.id > after && static_cast<int>(out.size()) < limit) out.push_back(a);
  }
  return out;
}

}  // namespace sae::server
