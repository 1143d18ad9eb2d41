#pragma once
// Unary calls that the core's thread answers: shared by the services on the callback API. Each
// passes the gate first. Include it only in files of the gRPC glue (server/CMakeLists.txt says
// which and why).

#include <functional>
#include <memory>
#include <utility>

#include <grpcpp/support/server_callback.h>

#include "server/service/call_facts.h"
#include "server/service/hubs.h"
#include "server/service/unary_call.h"

namespace sae::server {

/// A call that has begun: `admitted` is null when it was refused, and then it is answered already.
struct BegunCall {
  UnaryCall* call = nullptr;
  std::shared_ptr<const AdmittedCall> admitted;
};
inline BegunCall BeginCall(ServiceContext& context, const grpc::CallbackServerContext& rpc,
                           const char* service, const char* method,
                           const google::protobuf::Message& request) {
  BegunCall begun;
  begun.call = new UnaryCall({&context.rpcs, context.coordinator.clock(), service, method});
  auto admitted = context.gate.Admit(FactsOf(rpc, service, method, &request, context.trust_domain));
  if (admitted.ok()) {
    begun.admitted = *std::move(admitted);
  } else {
    begun.call->Answer(admitted.status());
  }
  return begun;
}

/// On the core's thread: answers at the end of its turn, when what it has done is durable. An
/// answer that says so in place of `status` when it is not.
inline void AnswerWhenDurable(Coordinator& coordinator, UnaryCall* call,
                              const absl::Status& status) {
  coordinator.WhenDurable([call, status](const absl::Status& durable) {
    call->Answer(status.ok() ? durable : status);
  });
}

/// Answers with what `handle` returns, from the core's thread. Thread-safe.
inline grpc::ServerUnaryReactor* AnswerOnCore(
    ServiceContext& context, const grpc::CallbackServerContext& rpc, const char* service,
    const char* method, const google::protobuf::Message& request,
    std::function<absl::Status(Core&, const Principal&)> handle) {
  const BegunCall begun = BeginCall(context, rpc, service, method, request);
  if (begun.admitted == nullptr) return begun.call;
  context.coordinator.Post([&context, begun, handle = std::move(handle)](Core& core) {
    AnswerWhenDurable(context.coordinator, begun.call, context.gate.Run(core, *begun.admitted, [&] {
      return handle(core, begun.admitted->caller);
    }));
  });
  return begun.call;
}

/// Handle(), with the caller where it takes one.
template <typename Request, typename Response>
absl::Status HandleFor(Core& core, const Request& request, Response& response,
                       const Principal& caller) {
  if constexpr (requires { Handle(core, request, response, caller); }) {
    return Handle(core, request, response, caller);
  } else {
    return Handle(core, request, response);
  }
}

/// The same in up to three steps: `look` (on the core's thread; may be null) fills a T, `prepare`
/// (slow, on another thread) goes on with it, `handle` (on the core's thread again) answers. After
/// an error the other steps are left out. Thread-safe.
template <class T>
struct CallSteps {
  std::function<absl::Status(Core&, T&)> look;
  std::function<absl::Status(T&)> prepare;
  std::function<absl::Status(Core&, T&, const Principal&)> handle;
};
template <class T>
grpc::ServerUnaryReactor* AnswerInSteps(ServiceContext& context,
                                        const grpc::CallbackServerContext& rpc, const char* service,
                                        const char* method,
                                        const google::protobuf::Message& request,
                                        CallSteps<T> steps) {
  struct Work {
    CallSteps<T> steps;
    T value;
    absl::Status status;
  };
  const BegunCall begun = BeginCall(context, rpc, service, method, request);
  if (begun.admitted == nullptr) return begun.call;
  // Goes from step to step; shared because std::function must be copyable.
  auto work = std::make_shared<Work>(Work{std::move(steps), {}, {}});
  const auto finish = [&context, begun, work](Core& core) {
    const auto handle = [&] {
      return work->status.ok() ? work->steps.handle(core, work->value, begun.admitted->caller)
                               : work->status;
    };
    AnswerWhenDurable(context.coordinator, begun.call,
                      context.gate.Run(core, *begun.admitted, handle));
  };
  const auto slow = [&context, work, finish] {
    work->status = work->steps.prepare(work->value);
    context.coordinator.Post(finish);
  };
  if (work->steps.look == nullptr) {
    context.coordinator.PostSlow(slow);
    return begun.call;
  }
  context.coordinator.Post([&context, work, slow, finish](Core& core) {
    work->status = work->steps.look(core, work->value);
    if (!work->status.ok()) return finish(core);
    context.coordinator.PostSlow(slow);
  });
  return begun.call;
}

}  // namespace sae::server

/// The method of a service whose handler is Handle(core, request, response), or
/// Handle(core, request, response, caller) where it wants to know who calls.
#define SAE_UNARY(Service, Method, Request, Response)                                          \
  Service##Impl::Reactor* Service##Impl::Method(Context* c, const saeloom::v1::Request* q,     \
                                                saeloom::v1::Response* r) {                    \
    return AnswerOnCore(                                                                       \
        context_, *c, "saeloom.v1." #Service, #Method, *q,                                     \
        [=](Core& core, const Principal& caller) { return HandleFor(core, *q, *r, caller); }); \
  }
