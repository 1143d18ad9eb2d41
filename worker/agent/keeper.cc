#include "worker/agent/keeper.h"

#include <spdlog/spdlog.h>
#include <utility>

namespace saeloom::agent {

Keeper::Keeper(Options options) : options_(std::move(options)), thread_([this] { Loop(); }) {}

Keeper::~Keeper() { Stop(); }

void Keeper::Stop() {
  {
    sae::MutexLock lock(mu_);
    stopped_ = true;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Keeper::Handle(const saeloom::v1::KeepCheckpoint& command) {
  Add({command.sweep(), command.trial(), command.name(), command.attempt(), false, false});
}

void Keeper::Handle(const saeloom::v1::DeleteCheckpoints& command) {
  for (const std::string& name : command.names())
    Add({command.sweep(), command.trial(), name, command.attempt(), true, command.kept_only()});
}

void Keeper::Forget(const std::string& sweep, const std::string& trial) {
  sae::MutexLock lock(mu_);
  std::erase_if(queue_, [&](const Task& task) {
    if (!task.remove || task.sweep != sweep || task.trial != trial) return false;
    open_.erase(task);
    return true;
  });
}

void Keeper::Add(const Task& task) {
  sae::MutexLock lock(mu_);
  const auto failed = failed_.find(task);
  const absl::Duration now = options_.clock->SinceBoot();
  if (open_.count(task) > 0 ||
      (failed != failed_.end() && now < failed->second + options_.retry_after))
    return;
  open_[task] = 0;
  queue_.push_back(task);
  wake_.NotifyAll();
}

std::vector<saeloom::v1::CheckpointStatus> Keeper::Answers() const {
  std::vector<saeloom::v1::CheckpointStatus> out;
  sae::MutexLock lock(mu_);
  for (const auto& [id, status] : answers_) out.push_back(status);
  return out;
}

void Keeper::Acknowledge(std::int64_t status_id) {
  sae::MutexLock lock(mu_);
  if (answers_.erase(status_id) == 0) return;
  std::erase_if(open_, [&](const auto& task) { return task.second == status_id; });
}

void Keeper::WaitUntilIdle() {
  sae::MutexLock lock(mu_);
  while (busy_ || !queue_.empty()) done_.Wait(mu_);
}

void Keeper::Loop() {
  for (;;) {
    Task task;
    {
      sae::MutexLock lock(mu_);
      busy_ = false;
      done_.NotifyAll();
      while (queue_.empty() && !stopped_) wake_.Wait(mu_);
      if (stopped_) return;
      task = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
    }
    saeloom::v1::CheckpointStatus status = Do(task);
    {
      sae::MutexLock lock(mu_);
      status.set_status_id(next_id_++);
      open_[task] = status.status_id();
      if (status.state() == saeloom::v1::CheckpointStatus::STATE_FAILED) {
        failed_[task] = options_.clock->SinceBoot();
      } else {
        failed_.erase(task);
      }
      answers_[status.status_id()] = std::move(status);
    }
    if (options_.answered) options_.answered();
  }
}

saeloom::v1::CheckpointStatus Keeper::Do(const Task& task) const {
  using Status = saeloom::v1::CheckpointStatus;
  const auto& [sweep, trial, name, attempt, remove, kept_only] = task;
  Status status;
  status.set_sweep(sweep);
  status.set_trial(trial);
  status.set_name(name);
  status.set_attempt(attempt);
  const std::string folder = options_.runs->TrialDirectory({sweep, trial, 1});
  const auto bytes = remove ? DeleteCheckpoint(*options_.env, folder, name, kept_only)
                            : KeepCheckpoint(*options_.env, folder, name, options_.link);
  if (bytes.ok()) {
    status.set_state(remove ? Status::STATE_DELETED : Status::STATE_KEPT);
    status.set_bytes(*bytes);
    spdlog::info("checkpoint {}/{}/{}: {}", sweep, trial, name, remove ? "deleted" : "kept");
    return status;
  }
  const bool missing = !remove && absl::IsNotFound(bytes.status());
  status.set_state(missing ? Status::STATE_MISSING : Status::STATE_FAILED);
  status.set_reason(sae::Message(bytes.status()));
  spdlog::warn("checkpoint {}/{}/{}: {}", sweep, trial, name, status.reason());
  return status;
}

}  // namespace saeloom::agent
