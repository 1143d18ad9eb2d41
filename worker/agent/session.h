#pragma once
// The worker's connection to the coordinator: Register, then the Session stream with its
// heartbeats, and both again, with back-off and jitter, whenever the stream is lost or refused.
// What is said and what it means is the handler's business. Owns one thread, and one more to read
// while a stream is open. Thread-safe.

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/security/credentials.h>

#include "sae/base/clock.h"
#include "sae/base/mutex.h"
#include "sae/base/random.h"
#include "sae/base/status.h"
#include "saeloom/v1/worker_service.grpc.pb.h"

namespace saeloom::agent {

/// Called from the session's threads, never two Register/Heartbeat/Lost calls at once; OnMessage
/// may run beside MakeHeartbeat.
class SessionHandler {
 public:
  virtual ~SessionHandler() = default;
  virtual v1::RegisterRequest MakeRegister() = 0;
  /// `sent`: since boot, just before the request went out.
  virtual void OnRegistered(const v1::RegisterResponse& response, absl::Duration sent) = 0;
  /// The next heartbeat; called just before it is sent.
  virtual v1::WorkerMessage MakeHeartbeat() = 0;
  virtual void OnMessage(const v1::CoordinatorMessage& message) = 0;
  /// The stream that OnRegistered announced is over.
  virtual void OnLost(const absl::Status& status) = 0;
};

class Session {
 public:
  struct Options {
    std::shared_ptr<grpc::Channel> channel;
    std::string address;  ///< of the coordinator, for messages
    sae::Clock* clock = nullptr;
    sae::Random random;  ///< jitter
    /// What to check after gRPC's message of a failed call; "" = nothing to say. May be null.
    std::function<std::string(const std::string&)> advise;
    absl::Duration rpc_deadline = absl::Seconds(5);
    absl::Duration longest_back_off = absl::Seconds(1);
  };
  Session(Options options, SessionHandler& handler);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void Start();
  /// Ends the stream and the thread. Idempotent.
  void Stop();
  /// Sends a heartbeat now: something has changed.
  void Nudge();
  /// Gives the stream up and registers again.
  void Reregister();
  /// The RPC of reports, with a deadline.
  absl::Status Report(const v1::ReportBatchRequest& request, v1::ReportBatchResponse* response);
  /// Since the start, the first included.
  int registrations() const;

 private:
  void Run();
  absl::Status RegisterOnce();
  absl::Status RunStream();
  /// Waits for a nudge, the stream's end, Stop, or `timeout`. False when the stream should end.
  bool WaitInStream(absl::Duration timeout);
  void BackOff(absl::Duration at_most);
  bool stopping() const;

  Options options_;
  SessionHandler& handler_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  std::thread thread_;
  absl::Duration heartbeat_interval_ = absl::Seconds(3);  ///< the thread's own
  absl::Duration lease_ = absl::Seconds(15);

  mutable sae::Mutex mu_;
  sae::CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool nudged_ ABSL_GUARDED_BY(mu_) = false;
  bool give_up_ ABSL_GUARDED_BY(mu_) = false;   ///< this stream
  bool answered_ ABSL_GUARDED_BY(mu_) = false;  ///< since it was last looked at
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mu_) =
      nullptr;  ///< of the call in progress, to cancel it
  int registrations_ ABSL_GUARDED_BY(mu_) = 0;
};

absl::Status FromGrpc(const grpc::Status& status);

/// A channel that reconnects within a second: gRPC's own default is up to two minutes. Null
/// credentials are none.
std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& address,
    const std::shared_ptr<grpc::ChannelCredentials>& credentials = nullptr);

}  // namespace saeloom::agent
