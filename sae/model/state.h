#pragma once
// What of a training run must be kept to go on: a view, by name, of tensors and scalars that live in the
// engine. Checkpoints save and load through it without knowing architectures. Pointers stay valid as long
// as the engine; not thread-safe.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "sae/base/dtype.h"

namespace sae::model {

struct StateTensor {
  std::string name;                  ///< "W_enc", "W_dec", "b_enc", "b_dec", "W_enc.adam_m", "tokens_since_fired"
  DType dtype = DType::kF32;
  /// Local, row-major. per_latent: shape[0] == State::count.
  std::vector<std::int64_t> shape;
  void* data = nullptr;
  /// true: rows are this rank's latents [first, first + count); false: the same on every rank.
  bool per_latent = true;
};

struct StateScalar {
  std::string name;                  ///< "step", "tokens", "input_scale"
  std::variant<std::int64_t*, double*> value;
};

struct State {
  std::int64_t latents = 0;          ///< n, over all ranks
  std::int64_t first = 0;            ///< first global latent of this rank
  std::int64_t count = 0;            ///< latents of this rank
  std::vector<StateTensor> tensors;
  std::vector<StateScalar> scalars;
};

}  // namespace sae::model
