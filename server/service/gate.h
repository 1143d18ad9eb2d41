#pragma once
// What every call passes before the core is asked: who is it, may it call this, is it within its
// limits. And what is written down of it. Thread-safe. Errors: UNAUTHENTICATED, PERMISSION_DENIED,
// RESOURCE_EXHAUSTED (naming the limit), each with the remedy.

#include <functional>
#include <memory>
#include <string>

#include "sae/base/clock.h"
#include "sae/base/status.h"
#include "server/auth/access.h"
#include "server/auth/audit_queue.h"
#include "server/auth/token_table.h"
#include "server/core/core.h"
#include "server/service/rpc_observer.h"
#include "server/service/stream_registry.h"

namespace sae::server {

struct GateOptions {
  bool tls = false;                         ///< without it everybody is anonymous, and admin
  bool require_worker_identity = true;      ///< with TLS: workers show certificates
  std::size_t max_request_bytes = 4 << 20;  ///< of people; workers may send what the channel takes
  int max_streams_per_principal = 2'000;    ///< watches and log tails
  AuditLimits audit;
};

/// A call as it came in.
struct CallFacts {
  std::string service;  ///< "saeloom.v1.SweepService"
  std::string method;
  std::string peer;       ///< address
  std::string bearer;     ///< the token; "" = none
  std::string worker;     ///< that the certificate names; "" = none
  std::size_t bytes = 0;  ///< of the request
  std::string resource;   ///< what it is about
  std::string request_id;
  bool dry_run = false;  ///< changes nothing, whatever the method
};

/// One that may go on.
struct AdmittedCall {
  CallFacts facts;
  Principal caller;
  const MethodAccess* access = nullptr;
};

class Gate {
 public:
  /// `clock` and `observer`, which may be null, outlive it.
  Gate(const GateOptions& options, Clock& clock, RpcObserver* observer = nullptr)
      : options_(options),
        clock_(clock),
        observer_(observer),
        audit_(clock, options.audit),
        streams_(options.max_streams_per_principal) {}

  /// A refusal is written down.
  [[nodiscard]] absl::StatusOr<std::shared_ptr<const AdmittedCall>> Admit(CallFacts facts);
  /// PERMISSION_DENIED unless the caller may speak as this worker; `caller` is of a method for
  /// workers. A refusal is written down.
  [[nodiscard]] absl::Status CheckWorker(const AdmittedCall& call, const std::string& worker_id);

  /// On the core's thread: asks `handle`, unless the sweep is another's, and writes a mutating call
  /// down, in the transaction of the call where there is one.
  [[nodiscard]] absl::Status Run(Core& core, const AdmittedCall& call,
                                 const std::function<absl::Status()>& handle);
  /// On the core's thread, often: stores what waits, deletes audit records beyond those to keep,
  /// and ends streams whose token is not good any more.
  void Poll(EventStore& store);

  const GateOptions& options() const { return options_; }
  TokenTable& tokens() { return tokens_; }
  StreamRegistry& streams() { return streams_; }

 private:
  absl::StatusOr<Principal> Authenticate(const CallFacts& facts);
  absl::Status CheckSize(const AdmittedCall& call) const;
  AuditRecord RecordOf(const CallFacts& facts, const Principal& caller,
                       const absl::Status& status) const;
  void Refused(const CallFacts& facts, const Principal& caller, const absl::Status& status);
  void TrimAudit(EventStore& store, absl::Duration now);

  const GateOptions options_;
  Clock& clock_;
  RpcObserver* const observer_;
  TokenTable tokens_;
  AuditQueue audit_;
  StreamRegistry streams_;
  absl::Duration checked_streams_;  ///< of the core's thread, as the next
  absl::Duration stored_use_;
  absl::Duration next_try_;  ///< to store, after an error
  absl::Duration next_trim_;
};

/// "projects/default/sweeps/S/trials/T" or "S/T" -> "S"; "" for "".
std::string SweepOfResource(const std::string& resource);

}  // namespace sae::server
