#include "worker/agent/begin_from.h"

#include <algorithm>
#include <vector>

namespace saeloom::agent {
namespace {

constexpr char kManifestPath[] = "/manifest.json";
constexpr char kCheckpointPrefix[] = "step-";

std::string Parent(const std::string& path) { return path.substr(0, path.rfind('/')); }
std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// Where it lies now; "" when it is nowhere.
std::string Find(sae::Env& env, const std::string& from) {
  if (env.Exists(from + kManifestPath)) return from;
  const std::string kept = Parent(Parent(from)) + "/kept/" + NameOf(from);
  return env.Exists(kept + kManifestPath) ? kept : "";
}

}  // namespace

absl::Status BeginFrom(sae::Env& env, const std::string& runs, const std::string& from,
                       const std::string& checkpoints, const LinkFile& link) {
  if (from.rfind(runs + "/", 0) != 0 || (from + "/").find("/../") != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("from_checkpoint: ", from, " is not in this worker's runs folder ", runs,
                     ": workers that share a runs folder must see it under the same path"));
  }
  SAE_RETURN_IF_ERROR(env.MakeDirectories(checkpoints));
  SAE_ASSIGN_OR_RETURN(const std::vector<std::string> own, env.List(checkpoints));
  const bool any = std::any_of(own.begin(), own.end(), [](const std::string& name) {
    return name.rfind(kCheckpointPrefix, 0) == 0;
  });
  if (any) return absl::OkStatus();
  const std::string source = Find(env, from);
  if (source.empty()) {
    return absl::DataLossError(absl::StrCat("the checkpoint to begin from is gone: ", from,
                                            ": fork from one that is still there"));
  }
  const std::string beside = absl::StrCat(Parent(checkpoints), "/.begin-", NameOf(from));
  absl::Status status = FillFolder(env, source, beside, link);
  if (status.ok()) status = env.Rename(beside, checkpoints + "/" + NameOf(from));
  if (status.ok()) return env.SyncDirectory(checkpoints);
  env.RemoveAll(beside).IgnoreError();
  return sae::Annotate(status, sae::ToAbsl("cannot begin from checkpoint " + source));
}

}  // namespace saeloom::agent
