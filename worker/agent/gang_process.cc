#include "worker/agent/gang_process.h"

#include <csignal>
#include <unistd.h>

namespace saeloom::agent {

absl::StatusOr<std::shared_ptr<GangProcess>> GangProcess::Launch(const GangOptions& options, const GangSpec& spec,
                                                                 int trials) {
  auto gang = std::make_shared<GangProcess>();
  gang->marks_ = GangMarks(spec.key, spec.runs_id);
  gang->trials_ = trials;
  SAE_ASSIGN_OR_RETURN(gang->launcher_, sae::Process::Spawn(GangCommand(options, spec, ::geteuid() == 0)));
  return gang;
}

std::shared_ptr<GangProcess> GangProcess::Adopt(const std::string& name, const std::string& runs_id) {
  auto gang = std::make_shared<GangProcess>();
  gang->marks_ = GangMarks(name, runs_id);
  gang->killing_ = true;
  return gang;
}

sae::ProcessQuery GangProcess::Members() const {
  // A session's number is not reused while it has members; that of an adopted gang may have been since.
  return {.session = launcher_ ? launcher_->pid() : 0, .marks = marks_};
}

void GangProcess::Notice() {
  if (noticed_ || killing_ || exit_ || !launcher_) return;
  noticed_ = true;
  launcher_->Signal(SIGUSR1).IgnoreError();
}

void GangProcess::GiveUp() {
  if (++given_up_ >= trials_) Kill();
}

void GangProcess::TrialEnded(bool gave_up) {
  --trials_;
  given_up_ -= gave_up ? 1 : 0;
  if (trials_ > 0 && given_up_ >= trials_) Kill();
}

void GangProcess::Tick() {
  if (gone_) return;
  if (launcher_ && !exit_) {
    if (const auto exit = launcher_->Wait(absl::ZeroDuration()); exit.ok()) exit_ = *exit;
  }
  if (!killing_ && !exit_) return;
  sae::SignalProcesses(Members(), SIGKILL);
  if (launcher_ && !exit_) {
    if (const auto exit = launcher_->Wait(absl::ZeroDuration()); exit.ok()) exit_ = *exit;
    if (!exit_) return;
  }
  gone_ = sae::FindProcesses(Members()).empty();
}

}  // namespace saeloom::agent
