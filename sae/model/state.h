#pragma once
// What of a training run must be kept to go on: a view, by name, of tensors and scalars that live in the
// engine. Checkpoints save and load through it without knowing architectures. Pointers stay valid as long
// as the engine; not thread-safe.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "sae/base/dtype.h"
#include "sae/model/shard.h"

namespace sae::model {

struct StateTensor {
  std::string name;                  ///< "W_enc", "W_dec", "b_enc", "b_dec", "W_enc.adam_m", "tokens_since_fired"
  DType dtype = DType::kF32;
  /// Local, row-major. per_latent: shape[0] == shard.count.
  std::vector<std::int64_t> shape;
  void* data = nullptr;
  /// true: row i is of latent shard.Global(i); false: the same on every rank.
  bool per_latent = true;
};

struct StateScalar {
  std::string name;                  ///< "step", "tokens", "input_scale"
  std::variant<std::int64_t*, double*> value;
};

struct State {
  LatentShard shard;
  std::vector<StateTensor> tensors;
  std::vector<StateScalar> scalars;
};

}  // namespace sae::model
