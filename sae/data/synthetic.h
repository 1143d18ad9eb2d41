#pragma once
// Activations with known features (the elementary generator of sparse autoencoder toys, Sharkey et
// al. 2022): x = sum_i a_i F_i + bias, a_i = 1[fire with p_i] * ReLU(mu + sigma * N(0, 1)), F_i
// unit rows. Frequencies follow Zipf's law from p_max down to p_min. Row r is f(seed, r): order,
// batches and Seek do not matter. One thread at a time. Errors: INVALID_ARGUMENT for options that
// make no sense.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sae/base/status.h"
#include "sae/data/activation_source.h"

namespace sae::data {

struct SyntheticOptions {
  std::int64_t d = 64;
  std::int64_t features = 256;  ///< N; orthonormal when N <= d, else random unit directions
  std::uint64_t seed = 0;
  double p_max = 0.1;    ///< firing probability of the most frequent feature
  double p_min = 0.005;  ///< and of the rarest
  double zipf = 0.5;     ///< exponent s of rank^-s, mapped affinely onto [p_min, p_max]
  double mu = 1.0;
  double sigma = 0.25;
  double bias_norm = 0.5;
};

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
  const std::vector<double>& probabilities() const { return probabilities_; }
  /// The true code of a row: amplitudes [features].
  std::vector<float> Amplitudes(std::int64_t row) const;

 private:
  explicit SyntheticSource(const SyntheticOptions& options);
  void FillRow(std::int64_t row, std::span<float> out) const;

  const SyntheticOptions options_;
  std::vector<float> dictionary_, bias_;
  std::vector<double> probabilities_;
  std::int64_t position_ = 0;
};

/// "d=64,features=256,rows=50000,seed=0" with any of d, features, rows, seed, p_max, p_min, zipf,
/// mu, sigma, bias_norm. An unknown key is an error that names the nearest.
struct SyntheticSpec {
  SyntheticOptions options;
  std::int64_t rows = 50000;
};
[[nodiscard]] absl::StatusOr<SyntheticSpec> ParseSyntheticSpec(const std::string& text);

}  // namespace sae::data
