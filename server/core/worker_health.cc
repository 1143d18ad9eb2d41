#include "server/core/worker_health.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace sae::server {

bool IsMachinesKind(FailureClass failure) {
  return failure == FailureClass::kNodeLost || failure == FailureClass::kGpuFault ||
         failure == FailureClass::kRendezvousTimeout || failure == FailureClass::kOomHost;
}

void WorkerHealth::Ended(const std::string& worker, FailureClass failure, absl::Time time) {
  std::deque<End>& ends = workers_[worker];
  End end{failure, time, IsMachinesKind(failure)};
  for (const End& other : ends) {
    if (other.failure == failure && absl::AbsDuration(time - other.time) < absl::Seconds(1))
      end.counts = false;
  }
  ends.push_back(end);
  if (ends.size() > kWindow) ends.pop_front();
}

int WorkerHealth::Failures(const std::string& worker) const {
  const auto it = workers_.find(worker);
  if (it == workers_.end()) return 0;
  return static_cast<int>(
      std::count_if(it->second.begin(), it->second.end(), [](const End& e) { return e.counts; }));
}

std::string WorkerHealth::Verdict(const std::string& worker) const {
  const int failures = Failures(worker);
  if (failures == 0) return "";
  std::map<std::string, int> classes;
  for (const End& end : workers_.at(worker)) {
    if (end.counts) ++classes[ToString(end.failure)];
  }
  if (failures < kFailures && !classes.contains(ToString(FailureClass::kGpuFault))) return "";
  std::string text;
  for (const auto& [name, n] : classes)
    absl::StrAppend(&text, text.empty() ? "" : ", ", n, " ", name);
  return text;
}

std::vector<std::string> WorkerHealth::Bad() const {
  std::vector<std::string> bad;
  for (const auto& [worker, ends] : workers_) {
    if (!Verdict(worker).empty()) bad.push_back(worker);
  }
  return bad;
}

}  // namespace sae::server
