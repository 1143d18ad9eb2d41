#include "server/service/log_broker.h"

#include <algorithm>
#include <re2/re2.h>

#include "server/service/convert.h"

namespace sae::server {
namespace {

constexpr std::size_t kMostWaiting = 1 << 20;  // bytes a reader

/// The worker to ask: the attempt's own, else one that shares its runs folder.
const WorkerEntry* Holder(const Core& core, const AttemptRecord& attempt) {
  const auto own = core.workers().find(attempt.worker);
  if (own != core.workers().end() && own->second.ready) return &own->second;
  for (const auto& [id, worker] : core.workers()) {
    if (worker.ready && worker.runs_id == attempt.runs_id) return &worker;
  }
  return nullptr;
}

/// The worker filters; here only so that a mistake is told at once.
absl::Status CheckGrep(const std::string& pattern) {
  if (pattern.size() > 1000)
    return absl::InvalidArgumentError("grep: longer than 1000 characters; give a shorter pattern");
  const re2::RE2 expression(pattern, re2::RE2::Quiet);
  if (expression.ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("grep: \"", pattern,
                                                 "\" is no RE2 pattern: ", expression.error(),
                                                 "; write \\ before characters meant as they are"));
}

absl::StatusOr<std::pair<const TrialRecord*, const AttemptRecord*>> Find(const Core& core,
                                                                         const std::string& sweep,
                                                                         const std::string& trial,
                                                                         int attempt) {
  const SweepRecord* s = core.state().sweep(sweep);
  const TrialRecord* t = s == nullptr ? nullptr : s->trial(trial);
  if (t == nullptr)
    return absl::NotFoundError(absl::StrCat("no trial \"", sweep, "/", trial, "\""));
  if (t->attempts.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("trial ", sweep, "/", trial, " has not started yet: ", core.ReasonOf(*s, *t)));
  }
  const AttemptRecord* a = attempt == 0 ? &t->attempts.back() : t->attempt(attempt);
  if (a == nullptr) {
    return absl::NotFoundError(absl::StrCat("trial ", sweep, "/", trial, " has ",
                                            t->attempts.size(), " attempts, no attempt ", attempt));
  }
  return std::make_pair(t, a);
}

}  // namespace

void LogBroker::Add(Core& core, std::int64_t id, const saeloom::v1::TailLogsRequest& request,
                    std::shared_ptr<Out> out) {
  if (draining_) return out->End(absl::UnavailableError("the coordinator is stopping"));
  const auto name = ParseTrialName(request.trial(), "trial");
  if (!name.ok()) return out->End(name.status());
  if (const absl::Status grep = CheckGrep(request.grep()); !grep.ok()) return out->End(grep);
  const auto found = Find(core, name->first, name->second, request.attempt());
  if (!found.ok()) return out->End(found.status());
  for (const int rank : request.ranks()) {
    if (rank >= 0 && rank < found->first->slots) continue;
    return out->End(
        absl::NotFoundError(absl::StrCat("trial ", name->first, "/", name->second, " has no rank ",
                                         rank, ", only 0 to ", found->first->slots - 1)));
  }
  const AttemptRecord& attempt = *found->second;

  saeloom::v1::FetchLogs fetch;
  fetch.set_request(id);
  fetch.set_sweep(name->first);
  fetch.set_trial(name->second);
  fetch.set_attempt(attempt.number);
  *fetch.mutable_ranks() = request.ranks();
  fetch.set_lines(request.lines() <= 0 ? 20 : request.lines());
  fetch.set_follow(request.follow());
  if (request.has_since()) {
    fetch.set_since_unix_ns(std::max<std::int64_t>(  // saturates
        1, absl::ToUnixNanos(absl::FromUnixSeconds(request.since().seconds()) +
                             absl::Nanoseconds(request.since().nanos()))));
  }
  fetch.set_grep(request.grep());
  const WorkerEntry* worker = Holder(core, attempt);
  if (worker == nullptr || !sessions_.SendLogRequest(core, worker->id, fetch)) {
    return out->End(absl::UnavailableError(
        absl::StrCat("worker ", attempt.worker,
                     ", which has the logs, is not connected; they are in ", attempt.runs_directory,
                     "/", name->first, "/", name->second, "/attempts/", attempt.number)));
  }
  Reader& reader = readers_[id];
  reader.worker = worker->id;
  reader.incarnation = worker->incarnation;
  reader.attempt = attempt.number;
  reader.out = std::move(out);
}

void LogBroker::Hungry(std::int64_t id) {
  const auto it = readers_.find(id);
  if (it == readers_.end()) return;
  it->second.hungry = true;
  Flush(it->second);
}

void LogBroker::Flush(Reader& reader) {
  if (reader.hungry && !reader.waiting.empty()) {
    if (reader.dropped > 0) {
      saeloom::v1::LogChunk note;
      note.set_attempt(reader.attempt);
      note.set_rank(reader.waiting.back().rank());
      note.set_text(absl::StrCat("[", reader.dropped, " bytes dropped: the reader is too slow]\n"));
      reader.waiting.push_back(std::move(note));
    }
    reader.hungry = false;
    reader.bytes = reader.dropped = 0;
    reader.out->Give(std::exchange(reader.waiting, {}));
  }
  if (reader.end && reader.waiting.empty()) reader.out->End(absl::OkStatus());
}

void LogBroker::Cancel(Core& core, std::int64_t id, const std::string& worker) {
  saeloom::v1::FetchLogs fetch;
  fetch.set_request(id);
  fetch.set_cancel(true);
  sessions_.SendLogRequest(core, worker, fetch);
}

void LogBroker::Remove(Core& core, std::int64_t id) {
  const auto it = readers_.find(id);
  if (it == readers_.end()) return;
  if (!it->second.end) Cancel(core, id, it->second.worker);
  readers_.erase(it);
}

void LogBroker::Receive(Core& core, const std::string& worker,
                        const saeloom::v1::ReportBatchRequest& batch) {
  for (const auto& log : batch.logs()) {
    const auto it = readers_.find(log.request());
    if (it == readers_.end() || it->second.worker != worker) {
      if (!log.end()) Cancel(core, log.request(), worker);
      continue;
    }
    Reader& reader = it->second;
    if (reader.bytes + log.text().size() > kMostWaiting) {
      reader.dropped += log.text().size();
    } else if (!log.text().empty()) {
      saeloom::v1::LogChunk chunk;
      chunk.set_rank(log.rank());
      chunk.set_text(log.text());
      chunk.set_attempt(reader.attempt);
      reader.bytes += log.text().size();
      reader.waiting.push_back(std::move(chunk));
    }
    reader.end = reader.end || log.end();
    Flush(reader);
  }
}

void LogBroker::Poll(Core& core) {
  for (auto& [id, reader] : readers_) {
    const auto it = core.workers().find(reader.worker);
    const bool there = it != core.workers().end() && it->second.ready &&
                       it->second.incarnation == reader.incarnation;
    if (there || reader.end) continue;
    reader.end = true;
    reader.out->End(absl::UnavailableError(absl::StrCat("worker ", reader.worker, " has gone")));
  }
}

void LogBroker::Drain() {
  draining_ = true;
  for (auto& [id, reader] : readers_) {
    reader.out->End(absl::UnavailableError("the coordinator is stopping"));
  }
}

}  // namespace sae::server
