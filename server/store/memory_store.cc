#include "server/store/memory_store.h"

namespace sae::server {

const std::map<std::int64_t, std::size_t>& MemoryStore::SeqsOf(const std::string& sweep) const {
  static const std::map<std::int64_t, std::size_t> none;
  const auto it = disk_->by_seq.find(sweep);
  return it == disk_->by_seq.end() ? none : it->second;
}

absl::Status MemoryStore::Commit(const Transaction& transaction) {
  if (!disk_->failures.empty()) {
    absl::Status failure = disk_->failures.front();
    disk_->failures.erase(disk_->failures.begin());
    if (!failure.ok()) return failure;
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
  return absl::OkStatus();
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
