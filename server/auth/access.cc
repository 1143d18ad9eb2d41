#include "server/auth/access.h"

#include <array>
#include <cstring>

#include "absl/strings/match.h"

namespace sae::server {
namespace {

constexpr char kPackage[] = "saeloom.v1.";
constexpr bool kRead = false, kChange = true;
constexpr bool kAny = false, kOwn = true;

constexpr auto kMethods = std::to_array<MethodAccess>({
    {"SweepService", "CreateSweep", Role::kSubmitter, kChange, kAny},
    {"SweepService", "PreviewSweep", Role::kViewer, kRead, kAny},
    {"SweepService", "GetSweep", Role::kViewer, kRead, kAny},
    {"SweepService", "ListSweeps", Role::kViewer, kRead, kAny},
    {"SweepService", "UpdateSweep", Role::kSubmitter, kChange, kOwn},
    {"SweepService", "DeleteSweep", Role::kSubmitter, kChange, kOwn},
    {"SweepService", "PauseSweep", Role::kSubmitter, kChange, kOwn},
    {"SweepService", "ResumeSweep", Role::kSubmitter, kChange, kOwn},
    {"SweepService", "CancelSweep", Role::kSubmitter, kChange, kOwn},
    {"SweepService", "ForkSweep", Role::kSubmitter, kChange, kAny},
    {"SweepService", "RetryTrials", Role::kSubmitter, kChange, kOwn},
    {"SweepService", "AddPoints", Role::kSubmitter, kChange, kOwn},

    {"TrialService", "GetTrial", Role::kViewer, kRead, kAny},
    {"TrialService", "ListTrials", Role::kViewer, kRead, kAny},
    {"TrialService", "PauseTrial", Role::kSubmitter, kChange, kOwn},
    {"TrialService", "ResumeTrial", Role::kSubmitter, kChange, kOwn},
    {"TrialService", "StopTrial", Role::kSubmitter, kChange, kOwn},
    {"TrialService", "PromoteTrial", Role::kSubmitter, kChange, kOwn},
    {"TrialService", "ListAttempts", Role::kViewer, kRead, kAny},
    {"TrialService", "ListCheckpoints", Role::kViewer, kRead, kAny},
    {"TrialService", "ProtectCheckpoint", Role::kSubmitter, kChange, kOwn},
    {"TrialService", "CollectCheckpoints", Role::kSubmitter, kChange, kOwn},
    {"TrialService", "GetPareto", Role::kViewer, kRead, kAny},

    {"TelemetryService", "WatchSweep", Role::kViewer, kRead, kAny},
    {"TelemetryService", "QueryMetrics", Role::kViewer, kRead, kAny},
    {"TelemetryService", "TailLogs", Role::kViewer, kRead, kAny},

    {"FleetService", "ListWorkers", Role::kViewer, kRead, kAny},
    {"FleetService", "GetWorker", Role::kViewer, kRead, kAny},
    {"FleetService", "CordonWorker", Role::kOperator, kChange, kAny},
    {"FleetService", "UncordonWorker", Role::kOperator, kChange, kAny},
    {"FleetService", "ListQueues", Role::kViewer, kRead, kAny},
    {"FleetService", "UpdateQueue", Role::kOperator, kChange, kAny},
    {"FleetService", "GetAllocation", Role::kViewer, kRead, kAny},
    {"FleetService", "GetDebugInfo", Role::kOperator, kRead, kAny},

    {"AuthService", "CreateToken", Role::kAdmin, kChange, kAny},
    {"AuthService", "ListTokens", Role::kAdmin, kRead, kAny},
    {"AuthService", "RevokeToken", Role::kAdmin, kChange, kAny},
    {"AuthService", "WhoAmI", Role::kViewer, kRead, kAny},
    {"AuthService", "ListAuditEvents", Role::kAdmin, kRead, kAny},

    // What workers tell is in the event log; only their refusals are audited.
    {"WorkerService", "Register", Role::kWorker, kRead, kAny},
    {"WorkerService", "Session", Role::kWorker, kRead, kAny},
    {"WorkerService", "ReportBatch", Role::kWorker, kRead, kAny},
    {"PeerService", "Exec", Role::kWorker, kRead, kAny},
});

constexpr std::array<const char*, 6> kRoles = {"none",     "viewer", "submitter",
                                               "operator", "admin",  "worker"};

}  // namespace

std::span<const MethodAccess> AllMethods() { return kMethods; }

const MethodAccess* FindMethod(const std::string& service, const std::string& method) {
  const char* bare = service.c_str();
  if (absl::StartsWith(service, kPackage)) bare += sizeof kPackage - 1;
  for (const MethodAccess& m : kMethods) {
    if (std::strcmp(m.service, bare) == 0 && method == m.method) return &m;
  }
  return nullptr;
}

std::string ToString(Role role) { return kRoles[static_cast<std::size_t>(role)]; }

absl::Status ParseTokenRole(const std::string& word, const std::string& field, Role& role) {
  for (const Role r : {Role::kViewer, Role::kSubmitter, Role::kOperator, Role::kAdmin}) {
    if (word != ToString(r)) continue;
    role = r;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": \"", word, "\" is none of viewer, submitter, operator and admin"));
}

absl::Status Authorize(const Principal& caller, const MethodAccess& access,
                       bool workers_need_certificates) {
  const bool is_worker = caller.role == Role::kWorker;
  bool may = false;
  if (access.least == Role::kWorker) {
    may = is_worker || (!workers_need_certificates && caller.role >= Role::kOperator);
  } else if (is_worker) {
    may = std::strcmp(access.method, "WhoAmI") == 0;
  } else {
    may = caller.role >= access.least;
  }
  if (may) return absl::OkStatus();
  return absl::PermissionDeniedError(
      access.least == Role::kWorker
          ? absl::StrCat(access.method, " is for workers, which show a certificate that names ",
                         "spiffe://TRUST/worker/NAME; ", caller.name, " is ", ToString(caller.role))
          : absl::StrCat(access.method, " needs the role ", ToString(access.least), ", and ",
                         caller.name, " is ", ToString(caller.role),
                         "; an admin can make a token with more rights"));
}

absl::Status AuthorizeOwner(const Principal& caller, const MethodAccess& access,
                            const std::string& sweep, const std::string& owner) {
  if (!access.own || caller.role != Role::kSubmitter || owner == caller.name)
    return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat(access.method, ": sweep \"", sweep, "\" belongs to ",
                   owner.empty() ? "nobody" : owner, ", and ", caller.name,
                   " is submitter, who may change own sweeps only; ask the owner or an operator"));
}

}  // namespace sae::server
