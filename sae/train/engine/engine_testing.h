#pragma once
// For tests of the engine: configs, synthetic rows with known sparse features, and states moved
// between engines of different world sizes or from reference parameters.

#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "sae/base/check.h"
#include "sae/base/random.h"
#include "sae/model/init.h"
#include "sae/model/reference.h"
#include "sae/train/engine/engine.h"

namespace sae::train::testing {

inline config::TrialConfig TopKConfig(std::int64_t n, std::int64_t k, std::int64_t batch,
                                      std::int64_t ranks = 1) {
  config::TrialConfig c;
  c.ranks = ranks;
  c.sae.architecture = "topk";
  c.sae.latents = n;
  c.sae.k = k;
  c.sae.aux_k = 0;
  c.train.batch = batch;
  c.train.tokens = 1000.0 * static_cast<double>(batch);
  c.train.lr = 1e-3;
  c.train.lr_warmup_steps = 0;
  c.train.sparsity_warmup_steps = 0;
  return c;
}

inline config::TrialConfig ReluConfig(std::int64_t n, double l1, std::int64_t batch,
                                      std::int64_t ranks = 1) {
  config::TrialConfig c = TopKConfig(n, 0, batch, ranks);
  c.sae.architecture = "relu_l1";
  c.sae.l1_coefficient = l1;
  return c;
}

/// Rows that are sums of a few of `features` unit directions with strengths in [0.5, 1.5], plus an
/// offset and noise; times `scale`.
class SparseData {
 public:
  SparseData(std::int64_t features, std::int64_t d, double active, std::uint64_t seed)
      : features_(features),
        d_(d),
        active_(active),
        random_(seed),
        directions_(static_cast<std::size_t>(features * d)) {
    for (std::int64_t i = 0; i < features; ++i) {
      model::UnitDirection(
          seed + 1, i,
          std::span(directions_)
              .subspan(static_cast<std::size_t>(i * d), static_cast<std::size_t>(d)));
    }
  }

  std::vector<float> Rows(std::int64_t count, double scale = 1, double noise = 0.01) {
    std::vector<float> out(static_cast<std::size_t>(count * d_));
    std::vector<double> row(static_cast<std::size_t>(d_));
    for (std::int64_t b = 0; b < count; ++b) {
      for (double& v : row) v = 0.1 + noise * random_.Normal();
      for (std::int64_t i = 0; i < features_; ++i) {
        if (random_.Uniform() * static_cast<double>(features_) >= active_) continue;
        const double strength = 0.5 + random_.Uniform();
        for (std::int64_t j = 0; j < d_; ++j) {
          row[static_cast<std::size_t>(j)] +=
              strength * directions_[static_cast<std::size_t>(i * d_ + j)];
        }
      }
      for (std::int64_t j = 0; j < d_; ++j) {
        out[static_cast<std::size_t>(b * d_ + j)] =
            static_cast<float>(scale * row[static_cast<std::size_t>(j)]);
      }
    }
    return out;
  }

  const std::vector<double>& directions() const { return directions_; }

 private:
  std::int64_t features_, d_;
  double active_;
  Random random_;
  std::vector<double> directions_;
};

/// A whole state by name, on the side: tensors of all latents.
struct SavedState {
  std::map<std::string, std::vector<char>> tensors;
  std::map<std::string, double> doubles;
  std::map<std::string, std::int64_t> integers;
};

inline std::int64_t RowBytes(const model::StateTensor& t) {
  std::int64_t bytes = SizeOf(t.dtype);
  for (std::size_t i = t.per_latent ? 1 : 0; i < t.shape.size(); ++i) bytes *= t.shape[i];
  return bytes;
}

/// Copies this rank's part of the state into `out` (which other ranks fill too).
inline void Save(const model::State& s, SavedState* out) {
  for (const model::StateTensor& t : s.tensors) {
    const std::int64_t row = RowBytes(t);
    std::vector<char>& to = out->tensors[t.name];
    to.resize(static_cast<std::size_t>(t.per_latent ? row * s.shard.latents : row));
    const auto* from = static_cast<const char*>(t.data);
    for (std::int64_t i = 0; i < (t.per_latent ? s.shard.count : 1); ++i) {
      const std::int64_t at = t.per_latent ? row * s.shard.Global(i) : 0;
      std::memcpy(to.data() + at, from + i * row, static_cast<std::size_t>(row));
    }
  }
  for (const model::StateScalar& v : s.scalars) {
    if (const auto* i = std::get_if<std::int64_t*>(&v.value)) out->integers[v.name] = **i;
    if (const auto* d = std::get_if<double*>(&v.value)) out->doubles[v.name] = **d;
  }
}

template <class T>
void Restore(const SavedState& saved, Engine<T>& engine) {
  const model::State s = engine.state();
  for (const model::StateTensor& t : s.tensors) {
    const std::int64_t row = RowBytes(t);
    const std::vector<char>& from = saved.tensors.at(t.name);
    for (std::int64_t i = 0; i < (t.per_latent ? s.shard.count : 1); ++i) {
      const std::int64_t at = t.per_latent ? row * s.shard.Global(i) : 0;
      std::memcpy(static_cast<char*>(t.data) + i * row, from.data() + at,
                  static_cast<std::size_t>(row));
    }
  }
  for (const model::StateScalar& v : s.scalars) {
    if (const auto* i = std::get_if<std::int64_t*>(&v.value)) **i = saved.integers.at(v.name);
    if (const auto* d = std::get_if<double*>(&v.value)) **d = saved.doubles.at(v.name);
  }
  const absl::Status loaded = engine.StateLoaded();
  SAE_CHECK_MSG(loaded.ok(), "%s", std::string(loaded.message()).c_str());
}

inline std::vector<char> Bytes(const std::vector<double>& v) {
  const char* p = reinterpret_cast<const char*>(v.data());
  return {p, p + v.size() * sizeof(double)};
}

inline std::vector<double> Doubles(const SavedState& s, const std::string& name) {
  const std::vector<char>& bytes = s.tensors.at(name);
  std::vector<double> out(bytes.size() / sizeof(double));
  if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

/// The state of a fresh float64 engine with these parameters. `log_threshold`: as the config says.
inline SavedState StateOf(const model::ReferenceParameters& p, double input_scale,
                          double sample_variance, const std::vector<std::int64_t>& since_fired,
                          std::int64_t last_active, bool log_threshold = true) {
  SavedState s;
  const model::ReferenceParameters zeros = model::ZerosLike(p);
  for (const auto& [suffix, q] : {std::pair<std::string, const model::ReferenceParameters*>{"", &p},
                                  {".adam_m", &zeros},
                                  {".adam_v", &zeros},
                                  {".ema", &zeros}}) {
    s.tensors["W_enc" + suffix] = Bytes(q->w_enc);
    s.tensors["W_dec" + suffix] = Bytes(q->w_dec);
    s.tensors["b_enc" + suffix] = Bytes(q->b_enc);
    s.tensors["b_dec" + suffix] = Bytes(q->b_dec);
    s.tensors["b_mag" + suffix] = Bytes(q->b_mag);
    s.tensors["r_mag" + suffix] = Bytes(q->r_mag);
    s.tensors["W_skip" + suffix] = Bytes(q->w_skip);
    std::vector<double> theta = q->threshold;
    for (double& v : theta) v = log_threshold && q == &p ? std::log(v) : v;
    s.tensors[(log_threshold ? "log_threshold" : "threshold") + suffix] = Bytes(theta);
  }
  const char* fired = reinterpret_cast<const char*>(since_fired.data());
  s.tensors["tokens_since_fired"] = {fired, fired + since_fired.size() * sizeof(std::int64_t)};
  s.integers = {{"step", 0}, {"tokens", 0}, {"last_active", last_active}};
  s.doubles = {{"input_scale", input_scale},
               {"sample_variance", sample_variance},
               {"ema_weight", 0},
               {"batch_threshold", 0},
               {"batch_threshold_weight", 0},
               {"bandwidth", 0}};
  return s;
}

}  // namespace sae::train::testing
