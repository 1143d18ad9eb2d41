#include "server/service/gate.h"

#include <algorithm>
#include <spdlog/spdlog.h>

#include "absl/strings/match.h"

#include "proto/transport/certificate.h"

namespace sae::server {
namespace {

constexpr absl::Duration kCheckStreamsEvery = absl::Seconds(1);
constexpr absl::Duration kStoreUseEvery = absl::Minutes(1);
constexpr absl::Duration kTryAgainAfter = absl::Milliseconds(500);
constexpr absl::Duration kTrimEvery = absl::Minutes(1);
constexpr int kTrimSlice = 500;  // records at once, for others want the thread too
/// Kept of what a caller has written; the rest tells nobody more.
constexpr std::size_t kLongestText = 256;

std::string Shortened(std::string text) {
  if (text.size() > kLongestText) text.resize(kLongestText);
  return text;
}

}  // namespace

std::string SweepOfResource(const std::string& resource) {
  static const std::string kPrefix = "projects/default/sweeps/";
  const std::string rest =
      absl::StartsWith(resource, kPrefix) ? resource.substr(kPrefix.size()) : resource;
  return rest.substr(0, rest.find('/'));
}

absl::StatusOr<Principal> Gate::Authenticate(const CallFacts& facts) {
  if (!options_.tls) return Anonymous();
  if (!facts.bearer.empty()) return tokens_.Authenticate(facts.bearer, clock_.Now());
  if (!facts.worker.empty()) {
    return Principal{"worker/" + facts.worker, Role::kWorker, "certificate", "", facts.worker};
  }
  return absl::UnauthenticatedError(
      absl::StrCat(facts.method,
                   ": this coordinator answers only callers that it knows; people name the file of "
                   "a token with --token-file or $SAELOOM_TOKEN_FILE, workers show a certificate "
                   "that names spiffe://TRUST/worker/NAME (--tls-cert, --tls-key)"));
}

absl::Status Gate::CheckSize(const AdmittedCall& call) const {
  if (call.access->least == Role::kWorker || call.facts.bytes <= options_.max_request_bytes)
    return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      call.facts.method, ": the request has ", call.facts.bytes, " bytes, at most ",
      options_.max_request_bytes, " are taken (--max-request-bytes); send it in parts"));
}

absl::StatusOr<std::shared_ptr<const AdmittedCall>> Gate::Admit(CallFacts facts) {
  auto call = std::make_shared<AdmittedCall>();
  call->access = FindMethod(facts.service, facts.method);
  if (call->access == nullptr) {
    return absl::PermissionDeniedError(
        absl::StrCat(facts.service, "/", facts.method, " is in no role's table"));
  }
  call->facts = std::move(facts);
  absl::Status status;
  if (auto caller = Authenticate(call->facts); caller.ok()) {
    call->caller = *std::move(caller);
    status =
        Authorize(call->caller, *call->access, options_.tls && options_.require_worker_identity);
  } else {
    status = caller.status();
  }
  if (status.ok()) status = CheckSize(*call);
  if (!status.ok()) {
    Refused(call->facts, call->caller, status);
    return status;
  }
  return call;
}

absl::Status Gate::CheckWorker(const AdmittedCall& call, const std::string& worker_id) {
  const std::string& name = call.caller.worker;
  if (name.empty() || MayUseWorkerId(name, worker_id)) return absl::OkStatus();
  const absl::Status status = absl::PermissionDeniedError(absl::StrCat(
      "worker_id: \"", worker_id, "\", but the certificate is for worker \"", name,
      "\"; start the worker with --name ", name, ", or with a certificate of its own"));
  Refused(call.facts, call.caller, status);
  return status;
}

AuditRecord Gate::RecordOf(const CallFacts& facts, const Principal& caller,
                           const absl::Status& status) const {
  AuditRecord record;
  record.time = clock_.Now();
  record.principal = caller.name;
  record.role = caller.role == Role::kNone ? "" : ToString(caller.role);
  record.method = facts.method;
  record.resource = Shortened(facts.resource);
  record.request_id = Shortened(facts.request_id);
  record.code = absl::StatusCodeToString(status.code());
  record.peer = facts.peer;
  return record;
}

void Gate::Refused(const CallFacts& facts, const Principal& caller, const absl::Status& status) {
  if (observer_ != nullptr) observer_->OnAudited(facts.method, status.code());
  audit_.AddRefused(RecordOf(facts, caller, status));
}

absl::Status Gate::Run(Core& core, const AdmittedCall& call,
                       const std::function<absl::Status()>& handle) {
  if (call.access->own) {
    const std::string name = SweepOfResource(call.facts.resource);
    const SweepRecord* sweep = core.state().sweep(name);
    // One that does not exist is for the handler to say.
    const absl::Status status = sweep == nullptr
                                    ? absl::OkStatus()
                                    : AuthorizeOwner(call.caller, *call.access, name, sweep->owner);
    if (!status.ok()) {
      Refused(call.facts, call.caller, status);
      return status;
    }
  }
  if (!call.access->mutating || call.facts.dry_run) return handle();
  core.SetAudit(RecordOf(call.facts, call.caller, absl::OkStatus()));
  const absl::Status status = handle();
  const bool stored = !core.TakeAudit().has_value();
  if (observer_ != nullptr) observer_->OnAudited(call.facts.method, status.code());
  // Nothing was changed, or something was and then it failed: a record of its own.
  if (!stored || !status.ok()) audit_.Add(RecordOf(call.facts, call.caller, status));
  return status;
}

void Gate::Poll(EventStore& store) {
  const absl::Duration now = clock_.SinceBoot();
  if (now - checked_streams_ >= kCheckStreamsEvery) {
    checked_streams_ = now;
    streams_.EndUnlessGood(
        [this](const std::string& token) { return tokens_.Check(token, clock_.Now()); });
  }
  if (now < next_try_) return;
  TrimAudit(store, now);
  Transaction transaction;
  transaction.audit = audit_.Take();
  if (now - stored_use_ >= kStoreUseEvery) {
    stored_use_ = now;
    transaction.tokens = tokens_.TakeUsed();
  }
  if (transaction.empty()) return;
  const absl::Status status = store.Commit(transaction);
  if (status.ok()) return;
  spdlog::error("cannot write the audit: {}", Message(status));
  audit_.PutBack(std::move(transaction.audit));
  next_try_ = now + kTryAgainAfter;
}

void Gate::TrimAudit(EventStore& store, absl::Duration now) {
  if (options_.audit.keep <= 0 || now < next_trim_) return;
  const auto deleted = store.TrimAudit(options_.audit.keep, kTrimSlice);
  if (!deleted.ok()) spdlog::warn("cannot delete old audit records: {}", Message(deleted.status()));
  if (!deleted.ok() || *deleted < kTrimSlice) next_trim_ = now + kTrimEvery;
}

}  // namespace sae::server
