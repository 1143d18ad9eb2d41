#include "worker/agent/testing/fake_coordinator.h"

#include <chrono>

#include <grpcpp/server_builder.h>

#include "sae/base/check.h"

namespace saeloom::agent {
namespace {

void Set(absl::Duration d, google::protobuf::Duration* out) {
  out->set_seconds(absl::ToInt64Seconds(d));
  out->set_nanos(static_cast<std::int32_t>(
      absl::ToInt64Nanoseconds(d - absl::Seconds(absl::ToInt64Seconds(d)))));
}

}  // namespace

FakeCoordinator::FakeCoordinator(absl::Duration heartbeat, absl::Duration lease,
                                 const std::string& host)
    : heartbeat_(heartbeat), lease_(lease), host_(host) {
  BringUp();
}
FakeCoordinator::~FakeCoordinator() { TakeDown(); }

std::string FakeCoordinator::address() const { return absl::StrCat(host_, ":", port_); }

void FakeCoordinator::TakeDown() {
  if (!server_) return;
  server_->Shutdown(std::chrono::system_clock::from_time_t(0));  // long past: at once
  server_->Wait();
  server_.reset();
}

void FakeCoordinator::BringUp() {
  {
    sae::MutexLock lock(mu_);
    ++epoch_;
  }
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat(host_, ":", port_), grpc::InsecureServerCredentials(),
                           &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  SAE_CHECK(server_ != nullptr && port != 0);
  port_ = port;
}

void FakeCoordinator::Add(v1::Command command) {
  sae::MutexLock lock(mu_);
  commands_.push_back(std::move(command));
}
void FakeCoordinator::Command(const v1::StartAttempt& start) {
  v1::Command c;
  *c.mutable_start() = start;
  Add(std::move(c));
}
void FakeCoordinator::Command(const v1::StopAttempt& stop) {
  v1::Command c;
  *c.mutable_stop() = stop;
  Add(std::move(c));
}
void FakeCoordinator::Command(const v1::FetchLogs& logs) {
  v1::Command c;
  *c.mutable_logs() = logs;
  Add(std::move(c));
}

void FakeCoordinator::Command(const v1::PrepareAttempt& prepare) {
  v1::Command c;
  *c.mutable_prepare() = prepare;
  Add(std::move(c));
}
void FakeCoordinator::Command(const v1::ReleaseAttempt& release) {
  v1::Command c;
  *c.mutable_release() = release;
  Add(std::move(c));
}

void FakeCoordinator::Command(const v1::KeepCheckpoint& keep) {
  v1::Command c;
  *c.mutable_keep() = keep;
  Add(std::move(c));
}
void FakeCoordinator::Command(const v1::DeleteCheckpoints& remove) {
  v1::Command c;
  *c.mutable_delete_checkpoints() = remove;
  Add(std::move(c));
}

std::vector<std::string> FakeCoordinator::Checkpoints() const {
  sae::MutexLock lock(mu_);
  std::vector<std::string> out;
  for (const auto& [id, text] : checkpoints_) out.push_back(text);
  return out;
}

void FakeCoordinator::Forget(const AttemptKey& key) {
  sae::MutexLock lock(mu_);
  forgotten_.insert(key);
}
void FakeCoordinator::set_acknowledging(bool yes) {
  sae::MutexLock lock(mu_);
  acknowledging_ = yes;
}
void FakeCoordinator::FailReports(int count, grpc::StatusCode code, bool after) {
  sae::MutexLock lock(mu_);
  failures_ = count;
  failure_ = code;
  fail_after_ = after;
}

std::vector<std::string> FakeCoordinator::Lines(const AttemptKey& key) const {
  sae::MutexLock lock(mu_);
  const auto it = attempts_.find(key);
  return it == attempts_.end() ? std::vector<std::string>() : it->second.lines;
}
std::vector<v1::AttemptStatus> FakeCoordinator::Statuses(const AttemptKey& key) const {
  sae::MutexLock lock(mu_);
  std::vector<v1::AttemptStatus> out;
  if (const auto it = attempts_.find(key); it != attempts_.end()) {
    for (const auto& [id, status] : it->second.statuses) out.push_back(status);
  }
  return out;
}
bool FakeCoordinator::Ended(const AttemptKey& key) const {
  sae::MutexLock lock(mu_);
  const auto it = attempts_.find(key);
  return it != attempts_.end() && it->second.ended;
}
std::string FakeCoordinator::Logs(std::int64_t request) const {
  sae::MutexLock lock(mu_);
  const auto it = logs_.find(request);
  return it == logs_.end() ? "" : it->second;
}
std::vector<v1::RegisterRequest> FakeCoordinator::registers() const {
  sae::MutexLock lock(mu_);
  return registers_;
}
int FakeCoordinator::free_slots() const {
  sae::MutexLock lock(mu_);
  return free_slots_;
}
int FakeCoordinator::gaps() const {
  sae::MutexLock lock(mu_);
  return gaps_;
}

grpc::Status FakeCoordinator::Register(grpc::ServerContext*, const v1::RegisterRequest* request,
                                       v1::RegisterResponse* response) {
  sae::MutexLock lock(mu_);
  registers_.push_back(*request);
  incarnation_ = request->incarnation();
  response->set_epoch(epoch_);
  Set(heartbeat_, response->mutable_heartbeat_interval());
  Set(lease_, response->mutable_lease());
  for (const auto& known : request->attempts()) {
    const AttemptKey key = KeyOf(known);
    auto* a = response->add_attempts();
    SetKey(key, a);
    a->set_wanted(forgotten_.count(key) == 0);
    a->set_seq(static_cast<std::int64_t>(attempts_[key].lines.size()));
  }
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::Session(
    grpc::ServerContext*,
    grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>* stream) {
  v1::WorkerMessage in;
  while (stream->Read(&in)) {
    v1::CoordinatorMessage out;
    {
      sae::MutexLock lock(mu_);
      if (in.epoch() != epoch_ || in.incarnation() != incarnation_) {
        return {grpc::StatusCode::ABORTED, "stale epoch: register again"};
      }
      out.set_epoch(epoch_);
      out.set_heartbeat(in.heartbeat());
      free_slots_ = in.free_slots();
      for (const auto& status : in.statuses()) {
        Known& known = attempts_[KeyOf(status)];
        known.statuses[absl::StrCat(in.incarnation(), "/", 1'000'000 + status.status_id())] =
            status;
        if (!acknowledging_) continue;
        if (status.state() != v1::AttemptStatus::STATE_STARTING &&
            status.state() != v1::AttemptStatus::STATE_PREPARED)
          known.ended = true;
        out.add_status_acks(status.status_id());
      }
      for (const auto& status : in.checkpoints()) {
        const auto name = v1::CheckpointStatus::State_Name(status.state());
        checkpoints_[status.status_id()] = absl::StrCat(name.substr(6), " ", status.name());
        if (!acknowledging_) continue;
        out.add_status_acks(status.status_id());
        std::erase_if(commands_, [&](const v1::Command& c) {
          return status.state() == v1::CheckpointStatus::STATE_DELETED
                     ? c.delete_checkpoints().names_size() > 0 &&
                           c.delete_checkpoints().names(0) == status.name()
                     : c.has_keep() && c.keep().name() == status.name();
        });
      }
      for (const auto& c : commands_) {
        // Repeated until done: an attempt's until its end, a fetch for ever.
        const bool over = (c.has_start() && attempts_[KeyOf(c.start())].ended) ||
                          (c.has_stop() && attempts_[KeyOf(c.stop())].ended) ||
                          (c.has_prepare() && attempts_[KeyOf(c.prepare())].ended) ||
                          (c.has_release() && attempts_[KeyOf(c.release())].ended);
        if (!over) *out.add_commands() = c;
      }
    }
    if (!stream->Write(out)) break;
  }
  return grpc::Status::OK;
}

grpc::Status FakeCoordinator::ReportBatch(grpc::ServerContext*,
                                          const v1::ReportBatchRequest* request,
                                          v1::ReportBatchResponse* response) {
  sae::MutexLock lock(mu_);
  if (request->epoch() != epoch_) return {grpc::StatusCode::ABORTED, "stale epoch: register again"};
  const bool fail = failures_ > 0;
  if (fail) --failures_;
  if (fail && !fail_after_) return {failure_, "as the test wants"};
  for (const auto& log : request->logs()) {
    logs_[log.request()] += log.text() + (log.end() ? "<end>" : "");
  }
  Known& known = attempts_[KeyOf(*request)];
  auto seq = static_cast<std::int64_t>(known.lines.size());
  if (request->lines_size() > 0 && request->first_seq() > seq + 1) {
    ++gaps_;
    return {grpc::StatusCode::OUT_OF_RANGE, "a gap"};
  }
  for (int i = 0; i < request->lines_size(); ++i) {
    if (request->first_seq() + i == seq + 1) {
      known.lines.push_back(request->lines(i));
      ++seq;
    }
  }
  response->set_acknowledged_seq(seq);
  return fail ? grpc::Status{failure_, "the answer was lost"} : grpc::Status::OK;
}

}  // namespace saeloom::agent
