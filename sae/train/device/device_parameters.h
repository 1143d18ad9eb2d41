#pragma once
// Parameters, moments and counters of one shard in device memory, and their way from and to the
// tensors of a model::State on the host (names as checkpoints have them). Weights of the two
// matrices are split float32 (split_float.h); everything else of one value a latent or column is
// float32 with float32 moments. Moments may be of fewer latents: those that this replica owns. Owns
// its memory; addresses stay. Not thread-safe. Errors: of the runtime; NOT_FOUND for a tensor that
// the state lacks.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sae/kernels/device/rows.h"
#include "sae/model/state.h"
#include "sae/train/device/device_buffer.h"

namespace sae::train {

/// One matrix [rows, d].
struct DeviceMatrix {
  std::string name;
  std::int64_t rows = 0, d = 0;
  DeviceBuffer<std::uint16_t> hi;
  DeviceBuffer<std::int16_t> lo;
  DeviceBuffer<std::uint8_t> m, v;         ///< in the format of the state's tensors
  DeviceBuffer<float> m_scales, v_scales;  ///< int8 only
  DeviceBuffer<float> ema;
  kernels::device::MomentFormat format = kernels::device::MomentFormat::kF32;

  kernels::device::WeightRows weights() const { return {hi.data(), lo.data()}; }
  kernels::device::MutableWeightRows mutable_weights() const { return {hi.data(), lo.data()}; }
  kernels::device::MomentRows moments() const {
    return {format, m.data(), v.data(), m_scales.data(), v_scales.data()};
  }
};

/// One vector of parameters, or a matrix that is updated like one.
struct DeviceVector {
  std::string name;
  DeviceBuffer<float> p, m, v, ema;
  std::int64_t count() const { return p.count(); }
};

class DeviceParameters {
 public:
  /// Allocates what `state` has. `state` is read for names and shapes only.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<DeviceParameters>> Create(
      DeviceRuntime& runtime, const model::State& state);

  /// Both wait for the stream.
  [[nodiscard]] absl::Status Upload(const model::State& state, void* stream);
  [[nodiscard]] absl::Status Download(const model::State& state, void* stream);

  DeviceMatrix& w_enc() { return w_enc_; }
  DeviceMatrix& w_dec() { return w_dec_; }
  /// Null where the architecture has none. Names: "b_enc", "b_dec", "b_mag", "r_mag", "threshold"
  /// (or "log_threshold"), "W_skip" [d_out, d].
  DeviceVector* Find(const std::string& name);
  std::vector<DeviceVector>& vectors() { return vectors_; }
  bool has_ema() const { return w_enc_.ema.count() > 0; }
  /// [latents of the shard]
  DeviceBuffer<std::int64_t>& since_fired() { return since_fired_; }

 private:
  enum class Way { kUpload, kDownload };
  explicit DeviceParameters(DeviceRuntime& runtime) : runtime_(runtime) {}
  absl::Status Transfer(const model::State& state, Way way, void* stream);
  absl::Status TransferWeights(const model::StateTensor& tensor, DeviceMatrix* matrix, Way way,
                               void* stream);
  absl::Status Copy(const model::StateTensor& tensor, void* device, std::int64_t bytes, Way way,
                    void* stream);

  DeviceRuntime& runtime_;
  DeviceMatrix w_enc_, w_dec_;
  std::vector<DeviceVector> vectors_;
  DeviceBuffer<std::int64_t> since_fired_;
};

}  // namespace sae::train
