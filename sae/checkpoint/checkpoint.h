#pragma once
// Checkpoints: a folder `step-%012d` with one safetensors file a fixed block of latents (a function of n,
// not of the ranks, so that any world size loads it), one for what all ranks share, and manifest.json with
// the hash of each. Written beside, fsynced, renamed, and only then are older ones removed: a crash at any
// point leaves the previous one loadable. Not thread-safe; functions that take a Communicator are called by
// all ranks together, on one file system, and return the same verdict on each.
// Errors: those of Env (RESOURCE_EXHAUSTED: no space); DATA_LOSS for what is damaged; INVALID_ARGUMENT for a
// checkpoint that does not fit the state it is loaded into; NOT_FOUND.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/checkpoint/manifest.h"
#include "sae/comm/communicator.h"
#include "sae/model/state.h"

namespace sae::checkpoint {

/// Latents in one file, for a dictionary of `latents`: an eighth, at most 4096 or the power of two that makes 1024 files
/// at most (each is fsynced by itself).
std::int64_t BlockLatents(std::int64_t latents);
/// "step-000000001234".
std::string StepName(std::int64_t step);
/// The step of such a name; nullopt for any other name.
std::optional<std::int64_t> StepOf(const std::string& name);

/// Makes the directory and its parents, durably: each new name is synced.
[[nodiscard]] absl::Status MakeDirectory(Env& env, const std::string& directory);

struct SaveOptions {
  /// Complete checkpoints to keep, this one included, among those of this step or earlier; 0 = remove none.
  int keep = 2;
  /// Tells the temporary folders of attempts apart.
  std::string writer = "a1";
};

/// Saves under `directory`/StepName(info.step), which is returned without the directory. One that is there
/// already and whole is left as it is.
[[nodiscard]] absl::StatusOr<std::string> SaveCheckpoint(Env& env, comm::Communicator& communicator,
                                                         const std::string& directory, const model::State& state,
                                                         const Info& info, const SaveOptions& options = {});

struct Latest {
  /// Name in the directory; empty when there is none.
  std::string name;
  Manifest manifest;
  /// One line for each checkpoint that was passed over, newest first, and their names.
  std::vector<std::string> warnings;
  std::vector<std::string> damaged;
};

/// The newest checkpoint whose manifest, sizes and hashes are right; the ranks share the hashing.
[[nodiscard]] absl::StatusOr<Latest> FindLatest(Env& env, comm::Communicator& communicator,
                                                const std::string& directory);

/// Fills `state` (tensors and scalars) from `folder`: each rank its own rows. Every tensor and scalar of the
/// state must be there with its dtype and row shape, and the checkpoint may hold nothing that the state lacks.
/// Does not verify hashes: FindLatest or Verify has.
[[nodiscard]] absl::Status LoadCheckpoint(Env& env, comm::Communicator& communicator, const std::string& folder,
                                          const Manifest& manifest, const model::State& state);

/// Sizes and hashes of the files i of the manifest with i % parts == part.
[[nodiscard]] absl::Status Verify(Env& env, const std::string& folder, const Manifest& manifest, int part = 0,
                                  int parts = 1);

/// A whole tensor (all latents) as float32, for export and encoding; NOT_FOUND lists the names there are.
[[nodiscard]] absl::StatusOr<std::vector<float>> ReadTensor(const std::string& folder, const Manifest& manifest,
                                                            const std::string& name);

/// Before a run starts, on rank 0: removes temporary folders that attempts left behind, and moves `damaged`
/// ones aside (`damaged-...`) so that they no longer count as checkpoints.
[[nodiscard]] absl::Status CleanUp(Env& env, const std::string& directory, const std::vector<std::string>& damaged);

}  // namespace sae::checkpoint
