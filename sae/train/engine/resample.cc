#include "sae/train/engine/resample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>

#include "sae/base/random.h"
#include "sae/kernels/row_ops.h"
#include "sae/model/init.h"

namespace sae::train {
namespace {
constexpr std::uint64_t kStream = 0x7265;
constexpr double kEncoderShare = 0.2;
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
Resampler<T>::Resampler(const Context& context) : context_(context) {}

template <class T>
bool Resampler<T>::Due(std::int64_t step) const {
  const std::int64_t total = config::TotalSteps(context_.config);
  for (std::int64_t eighth = 1; eighth <= 4; ++eighth) {
    if (step == total * eighth / 8 && step > 0) return true;
  }
  return false;
}

template <class T>
absl::Status Resampler<T>::Cumulate(const Batch<T>& batch, const T* x_hat) {
  const std::int64_t d = context_.d_out;
  std::vector<double> own(Size(batch.tokens()));
  const double exponent = context_.config.sae.resample_exponent;
  for (std::int64_t b = 0; b < batch.tokens(); ++b) {
    double squares = 0;
    for (std::int64_t j = 0; j < d; ++j) {
      const double e = static_cast<double>(x_hat[b * d + j]) -
                       static_cast<double>(batch.scale() * batch.y()[b * d + j]);
      squares += e * e;
    }
    own[Size(b)] = std::pow(squares, exponent / 2);
  }
  rows_ = batch.x();
  cumulative_ = own;
  if (context_.replicas() > 1) {
    cumulative_.resize(own.size() * Size(context_.replicas()));
    x_.resize(cumulative_.size() * Size(context_.d));
    SAE_RETURN_IF_ERROR(context_.mesh.replicas().AllGather(std::span<const double>(own),
                                                           std::span<double>(cumulative_)));
    SAE_RETURN_IF_ERROR(context_.mesh.replicas().AllGather(
        std::span<const T>(batch.x(), own.size() * Size(context_.d)), std::span<T>(x_)));
    rows_ = x_.data();
  }
  std::partial_sum(cumulative_.begin(), cumulative_.end(), cumulative_.begin());
  return absl::OkStatus();
}

template <class T>
absl::StatusOr<double> Resampler<T>::MeanAliveNorm(const std::vector<std::int64_t>& since_fired,
                                                   const model::Parameters<T>& p) {
  std::array<double, 3> sums{};  // norms of the living, how many, how many dead
  for (std::int64_t i = 0; i < p.count; ++i) {
    if (since_fired[Size(i)] >= DeadAfter(context_.config)) {
      sums[2] += 1;
      continue;
    }
    sums[0] += std::sqrt(kernels::SumOfSquares(p.d, p.w_enc.data() + i * p.d));
    sums[1] += 1;
  }
  SAE_RETURN_IF_ERROR(context_.communicator.AllReduceSum(std::span<double>(sums)));
  if (sums[2] == 0 || sums[1] == 0) return 0;
  // Rounded, so that the order of the sum over ranks does not reach the weights.
  return model::RoundedScale(sums[0] / sums[1]);
}

template <class T>
void Resampler<T>::Renew(std::int64_t latent, const T* x, T scale, double encoder_norm,
                         model::Parameters<T>* p, optim::Moments<T>* moments) const {
  const std::int64_t d = context_.d;
  std::vector<double> direction(Size(d));
  double squares = 0;
  for (std::int64_t j = 0; j < d; ++j) {
    const double v = static_cast<double>(scale * x[j]) -
                     (context_.options.pre_bias ? static_cast<double>(p->b_dec[Size(j)]) : 0);
    direction[Size(j)] = v;
    squares += v * v;
  }
  if (!(squares > 0)) return;
  const double inverse = 1 / std::sqrt(squares);
  for (std::int64_t j = 0; j < d; ++j) {
    const double unit = direction[Size(j)] * inverse;
    p->w_dec[Size(latent * d + j)] = static_cast<T>(unit);
    p->w_enc[Size(latent * d + j)] = static_cast<T>(kEncoderShare * encoder_norm * unit);
  }
  const LatentRange owned = context_.Owned();
  const auto clear = [&](model::Parameters<T>& q) {
    if (latent < owned.first || latent >= owned.last) return;
    const std::int64_t i = latent - owned.first;
    if (moments->reduced == nullptr) {
      std::fill_n(q.w_dec.begin() + i * d, d, T(0));
      std::fill_n(q.w_enc.begin() + i * d, d, T(0));
    }
    q.b_enc[Size(i)] = 0;
    if (!q.b_mag.empty()) q.b_mag[Size(i)] = q.r_mag[Size(i)] = 0;
  };
  clear(moments->m);
  clear(moments->v);
  if (moments->reduced != nullptr && latent >= owned.first && latent < owned.last)
    moments->reduced->ClearRow(latent - owned.first);
  p->b_enc[Size(latent)] = 0;
  if (!p->b_mag.empty()) p->b_mag[Size(latent)] = p->r_mag[Size(latent)] = 0;
}

template <class T>
absl::StatusOr<std::int64_t> Resampler<T>::Run(std::int64_t step, const Batch<T>& batch,
                                               const T* x_hat,
                                               std::vector<std::int64_t>* since_fired,
                                               model::Parameters<T>* parameters,
                                               optim::Moments<T>* moments) {
  SAE_ASSIGN_OR_RETURN(const double norm, MeanAliveNorm(*since_fired, *parameters));
  if (!(norm > 0)) return 0;
  SAE_RETURN_IF_ERROR(Cumulate(batch, x_hat));
  const double total = cumulative_.back();
  std::int64_t renewed = 0;
  const std::uint64_t seed = HashCounter(static_cast<std::uint64_t>(context_.config.train.seed),
                                         kStream, static_cast<std::uint64_t>(step));
  for (std::int64_t i = 0; total > 0 && i < parameters->count; ++i) {
    if ((*since_fired)[Size(i)] < DeadAfter(context_.config)) continue;
    Random random(HashCounter(seed, static_cast<std::uint64_t>(context_.shard.Global(i))));
    const auto at =
        std::upper_bound(cumulative_.begin(), cumulative_.end(), random.Uniform() * total);
    const auto last = static_cast<std::int64_t>(cumulative_.size()) - 1;
    const std::int64_t token = std::min<std::int64_t>(at - cumulative_.begin(), last);
    Renew(i, rows_ + token * context_.d, batch.scale(), norm, parameters, moments);
    (*since_fired)[Size(i)] = 0;
    ++renewed;
  }
  x_ = {};
  SAE_RETURN_IF_ERROR(context_.communicator.AllReduceSum(std::span<std::int64_t>(&renewed, 1)));
  return renewed;
}

template class Resampler<float>;
template class Resampler<double>;

}  // namespace sae::train
