#include "worker/agent/log_shipper.h"

#include <algorithm>
#include <filesystem>
#include <spdlog/spdlog.h>

#include "worker/agent/log_tail.h"

namespace saeloom::agent {
namespace {
constexpr std::int64_t kChunkBytes = 64 << 10;
constexpr int kDefaultLines = 20;
constexpr std::int64_t kReadBytes = 1 << 20;     // to filter, at a time
constexpr std::int64_t kSearchBytes = 64 << 20;  // of a log's end that grep alone looks at

std::int64_t FileSize(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<std::int64_t>(size);
}
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
  if (command.since_unix_ns() > 0 || !command.grep().empty()) {
    std::optional<absl::Time> since;
    if (command.since_unix_ns() > 0) since = absl::FromUnixNanos(command.since_unix_ns());
    auto filter = LogFilter::Make(since, command.grep());
    if (!filter.ok()) {  // the coordinator refuses such patterns: it is another version's
      spdlog::warn("logs of attempt {}: {}", request.key.Text(), filter.status().ToString());
      request.ranks = {-1};  // answered with an end
    } else {
      request.filter = *std::move(filter);
    }
  }
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
      it->second.offsets = std::move(request.offsets);
      it->second.filtered = std::move(request.filtered);
    }
  }
  return sent;
}

bool LogShipper::Read(Request& request, int rank, std::string& text) const {
  const std::string path = RankLog(request.directory, rank);
  const auto offset = request.offsets.find(rank);
  if (offset == request.offsets.end()) {
    std::int64_t end = 0;
    for (const std::string& line : TailLines(path, request.lines, &end)) text += line + "\n";
    // A line without its end was completed above; what follows it would begin a new one.
    request.offsets.emplace(rank, end);
  } else {
    text = ReadFrom(path, offset->second, kChunkBytes);
    offset->second += static_cast<std::int64_t>(text.size());
  }
  return !text.empty();
}

bool LogShipper::ReadFiltered(Request& request, int rank, bool may_grow, std::string& text) const {
  const std::string path = RankLog(request.directory, rank);
  const bool since = request.filter->since();
  const auto [it, added] = request.filtered.try_emplace(rank, Request::Filtered{*request.filter});
  Request::Filtered& state = it->second;
  std::int64_t& offset = request.offsets[rank];
  if (added) {
    state.tail = !since;
    offset = since ? 0 : std::max<std::int64_t>(0, FileSize(path) - kSearchBytes);
  }
  const std::string raw = ReadFrom(path, offset, kReadBytes);
  offset += static_cast<std::int64_t>(raw.size());
  std::vector<std::string> lines = state.filter.Add(raw);
  const bool at_end = static_cast<std::int64_t>(raw.size()) < kReadBytes;
  if (at_end && !may_grow) {
    for (std::string& line : state.filter.Finish()) lines.push_back(std::move(line));
  }
  if (!state.tail) {
    for (const std::string& line : lines) text += line + "\n";
    return !raw.empty() || !text.empty();
  }
  for (std::string& line : lines) state.last.push_back(std::move(line));
  while (static_cast<int>(state.last.size()) > request.lines) state.last.pop_front();
  if (!at_end) return true;
  for (const std::string& line : state.last) text += line + "\n";
  state.last.clear();
  state.tail = false;
  return !raw.empty() || !text.empty();
}

bool LogShipper::StepOne(std::int64_t id, Request& request, bool* sent) {
  const bool may_grow =
      request.follow && runs_(request.key);  // asked before reading: then the end is final
  bool more = false;
  for (const int rank : RanksWithLogs(request.directory)) {
    if (!request.ranks.empty() && request.ranks.count(rank) == 0) continue;
    std::string text;
    const bool filtered = request.filter.has_value();
    const bool read =
        filtered ? ReadFiltered(request, rank, may_grow, text) : Read(request, rank, text);
    if (!read) continue;
    more = true;
    *sent = true;
    for (std::size_t at = 0; at < text.size(); at += kChunkBytes) {
      const absl::Status status = SendChunk(id, request, rank, text.substr(at, kChunkBytes), false);
      if (status.ok()) continue;
      spdlog::info("logs of attempt {}: {}", request.key.Text(), status.ToString());
      return true;
    }
  }
  if (may_grow || ((request.follow || request.filter) && more)) return false;
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
