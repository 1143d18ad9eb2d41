#include "worker/agent/admission.h"

#include <nlohmann/json.hpp>
#include <set>

#include "proto/convert/sweep_convert.h"
#include "sae/base/hash.h"
#include "sae/base/ids.h"

namespace saeloom::agent {
namespace {

/// Two checkpoints are kept while a third is written; logs and events are small beside them.
constexpr std::int64_t kCheckpointsOnDisk = 3;
constexpr std::int64_t kOtherFiles = 32 << 20;

struct StoreWidths {
  std::int64_t d = 0;
  std::int64_t target_d = 0;  ///< 0 = no targets
};

absl::StatusOr<StoreWidths> ReadStore(sae::Env& env, const std::string& store,
                                      const std::string& expected) {
  const std::string path = store + "/manifest.json";
  auto manifest = env.Read(path);
  if (!manifest.ok()) {
    return sae::Annotate(manifest.status(),
                         sae::ToAbsl("this worker has not the activation store " + store +
                                     ": put it there, or use a folder that all workers see"));
  }
  const std::string hash = sae::HashToText(sae::Xxh3(*manifest));
  if (!expected.empty() && hash != expected) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the store ", store, " is not the one that was submitted: ", path, " hashes to ", hash,
        ", expected ", expected, ": submit the sweep again for the new store"));
  }
  const auto json = nlohmann::json::parse(*manifest, nullptr, false);
  if (!json.is_object() || !json.contains("d") || !json["d"].is_number_integer()) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is no manifest of an activation store"));
  }
  // Absent in a store without targets.
  const bool targets = json.contains("target_d") && json["target_d"].is_number_integer();
  return StoreWidths{json["d"].get<std::int64_t>(),
                     targets ? json["target_d"].get<std::int64_t>() : 0};
}

}  // namespace

absl::StatusOr<sae::config::TrialConfig> Admit(sae::Env& env,
                                               const saeloom::v1::StartAttempt& start,
                                               const std::string& runs_directory) {
  // The names become folders.
  SAE_RETURN_IF_ERROR(sae::ValidateName(start.sweep(), "sweep"));
  SAE_RETURN_IF_ERROR(sae::ValidateName(start.trial(), "trial"));
  SAE_ASSIGN_OR_RETURN(auto config, sae::FromProto(start.config()));
  SAE_ASSIGN_OR_RETURN(const StoreWidths store, ReadStore(env, start.store(), start.store_hash()));
  SAE_RETURN_IF_ERROR(sae::config::Validate(config, store.d, store.target_d));
  const std::int64_t need =
      kCheckpointsOnDisk * sae::config::EstimateCheckpointBytes(config, store.d, store.target_d) +
      kOtherFiles;
  SAE_RETURN_IF_ERROR(sae::RequireFreeBytes(env, runs_directory, need, "the trial's checkpoints"));
  return config;
}

absl::Status CheckStore(sae::Env& env, const std::string& store, const std::string& hash) {
  return ReadStore(env, store, hash).status();
}

absl::StatusOr<std::vector<GangHost>> HostsOf(const saeloom::v1::StartAttempt& start, int ranks) {
  std::vector<GangHost> hosts;
  std::set<std::string> names;
  int slots = 0;
  for (const auto& host : start.hosts()) {
    if (host.mpi_host().empty() || host.peer_address().empty() || host.slots() < 1) {
      return absl::InvalidArgumentError(absl::StrCat("worker ", host.worker(),
                                                     " takes part in no gang over several workers: "
                                                     "start it with --peer-listen"));
    }
    if (!names.insert(host.mpi_host()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("two workers of the gang have the host name ", host.mpi_host(),
                       ": MPI would take them for one; give each its own --mpi-host"));
    }
    slots += host.slots();
    hosts.push_back({host.mpi_host(), host.peer_address(), host.slots()});
  }
  if (!hosts.empty() && slots < ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat("the gang has ", ranks, " ranks, its hosts ", slots, " slots"));
  }
  return hosts;
}

saeloom::v1::FailureClass ClassOfRefusal(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kNotFound:
      return saeloom::v1::INVALID_CONFIG;
    case absl::StatusCode::kDataLoss:
      return saeloom::v1::CHECKPOINT_UNREADABLE;
    default:
      return saeloom::v1::INTERNAL;
  }
}

}  // namespace saeloom::agent
