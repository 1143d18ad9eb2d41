#include "server/service/worker_service.h"

#include <spdlog/spdlog.h>

#include "sae/base/failpoint.h"
#include "server/service/convert.h"
#include "server/service/core_calls.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;
constexpr char kWorkerService[] = "saeloom.v1.WorkerService";

/// One Session stream. Frees itself after OnDone; the hub and posted tasks share it. One read and
/// one write in flight; the next read begins when the message before it was handled.
class SessionReactor final
    : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>,
      public SessionLink,
      public std::enable_shared_from_this<SessionReactor> {
 public:
  static grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* Make(
      ServiceContext& context, const grpc::CallbackServerContext& rpc) {
    std::shared_ptr<SessionReactor> reactor(new SessionReactor(context));
    {
      MutexLock lock(reactor->mu_);
      reactor->self_ = reactor;
    }
    auto admitted =
        context.gate.Admit(FactsOf(rpc, kWorkerService, "Session", nullptr, context.trust_domain));
    if (admitted.ok()) {
      reactor->admitted_ = *std::move(admitted);
      reactor->EndWithItsToken();
      reactor->Read();
    } else {
      reactor->End(admitted.status());
    }
    return reactor.get();
  }

  void Send(v1::CoordinatorMessage message) override {
    {
      MutexLock lock(mu_);
      if (ended_) return;
      if (queued_any_) {
        MergeMessage(message, queued_);
      } else {
        queued_ = std::move(message);
      }
      queued_any_ = true;
    }
    Pump();
  }
  void End(const absl::Status& status) override {
    {
      MutexLock lock(mu_);
      if (ended_) return;
      ended_ = true;
      status_ = ToGrpc(status);
    }
    Pump();
  }

  void OnReadDone(bool ok) override {
    if (!ok)
      return End(absl::OkStatus());  // the worker has closed its side, or the connection broke
    std::shared_ptr<SessionLink> self;
    {
      MutexLock lock(mu_);
      self = self_;
    }
    if (self == nullptr) return;
    const absl::Status sender = context_.gate.CheckWorker(*admitted_, incoming_.worker_id());
    if (!sender.ok()) return End(sender);
    context_.coordinator.Post([this, self, hubs = &context_.hubs](Core& core) {
      hubs->sessions.Receive(core, self, incoming_);
      Read();
    });
  }
  void OnWriteDone(bool ok) override {
    SAE_FAILPOINT("session.after_send");
    {
      MutexLock lock(mu_);
      writing_ = false;
    }
    if (!ok) End(absl::OkStatus());
    Pump();  // it may have ended while this write was in flight
  }
  void OnCancel() override { End(absl::CancelledError("the worker has gone")); }
  void OnDone() override {
    std::shared_ptr<SessionReactor> self;
    absl::StatusCode code = absl::StatusCode::kOk;
    {
      MutexLock lock(mu_);
      self = std::move(self_);
      code = static_cast<absl::StatusCode>(status_.error_code());
    }
    call_.Handled(code);
    context_.coordinator.Post(
        [self, hubs = &context_.hubs](Core&) { hubs->sessions.Remove(self.get()); });
  }

 private:
  explicit SessionReactor(ServiceContext& context)
      : context_(context),
        call_(&context.rpcs, context.coordinator.clock(), kWorkerService, "Session") {}

  /// A worker that came with a token, not a certificate.
  void EndWithItsToken() {
    if (admitted_->caller.token_id.empty()) return;
    const auto end = [weak = weak_from_this()](const absl::Status& why) {
      if (const auto self = weak.lock()) self->End(why);
    };
    auto ticket = context_.gate.streams().Open(admitted_->caller, end);
    if (!ticket.ok()) return End(ticket.status());
    ticket_ = *std::move(ticket);
  }

  void Read() {
    {
      MutexLock lock(mu_);
      if (ended_) return;
      starting_ = true;  // Finish must not come before StartRead has returned
    }
    StartRead(&incoming_);
    {
      MutexLock lock(mu_);
      starting_ = false;
    }
    Pump();
  }

  void Pump() {
    bool write = false;
    {
      MutexLock lock(mu_);
      if (finished_ || writing_ || starting_) return;
      if (ended_) {
        finished_ = true;
      } else if (queued_any_) {
        outgoing_ = std::move(queued_);
        queued_.Clear();
        queued_any_ = false;
        writing_ = write = true;
      } else {
        return;
      }
    }
    // Without the lock: gRPC may run a reaction inside the call.
    if (write) SAE_FAILPOINT("session.before_send");
    write ? StartWrite(&outgoing_) : Finish(status_);
  }

  ServiceContext& context_;
  const RpcCall call_;
  std::shared_ptr<const AdmittedCall> admitted_;  // set before the first read
  std::shared_ptr<StreamRegistry::Ticket> ticket_;
  v1::WorkerMessage incoming_;       // gRPC's while a read is in flight, else the posted task's
  v1::CoordinatorMessage outgoing_;  // gRPC's while writing_
  Mutex mu_;
  std::shared_ptr<SessionReactor> self_ ABSL_GUARDED_BY(mu_);  // gRPC's share of the ownership
  v1::CoordinatorMessage queued_ ABSL_GUARDED_BY(mu_);
  bool queued_any_ ABSL_GUARDED_BY(mu_) = false;
  bool starting_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  grpc::Status status_;  // written once under mu_, before finished_
};

}  // namespace

namespace {

/// Past the gate, and in the name of its own worker; else it is answered.
template <typename Request>
BegunCall BeginWorkerCall(ServiceContext& context, const grpc::CallbackServerContext& rpc,
                          const char* method, const Request& request) {
  BegunCall begun = BeginCall(context, rpc, kWorkerService, method, request);
  if (begun.admitted == nullptr) return begun;
  const absl::Status status = context.gate.CheckWorker(*begun.admitted, request.worker_id());
  if (!status.ok()) {
    begun.admitted = nullptr;
    begun.call->Answer(status);
  }
  return begun;
}

}  // namespace

grpc::ServerUnaryReactor* WorkerServiceImpl::Register(grpc::CallbackServerContext* rpc,
                                                      const v1::RegisterRequest* request,
                                                      v1::RegisterResponse* response) {
  const BegunCall begun = BeginWorkerCall(context_, *rpc, "Register", *request);
  if (begun.admitted == nullptr) return begun.call;
  UnaryCall* call = begun.call;
  context_.coordinator.Post([=, coordinator = &context_.coordinator](Core& core) {
    const auto reply = core.Register(FromProto(*request));
    if (reply.ok()) {
      *response = ToProto(*reply);
      spdlog::info("worker {} registered: {} slots, runs folder {} ({} known attempts)",
                   request->worker_id(), request->slots(), request->runs_directory(),
                   request->attempts_size());
    }
    AnswerWhenDurable(*coordinator, call, reply.status());
  });
  return call;
}

grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* WorkerServiceImpl::Session(
    grpc::CallbackServerContext* rpc) {
  return SessionReactor::Make(context_, *rpc);
}

grpc::ServerUnaryReactor* WorkerServiceImpl::ReportBatch(grpc::CallbackServerContext* rpc,
                                                         const v1::ReportBatchRequest* request,
                                                         v1::ReportBatchResponse* response) {
  const BegunCall begun = BeginWorkerCall(context_, *rpc, "ReportBatch", *request);
  if (begun.admitted == nullptr) return begun.call;
  UnaryCall* call = begun.call;
  Coordinator* const coordinator = &context_.coordinator;
  coordinator->Post([=, hubs = &context_.hubs](Core& core) {
    const auto finish = [=](const absl::StatusOr<std::int64_t>& acknowledged) {
      if (acknowledged.ok()) response->set_acknowledged_seq(*acknowledged);
      AnswerWhenDurable(*coordinator, call, acknowledged.status());
    };
    const ReportRequest report = FromProto(*request);
    if (request->logs_size() == 0) return core.Report(report, finish);
    const absl::Status sender = core.CheckSender(report.sender);
    if (!sender.ok()) return finish(sender);
    hubs->logs.Receive(core, request->worker_id(), *request);
    finish(core.acknowledged(report.key));
  });
  return call;
}

}  // namespace sae::server
