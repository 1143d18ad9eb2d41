#pragma once
// Makes stores of activations that come from elsewhere: NumPy and safetensors files, the synthetic
// generator. Errors: those of the readers and of StoreWriter; nothing is left under the store's
// name after one.

#include <functional>
#include <string>

#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/data/store_writer.h"
#include "sae/data/synthetic.h"

namespace sae::data {

struct ImportOptions {
  std::string from;  ///< X.npy or X.safetensors
  std::string
      tensor;  ///< of a safetensors file; "" = "activations", else the only floating matrix in it
  std::string targets;  ///< of a safetensors file: the targets of a transcoder; "" = none
  /// The dtype to store; f32 keeps float16 and bfloat16 sources exact at twice their size.
  StoreWriterOptions writer;  ///< d, target_d, source and expected_rows are filled in from the file
  std::function<void(std::int64_t done, std::int64_t total)> progress;
};

/// A matrix [rows, d], or [contexts, tokens, d], of floating values becomes a store. A safetensors
/// file may hold token_ids, positions and documents [rows] I32 beside it; they are taken along. So
/// is the matrix `targets`, [rows, target_d] or [contexts, tokens, target_d].
[[nodiscard]] absl::StatusOr<StoreManifest> ImportStore(ImportOptions options,
                                                        Env& env = RealEnv());

/// `rows` rows of the generator. The true dictionary is written beside the shards as
/// dictionary.safetensors: features [N, d], bias [d], probabilities [N].
[[nodiscard]] absl::StatusOr<StoreManifest> CreateSyntheticStore(const SyntheticSpec& spec,
                                                                 StoreWriterOptions writer,
                                                                 Env& env = RealEnv());

}  // namespace sae::data
