#include "sae/train/engine/relu.h"

#include <array>
#include <cmath>
#include <numeric>
#include <span>

#include "sae/kernels/row_step.h"
#include "sae/train/engine/dense_relu.h"

namespace sae::train {
namespace {
constexpr double kPowerFloor = 1e-12;
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
Relu<T>::Relu(const Context& context)
    : context_(context),
      anneal_(config::TotalSteps(context.config), context.config.sae.p_end) {}

template <class T>
absl::Status Relu<T>::Encode(const kernels::EncodeInput<T>& input, bool,
                             kernels::EncodeWorkspace<T>* workspace, Entries<T>* out,
                             Phases* phases) {
  PhaseTimer timer(phases->encode);
  out->weighted = false;
  out->finite = kernels::EncodeAbove(input, static_cast<const T*>(nullptr), T(0), workspace,
                                     &out->codes, context_.pool);
  return absl::OkStatus();
}

template <class T>
double Relu<T>::SumOfPowers(const Entries<T>& entries, double p) const {
  double sum = 0;
  for (std::int64_t e = 0; e < entries.codes.nnz(); ++e)
    sum += std::pow(static_cast<double>(entries.codes.values[Size(e)]), p);
  return sum;
}

template <class T>
double Relu<T>::PenaltySum(const BackwardInput<T>& in, const Entries<T>& entries) const {
  const kernels::Codes<T>& codes = entries.codes;
  if (anneals()) return SumOfPowers(entries, anneal_.p());
  double sum = 0;
  for (std::int64_t e = 0; e < codes.nnz(); ++e) {
    const double norm = in.norms == nullptr ? 1 : static_cast<double>(in.norms[codes.ids[Size(e)]]);
    sum += static_cast<double>(codes.values[Size(e)]) * norm;
  }
  return sum;
}

template <class T>
absl::Status Relu<T>::ReducePowers(double now, double next, std::int64_t tokens, Phases* phases) {
  const double all = static_cast<double>(tokens * context_.replicas());
  power_sums_[0] = now / all;
  power_sums_[1] = next / all;
  PhaseTimer timer(phases->exchange);
  return context_.mesh.world().AllReduceSum(std::span<double>(power_sums_));
}

template <class T>
double Relu<T>::Slope(double f) const {
  const double p = anneal_.p();
  return p * std::pow(f + kPowerFloor, p - 1);
}

template <class T>
std::unique_ptr<DenseRule<T>> Relu<T>::CreateDenseRule() {
  return std::make_unique<DenseRelu<T>>(context_, *this);
}

// power_sums_, over all ranks. They steer the coefficient, so a fixed reduction adds them by blocks.
template <class T>
absl::Status Relu<T>::SumPowers(const BackwardInput<T>& in, const Entries<T>& entries,
                                Phases* phases) {
  const std::array<double, 2> exponents = {anneal_.p(), anneal_.next_p()};
  if (!context_.options.fixed_reduction) {
    return ReducePowers(SumOfPowers(entries, exponents[0]), SumOfPowers(entries, exponents[1]),
                        entries.codes.tokens, phases);
  }
  const double tokens = static_cast<double>(entries.codes.tokens);
  const kernels::LatentIndex& index = entries.index;
  latent_sums_.resize(Size(context_.shard.count));
  for (std::size_t e = 0; e < exponents.size(); ++e) {
    context_.pool.ParallelFor(context_.shard.count, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        double sum = 0;
        for (std::int64_t q = index.indptr[Size(i)]; q < index.indptr[Size(i) + 1]; ++q) {
          const T f = entries.codes.values[Size(index.entries[Size(q)])];
          sum += std::pow(static_cast<double>(f), exponents[e]);
        }
        latent_sums_[Size(i)] = sum;
      }
    });
    SAE_ASSIGN_OR_RETURN(const double total, in.reconstructor->Total(latent_sums_, phases));
    power_sums_[e] = total / tokens;
  }
  return absl::OkStatus();
}

template <class T>
absl::StatusOr<PenaltyTerms> Relu<T>::Backward(const BackwardInput<T>& in, Entries<T>* entries,
                                               LatentGradients<T>* gradients, Phases* phases) {
  const kernels::Codes<T>& codes = entries->codes;
  const double tokens = static_cast<double>(codes.tokens);
  PenaltyTerms out;
  if (anneals()) {
    SAE_RETURN_IF_ERROR(SumPowers(in, *entries, phases));
  }
  PhaseTimer timer(phases->backward);
  const double lambda = in.lambda * (anneals() ? anneal_.factor() : 1);
  const double share = lambda / tokens;
  entries->delta.resize(entries->u.size());
  context_.pool.ParallelFor(codes.nnz(), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t e = begin; e < end; ++e) {
      double slope = share;
      if (anneals()) {
        slope *= Slope(static_cast<double>(codes.values[Size(e)]));
      } else if (in.norms != nullptr) {
        slope *= static_cast<double>(in.norms[codes.ids[Size(e)]]);
      }
      entries->delta[Size(e)] = entries->u[Size(e)] + static_cast<T>(slope);
    }
  });
  kernels::SumByLatent(entries->index, entries->delta.data(), gradients->delta_sums.data(),
                       context_.pool);
  gradients->b_enc = gradients->delta_sums;
  if (!gradients->norm.empty()) {
    kernels::SumByLatent(entries->index, codes.values.data(), gradients->norm.data(),
                         context_.pool);
    for (T& v : gradients->norm) v = static_cast<T>(share * static_cast<double>(v));
  }
  if (anneals()) {
    out.replicated = lambda * power_sums_[0];
  } else {
    out.local = share * PenaltySum(in, *entries);
  }
  return out;
}

template <class T>
void Relu<T>::Commit() {
  if (anneals()) anneal_.Observe(power_sums_[0], power_sums_[1]);
}

template <class T>
void Relu<T>::AddState(model::State* state) {
  if (anneals()) anneal_.AddState(state);
}

template <class T>
void Relu<T>::AddMetrics(std::map<std::string, double>* out) const {
  if (anneals()) (*out)["penalty_p"] = anneal_.p();
}

template class Relu<float>;
template class Relu<double>;

}  // namespace sae::train
