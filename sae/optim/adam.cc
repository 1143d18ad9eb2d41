#include "sae/optim/adam.h"

namespace sae::optim {

template <class T>
kernels::RowParameters<T> RowsOf(model::Parameters<T>& p, Moments<T>& a) {
  kernels::RowParameters<T> rows;
  rows.w_enc = p.w_enc.data();
  rows.w_dec = p.w_dec.data();
  rows.w_enc_m = a.m.w_enc.data();
  rows.w_enc_v = a.v.w_enc.data();
  rows.w_dec_m = a.m.w_dec.data();
  rows.w_dec_v = a.v.w_dec.data();
  return rows;
}

template <class T>
void UpdateFromDense(const kernels::Adam& adam, bool unit, const T* g_enc, T* g_dec,
                     model::Parameters<T>& p, Moments<T>& a, ThreadPool& pool) {
  pool.ParallelFor(p.count, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = i * p.d_out;
      T* dec = p.w_dec.data() + at;
      T* m = a.m.w_dec.data() + at;
      // As in kernels::RowUpdate: a decoder row without gradient and momentum stays as it is.
      const bool any = !kernels::AllZero(p.d_out, g_dec + at);
      if (unit) kernels::ProjectRow(p.d_out, dec, g_dec + at);
      kernels::AdamRow(p.d_out, adam, g_dec + at, dec, m, a.v.w_dec.data() + at);
      if (unit && (any || !kernels::AllZero(p.d_out, m))) kernels::RenormaliseRow(p.d_out, dec);
      const std::int64_t e = i * p.d;
      kernels::AdamRow(p.d, adam, g_enc + e, p.w_enc.data() + e, a.m.w_enc.data() + e,
                       a.v.w_enc.data() + e);
    }
  });
}

template <class T>
void UpdateVector(const kernels::Adam& adam, double gradient_scale, T* p, T* m, T* v, T* g,
                  std::int64_t count, ThreadPool& pool) {
  const auto scale = static_cast<T>(gradient_scale);
  pool.ParallelFor(count, [&](std::int64_t begin, std::int64_t end, int) {
    if (scale != T(1)) kernels::Scale(end - begin, scale, g + begin);
    kernels::AdamRow(end - begin, adam, g + begin, p + begin, m + begin, v + begin);
  });
}

#define SAE_INSTANTIATE(T)                                                                     \
  template kernels::RowParameters<T> RowsOf(model::Parameters<T>&, Moments<T>&);               \
  template void UpdateFromDense(const kernels::Adam&, bool, const T*, T*,                      \
                                model::Parameters<T>&, Moments<T>&, ThreadPool&);              \
  template void UpdateVector(const kernels::Adam&, double, T*, T*, T*, T*, std::int64_t,       \
                             ThreadPool&)
SAE_INSTANTIATE(float);
SAE_INSTANTIATE(double);
#undef SAE_INSTANTIATE

}  // namespace sae::optim
