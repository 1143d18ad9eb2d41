// Initial values: input scale, directions, encoder scale, thresholds.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "sae/base/random.h"
#include "sae/kernels/gemm.h"
#include "sae/model/init.h"
#include "sae/train/engine/jumprelu.h"
#include "sae/train/engine/sae_engine.h"

namespace sae::train {
namespace {
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

// Inputs and targets of the sample apart.
template <class T>
absl::StatusOr<typename SaeEngine<T>::Sample> SaeEngine<T>::Split(
    std::span<const float> sample) const {
  const std::int64_t d = context_.d, width = row_width();
  Sample out;
  out.rows = static_cast<std::int64_t>(sample.size()) / width;
  if (out.rows < 1 || static_cast<std::int64_t>(sample.size()) % width != 0) {
    return absl::InvalidArgumentError(absl::StrCat("initial sample: ", sample.size(),
                                                   " values are not rows of width ", width));
  }
  out.x.resize(Size(out.rows * d));
  out.y.resize(Size(out.rows * (width - d)));
  for (std::int64_t b = 0; b < out.rows; ++b) {
    const auto row = sample.begin() + b * width;
    std::copy_n(row, d, out.x.begin() + b * d);
    std::copy_n(row + d, width - d, out.y.begin() + b * (width - d));
  }
  return out;
}

// S, the loss constants and b_dec, and the first directions.
template <class T>
absl::Status SaeEngine<T>::MeasureInput(const Sample& sample) {
  model::SampleOptions options;
  options.input_scale = context_.options.input_scale;
  if (context_.options.transcoder) {
    options.targets = sample.y;
    options.d_out = context_.d_out;
  }
  SAE_ASSIGN_OR_RETURN(const model::SampleStatistics s,
                       model::MeasureSample(sample.x, context_.d, options));
  input_scale_ = s.input_scale;
  sample_variance_ = s.variance;
  batch_.set_input_scale(input_scale_);
  model::InitialiseParameters(static_cast<std::uint64_t>(context_.config.train.seed),
                              context_.shard, s.bias, !context_.options.transcoder, &parameters_);
  return absl::OkStatus();
}

template <class T>
absl::Status SaeEngine<T>::Initialise(std::span<const float> sample) {
  SAE_ASSIGN_OR_RETURN(const Sample parts, Split(sample));
  SAE_RETURN_IF_ERROR(MeasureInput(parts));
  if (context_.options.penalty == model::Penalty::kL1Norm ||
      context_.options.penalty == model::Penalty::kTanh) {
    // April 2024: decoder rows start short, encoder rows with them.
    constexpr double kNorm = 0.1;
    for (auto* w : {&parameters_.w_dec, &parameters_.w_enc}) {
      if (context_.options.decoder != model::DecoderMode::kFree) break;
      for (T& v : *w) v *= static_cast<T>(kNorm);
    }
  }
  if (columns_ != nullptr) {
    SAE_RETURN_IF_ERROR(columns_->ToColumns(parameters_.w_dec.data()));
    SAE_RETURN_IF_ERROR(columns_->MeasureNorms(parameters_.w_dec.data(), &phases_));
  }
  SAE_RETURN_IF_ERROR(UpdateNorms());
  // With Adam a longer encoder row learns more slowly; parity with OpenAI's start is for its preset.
  if (context_.options.ranked() && !context_.options.transcoder &&
      context_.config.train.preset == "openai") {
    SAE_RETURN_IF_ERROR(ScaleEncoder());
  }
  if (context_.options.architecture == model::Architecture::kJumpRelu) {
    SAE_RETURN_IF_ERROR(InitialiseThresholds(parts));
  }
  if (controller_) {
    const config::SaeConfig& sae = context_.config.sae;
    const double given = context_.options.architecture == model::Architecture::kJumpRelu
                             ? sae.l0_coefficient
                             : sae.l1_coefficient;
    controller_->Calibrate(given > 0 ? given : InitialPenalty());
  }
  return absl::OkStatus();
}

// Where the controlled coefficient starts: of the size that balances the reconstruction of targets
// of this variance by target_l0 codes; the controller does the rest.
template <class T>
double SaeEngine<T>::InitialPenalty() const {
  const double target = context_.config.sae.target_l0;
  const double variance = sample_variance_;
  const double scale = LossScale() * static_cast<double>(batch_size_);  // 1 for losses summed over d
  const bool steps = context_.options.penalty == model::Penalty::kL0;
  // A code's square is about variance / L0: that is what one more step is worth; the slope of a
  // penalty on f compares with its root.
  const double code = variance / target;
  return scale * (steps ? 0.05 * code : 0.5 * std::sqrt(code));
}

// OpenAI's initial encoder scale: so that 256 random unit vectors come back with norm 1 in the
// mean. The mean is rounded, so that the order of sums over ranks does not reach the weights.
template <class T>
absl::Status SaeEngine<T>::ScaleEncoder() {
  constexpr std::int64_t kVectors = 256;
  const std::int64_t d = context_.d;
  const std::uint64_t seed =
      HashCounter(static_cast<std::uint64_t>(context_.config.train.seed), 1, 1);
  std::vector<double> direction(Size(d));
  double sum = 0;
  std::vector<float> rows(Size(std::min(batch_size_, kVectors) * row_width()));
  for (std::int64_t first = 0; first < kVectors; first += batch_size_) {
    const std::int64_t all = std::min(batch_size_, kVectors - first);
    batch_.Load(OwnPart(std::span<const float>(rows).first(Size(all * row_width()))));
    const std::int64_t tokens = batch_.tokens(), before = first + all * replica() / replicas();
    for (std::int64_t b = 0; b < tokens; ++b) {
      model::UnitDirection(seed, before + b, direction);
      for (std::int64_t j = 0; j < d; ++j) {
        const double bias = context_.options.pre_bias ? parameters_.b_dec[Size(j)] : 0;
        batch_.own_x()[b * d + j] = static_cast<T>(input_scale_ * (direction[Size(j)] + bias));
      }
    }
    SAE_RETURN_IF_ERROR(Encode(true));
    SAE_RETURN_IF_ERROR(main_.Forward(MainInput(1), entries_, &phases_));
    for (std::int64_t b = 0; b < tokens; ++b) {
      double squares = 0;
      for (std::int64_t j = 0; j < d; ++j) {
        const double r = static_cast<double>(main_.x_hat()[b * d + j]) -
                         static_cast<double>(parameters_.b_dec[Size(j)]);
        squares += r * r;
      }
      sum += std::sqrt(squares);
    }
  }
  if (replicas() > 1) {
    SAE_RETURN_IF_ERROR(mesh_->replicas().AllReduceSum(std::span<double>(&sum, 1)));
  }
  const double rho = model::RoundedScale(sum / static_cast<double>(kVectors));
  if (!(rho > 0) || !std::isfinite(rho)) return absl::OkStatus();
  for (T& w : parameters_.w_enc) w = static_cast<T>(static_cast<double>(w) / rho);
  return absl::OkStatus();
}

// theta_i = the (1 - L0 / n) quantile of z_i over the sample, eps = a tenth of the median standard
// deviation of z, unless they are given; the same at every number of ranks.
template <class T>
absl::Status SaeEngine<T>::InitialiseThresholds(const Sample& sample) {
  constexpr std::int64_t kLatents = 256;
  constexpr double kDefaultL0 = 32, kSmallestBandwidth = 1e-6;
  const config::SaeConfig& sae = context_.config.sae;
  const std::int64_t d = context_.d, count = context_.shard.count;
  const std::int64_t rows = std::min(sample.rows, model::kMedianRows);
  std::vector<T> x(sample.x.begin(), sample.x.begin() + rows * d), z(Size(kLatents * rows));
  for (std::int64_t b = 0; context_.options.input_scale == model::InputScale::kLayerNorm && b < rows;
       ++b) {
    const std::span<T> row(x.data() + b * d, Size(d));
    model::NormaliseRow(std::span<const T>(row), row);
  }
  kernels::FoldBias(parameters_.w_enc.data(), parameters_.b_enc.data(),
                    context_.options.pre_bias ? parameters_.b_dec.data() : nullptr, count, d,
                    c_.data(), context_.pool);
  const double l0 = sae.target_l0 > 0 ? sae.target_l0 : kDefaultL0;
  const double share = std::min(0.5, l0 / static_cast<double>(context_.shard.latents));
  std::vector<double> theta, deviation;
  for (std::int64_t first = 0; first < count; first += kLatents) {
    const std::int64_t latents = std::min(kLatents, count - first);
    kernels::Gemm(rows, latents, d, x.data(), d, parameters_.w_enc.data() + first * d, d, z.data(),
                  latents, context_.pool);
    for (std::int64_t e = 0; e < rows * latents; ++e)
      z[Size(e)] = batch_.scale() * z[Size(e)] + c_[Size(first + e % latents)];
    const model::ThresholdSample part = model::ThresholdQuantiles(
        std::span<const T>(z.data(), Size(rows * latents)), latents, share);
    theta.insert(theta.end(), part.threshold.begin(), part.threshold.end());
    deviation.insert(deviation.end(), part.deviation.begin(), part.deviation.end());
  }
  std::vector<double> all(Size(context_.shard.latents));
  SAE_RETURN_IF_ERROR(
      context_.communicator.AllGather(std::span<const double>(deviation), std::span<double>(all)));
  const double bandwidth =
      std::max(kSmallestBandwidth, sae.bandwidth.value_or(model::BandwidthOf(std::move(all))));
  if (sae.threshold_init) {
    std::fill(theta.begin(), theta.end(), *sae.threshold_init);
  } else {
    // tanh's window is wide on purpose; rows start short, and so does z.
    const bool tanh = context_.options.penalty == model::Penalty::kTanh;
    model::FloorThresholds(tanh ? kSmallestBandwidth : bandwidth, &theta);
  }
  auto* jump = dynamic_cast<JumpRelu<T>*>(activation_.get());
  if (jump != nullptr) jump->set_bandwidth(bandwidth);
  const bool log = context_.options.threshold == model::ThresholdParameter::kLog;
  for (std::int64_t i = 0; i < count; ++i) {
    const double value = theta[Size(i)];
    parameters_.threshold[Size(i)] = static_cast<T>(log ? std::log(value) : value);
  }
  return absl::OkStatus();
}

template class SaeEngine<float>;
template class SaeEngine<double>;

}  // namespace sae::train
