#include "worker/agent/gang_process.h"

#include <csignal>
#include <poll.h>
#include <unistd.h>

#include "worker/agent/control_group.h"

namespace saeloom::agent {

absl::StatusOr<std::shared_ptr<GangProcess>> GangProcess::Launch(const GangOptions& options,
                                                                 const GangSpec& spec, int trials) {
  auto gang = std::make_shared<GangProcess>();
  gang->marks_ = GangMarks(spec.key, spec.runs_id);
  gang->trials_ = trials;
  sae::ProcessSpec command = GangCommand(options, spec, ::geteuid() == 0);
  gang->group_ = ControlGroupOf(options.cgroup_root, spec.key.Text(), spec.runs_id);
  if (!gang->group_.empty() && MakeControlGroup(gang->group_)) BeginIn(gang->group_, command);
  SAE_ASSIGN_OR_RETURN(gang->launcher_, sae::Process::Spawn(command));
  return gang;
}

std::shared_ptr<GangProcess> GangProcess::Adopt(const std::string& name, const std::string& runs_id,
                                                const Launcher& launcher,
                                                const std::string& cgroup_root) {
  auto gang = std::make_shared<GangProcess>();
  gang->marks_ = GangMarks(name, runs_id);
  gang->group_ = ControlGroupOf(cgroup_root, name, runs_id);
  const auto pid = static_cast<pid_t>(launcher.pid);
  gang->pidfd_ = pid > 0 ? sae::PidfdOpen(pid) : -1;
  // Asked after the descriptor is there: the answer is of the process that it holds.
  const auto info = sae::ReadProcess(pid);
  const bool same = info.ok() && info->alive() && info->start_ticks == launcher.start_ticks;
  gang->killing_ = gang->pidfd_ < 0 || !same;
  if (gang->killing_ && gang->pidfd_ >= 0) {
    ::close(gang->pidfd_);
    gang->pidfd_ = -1;
  }
  return gang;
}

GangProcess::~GangProcess() {
  if (pidfd_ >= 0) ::close(pidfd_);
}

sae::ProcessQuery GangProcess::Members() const {
  // A session's number is not reused while it has members; that of an adopted gang may have been
  // since.
  return {.session = launcher_ ? launcher_->pid() : 0, .marks = marks_};
}

void GangProcess::Notice() {
  if (noticed_ || killing_ || ended_) return;
  noticed_ = true;
  if (launcher_) launcher_->Signal(SIGUSR1).IgnoreError();
  if (pidfd_ >= 0) sae::PidfdSignal(pidfd_, SIGUSR1);
}

void GangProcess::GiveUp() {
  if (++given_up_ >= trials_) Kill();
}

void GangProcess::TrialEnded(bool gave_up) {
  --trials_;
  given_up_ -= gave_up ? 1 : 0;
  if (trials_ > 0 && given_up_ >= trials_) Kill();
}

void GangProcess::Look() {
  if (ended_) return;
  if (launcher_) {
    if (const auto exit = launcher_->Wait(absl::ZeroDuration()); exit.ok()) exit_ = *exit;
    ended_ = exit_.has_value();
    return;
  }
  pollfd p{pidfd_, POLLIN, 0};
  ended_ = pidfd_ < 0 || ::poll(&p, 1, 0) > 0;
}

void GangProcess::Tick() {
  if (gone_) return;
  Look();
  if (!killing_ && !ended_) return;
  if (!group_.empty()) KillControlGroup(group_);
  sae::SignalProcesses(Members(), SIGKILL);
  Look();
  if (!ended_) return;
  if (!group_.empty() && !memory_kills_) memory_kills_ = MemoryKills(sae::RealEnv(), group_);
  gone_ = sae::FindProcesses(Members()).empty() && (group_.empty() || RemoveControlGroup(group_));
}

}  // namespace saeloom::agent
