#pragma once
// One unary RPC that is answered from another thread. Frees itself. Include it only in files of the
// gRPC glue (server/CMakeLists.txt says which and why).

#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/status.h>

#include "proto/convert/error_details.h"
#include "sae/base/mutex.h"
#include "sae/base/failpoint.h"
#include "server/service/rpc_observer.h"

namespace sae::server {

/// absl's and gRPC's canonical codes have the same numbers.
inline grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), Message(status), ErrorDetailsOf(status)};
}

class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  explicit UnaryCall(RpcCall call) : call_(std::move(call)) {}

  /// Once, from any thread; the object may be gone when it returns.
  void Answer(const absl::Status& status) {
    SAE_FAILPOINT("rpc.before_answer");
    call_.Handled(status.code());
    { MutexLock lock(mu_); }
    Finish(ToGrpc(status));
  }
  void OnDone() override {
    // The answering thread wrote the response, which gRPC frees after this. gRPC orders the two
    // itself, but by locks that a sanitizer does not see.
    { MutexLock lock(mu_); }
    delete this;
  }

 private:
  const RpcCall call_;
  Mutex mu_;
};

}  // namespace sae::server
