// The agent's part in gangs over several workers: what it holds for them, and how that ends.
#include <csignal>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "worker/agent/admission.h"
#include "worker/agent/agent.h"
#include "worker/agent/gpus.h"
#include "worker/agent/peer_service.h"

namespace saeloom::agent {

bool Agent::HoldsAny() const {
  return options_.reservations != nullptr && !options_.reservations->All().empty();
}

void Agent::Handle(const v1::PrepareAttempt& prepare) {
  const AttemptKey key = KeyOf(prepare);
  if (entries_.count(key) > 0 || Closed(key) || refused_.count(key) > 0) return;
  if (options_.reservations != nullptr && options_.reservations->Holds(key)) return;
  if (const absl::Status status = Reserve(prepare); !status.ok()) {
    SayRefused(key, status);
    return;
  }
  spdlog::info("attempt {}: {} slots are held for its gang", key.Text(), prepare.slots());
  v1::AttemptStatus status;
  SetKey(key, &status);
  status.set_state(v1::AttemptStatus::STATE_PREPARED);
  Say(std::move(status));
}

absl::Status Agent::Reserve(const v1::PrepareAttempt& prepare) {
  if (shutting_down_) return absl::UnavailableError("this worker is shutting down");
  if (options_.reservations == nullptr) {
    return absl::UnavailableError(
        "this worker takes part in no gang over several workers: start it with --peer-listen");
  }
  SAE_RETURN_IF_ERROR(CheckStore(*options_.env, prepare.store(), prepare.store_hash()));
  const int free = options_.slots.slots - UsedSlots();
  if (prepare.slots() < 1 || prepare.slots() > free) {
    return absl::ResourceExhaustedError(absl::StrCat("needs ", prepare.slots(), " slots, ", free,
                                                     " of ", options_.slots.slots,
                                                     " are free here"));
  }
  Reservation reservation{KeyOf(prepare), prepare.token(), prepare.slots(), {}};
  SAE_ASSIGN_OR_RETURN(reservation.gpus, PickGpus(options_.gpus, TakenGpus(),
                                                  options_.gpus.empty() ? 0 : prepare.slots()));
  // Where the daemon keeps its sockets: mpirun hands it the same path.
  if (const absl::Status made =
          MakeScratch(*options_.env, options_.gang, reservation.key, options_.runs->runs_id());
      !made.ok()) {
    options_.env
        ->RemoveAll(ScratchDirectory(options_.gang, reservation.key, options_.runs->runs_id()))
        .IgnoreError();
    return made;
  }
  options_.reservations->Hold(reservation);
  return absl::OkStatus();
}

void Agent::Handle(const v1::ReleaseAttempt& release) {
  const AttemptKey key = KeyOf(release);
  if (const auto it = entries_.find(key); it != entries_.end()) {
    it->second.stopping = true;
    it->second.attempt->Kill(StopCause::kCoordinator, "the coordinator released its gang");
    return;
  }
  if (options_.reservations != nullptr && options_.reservations->Holds(key)) {
    releasing_.insert(key);
    options_.reservations->End(key);
    return;
  }
  SayNotHere(key, "this worker holds nothing for it");
}

void Agent::SayNotHere(const AttemptKey& key, const std::string& reason, v1::FailureClass failure) {
  if (refused_.count(key) > 0) return;
  v1::AttemptStatus status;
  SetKey(key, &status);
  status.set_state(v1::AttemptStatus::STATE_ENDED);
  status.set_exit_code(-1);
  status.set_reason(reason);
  status.set_failure_class(failure);
  refused_.insert(key);
  refused_statuses_[Say(std::move(status))] = key;
}

void Agent::NoticePeers() {
  if (options_.reservations == nullptr) return;
  // As the kernel keeps it.
  const std::string& path = options_.gang.trainer;
  const std::string name = path.substr(path.rfind('/') + 1).substr(0, 15);
  for (const AttemptKey& key : options_.reservations->All()) {
    const sae::ProcessQuery query{
        .marks = PeerMarks(key, options_.runs->runs_id(), options_.runs->worker_id())};
    for (const sae::ProcessInfo& p : sae::FindProcesses(query)) {
      const int pidfd = p.name == name ? sae::PidfdOpen(p.pid) : -1;
      if (pidfd < 0) continue;
      const auto again = sae::ReadProcess(p.pid);
      if (again.ok() && again->start_ticks == p.start_ticks) sae::PidfdSignal(pidfd, SIGUSR1);
      ::close(pidfd);
    }
  }
}

void Agent::TickReservations() {
  if (options_.reservations == nullptr) return;
  if (shutting_down_) {
    options_.reservations->EndIdle();
    if (shutdown_at_ && options_.clock->SinceBoot() >= *shutdown_at_)
      options_.reservations->EndAll();
  }
  for (const AttemptKey& key : options_.reservations->TakeGone()) {
    options_.env->RemoveAll(ScratchDirectory(options_.gang, key, options_.runs->runs_id()))
        .IgnoreError();
    Remember(key);
    if (releasing_.erase(key) > 0) {
      SayNotHere(key, "its gang was released");
    } else {
      // The coordinator may wait for a head that has said it is prepared.
      SayNotHere(key, "this worker had to give up what it held for it", v1::RENDEZVOUS_TIMEOUT);
    }
  }
}

}  // namespace saeloom::agent
