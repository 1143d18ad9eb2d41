#include "sae/train/engine/squared_error.h"

#include "sae/kernels/latent_gradient.h"
#include "sae/kernels/token_pass.h"
#include "sae/kernels/vector_ops.h"

namespace sae::train {

template <class T>
absl::StatusOr<double> SquaredError(const Context& context, const ErrorParts<T>& parts,
                                    const typename Reconstructor<T>::Input& codes, T* x_hat, T* g,
                                    T* u, Phases* phases) {
  const Batch<T>& batch = *parts.batch;
  const std::int64_t d = context.d_out;
  const auto factor = static_cast<T>(2 * parts.rho);
  const bool alone = context.communicator.size() == 1 && !context.options.fixed_reduction;
  if (alone && codes.finite) {
    PhaseTimer timer(phases->decode);
    kernels::FillRows(codes.bias, batch.tokens(), d, x_hat, context.pool);
    parts.skip->Add(batch, *parts.w_skip, x_hat);
    kernels::TokenPassInput<T> pass;
    pass.codes = codes.codes;
    pass.f = codes.f;
    pass.decoder = codes.decoder;
    pass.row_scale = codes.row_scale;
    pass.target = batch.y();
    pass.target_scale = batch.scale();
    pass.factor = factor;
    pass.d = d;
    return parts.rho * kernels::TokenPass(pass, x_hat, g, u, context.pool);
  }
  SAE_RETURN_IF_ERROR(parts.reconstructor->Run(codes, x_hat, phases));
  double loss = 0;
  {
    PhaseTimer timer(phases->decode);
    parts.skip->Add(batch, *parts.w_skip, x_hat);
    loss = parts.rho * kernels::Residual(batch.y(), batch.scale(), x_hat, batch.tokens(), d, factor,
                                         g, context.pool);
  }
  PhaseTimer timer(phases->backward);
  kernels::LatentGradient(*codes.codes, codes.decoder, g, d, u, context.pool, codes.row_scale);
  return loss;
}

#define SAE_INSTANTIATE(T)                                                                  \
  template absl::StatusOr<double> SquaredError(const Context&, const ErrorParts<T>&,        \
                                               const typename Reconstructor<T>::Input&, T*, \
                                               T*, T*, Phases*)
SAE_INSTANTIATE(float);
SAE_INSTANTIATE(double);
#undef SAE_INSTANTIATE

}  // namespace sae::train
