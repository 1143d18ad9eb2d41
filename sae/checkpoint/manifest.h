#pragma once
// manifest.json of a checkpoint: what the folder holds and the hash of each file. Plain values.
// Format: docs/formats/checkpoint.md. Errors: DATA_LOSS for a manifest that is damaged or cut short,
// INVALID_ARGUMENT for a format this build does not read, NOT_FOUND where there is none.

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "sae/base/dtype.h"
#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/config/run_config.h"
#include "sae/model/shard.h"

namespace sae::checkpoint {

/// What the caller knows beside the state; kept as it is.
struct Info {
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  std::int64_t d = 0;
  /// Rows that the source had delivered: ActivationSource::Position().
  std::int64_t data_position = 0;
  /// As run; auto fields resolved.
  config::TrialConfig config;
  std::string store;
  std::string store_hash;
  /// Bitwise resume holds on one instruction set: "avx512", ...
  std::string instruction_set;
  /// Where the activations come from, for exports: "model", "hook", ...
  std::map<std::string, std::string> source;
};

struct FileEntry {
  std::string name;
  std::int64_t bytes = 0;
  /// HashToText of XXH3 over the whole file.
  std::string hash;
  /// Latents [first, first + rows) of each per-latent tensor; rows = 0: the replicated tensors.
  std::int64_t first = 0;
  std::int64_t rows = 0;
};

struct TensorEntry {
  std::string name;
  DType dtype = DType::kF32;
  /// Over all ranks: shape[0] == latents where per_latent.
  std::vector<std::int64_t> shape;
  bool per_latent = true;
};

struct Manifest {
  Info info;
  std::int64_t latents = 0;
  std::int64_t block_latents = 0;
  std::int64_t world_size = 1;
  /// Of the bijection that dealt latents to ranks (model/shard.h).
  std::int64_t deal_seed = model::kDealSeed;
  std::map<std::string, std::variant<std::int64_t, double>> scalars;
  std::vector<TensorEntry> tensors;
  std::vector<FileEntry> files;

  /// Of its files, without the manifest.
  std::int64_t Bytes() const;
};

/// Carries a hash of itself, so that a flipped digit is found.
std::string ToJson(const Manifest& manifest);
[[nodiscard]] absl::StatusOr<Manifest> ParseManifest(const std::string& json);

/// `folder`/manifest.json; errors name the path.
[[nodiscard]] absl::StatusOr<Manifest> ReadManifest(Env& env, const std::string& folder);

}  // namespace sae::checkpoint
