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

// The value that `rank` others of the row exceed; reorders the row.
template <class T>
double UpperQuantile(std::span<T> row, std::int64_t rank) {
  const auto at = row.begin() + std::min<std::ptrdiff_t>(rank, std::ssize(row) - 1);
  std::nth_element(row.begin(), at, row.end(), std::greater<T>());
  return static_cast<double>(*at);
}

template <class T>
double StandardDeviation(std::span<const T> row) {
  double sum = 0, squares = 0;
  for (const T v : row) sum += static_cast<double>(v);
  const double mean = sum / static_cast<double>(row.size());
  for (const T v : row) squares += std::pow(static_cast<double>(v) - mean, 2);
  return std::sqrt(squares / static_cast<double>(row.size()));
}

}  // namespace

// S, the loss constants and b_dec, from the sample's inputs and targets.
template <class T>
absl::Status SaeEngine<T>::MeasureInput(std::span<const float> sample) {
  const std::int64_t d = context_.d, width = row_width();
  const auto rows = static_cast<std::int64_t>(sample.size()) / width;
  if (rows < 1 || static_cast<std::int64_t>(sample.size()) % width != 0) {
    return absl::InvalidArgumentError(absl::StrCat("initial sample: ", sample.size(),
                                                   " values are not rows of width ", width));
  }
  std::vector<float> x(Size(rows * d)), y;
  for (std::int64_t b = 0; b < rows; ++b)
    std::copy_n(sample.begin() + b * width, d, x.begin() + b * d);
  if (context_.options.input_scale == model::InputScale::kLayerNorm) {
    std::vector<double> mean(Size(rows)), deviation(Size(rows));
    NormaliseRows(rows, d, x.data(), mean.data(), deviation.data(), context_.pool);
  }
  SAE_ASSIGN_OR_RETURN(model::SampleStatistics s, model::MeasureSample(x, d));
  double scale = s.input_scale;
  if (context_.options.input_scale == model::InputScale::kMeanNorm) {
    double norms = 0;
    for (std::int64_t b = 0; b < rows; ++b)
      norms += std::sqrt(kernels::SumOfSquares(d, x.data() + b * d));
    scale = norms / static_cast<double>(rows) / std::sqrt(static_cast<double>(d));
  } else if (context_.options.input_scale != model::InputScale::kRms) {
    scale = 1;
  }
  std::vector<double> bias = s.bias;
  for (double& v : bias) v *= s.input_scale / scale;
  sample_variance_ = s.variance * std::pow(s.input_scale / scale, 2);
  if (context_.options.transcoder) {
    const std::int64_t d_out = context_.d_out;
    bias.assign(Size(d_out), 0);
    double squares = 0;
    for (std::int64_t b = 0; b < rows; ++b) {
      for (std::int64_t j = 0; j < d_out; ++j) {
        const double v = static_cast<double>(sample[Size(b * width + d + j)]) / scale;
        bias[Size(j)] += v / static_cast<double>(rows);
        squares += v * v / static_cast<double>(rows);
      }
    }
    for (const double m : bias) squares -= m * m;
    if (!std::isfinite(squares)) {
      return absl::InvalidArgumentError(
          "initial sample: a target is not finite: drop such rows when the store is made");
    }
    sample_variance_ = std::max(0.0, squares);
  }
  input_scale_ = scale;
  batch_.set_input_scale(scale);
  model::InitialiseParameters(static_cast<std::uint64_t>(context_.config.train.seed),
                              context_.shard, bias, !context_.options.transcoder, &parameters_);
  return absl::OkStatus();
}

template <class T>
absl::Status SaeEngine<T>::Initialise(std::span<const float> sample) {
  SAE_RETURN_IF_ERROR(MeasureInput(sample));
  if (context_.options.penalty == model::Penalty::kL1Norm ||
      context_.options.penalty == model::Penalty::kTanh) {
    // April 2024: decoder rows start short, encoder rows with them.
    constexpr double kNorm = 0.1;
    for (auto* w : {&parameters_.w_dec, &parameters_.w_enc}) {
      if (context_.options.decoder != model::DecoderMode::kFree) break;
      for (T& v : *w) v *= static_cast<T>(kNorm);
    }
  }
  UpdateNorms();
  if (context_.options.ranked() && !context_.options.transcoder) {
    SAE_RETURN_IF_ERROR(ScaleEncoder());
  }
  if (context_.options.architecture == model::Architecture::kJumpRelu) {
    SAE_RETURN_IF_ERROR(InitialiseThresholds(sample));
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
  return scale * (steps ? 0.5 * code : 0.5 * std::sqrt(code));
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
    const std::int64_t tokens = std::min(batch_size_, kVectors - first);
    batch_.Load(std::span<const float>(rows).first(Size(tokens * row_width())));
    for (std::int64_t b = 0; b < tokens; ++b) {
      model::UnitDirection(seed, first + b, direction);
      for (std::int64_t j = 0; j < d; ++j) {
        const double bias = context_.options.pre_bias ? parameters_.b_dec[Size(j)] : 0;
        batch_.x()[b * d + j] = static_cast<T>(input_scale_ * (direction[Size(j)] + bias));
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
  const double rho = model::RoundedScale(sum / static_cast<double>(kVectors));
  if (!(rho > 0) || !std::isfinite(rho)) return absl::OkStatus();
  for (T& w : parameters_.w_enc) w = static_cast<T>(static_cast<double>(w) / rho);
  return absl::OkStatus();
}

// theta_i = the (1 - L0 / n) quantile of z_i over the sample, eps = a tenth of the median standard
// deviation of z, unless they are given; the same at every number of ranks.
template <class T>
absl::Status SaeEngine<T>::InitialiseThresholds(std::span<const float> sample) {
  constexpr std::int64_t kLatents = 256;
  constexpr double kDefaultL0 = 32, kSmallestTheta = 1e-6;
  const config::SaeConfig& sae = context_.config.sae;
  const std::int64_t d = context_.d, count = context_.shard.count;
  const auto rows = std::min<std::int64_t>(static_cast<std::int64_t>(sample.size()) / row_width(),
                                           model::kMedianRows);
  std::vector<T> x(Size(rows * d)), z(Size(kLatents * rows));
  std::vector<double> mean(Size(rows)), deviation(Size(rows));
  for (std::int64_t b = 0; b < rows; ++b) {
    std::copy_n(sample.begin() + b * row_width(), d, x.begin() + b * d);
  }
  if (context_.options.input_scale == model::InputScale::kLayerNorm)
    NormaliseRows(rows, d, x.data(), mean.data(), deviation.data(), context_.pool);
  kernels::FoldBias(parameters_.w_enc.data(), parameters_.b_enc.data(),
                    context_.options.pre_bias ? parameters_.b_dec.data() : nullptr, count, d,
                    c_.data(), context_.pool);
  const double l0 = sae.target_l0 > 0 ? sae.target_l0 : kDefaultL0;
  const double share = std::min(0.5, l0 / static_cast<double>(context_.shard.latents));
  const auto rank = static_cast<std::int64_t>(share * static_cast<double>(rows));
  std::vector<double> theta(Size(count)), sd(Size(count));
  for (std::int64_t first = 0; first < count; first += kLatents) {
    const std::int64_t latents = std::min(kLatents, count - first);
    kernels::Gemm(latents, rows, d, parameters_.w_enc.data() + first * d, d, x.data(), d, z.data(),
                  rows, context_.pool);
    context_.pool.ParallelFor(latents, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t j = begin; j < end; ++j) {
        const auto i = Size(first + j);
        T* row = z.data() + j * rows;
        for (std::int64_t b = 0; b < rows; ++b) row[b] = batch_.scale() * row[b] + c_[i];
        theta[i] = UpperQuantile(std::span<T>(row, Size(rows)), rank);
        sd[i] = StandardDeviation(std::span<const T>(row, Size(rows)));
      }
    });
  }
  std::vector<double> all(Size(context_.shard.latents));
  SAE_RETURN_IF_ERROR(
      context_.communicator.AllGather(std::span<const double>(sd), std::span<double>(all)));
  std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2),
                   all.end());
  const double bandwidth = sae.bandwidth.value_or(0.1 * all[all.size() / 2]);
  auto* jump = dynamic_cast<JumpRelu<T>*>(activation_.get());
  if (jump != nullptr) jump->set_bandwidth(bandwidth > 0 ? bandwidth : 1e-3);
  const bool log = context_.options.threshold == model::ThresholdParameter::kLog;
  for (std::int64_t i = 0; i < count; ++i) {
    const double value =
        std::max(kSmallestTheta, sae.threshold_init ? *sae.threshold_init : theta[Size(i)]);
    parameters_.threshold[Size(i)] = static_cast<T>(log ? std::log(value) : value);
  }
  return absl::OkStatus();
}

template class SaeEngine<float>;
template class SaeEngine<double>;

}  // namespace sae::train
