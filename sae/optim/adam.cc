#include "sae/optim/adam.h"

namespace sae::optim {

template <class T>
kernels::RowParameters<T> RowsOf(model::Parameters<T>& p, Moments<T>& a) {
  kernels::RowParameters<T> rows;
  rows.w_enc = p.w_enc.data();
  rows.w_dec = p.w_dec.data();
  rows.b_enc = p.b_enc.data();
  rows.w_enc_m = a.m.w_enc.data();
  rows.w_enc_v = a.v.w_enc.data();
  rows.w_dec_m = a.m.w_dec.data();
  rows.w_dec_v = a.v.w_dec.data();
  rows.b_enc_m = a.m.b_enc.data();
  rows.b_enc_v = a.v.b_enc.data();
  return rows;
}

template <class T>
void UpdateFromDense(const kernels::Adam& adam, model::Parameters<T>& g, model::Parameters<T>& p,
                     Moments<T>& a, ThreadPool& pool) {
  const std::int64_t d = p.d;
  pool.ParallelFor(p.count, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = i * d;
      T* dec = p.w_dec.data() + at;
      T* g_dec = g.w_dec.data() + at;
      // As in kernels::RowUpdate: a decoder row without gradient and momentum stays as it is.
      const bool moves = !kernels::AllZero(d, g_dec) || !kernels::AllZero(d, a.m.w_dec.data() + at);
      kernels::ProjectRow(d, dec, g_dec);
      kernels::AdamRow(d, adam, g_dec, dec, a.m.w_dec.data() + at, a.v.w_dec.data() + at);
      if (moves) kernels::RenormaliseRow(d, dec);
      kernels::AdamRow(d, adam, g.w_enc.data() + at, p.w_enc.data() + at, a.m.w_enc.data() + at,
                       a.v.w_enc.data() + at);
    }
    kernels::AdamRow(end - begin, adam, g.b_enc.data() + begin, p.b_enc.data() + begin,
                     a.m.b_enc.data() + begin, a.v.b_enc.data() + begin);
  });
}

template <class T>
void UpdateDecoderBias(const kernels::Adam& adam, const T* gradient, model::Parameters<T>& p,
                       Moments<T>& a) {
  kernels::AdamRow(p.d, adam, gradient, p.b_dec.data(), a.m.b_dec.data(), a.v.b_dec.data());
}

#define SAE_INSTANTIATE(T)                                                               \
  template kernels::RowParameters<T> RowsOf(model::Parameters<T>&, Moments<T>&);         \
  template void UpdateFromDense(const kernels::Adam&, model::Parameters<T>&,             \
                                model::Parameters<T>&, Moments<T>&, ThreadPool&);        \
  template void UpdateDecoderBias(const kernels::Adam&, const T*, model::Parameters<T>&, \
                                  Moments<T>&)
SAE_INSTANTIATE(float);
SAE_INSTANTIATE(double);
#undef SAE_INSTANTIATE

}  // namespace sae::optim
