#pragma once
// Activations with known features: x = sum_i a_i F_i + bias, F_i unit rows, a_i the feature's
// magnitude where it fires. The parts: synthetic_dictionary.h, synthetic_firing.h (probabilities,
// correlation, hierarchy), synthetic_magnitudes.h; what to make: synthetic_options.h. Row r is
// f(seed, r): order, batches and Seek do not matter. One thread at a time. Errors: INVALID_ARGUMENT
// for options that make no sense.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sae/base/status.h"
#include "sae/data/activation_source.h"
#include "sae/data/synthetic_firing.h"
#include "sae/data/synthetic_magnitudes.h"
#include "sae/data/synthetic_options.h"

namespace sae::data {

class SyntheticSource final : public ActivationSource {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<SyntheticSource>> Create(
      const SyntheticOptions& options);

  std::int64_t d() const override { return options_.d; }
  [[nodiscard]] absl::Status Next(std::span<float> rows) override;
  std::int64_t Position() const override { return position_; }
  [[nodiscard]] absl::Status Seek(std::int64_t position) override;

  /// The true dictionary [features, d], the bias [d] and the firing probabilities [features].
  const std::vector<float>& dictionary() const { return dictionary_; }
  const std::vector<float>& bias() const { return bias_; }
  const std::vector<double>& probabilities() const { return firing_.probabilities(); }
  /// Parent of each feature, -1 = none.
  const std::vector<std::int64_t>& parents() const { return hierarchy_.parents(); }
  const SyntheticFiring& firing() const { return firing_; }
  const SyntheticMagnitudes& magnitudes() const { return magnitudes_; }
  /// The true code of a row: amplitudes [features], 0 where a feature does not fire.
  std::vector<float> Amplitudes(std::int64_t row) const;

 private:
  explicit SyntheticSource(const SyntheticOptions& options);
  void FillRow(std::int64_t row, std::span<float> out) const;

  const SyntheticOptions options_;
  const std::vector<float> dictionary_, bias_;
  const SyntheticFiring firing_;
  const SyntheticMagnitudes magnitudes_;
  const SyntheticHierarchy hierarchy_;
  std::int64_t position_ = 0;
};

}  // namespace sae::data
