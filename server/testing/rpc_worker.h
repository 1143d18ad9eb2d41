#pragma once
// A worker for tests: registers, holds a session, reports what it is told to. Blocking; not
// thread-safe.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "proto/convert/channel_options.h"
#include "saeloom/v1/worker_service.grpc.pb.h"
#include "server/core/messages.h"

namespace sae::server::testing {

/// Far beyond what any test takes: ends a hang, decides nothing.
inline void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(40));
}

class RpcWorker {
 public:
  RpcWorker(const std::shared_ptr<grpc::Channel>& channel, const std::string& id, int slots,
            const std::vector<AttemptKey>& known = {})
      : id_(id), stub_(saeloom::v1::WorkerService::NewStub(channel)) {
    saeloom::v1::RegisterRequest request;
    request.set_worker_id(id);
    request.set_incarnation("1");
    request.set_slots(slots);
    request.set_runs_directory("/runs");
    request.set_runs_id("runs");
    for (const AttemptKey& key : known) {
      auto* a = request.add_attempts();
      a->set_sweep(key.sweep);
      a->set_trial(key.trial);
      a->set_attempt(key.attempt);
      a->set_running(true);
    }
    grpc::ClientContext context;
    SetDeadline(context);
    const grpc::Status status = stub_->Register(&context, request, &registered_);
    EXPECT_TRUE(status.ok()) << status.error_message();
    SetDeadline(session_context_);
    session_ = stub_->Session(&session_context_);
  }
  ~RpcWorker() { session_context_.TryCancel(); }

  const saeloom::v1::RegisterResponse& registered() const { return registered_; }

  /// One heartbeat and its answer.
  saeloom::v1::CoordinatorMessage Beat(
      const saeloom::v1::AttemptStatus* status = nullptr,
      const std::vector<saeloom::v1::CheckpointStatus>& checkpoints = {}) {
    saeloom::v1::WorkerMessage message;
    message.set_worker_id(id_);
    message.set_incarnation("1");
    message.set_epoch(registered_.epoch());
    message.set_heartbeat(++heartbeat_);
    if (status != nullptr) *message.add_statuses() = *status;
    for (const auto& checkpoint : checkpoints) *message.add_checkpoints() = checkpoint;
    EXPECT_TRUE(session_->Write(message));
    saeloom::v1::CoordinatorMessage answer;
    while (session_->Read(&answer)) {
      Keep(answer);
      if (answer.heartbeat() >= heartbeat_) return answer;
    }
    ADD_FAILURE() << "the session has ended";
    return answer;
  }
  saeloom::v1::CoordinatorMessage WaitForCommand() {
    saeloom::v1::CoordinatorMessage answer = Beat();
    while (answer.commands_size() == 0) {
      if (!session_->Read(&answer)) return answer;
      Keep(answer);
    }
    return answer;
  }
  saeloom::v1::FetchLogs WaitForLogRequest() {
    saeloom::v1::CoordinatorMessage answer;
    if (logs_.empty()) Beat();
    while (logs_.empty() && session_->Read(&answer)) Keep(answer);
    if (logs_.empty()) return {};
    saeloom::v1::FetchLogs out = logs_.front();
    logs_.erase(logs_.begin());
    return out;
  }
  std::int64_t Report(const std::string& sweep, const std::string& trial, int attempt,
                      std::int64_t first_seq, const std::vector<std::string>& lines) {
    saeloom::v1::ReportBatchRequest request = Batch();
    request.set_sweep(sweep);
    request.set_trial(trial);
    request.set_attempt(attempt);
    request.set_first_seq(first_seq);
    for (const std::string& line : lines) request.add_lines(line);
    return Send(request);
  }
  void SendLog(std::int64_t id, int rank, const std::string& text, bool end) {
    saeloom::v1::ReportBatchRequest request = Batch();
    auto* log = request.add_logs();
    log->set_request(id);
    log->set_rank(rank);
    log->set_text(text);
    log->set_end(end);
    Send(request);
  }
  void End(const saeloom::v1::StartAttempt& start, int exit_code, const std::string& verdict) {
    saeloom::v1::AttemptStatus status;
    status.set_sweep(start.sweep());
    status.set_trial(start.trial());
    status.set_attempt(start.attempt());
    status.set_state(saeloom::v1::AttemptStatus::STATE_ENDED);
    status.set_exit_code(exit_code);
    status.set_verdict(verdict);
    status.set_status_id(++status_id_);
    const auto answer = Beat(&status);
    ASSERT_EQ(answer.status_acks_size(), 1);
    EXPECT_EQ(answer.status_acks(0), status_id_);
  }
  /// Reads to the session's end.
  grpc::Status Finish() {
    saeloom::v1::CoordinatorMessage answer;
    while (session_->Read(&answer)) {
    }
    return session_->Finish();
  }

 private:
  void Keep(const saeloom::v1::CoordinatorMessage& message) {
    for (const auto& command : message.commands()) {
      if (command.has_logs()) logs_.push_back(command.logs());
    }
  }
  saeloom::v1::ReportBatchRequest Batch() const {
    saeloom::v1::ReportBatchRequest request;
    request.set_worker_id(id_);
    request.set_incarnation("1");
    request.set_epoch(registered_.epoch());
    return request;
  }
  std::int64_t Send(const saeloom::v1::ReportBatchRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    saeloom::v1::ReportBatchResponse response;
    const grpc::Status status = stub_->ReportBatch(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.acknowledged_seq();
  }

  std::string id_;
  std::unique_ptr<saeloom::v1::WorkerService::Stub> stub_;
  saeloom::v1::RegisterResponse registered_;
  grpc::ClientContext session_context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<saeloom::v1::WorkerMessage, saeloom::v1::CoordinatorMessage>>
      session_;
  std::vector<saeloom::v1::FetchLogs> logs_;
  std::int64_t heartbeat_ = 0;
  std::int64_t status_id_ = 0;
};

}  // namespace sae::server::testing
