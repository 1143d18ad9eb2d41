#include "sae/train/engine/gated.h"

#include <cmath>

#include "sae/train/engine/dense_gated.h"
#include "sae/train/engine/squared_error.h"

namespace sae::train {
namespace {
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
Gated<T>::Gated(const Context& context, const model::Parameters<T>& parameters)
    : context_(context),
      parameters_(parameters),
      lower_(Size(context.shard.count)),
      scale_(lower_.size()),
      hat_(Size(context.options.columns ? 0 : context.batch() * context.d_out)),
      a_(hat_.size()) {}

template <class T>
absl::Status Gated<T>::Encode(const kernels::EncodeInput<T>& input, bool,
                              kernels::EncodeWorkspace<T>* workspace, Entries<T>* out,
                              Phases* phases) {
  PhaseTimer timer(phases->encode);
  for (std::size_t i = 0; i < lower_.size(); ++i) {
    lower_[i] = -parameters_.b_enc[i];
    scale_[i] = std::exp(parameters_.r_mag[i]);
  }
  out->finite =
      kernels::EncodeAbove(input, lower_.data(), T(0), workspace, &out->codes, context_.pool);
  out->weighted = true;
  const kernels::Codes<T>& codes = out->codes;
  out->weights.resize(Size(codes.nnz()));
  gate_.resize(Size(codes.nnz()));
  context_.pool.ParallelFor(codes.nnz(), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t at = begin; at < end; ++at) {
      const auto e = Size(at);
      const auto i = Size(codes.ids[e]);
      gate_[e] = codes.values[e] + parameters_.b_enc[i];
      const T m = scale_[i] * codes.values[e] + parameters_.b_mag[i];
      out->weights[e] = m > T(0) ? m : T(0);
    }
  });
  return absl::OkStatus();
}

template <class T>
absl::StatusOr<double> Gated<T>::GateLoss(const BackwardInput<T>& in, const Entries<T>& entries,
                                          Phases* phases) {
  v_.resize(gate_.size());
  Phases inner;
  if (in.columns != nullptr) {
    typename ColumnDecoder<T>::Input c;
    c.batch = in.batch;
    c.w = parameters_.w_dec.data();
    c.bias = parameters_.b_dec.data();
    c.rho = in.rho;
    const absl::StatusOr<double> of_gate =
        in.columns->SecondLoss(c, gate_.data(), v_.data(), &inner);
    phases->aux += inner.select + inner.decode + inner.backward;
    phases->exchange += inner.exchange;
    return of_gate;
  }
  typename Reconstructor<T>::Input r;
  r.codes = &entries.codes;
  r.f = gate_.data();
  r.range = {0, context_.shard.count};
  r.decoder = parameters_.w_dec.data();
  r.row_scale = in.row_scale;
  r.bias = parameters_.b_dec.data();
  r.finite = entries.finite;
  const ErrorParts<T> parts{in.reconstructor, in.skip, in.batch, &parameters_.w_skip, in.rho};
  const absl::StatusOr<double> loss =
      SquaredError(context_, parts, r, hat_.data(), a_.data(), v_.data(), &inner);
  phases->aux += inner.decode + inner.backward;
  phases->exchange += inner.exchange;
  return loss;
}

template <class T>
void Gated<T>::LatentBackward(const BackwardInput<T>& in, std::int64_t latent, Entries<T>* entries,
                              LatentGradients<T>* gradients) const {
  const auto i = Size(latent);
  const kernels::LatentIndex& index = entries->index;
  const T share = static_cast<T>(in.lambda / static_cast<double>(in.batch->tokens()));
  double d_gate = 0, d_mag = 0, d_scale = 0, d_h = 0;
  for (std::int64_t q = index.indptr[i]; q < index.indptr[i + 1]; ++q) {
    const auto e = Size(index.entries[Size(q)]);
    const T dm = entries->weights[e] > T(0) ? entries->u[e] : T(0);
    const T dpi = v_[e] + share;
    const T dh = scale_[i] * dm + dpi;
    entries->delta[e] = dh;
    d_gate += static_cast<double>(dpi);
    d_mag += static_cast<double>(dm);
    d_scale += static_cast<double>(dm) * static_cast<double>(scale_[i] * entries->codes.values[e]);
    d_h += static_cast<double>(dh);
  }
  gradients->b_enc[i] = static_cast<T>(d_gate);
  gradients->b_mag[i] = static_cast<T>(d_mag);
  gradients->r_mag[i] = static_cast<T>(d_scale);
  gradients->delta_sums[i] = static_cast<T>(d_h);
}

template <class T>
absl::StatusOr<PenaltyTerms> Gated<T>::Backward(const BackwardInput<T>& in, Entries<T>* entries,
                                                LatentGradients<T>* gradients, Phases* phases) {
  PenaltyTerms out;
  SAE_ASSIGN_OR_RETURN(out.replicated, GateLoss(in, *entries, phases));
  PhaseTimer timer(phases->backward);
  entries->delta.resize(entries->u.size());
  context_.pool.ParallelFor(context_.shard.count, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) LatentBackward(in, i, entries, gradients);
  });
  out.local = in.lambda * PenaltySum(in, *entries) / static_cast<double>(in.batch->tokens());
  return out;
}

template <class T>
double Gated<T>::PenaltySum(const BackwardInput<T>&, const Entries<T>& entries) const {
  double sum = 0;
  for (std::int64_t e = 0; e < entries.codes.nnz(); ++e) sum += static_cast<double>(gate_[Size(e)]);
  return sum;
}

template <class T>
std::unique_ptr<DenseRule<T>> Gated<T>::CreateDenseRule() {
  return std::make_unique<DenseGated<T>>(context_, parameters_);
}

template class Gated<float>;
template class Gated<double>;

}  // namespace sae::train
