// What people, and the core itself, decide of queues and workers.
#include <algorithm>
#include <cmath>
#include <spdlog/spdlog.h>

#include "absl/strings/str_join.h"

#include "sae/base/ids.h"
#include "server/core/core.h"

namespace sae::server {
namespace {

constexpr std::size_t kLongestReason = 200;

std::string NamesOf(const std::map<std::string, QueueRecord>& queues) {
  std::vector<std::string> names;
  for (const auto& [name, queue] : queues) names.push_back(name);
  return absl::StrJoin(names, ", ");
}

}  // namespace

std::string WorkerStateOf(const Core& core, const WorkerEntry& worker) {
  if (!worker.ready) return "lost";
  const auto cordon = core.state().fleet().cordons.find(worker.id);
  if (cordon == core.state().fleet().cordons.end()) return "ready";
  const bool empty = core.live().host(worker.id).gangs.empty();
  return cordon->second.drain && !empty ? "draining" : "cordoned";
}

absl::Status Core::CheckQueue(const std::string& queue) const {
  if (state_.fleet().queues.contains(QueueNameOf(queue))) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "queue: there is no queue \"", queue, "\"; there are ", NamesOf(state_.fleet().queues),
      "; an operator makes one with `saeloom queue set`"));
}

absl::Status Core::UpdateQueue(const std::string& name, const QueueRecord& queue,
                               const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const auto answer, FirstAnswer(request, "UpdateQueue", ""));
  if (answer) return absl::OkStatus();
  std::vector<std::string> problems;
  if (const absl::Status status = ValidateName(name, "queue.name"); !status.ok())
    problems.push_back(Message(status));
  if (queue.quota_slots < 0) {
    problems.push_back(
        absl::StrCat("queue.quota_slots: ", queue.quota_slots, ", must be >= 0; 0 means no limit"));
  }
  if (!(queue.weight > 0) || queue.weight > 1e6) {
    problems.push_back(
        absl::StrCat("queue.weight: ", queue.weight, ", must be above 0 and at most 1000000"));
  }
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "; "));
  Transaction transaction;
  Remember(request, "UpdateQueue", "", name, transaction);
  const auto it = state_.fleet().queues.find(name);
  if (it == state_.fleet().queues.end() || it->second != queue)
    Add(transaction, "", "", QueueUpdated{name, queue.quota_slots, queue.weight});
  return Commit(std::move(transaction));
}

void Core::Drain(const std::string& worker, const std::string& reason, Transaction& transaction) {
  for (const auto& [name, index] : live_.On(worker)) {
    const SweepRecord& sweep = *state_.sweep(name);
    const TrialRecord& trial = sweep.trials[static_cast<std::size_t>(index)];
    if (trial.attempts.back().stop_wanted != StopWanted::kNone || sweep.cancel_requested) continue;
    AskToStop(transaction, sweep, trial, StopWanted::kPreempt,
              absl::StrCat("worker ", worker, " is being drained: ", reason));
  }
}

absl::Status Core::CordonWorker(const std::string& worker, const std::string& reason, bool drain,
                                const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const auto answer, FirstAnswer(request, "CordonWorker", ""));
  if (answer) return absl::OkStatus();
  if (!workers_.contains(worker))
    return absl::NotFoundError(absl::StrCat("no worker \"", worker, "\""));
  if (reason.size() > kLongestReason) {
    return absl::InvalidArgumentError(
        absl::StrCat("reason: ", reason.size(), " bytes, at most ", kLongestReason));
  }
  const std::string why = reason.empty() ? "by a person" : reason;
  Transaction transaction;
  Remember(request, "CordonWorker", "", worker, transaction);
  const auto it = state_.fleet().cordons.find(worker);
  const bool same = it != state_.fleet().cordons.end() && it->second.by_person &&
                    it->second.reason == why && it->second.drain == drain;
  if (!same) Add(transaction, "", "", WorkerCordoned{worker, why, drain, true});
  if (drain) Drain(worker, why, transaction);
  return Commit(std::move(transaction));
}

absl::Status Core::UncordonWorker(const std::string& worker, const RequestKey& request) {
  SAE_ASSIGN_OR_RETURN(const auto answer, FirstAnswer(request, "UncordonWorker", ""));
  if (answer) return absl::OkStatus();
  if (!workers_.contains(worker) && !state_.fleet().cordoned(worker))
    return absl::NotFoundError(absl::StrCat("no worker \"", worker, "\""));
  Transaction transaction;
  Remember(request, "UncordonWorker", "", worker, transaction);
  if (state_.fleet().cordoned(worker)) Add(transaction, "", "", WorkerUncordoned{worker});
  return Commit(std::move(transaction));
}

void Core::CordonBadWorkers() {
  health_changed_ = false;
  if (!options_.cordon_bad_workers) return;
  const auto usable = [&](const WorkerEntry& w) {
    return w.ready && !state_.fleet().cordoned(w.id);
  };
  for (const std::string& id : health_.Bad()) {
    const auto it = workers_.find(id);
    if (it == workers_.end() || state_.fleet().cordoned(id)) continue;
    // The last one is left to run: work goes on slowly there, and nowhere without it.
    const bool others = std::any_of(workers_.begin(), workers_.end(), [&](const auto& entry) {
      return entry.first != id && usable(entry.second);
    });
    if (!others) continue;
    const std::string verdict = health_.Verdict(id);
    spdlog::warn("worker {} is cordoned: {}", id, verdict);
    Transaction transaction;
    Add(transaction, "", "", WorkerCordoned{id, verdict, false, false});
    if (!Commit(std::move(transaction)).ok()) health_changed_ = true;
  }
}

}  // namespace sae::server
