#pragma once
// For tests: the services for people in this process, on a free loopback port, that answers from
// what the test put in, and keeps what it was asked. Thread-safe for the test's use: fill it
// between calls, with Synchronize around them, or hold `mu`.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include "proto/convert/sweep_convert.h"
#include "sae/base/mutex.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"

namespace sae::cli::testing {
namespace v1 = saeloom::v1;

class FakeService final : public v1::SweepService::Service,
                          public v1::TrialService::Service,
                          public v1::TelemetryService::Service,
                          public v1::FleetService::Service,
                          public v1::AuthService::Service {
 public:
  FakeService() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(static_cast<v1::SweepService::Service*>(this));
    builder.RegisterService(static_cast<v1::TrialService::Service*>(this));
    builder.RegisterService(static_cast<v1::TelemetryService::Service*>(this));
    builder.RegisterService(static_cast<v1::FleetService::Service*>(this));
    builder.RegisterService(static_cast<v1::AuthService::Service*>(this));
    server_ = builder.BuildAndStart();
  }
  ~FakeService() override { server_->Shutdown(); }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  /// Orders the test's own accesses against those of handlers: call it before and after each client
  /// call. That the network orders them too is not visible to ThreadSanitizer.
  void Synchronize() { MutexLock lock(mu); }
  void SetServing(bool serving) { server_->GetHealthCheckService()->SetServingStatus(serving); }
  /// The last request of a method as text, "name: \"...\"" on one line; "" = it was not called.
  std::string Asked(const std::string& method) {
    MutexLock lock(mu);
    return asked_[method];
  }
  int Calls(const std::string& method) {
    MutexLock lock(mu);
    return calls_[method];
  }

  Mutex mu;
  grpc::Status error = grpc::Status::OK;  ///< of every unary call
  std::map<std::string, int> failures;    ///< method -> so many calls fail with `failure` first
  grpc::Status failure = grpc::Status(grpc::StatusCode::UNAVAILABLE, "Socket closed");
  /// Method -> after so many calls the next fails with ABORTED: ends a --watch.
  std::map<std::string, int> ends_after;

  v1::CreateSweepRequest created;  ///< the last one
  v1::Sweep sweep;                 ///< answers Create, Get, Cancel, List, ...
  std::vector<v1::Sweep> others;   ///< further ones, by List and Get
  std::vector<v1::Trial> trials;
  std::vector<v1::Checkpoint> checkpoints;
  std::vector<v1::SweepEvent> events;
  int break_stream_after = -1;              ///< events; then UNAVAILABLE, once
  std::vector<std::int64_t> watched_after;  ///< after_seq of each WatchSweep
  std::vector<v1::LogChunk> logs;
  v1::TailLogsRequest tailed;
  std::vector<double> curve;  ///< answers QueryMetrics
  v1::RetryTrialsRequest retried;
  v1::ListWorkersResponse workers;
  v1::SweepPlan plan;
  v1::AddPointsResponse added;
  v1::CollectCheckpointsResponse collected;
  v1::ListQueuesResponse queues;
  v1::CreateTokenResponse token;
  v1::ListTokensResponse tokens;
  v1::WhoAmIResponse me;
  std::vector<v1::ListAuditEventsResponse::AuditEvent> audit;
  std::string debug_json = "{}";

 private:
  using Context = grpc::ServerContext;
  template <class T>
  using R = const T*;

  /// Notes the call; not OK when the test wants it to fail.
  grpc::Status Note(const std::string& method, const google::protobuf::Message& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    asked_[method] = request.ShortDebugString();
    const int calls = ++calls_[method];
    if (failures[method] > 0) {
      --failures[method];
      return failure;
    }
    if (const auto it = ends_after.find(method); it != ends_after.end() && calls > it->second)
      return {grpc::StatusCode::ABORTED, "that is all"};
    return error;
  }
  /// Notes the call and answers `value`.
  template <class T>
  grpc::Status Answer(const std::string& method, const google::protobuf::Message& request,
                      const T& value, T* out) {
    MutexLock lock(mu);
    *out = value;
    return Note(method, request);
  }
  /// The same for what changes the one sweep.
  grpc::Status Change(const std::string& method, const google::protobuf::Message& request,
                      v1::Sweep::State state, v1::Sweep* out) {
    MutexLock lock(mu);
    const grpc::Status status = Note(method, request);
    if (status.ok()) sweep.set_state(state);
    *out = sweep;
    return status;
  }
  template <class Request>
  grpc::Status ChangeTrial(const std::string& method, const Request& request,
                           v1::Trial::State state, v1::Trial* out) {
    MutexLock lock(mu);
    const grpc::Status status = Note(method, request);
    for (auto& t : trials) {
      if (t.name() != request.name()) continue;
      if (status.ok()) t.set_state(state);
      *out = t;
      return status;
    }
    return {grpc::StatusCode::NOT_FOUND, "no trial " + request.name()};
  }
  v1::Worker* FindWorker(const std::string& id) {
    for (auto& w : *workers.mutable_workers()) {
      if (w.id() == id) return &w;
    }
    return nullptr;
  }
  template <class Request>
  grpc::Status ChangeWorker(const std::string& method, const Request& request,
                            const std::string& state, v1::Worker* out) {
    MutexLock lock(mu);
    const grpc::Status status = Note(method, request);
    v1::Worker* w = FindWorker(request.id());
    if (w == nullptr) return {grpc::StatusCode::NOT_FOUND, "no worker " + request.id()};
    if (status.ok() && !state.empty()) w->set_state(state);
    *out = *w;
    return status;
  }

  grpc::Status CreateSweep(Context*, R<v1::CreateSweepRequest> q, v1::Sweep* out) override {
    MutexLock lock(mu);
    created = *q;
    *out = sweep;
    return Note("CreateSweep", *q);
  }
  grpc::Status PreviewSweep(Context*, R<v1::PreviewSweepRequest> q, v1::SweepPlan* out) override {
    return Answer("PreviewSweep", *q, plan, out);
  }
  grpc::Status GetSweep(Context*, R<v1::GetSweepRequest> q, v1::Sweep* out) override {
    MutexLock lock(mu);
    const grpc::Status status = Note("GetSweep", *q);
    std::vector<v1::Sweep> all = others;
    all.push_back(sweep);
    for (const auto& s : all) {
      if (s.name() != q->name()) continue;
      *out = s;
      return status;
    }
    return status.ok() ? grpc::Status(grpc::StatusCode::NOT_FOUND, "no sweep " + q->name())
                       : status;
  }
  /// One sweep a page, so that paging is used.
  grpc::Status ListSweeps(Context*, R<v1::ListSweepsRequest> q,
                          v1::ListSweepsResponse* out) override {
    MutexLock lock(mu);
    std::vector<v1::Sweep> all;
    if (!sweep.name().empty()) all.push_back(sweep);
    all.insert(all.end(), others.begin(), others.end());
    const std::size_t at = q->page_token().empty() ? 0 : std::stoul(q->page_token());
    if (at < all.size()) *out->add_sweeps() = all[at];
    if (at + 1 < all.size()) out->set_next_page_token(std::to_string(at + 1));
    return Note("ListSweeps", *q);
  }
  grpc::Status CancelSweep(Context*, R<v1::CancelSweepRequest> q, v1::Sweep* out) override {
    return Change("CancelSweep", *q, v1::Sweep::STATE_CANCELLED, out);
  }
  grpc::Status PauseSweep(Context*, R<v1::PauseSweepRequest> q, v1::Sweep* out) override {
    return Change("PauseSweep", *q, v1::Sweep::STATE_PAUSED, out);
  }
  grpc::Status ResumeSweep(Context*, R<v1::ResumeSweepRequest> q, v1::Sweep* out) override {
    return Change("ResumeSweep", *q, v1::Sweep::STATE_RUNNING, out);
  }
  grpc::Status UpdateSweep(Context*, R<v1::UpdateSweepRequest> q, v1::Sweep* out) override {
    return Answer("UpdateSweep", *q, sweep, out);
  }
  grpc::Status DeleteSweep(Context*, R<v1::DeleteSweepRequest> q,
                           google::protobuf::Empty* out) override {
    return Answer("DeleteSweep", *q, google::protobuf::Empty(), out);
  }
  grpc::Status ForkSweep(Context*, R<v1::ForkSweepRequest> q, v1::Sweep* out) override {
    return Answer("ForkSweep", *q, sweep, out);
  }
  grpc::Status AddPoints(Context*, R<v1::AddPointsRequest> q, v1::AddPointsResponse* out) override {
    return Answer("AddPoints", *q, added, out);
  }
  grpc::Status RetryTrials(Context*, R<v1::RetryTrialsRequest> q,
                           v1::RetryTrialsResponse* out) override {
    MutexLock lock(mu);
    retried = *q;
    for (const auto& t : q->trials()) out->add_trials(t);
    return Note("RetryTrials", *q);
  }

  grpc::Status GetTrial(Context*, R<v1::GetTrialRequest> q, v1::Trial* out) override {
    MutexLock lock(mu);
    const grpc::Status status = Note("GetTrial", *q);
    for (const auto& t : trials) {
      if (t.name() != q->name()) continue;
      *out = t;
      return status;
    }
    return {grpc::StatusCode::NOT_FOUND, "no trial " + q->name()};
  }
  /// One trial a page.
  grpc::Status ListTrials(Context*, R<v1::ListTrialsRequest> q,
                          v1::ListTrialsResponse* out) override {
    MutexLock lock(mu);
    const std::size_t at = q->page_token().empty() ? 0 : std::stoul(q->page_token());
    if (at < trials.size()) *out->add_trials() = trials[at];
    if (at + 1 < trials.size()) out->set_next_page_token(std::to_string(at + 1));
    return Note("ListTrials", *q);
  }
  grpc::Status PauseTrial(Context*, R<v1::PauseTrialRequest> q, v1::Trial* out) override {
    return ChangeTrial("PauseTrial", *q, v1::Trial::STATE_PAUSED, out);
  }
  grpc::Status ResumeTrial(Context*, R<v1::ResumeTrialRequest> q, v1::Trial* out) override {
    return ChangeTrial("ResumeTrial", *q, v1::Trial::STATE_RUNNING, out);
  }
  grpc::Status StopTrial(Context*, R<v1::StopTrialRequest> q, v1::Trial* out) override {
    return ChangeTrial("StopTrial", *q, v1::Trial::STATE_STOPPED_EARLY, out);
  }
  grpc::Status PromoteTrial(Context*, R<v1::PromoteTrialRequest> q, v1::Trial* out) override {
    return ChangeTrial("PromoteTrial", *q, v1::Trial::STATE_RUNNING, out);
  }
  grpc::Status ListCheckpoints(Context*, R<v1::ListCheckpointsRequest> q,
                               v1::ListCheckpointsResponse* out) override {
    MutexLock lock(mu);
    for (const auto& c : checkpoints) *out->add_checkpoints() = c;
    return Note("ListCheckpoints", *q);
  }
  grpc::Status ProtectCheckpoint(Context*, R<v1::ProtectCheckpointRequest> q,
                                 v1::Checkpoint* out) override {
    v1::Checkpoint c;
    c.set_resource(q->name());
    c.set_protected_(q->protect());
    return Answer("ProtectCheckpoint", *q, c, out);
  }
  grpc::Status CollectCheckpoints(Context*, R<v1::CollectCheckpointsRequest> q,
                                  v1::CollectCheckpointsResponse* out) override {
    return Answer("CollectCheckpoints", *q, collected, out);
  }
  grpc::Status GetPareto(Context*, R<v1::GetParetoRequest> q, v1::GetParetoResponse* out) override {
    v1::GetParetoResponse all;
    for (const auto& t : trials) *all.add_trials() = t;
    return Answer("GetPareto", *q, all, out);
  }

  grpc::Status WatchSweep(Context*, R<v1::WatchSweepRequest> q,
                          grpc::ServerWriter<v1::SweepEvent>* out) override {
    std::vector<v1::SweepEvent> send;
    bool broken = false;
    {
      MutexLock lock(mu);
      asked_["WatchSweep"] = q->ShortDebugString();
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
  grpc::Status TailLogs(Context*, R<v1::TailLogsRequest> q,
                        grpc::ServerWriter<v1::LogChunk>* out) override {
    std::vector<v1::LogChunk> send;
    {
      MutexLock lock(mu);
      tailed = *q;
      send = logs;
    }
    for (const auto& c : send) out->Write(c);
    return grpc::Status::OK;
  }
  grpc::Status QueryMetrics(Context*, R<v1::QueryMetricsRequest> q,
                            v1::QueryMetricsResponse* out) override {
    MutexLock lock(mu);
    auto* series = out->add_series();
    series->set_metric(q->metrics().empty() ? "train.loss" : q->metrics(0));
    for (std::size_t i = 0; i < curve.size(); ++i) {
      series->add_values(curve[i]);
      series->add_steps(static_cast<std::int64_t>(i + 1) * 10);
      series->add_tokens(static_cast<std::int64_t>(i + 1) * 1000);
      series->add_attempts(1);
    }
    return Note("QueryMetrics", *q);
  }

  grpc::Status ListWorkers(Context*, R<v1::ListWorkersRequest> q,
                           v1::ListWorkersResponse* out) override {
    return Answer("ListWorkers", *q, workers, out);
  }
  grpc::Status GetWorker(Context*, R<v1::GetWorkerRequest> q, v1::Worker* out) override {
    return ChangeWorker("GetWorker", *q, "", out);
  }
  grpc::Status CordonWorker(Context*, R<v1::CordonWorkerRequest> q, v1::Worker* out) override {
    return ChangeWorker("CordonWorker", *q, q->drain() ? "draining" : "cordoned", out);
  }
  grpc::Status UncordonWorker(Context*, R<v1::UncordonWorkerRequest> q, v1::Worker* out) override {
    return ChangeWorker("UncordonWorker", *q, "ready", out);
  }
  grpc::Status ListQueues(Context*, R<v1::ListQueuesRequest> q,
                          v1::ListQueuesResponse* out) override {
    return Answer("ListQueues", *q, queues, out);
  }
  grpc::Status UpdateQueue(Context*, R<v1::UpdateQueueRequest> q, v1::Queue* out) override {
    return Answer("UpdateQueue", *q, q->queue(), out);
  }
  grpc::Status GetDebugInfo(Context*, R<v1::GetDebugInfoRequest> q, v1::DebugInfo* out) override {
    v1::DebugInfo info;
    info.set_json(debug_json);
    return Answer("GetDebugInfo", *q, info, out);
  }

  grpc::Status CreateToken(Context*, R<v1::CreateTokenRequest> q,
                           v1::CreateTokenResponse* out) override {
    return Answer("CreateToken", *q, token, out);
  }
  grpc::Status ListTokens(Context*, R<v1::ListTokensRequest> q,
                          v1::ListTokensResponse* out) override {
    return Answer("ListTokens", *q, tokens, out);
  }
  grpc::Status RevokeToken(Context*, R<v1::RevokeTokenRequest> q, v1::Token* out) override {
    v1::Token revoked;
    revoked.set_id(q->id());
    revoked.set_principal("ann");
    revoked.set_revoked(true);
    return Answer("RevokeToken", *q, revoked, out);
  }
  grpc::Status WhoAmI(Context*, R<v1::WhoAmIRequest> q, v1::WhoAmIResponse* out) override {
    return Answer("WhoAmI", *q, me, out);
  }
  grpc::Status ListAuditEvents(Context*, R<v1::ListAuditEventsRequest> q,
                               v1::ListAuditEventsResponse* out) override {
    MutexLock lock(mu);
    // Two calls are looked at for a page, and a filter may leave none of them.
    int looked = 0;
    for (const auto& e : audit) {
      if (e.id() <= q->after_id()) continue;
      if (looked++ == 2 || out->events_size() == q->page_size()) {
        out->set_next_after_id(e.id() - 1);
        break;
      }
      if (q->principal().empty() || e.principal() == q->principal()) *out->add_events() = e;
    }
    return Note("ListAuditEvents", *q);
  }

  int port_ = 0;
  std::map<std::string, std::string> asked_ ABSL_GUARDED_BY(mu);
  std::map<std::string, int> calls_ ABSL_GUARDED_BY(mu);
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace sae::cli::testing
