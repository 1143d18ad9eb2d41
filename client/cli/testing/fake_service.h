#pragma once
// For tests: the services for people in this process, on a free loopback port, that answers from
// what the test put in. Thread-safe for the test's use: fill it between calls, with Synchronize
// around them, or hold `mu`.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "proto/convert/sweep_convert.h"
#include "sae/base/mutex.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"

namespace sae::cli::testing {

class FakeService final : public saeloom::v1::SweepService::Service,
                          public saeloom::v1::TrialService::Service,
                          public saeloom::v1::TelemetryService::Service,
                          public saeloom::v1::FleetService::Service {
 public:
  FakeService() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(static_cast<saeloom::v1::SweepService::Service*>(this));
    builder.RegisterService(static_cast<saeloom::v1::TrialService::Service*>(this));
    builder.RegisterService(static_cast<saeloom::v1::TelemetryService::Service*>(this));
    builder.RegisterService(static_cast<saeloom::v1::FleetService::Service*>(this));
    server_ = builder.BuildAndStart();
  }
  ~FakeService() override { server_->Shutdown(); }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  /// Orders the test's own accesses against those of handlers: call it before and after each client
  /// call. That the network orders them too is not visible to ThreadSanitizer.
  void Synchronize() { MutexLock lock(mu); }

  Mutex mu;
  grpc::Status error = grpc::Status::OK;    ///< of every unary call
  saeloom::v1::CreateSweepRequest created;  ///< the last one
  saeloom::v1::Sweep sweep;                 ///< answers Create, Get, Cancel, List
  std::vector<saeloom::v1::Trial> trials;
  std::vector<saeloom::v1::Checkpoint> checkpoints;
  std::vector<saeloom::v1::SweepEvent> events;
  int break_stream_after = -1;              ///< events; then UNAVAILABLE, once
  std::vector<std::int64_t> watched_after;  ///< after_seq of each WatchSweep
  std::vector<saeloom::v1::LogChunk> logs;
  saeloom::v1::TailLogsRequest tailed;
  std::vector<double> curve;  ///< answers QueryMetrics
  saeloom::v1::RetryTrialsRequest retried;
  saeloom::v1::ListWorkersResponse workers;

 private:
  template <class T>
  using R = const T*;
  grpc::Status CreateSweep(grpc::ServerContext*, R<saeloom::v1::CreateSweepRequest> q,
                           saeloom::v1::Sweep* out) override {
    MutexLock lock(mu);
    created = *q;
    *out = sweep;
    return error;
  }
  grpc::Status GetSweep(grpc::ServerContext*, R<saeloom::v1::GetSweepRequest> q,
                        saeloom::v1::Sweep* out) override {
    MutexLock lock(mu);
    if (error.ok() && q->name() != sweep.name())
      return {grpc::StatusCode::NOT_FOUND, "no sweep " + q->name()};
    *out = sweep;
    return error;
  }
  grpc::Status ListSweeps(grpc::ServerContext*, R<saeloom::v1::ListSweepsRequest>,
                          saeloom::v1::ListSweepsResponse* out) override {
    MutexLock lock(mu);
    if (!sweep.name().empty()) *out->add_sweeps() = sweep;
    return error;
  }
  grpc::Status CancelSweep(grpc::ServerContext*, R<saeloom::v1::CancelSweepRequest>,
                           saeloom::v1::Sweep* out) override {
    MutexLock lock(mu);
    sweep.set_state(saeloom::v1::Sweep::STATE_CANCELLED);
    *out = sweep;
    return error;
  }
  grpc::Status GetTrial(grpc::ServerContext*, R<saeloom::v1::GetTrialRequest> q,
                        saeloom::v1::Trial* out) override {
    MutexLock lock(mu);
    for (const auto& t : trials) {
      if (t.name() != q->name()) continue;
      *out = t;
      return grpc::Status::OK;
    }
    return {grpc::StatusCode::NOT_FOUND, "no trial " + q->name()};
  }
  /// One trial a page, so that paging is used.
  grpc::Status ListTrials(grpc::ServerContext*, R<saeloom::v1::ListTrialsRequest> q,
                          saeloom::v1::ListTrialsResponse* out) override {
    MutexLock lock(mu);
    const std::size_t at = q->page_token().empty() ? 0 : std::stoul(q->page_token());
    if (at < trials.size()) *out->add_trials() = trials[at];
    if (at + 1 < trials.size()) out->set_next_page_token(std::to_string(at + 1));
    return error;
  }
  grpc::Status RetryTrials(grpc::ServerContext*, R<saeloom::v1::RetryTrialsRequest> q,
                           saeloom::v1::RetryTrialsResponse* out) override {
    MutexLock lock(mu);
    retried = *q;
    for (const auto& t : q->trials()) out->add_trials(t);
    return error;
  }
  grpc::Status ListCheckpoints(grpc::ServerContext*, R<saeloom::v1::ListCheckpointsRequest>,
                               saeloom::v1::ListCheckpointsResponse* out) override {
    MutexLock lock(mu);
    for (const auto& c : checkpoints) *out->add_checkpoints() = c;
    return error;
  }
  grpc::Status WatchSweep(grpc::ServerContext*, R<saeloom::v1::WatchSweepRequest> q,
                          grpc::ServerWriter<saeloom::v1::SweepEvent>* out) override {
    std::vector<saeloom::v1::SweepEvent> send;
    bool broken = false;
    {
      MutexLock lock(mu);
      watched_after.push_back(q->after_seq());
      for (const auto& e : events) {
        if (e.seq() <= q->after_seq()) continue;
        if (break_stream_after >= 0 && static_cast<int>(send.size()) == break_stream_after) {
          broken = true;
          break_stream_after = -1;
          break;
        }
        send.push_back(e);
      }
    }
    for (const auto& e : send) out->Write(e);
    return broken ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "going away") : grpc::Status::OK;
  }
  grpc::Status TailLogs(grpc::ServerContext*, R<saeloom::v1::TailLogsRequest> q,
                        grpc::ServerWriter<saeloom::v1::LogChunk>* out) override {
    std::vector<saeloom::v1::LogChunk> send;
    {
      MutexLock lock(mu);
      tailed = *q;
      send = logs;
    }
    for (const auto& c : send) out->Write(c);
    return grpc::Status::OK;
  }
  grpc::Status QueryMetrics(grpc::ServerContext*, R<saeloom::v1::QueryMetricsRequest> q,
                            saeloom::v1::QueryMetricsResponse* out) override {
    MutexLock lock(mu);
    auto* series = out->add_series();
    series->set_metric(q->metrics(0));
    for (const double v : curve) series->add_values(v);
    return error;
  }
  grpc::Status ListWorkers(grpc::ServerContext*, R<saeloom::v1::ListWorkersRequest>,
                           saeloom::v1::ListWorkersResponse* out) override {
    MutexLock lock(mu);
    *out = workers;
    return error;
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace sae::cli::testing
