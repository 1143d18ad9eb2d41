#include "sae/train/event_writer.h"

#include <utility>

namespace sae::train {
namespace {

// The sequence number of the last whole line; the bytes from `whole` on are a torn one.
absl::StatusOr<std::int64_t> LastSeq(const std::string& content, const std::string& path, std::size_t& whole) {
  const std::size_t end = content.rfind('\n');
  whole = end == std::string::npos ? 0 : end + 1;
  if (whole == 0) return 0;
  const std::size_t before = end == 0 ? std::string::npos : content.rfind('\n', end - 1);
  const std::size_t begin = before == std::string::npos ? 0 : before + 1;
  const absl::StatusOr<config::Event> event = config::ParseEvent(content.substr(begin, end - begin));
  if (!event.ok()) {
    return absl::DataLossError(absl::StrCat(path, ": its last line is no event: move the file away to begin a new one"));
  }
  return event->seq;
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventWriter>> EventWriter::Open(Env& env, Clock& clock, const std::string& path) {
  std::int64_t seq = 0;
  if (env.Exists(path)) {
    SAE_ASSIGN_OR_RETURN(const std::string content, env.Read(path));
    std::size_t whole = 0;
    SAE_ASSIGN_OR_RETURN(seq, LastSeq(content, path, whole));
    if (whole < content.size()) {
      SAE_RETURN_IF_ERROR(WriteFileAtomically(env, path, content.substr(0, whole)));
    }
  }
  SAE_ASSIGN_OR_RETURN(auto file, env.OpenForAppend(path));
  return std::unique_ptr<EventWriter>(new EventWriter(clock, std::move(file), seq));
}

absl::Status EventWriter::Write(config::Event& event) {
  event.seq = seq_ + 1;
  event.time = absl::ToDoubleSeconds(clock_.Now() - absl::UnixEpoch());
  // Whoever reports a failure may not know how far the run had come.
  if (event.kind == config::EventKind::kFailed && event.step == 0) {
    event.step = step_;
    event.tokens = tokens_;
  }
  step_ = event.step;
  tokens_ = event.tokens;
  SAE_RETURN_IF_ERROR(file_->Append(config::ToJsonLine(event)));
  ++seq_;
  return config::IsVerdict(event.kind) ? file_->Sync() : absl::OkStatus();
}

absl::Status EventWriter::Append(config::Event event) {
  MutexLock lock(mu_);
  return Write(event);
}

bool EventWriter::TryAppend(config::Event event) {
  if (!mu_.TryLock()) return false;
  const bool written = Write(event).ok();
  mu_.Unlock();
  return written;
}

}  // namespace sae::train
