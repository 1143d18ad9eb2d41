#include "worker/agent/reporter.h"

#include <spdlog/spdlog.h>
#include <vector>

#include "sae/base/failpoint.h"

namespace saeloom::agent {
namespace {

constexpr std::int64_t kMostLines = 512;
constexpr std::int64_t kMostBytes = 256 << 10;

/// Whether the same request may succeed later.
bool Transient(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsResourceExhausted(status) || absl::IsInternal(status) || absl::IsUnknown(status) ||
         absl::IsCancelled(status);
}

}  // namespace

void Reporter::SetSession(const SessionIdentity* identity) {
  sae::MutexLock lock(mu_);
  online_ = identity != nullptr;
  if (identity != nullptr) identity_ = *identity;
}

void Reporter::Track(const AttemptKey& key, const std::string& events_path,
                     std::int64_t acknowledged) {
  sae::MutexLock lock(mu_);
  std::shared_ptr<Stream>& stream = streams_[key];
  if (!stream) stream = std::make_shared<Stream>(events_path);
  stream->acknowledged = acknowledged;
  stream->done = false;
  ++stream->generation;
}

void Reporter::Finish(const AttemptKey& key) {
  sae::MutexLock lock(mu_);
  if (const auto it = streams_.find(key); it != streams_.end()) it->second->finished = true;
}

void Reporter::Drop(const AttemptKey& key) {
  sae::MutexLock lock(mu_);
  streams_.erase(key);
}

bool Reporter::Done(const AttemptKey& key) {
  sae::MutexLock lock(mu_);
  const auto it = streams_.find(key);
  return it != streams_.end() && it->second->finished && (it->second->done || it->second->given_up);
}

std::int64_t Reporter::reported() const {
  sae::MutexLock lock(mu_);
  return reported_;
}

bool Reporter::Step() {
  std::vector<std::pair<AttemptKey, std::shared_ptr<Stream>>> streams;
  {
    sae::MutexLock lock(mu_);
    if (!online_) return false;
    streams.assign(streams_.begin(), streams_.end());
  }
  bool moved = false;
  for (const auto& [key, stream] : streams) moved = StepOne(key, stream) || moved;
  return moved;
}

bool Reporter::StepOne(const AttemptKey& key, const std::shared_ptr<Stream>& stream) {
  v1::ReportBatchRequest request;
  SetKey(key, &request);
  std::int64_t generation = 0;
  bool finished = false;  // read before the file, so that its end is final
  {
    sae::MutexLock lock(mu_);
    if (!online_ || stream->done || stream->given_up) return false;
    generation = stream->generation;
    finished = stream->finished;
    request.set_first_seq(stream->acknowledged + 1);
    request.set_worker_id(identity_.worker_id);
    request.set_incarnation(identity_.incarnation);
    request.set_epoch(identity_.epoch);
  }
  auto batch = stream->log.Read(request.first_seq(), kMostLines, kMostBytes);
  if (!batch.ok()) {
    GiveUp(key, *stream, batch.status());
    return false;
  }
  if (batch->lines.empty()) {
    sae::MutexLock lock(mu_);
    if (finished && generation == stream->generation) stream->done = true;
    return false;
  }
  for (std::string& line : batch->lines) request.add_lines(std::move(line));
  v1::ReportBatchResponse response;
  SAE_FAILPOINT("worker.before_report");
  const absl::Status status = send_(request, &response);
  SAE_FAILPOINT("worker.after_report");
  if (absl::IsAborted(status) || absl::IsOutOfRange(status)) {
    on_stale_();
    return false;
  }
  if (!status.ok()) {
    if (!Transient(status)) GiveUp(key, *stream, status);
    return false;
  }
  sae::MutexLock lock(mu_);
  if (generation != stream->generation || response.acknowledged_seq() <= stream->acknowledged)
    return false;
  reported_ += response.acknowledged_seq() - stream->acknowledged;
  stream->acknowledged = response.acknowledged_seq();
  return true;
}

void Reporter::GiveUp(const AttemptKey& key, Stream& stream, const absl::Status& why) {
  spdlog::error("attempt {}: its events can not be reported any further: {}", key.Text(),
                why.ToString());
  sae::MutexLock lock(mu_);
  stream.given_up = true;
}

}  // namespace saeloom::agent
