#include "sae/train/engine/jumprelu.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sae/kernels/row_ops.h"
#include "sae/kernels/vector_ops.h"

namespace sae::train {
namespace {
constexpr double kDenseFrequency = 0.1;  // a latent that fires more often is penalised
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
JumpRelu<T>::JumpRelu(const Context& context, const model::Parameters<T>& parameters)
    : context_(context),
      parameters_(parameters),
      theta_(Size(context.shard.count)),
      lower_(theta_.size()),
      penalty_(theta_.size()) {}

template <class T>
void JumpRelu<T>::UpdateThetas() {
  const bool log = context_.options.threshold == model::ThresholdParameter::kLog;
  for (std::size_t i = 0; i < theta_.size(); ++i)
    theta_[i] = log ? std::exp(parameters_.threshold[i]) : parameters_.threshold[i];
}

template <class T>
absl::Status JumpRelu<T>::Encode(const kernels::EncodeInput<T>& input, bool training,
                                 kernels::EncodeWorkspace<T>* workspace, Entries<T>* out,
                                 Phases* phases) {
  PhaseTimer timer(phases->encode);
  UpdateThetas();
  const T half = training ? static_cast<T>(bandwidth_ / 2) : T(0);
  for (std::size_t i = 0; i < theta_.size(); ++i) lower_[i] = std::max(T(0), theta_[i] - half);
  out->finite =
      kernels::EncodeAbove(input, lower_.data(), T(0), workspace, &out->codes, context_.pool);
  out->weighted = true;
  const kernels::Codes<T>& codes = out->codes;
  out->weights.resize(Size(codes.nnz()));
  for (std::int64_t e = 0; e < codes.nnz(); ++e) {
    const T z = codes.values[Size(e)];
    out->weights[Size(e)] = z > theta_[Size(codes.ids[Size(e)])] ? z : T(0);
  }
  return absl::OkStatus();
}

// The coefficient of sum 1[z > theta]; the quadratic penalty's is negative below its target.
template <class T>
double JumpRelu<T>::StepCoefficient(const BackwardInput<T>& in) const {
  switch (context_.options.penalty) {
    case model::Penalty::kL0Quadratic: {
      const double target = context_.config.sae.target_l0;
      return 2 * in.lambda * (in.mean_l0 / target - 1) / target;
    }
    case model::Penalty::kTanh: return 0;
    default: return in.lambda;
  }
}

// delta and theta's gradient of one latent, its entries in token order.
template <class T>
void JumpRelu<T>::LatentBackward(const BackwardInput<T>& in, std::int64_t latent,
                                 Entries<T>* entries, LatentGradients<T>* gradients) {
  const auto i = Size(latent);
  const kernels::LatentIndex& index = entries->index;
  const double tokens = static_cast<double>(in.batch->tokens());
  const double theta = static_cast<double>(theta_[i]);
  const double norm = in.norms != nullptr ? static_cast<double>(in.norms[i]) : 1;
  const double c = context_.config.sae.tanh_scale;
  const double pre = tanh() ? context_.config.sae.pre_act_coefficient * norm / tokens : 0;
  double window = 0, window_u = 0, delta_sum = 0, sum_tanh = 0, sum_norm = 0;
  double above = 0, reached = 0, excess = 0;  // z > theta; z >= theta; sum of z - theta over those
  for (std::int64_t q = index.indptr[i]; q < index.indptr[i + 1]; ++q) {
    const auto e = Size(index.entries[Size(q)]);
    const double z = static_cast<double>(entries->codes.values[e]);
    const double f = static_cast<double>(entries->weights[e]);
    double u = static_cast<double>(entries->u[e]);
    if (tanh()) {
      const double tau = std::tanh(c * f * norm);
      sum_tanh += tau;
      sum_norm += in.lambda * c * f * (1 - tau * tau) / tokens;
      u += in.lambda / tokens * c * norm * (1 - tau * tau);
    }
    if (2 * std::abs(z - theta) < bandwidth_) {
      window += 1;
      window_u += u;
    }
    double delta = 0;
    if (f > 0) {
      delta = u;
      above += 1;
    }
    if (z >= theta) {
      reached += 1;
      excess += z - theta;
      delta += pre;  // taken back from the share that every token gets
    }
    entries->delta[e] = static_cast<T>(delta);
    delta_sum += static_cast<double>(entries->delta[e]);
  }
  const double penalty_before = penalty_[i];  // tanh: sum over all tokens of theta - z
  const double frequency = frequency_.empty() ? above / tokens : frequency_[i];
  const double dense = context_.config.sae.frequency_coefficient;
  const double coefficient = StepCoefficient(in) + (frequency > kDenseFrequency ? dense : 0);
  double d_theta = -(theta * window_u + coefficient * window / tokens) / bandwidth_;
  penalty_[i] = dense * std::max(0.0, frequency - kDenseFrequency);
  if (context_.options.penalty == model::Penalty::kL0) penalty_[i] += in.lambda * above / tokens;
  if (tanh()) {
    // sum over tokens of ReLU(theta - z) = sum (theta - z) over all, minus it over z >= theta.
    const double below = penalty_before + excess;
    d_theta += pre * (tokens - reached);
    penalty_[i] += in.lambda * sum_tanh / tokens + pre * below;
    if (in.norms != nullptr) {
      gradients->norm[i] = static_cast<T>(
          sum_norm + context_.config.sae.pre_act_coefficient / tokens * below);
    }
    gradients->dense_delta[i] = static_cast<T>(-pre);
    delta_sum -= pre * tokens;
  }
  const bool log = context_.options.threshold == model::ThresholdParameter::kLog;
  gradients->threshold[i] = static_cast<T>(log ? theta * d_theta : d_theta);
  gradients->delta_sums[i] = static_cast<T>(delta_sum);
}

// frequency_ over all replicas, where a penalty looks at it.
template <class T>
absl::Status JumpRelu<T>::MeasureFrequencies(const Entries<T>& entries, std::int64_t tokens) {
  if (context_.replicas() == 1 || !(context_.config.sae.frequency_coefficient > 0))
    return absl::OkStatus();
  const kernels::LatentIndex& index = entries.index;
  frequency_.assign(theta_.size(), 0.0);
  for (std::size_t i = 0; i < theta_.size(); ++i) {
    for (std::int64_t q = index.indptr[i]; q < index.indptr[i + 1]; ++q) {
      if (entries.weights[Size(index.entries[Size(q)])] > T(0))
        frequency_[i] += 1 / static_cast<double>(tokens);
    }
  }
  return context_.MeanOverReplicas(std::span<double>(frequency_));
}

template <class T>
absl::StatusOr<PenaltyTerms> JumpRelu<T>::Backward(const BackwardInput<T>& in, Entries<T>* entries,
                                                   LatentGradients<T>* gradients, Phases* phases) {
  SAE_RETURN_IF_ERROR(MeasureFrequencies(*entries, in.batch->tokens()));
  PhaseTimer timer(phases->backward);
  entries->delta.resize(entries->u.size());
  if (tanh()) {
    // penalty_ first holds sum over tokens of theta - z.
    const std::int64_t d = context_.d;
    const auto tokens = in.batch->tokens();
    x_sum_.resize(Size(d));
    kernels::ColumnSums(in.batch->x(), tokens, d, x_sum_.data(), context_.pool);
    context_.pool.ParallelFor(context_.shard.count, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        const T* w = parameters_.w_enc.data() + i * d;
        double z = static_cast<double>(in.batch->scale()) * kernels::DotDouble(d, w, x_sum_.data());
        double bias = static_cast<double>(parameters_.b_enc[Size(i)]);
        if (context_.options.pre_bias)
          bias -= kernels::DotDouble(d, w, parameters_.b_dec.data());
        z += static_cast<double>(tokens) * bias;
        penalty_[Size(i)] =
            static_cast<double>(tokens) * static_cast<double>(theta_[Size(i)]) - z;
      }
    });
  }
  context_.pool.ParallelFor(context_.shard.count, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) LatentBackward(in, i, entries, gradients);
  });
  gradients->b_enc = gradients->delta_sums;
  PenaltyTerms out;
  out.local = std::accumulate(penalty_.begin(), penalty_.end(), 0.0);
  if (context_.options.penalty == model::Penalty::kL0Quadratic) {
    const double off = in.mean_l0 / context_.config.sae.target_l0 - 1;
    out.replicated = in.lambda * off * off;
  }
  return out;
}

template <class T>
double JumpRelu<T>::PenaltySum(const BackwardInput<T>& in, const Entries<T>& entries) const {
  if (!tanh()) return static_cast<double>(entries.active());
  double sum = 0;
  for (std::int64_t e = 0; e < entries.codes.nnz(); ++e) {
    const double norm =
        in.norms != nullptr ? static_cast<double>(in.norms[entries.codes.ids[Size(e)]]) : 1;
    sum += std::tanh(context_.config.sae.tanh_scale *
                     static_cast<double>(entries.weights[Size(e)]) * norm);
  }
  return sum;
}

template <class T>
void JumpRelu<T>::AddState(model::State* state) {
  state->scalars.push_back({"bandwidth", &bandwidth_});
}

template <class T>
void JumpRelu<T>::AddMetrics(std::map<std::string, double>* out) const {
  const auto below = std::count_if(theta_.begin(), theta_.end(), [&](T theta) {
    return static_cast<double>(theta) < bandwidth_ / 2;
  });
  // Where theta < eps / 2 the window reaches below 0: watched, for such thresholds can collapse.
  (*out)["threshold_below_half_bandwidth"] =
      static_cast<double>(below) / static_cast<double>(theta_.size());
}

template class JumpRelu<float>;
template class JumpRelu<double>;

}  // namespace sae::train
