#include "worker/agent/log_shipper.h"

#include <spdlog/spdlog.h>

#include "worker/agent/log_tail.h"

namespace saeloom::agent {
namespace {
constexpr std::int64_t kChunkBytes = 64 << 10;
constexpr int kDefaultLines = 20;
}  // namespace

void LogShipper::SetSession(const SessionIdentity* identity) {
  sae::MutexLock lock(mu_);
  online_ = identity != nullptr;
  if (identity != nullptr) identity_ = *identity;
  requests_.clear();
  seen_.clear();
}

void LogShipper::Fetch(const v1::FetchLogs& command, const std::string& attempt_directory) {
  sae::MutexLock lock(mu_);
  if (command.cancel()) {
    requests_.erase(command.request());
    return;
  }
  if (!seen_.insert(command.request()).second) return;
  Request request;
  request.key = KeyOf(command);
  request.directory = attempt_directory;
  request.ranks.insert(command.ranks().begin(), command.ranks().end());
  request.lines = command.lines() > 0 ? command.lines() : kDefaultLines;
  request.follow = command.follow();
  requests_.emplace(command.request(), std::move(request));
}

bool LogShipper::Step() {
  std::map<std::int64_t, Request> requests;
  {
    sae::MutexLock lock(mu_);
    if (!online_) return false;
    requests = requests_;
  }
  bool sent = false;
  for (auto& [id, request] : requests) {
    const bool ended = StepOne(id, request, &sent);
    sae::MutexLock lock(mu_);
    const auto it = requests_.find(id);
    if (it == requests_.end()) continue;  // cancelled meanwhile
    if (ended) {
      requests_.erase(it);
    } else {
      it->second.offsets = request.offsets;
    }
  }
  return sent;
}

bool LogShipper::StepOne(std::int64_t id, Request& request, bool* sent) {
  const bool may_grow =
      request.follow && runs_(request.key);  // asked before reading: then the end is final
  bool more = false;
  for (const int rank : RanksWithLogs(request.directory)) {
    if (!request.ranks.empty() && request.ranks.count(rank) == 0) continue;
    std::string text;
    auto offset = request.offsets.find(rank);
    if (offset == request.offsets.end()) {
      std::int64_t end = 0;
      for (const std::string& line :
           TailLines(RankLog(request.directory, rank), request.lines, &end)) {
        text += line + "\n";
      }
      // A line without its end was completed above; what follows it would begin a new one.
      offset = request.offsets.emplace(rank, end).first;
    } else {
      text = ReadFrom(RankLog(request.directory, rank), offset->second, kChunkBytes);
      offset->second += static_cast<std::int64_t>(text.size());
    }
    if (text.empty()) continue;
    more = true;
    *sent = true;
    if (const absl::Status status = SendChunk(id, request, rank, text, false); !status.ok()) {
      spdlog::info("logs of attempt {}: {}", request.key.Text(), status.ToString());
      return true;
    }
  }
  if (may_grow || (request.follow && more)) return false;
  *sent = true;
  SendChunk(id, request, 0, "", true).IgnoreError();
  return true;
}

absl::Status LogShipper::SendChunk(std::int64_t id, const Request& request, int rank,
                                   const std::string& text, bool end) {
  v1::ReportBatchRequest batch;
  SetKey(request.key, &batch);
  {
    sae::MutexLock lock(mu_);
    batch.set_worker_id(identity_.worker_id);
    batch.set_incarnation(identity_.incarnation);
    batch.set_epoch(identity_.epoch);
  }
  auto* log = batch.add_logs();
  log->set_request(id);
  log->set_rank(rank);
  log->set_text(text);
  log->set_end(end);
  v1::ReportBatchResponse response;
  return send_(batch, &response);
}

}  // namespace saeloom::agent
