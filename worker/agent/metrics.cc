#include "worker/agent/metrics.h"

#include <algorithm>
#include <exception>

#include <grpcpp/grpcpp.h>
#include <prometheus/text_serializer.h>

namespace saeloom::agent {
namespace {

prometheus::Family<prometheus::Gauge>& GaugeFamily(prometheus::Registry& r, const char* name,
                                                   const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(r);
}

prometheus::Family<prometheus::Counter>& CounterFamily(prometheus::Registry& r, const char* name,
                                                       const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(r);
}

/// Counters only grow: to a total that is counted elsewhere.
void RaiseTo(prometheus::Counter& counter, double total) {
  counter.Increment(std::max(0.0, total - counter.Value()));
}

}  // namespace

Metrics::Metrics(const std::string& version) : registry_(std::make_shared<prometheus::Registry>()) {
  prometheus::Registry& r = *registry_;
  GaugeFamily(r, "saeloom_build_info", "Always 1; the labels tell the build.")
      .Add({{"version", version}, {"grpc", grpc::Version()}})
      .Set(1);
  auto& slots = GaugeFamily(r, "saeloom_worker_slots", "Slots of this worker by state.");
  slots_free_ = &slots.Add({{"state", "free"}});
  slots_used_ = &slots.Add({{"state", "used"}});
  auto& ranks = GaugeFamily(r, "saeloom_worker_ranks", "Trainer ranks of this worker by state.");
  ranks_running_ = &ranks.Add({{"state", "running"}});
  ranks_stopping_ = &ranks.Add({{"state", "stopping"}});
  gpu_allocations_ = &GaugeFamily(r, "saeloom_worker_gpu_allocation_info",
                                  "Always 1; the labels tell which trial has which GPU.");
  lease_remaining_ =
      &GaugeFamily(r, "saeloom_worker_lease_remaining_seconds",
                   "Time until this worker kills its gangs unless the coordinator answers.")
           .Add({});
  rank_restarts_ = &CounterFamily(r, "saeloom_worker_rank_restarts_total",
                                  "Ranks started for second and later attempts of a trial.")
                        .Add({});
  attempts_started_ = &CounterFamily(r, "saeloom_worker_attempts_started_total",
                                     "Attempts whose gang was launched.")
                           .Add({});
  attempts_ended_ =
      &CounterFamily(r, "saeloom_worker_attempts_ended_total",
                     "Attempts that ended here, by verdict (none = no verdict was left).");
  for (const char* verdict : {"finished", "yielded", "stopped", "failed", "none", "refused"}) {
    attempts_ended_->Add({{"verdict", verdict}});
  }
  events_reported_ = &CounterFamily(r, "saeloom_worker_events_reported_total",
                                    "Lines of events.jsonl that the coordinator acknowledged.")
                          .Add({});
  reconnects_ =
      &CounterFamily(r, "saeloom_worker_reconnects_total", "Registrations after the first.")
           .Add({});
  fences_ = &CounterFamily(r, "saeloom_worker_fences_total",
                           "Times this worker stopped its gangs because its lease ran out.")
                 .Add({});
}

absl::StatusOr<std::string> Metrics::Expose(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("--metrics-listen ", address, " is not HOST:PORT"));
  }
  try {
    exposer_ = std::make_unique<prometheus::Exposer>(address, 1);
  } catch (const std::exception& e) {
    return absl::UnavailableError(
        absl::StrCat("cannot serve metrics on ", address, ": ", e.what(),
                     ": is the port in use? choose another with --metrics-listen"));
  }
  exposer_->RegisterCollectable(registry_);
  const std::vector<int> ports = exposer_->GetListeningPorts();
  if (ports.empty())
    return absl::UnavailableError(absl::StrCat("cannot serve metrics on ", address));
  return absl::StrCat(address.substr(0, colon), ":", ports.front());
}

void Metrics::SetSlots(int total, int used) {
  slots_free_->Set(std::max(0, total - used));
  slots_used_->Set(used);
}

void Metrics::SetRanks(int starting_or_running, int stopping) {
  ranks_running_->Set(starting_or_running);
  ranks_stopping_->Set(stopping);
}

void Metrics::SetGpus(const std::set<GpuUse>& uses) {
  for (auto it = gpus_.begin(); it != gpus_.end();) {
    if (uses.count(it->first) > 0) {
      ++it;
      continue;
    }
    gpu_allocations_->Remove(it->second);
    it = gpus_.erase(it);
  }
  for (const GpuUse& use : uses) {
    prometheus::Gauge*& gauge = gpus_[use];
    if (gauge != nullptr) continue;
    gauge = &gpu_allocations_->Add({{"gpu", use.gpu}, {"sweep", use.sweep}, {"trial", use.trial}});
    gauge->Set(1);
  }
}

void Metrics::SetLeaseRemaining(double seconds) { lease_remaining_->Set(std::max(0.0, seconds)); }

void Metrics::AttemptStarted(int ranks, bool again) {
  attempts_started_->Increment();
  if (again) rank_restarts_->Increment(ranks);
}

void Metrics::AttemptEnded(const std::string& verdict) {
  attempts_ended_->Add({{"verdict", verdict.empty() ? "none" : verdict}}).Increment();
}

void Metrics::Reported(std::int64_t lines_total) {
  RaiseTo(*events_reported_, static_cast<double>(lines_total));
}
void Metrics::Registered(int registrations_total) {
  RaiseTo(*reconnects_, registrations_total - 1);
}
void Metrics::Fenced() { fences_->Increment(); }

std::string Metrics::Page() const {
  return prometheus::TextSerializer().Serialize(registry_->Collect());
}

}  // namespace saeloom::agent
