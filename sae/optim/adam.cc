#include "sae/optim/adam.h"

#include <algorithm>

namespace sae::optim {
namespace {

model::ParameterShape ShapeOf(model::ParameterShape shape, const MomentStorage& storage) {
  shape.matrices = storage.format == kernels::MomentFormat::kF32;
  return shape;
}

/// Moments of one row: where they lie, or read into `buffer` (2 d) and written back at the end.
template <class T>
class RowMoments {
 public:
  RowMoments(Moments<T>& a, kernels::MomentMatrix matrix, std::int64_t latent, std::int64_t t,
             std::int64_t d, T* buffer)
      : reduced_(a.reduced.get()), matrix_(matrix), latent_(latent), t_(t) {
    if (reduced_ == nullptr) {
      const bool encoder = matrix == kernels::MomentMatrix::kEncoder;
      m = (encoder ? a.m.w_enc : a.m.w_dec).data() + latent * d;
      v = (encoder ? a.v.w_enc : a.v.w_dec).data() + latent * d;
      return;
    }
    m = buffer;
    v = buffer + d;
    kernels::LoadMoments(reduced_->view(), matrix, latent, m, v);
  }
  ~RowMoments() {
    if (reduced_ != nullptr) kernels::StoreMoments(reduced_->view(), matrix_, latent_, t_, m, v);
  }
  RowMoments(const RowMoments&) = delete;
  RowMoments& operator=(const RowMoments&) = delete;

  T* m = nullptr;
  T* v = nullptr;

 private:
  const MatrixMoments* reduced_;
  kernels::MomentMatrix matrix_;
  std::int64_t latent_, t_;
};

}  // namespace

template <class T>
Moments<T>::Moments(const model::ParameterShape& shape, const MomentStorage& storage)
    : m(ShapeOf(shape, storage)), v(ShapeOf(shape, storage)) {
  if (storage.format == kernels::MomentFormat::kF32) return;
  reduced = std::make_unique<MatrixMoments>(shape, storage);
}

template <class T>
kernels::RowParameters<T> RowsOf(model::Parameters<T>& p, Moments<T>& a) {
  kernels::RowParameters<T> rows;
  rows.w_enc = p.w_enc.data();
  rows.w_dec = p.w_dec.data();
  rows.w_enc_m = a.m.w_enc.data();
  rows.w_enc_v = a.v.w_enc.data();
  rows.w_dec_m = a.m.w_dec.data();
  rows.w_dec_v = a.v.w_dec.data();
  if (a.reduced != nullptr) rows.reduced = &a.reduced->view();
  return rows;
}

template <class T>
void UpdateFromDense(const kernels::Adam& adam, std::int64_t t, bool unit, const T* g_enc,
                     T* g_dec, model::Parameters<T>& p, Moments<T>& a, ThreadPool& pool) {
  using kernels::MomentMatrix;
  const std::int64_t width = 2 * std::max(p.d, p.d_out);
  if (a.reduced != nullptr) a.rows.resize(static_cast<std::size_t>(pool.size() * width));
  pool.ParallelFor(p.count, [&](std::int64_t begin, std::int64_t end, int worker) {
    T* const buffer = a.rows.data() + (a.reduced != nullptr ? worker * width : 0);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = i * p.d_out;
      T* dec = p.w_dec.data() + at;
      // As in kernels::RowUpdate: a decoder row without gradient and momentum stays as it is.
      const bool any = !kernels::AllZero(p.d_out, g_dec + at);
      if (unit) kernels::ProjectRow(p.d_out, dec, g_dec + at);
      {
        const RowMoments<T> row(a, MomentMatrix::kDecoder, i, t, p.d_out, buffer);
        kernels::AdamRow(p.d_out, adam, g_dec + at, dec, row.m, row.v);
        if (unit && (any || !kernels::AllZero(p.d_out, row.m)))
          kernels::RenormaliseRow(p.d_out, dec);
      }
      const std::int64_t e = i * p.d;
      const RowMoments<T> row(a, MomentMatrix::kEncoder, i, t, p.d, buffer);
      kernels::AdamRow(p.d, adam, g_enc + e, p.w_enc.data() + e, row.m, row.v);
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
  template struct Moments<T>;                                                                  \
  template kernels::RowParameters<T> RowsOf(model::Parameters<T>&, Moments<T>&);               \
  template void UpdateFromDense(const kernels::Adam&, std::int64_t, bool, const T*, T*,        \
                                model::Parameters<T>&, Moments<T>&, ThreadPool&);              \
  template void UpdateVector(const kernels::Adam&, double, T*, T*, T*, T*, std::int64_t,       \
                             ThreadPool&)
SAE_INSTANTIATE(float);
SAE_INSTANTIATE(double);
#undef SAE_INSTANTIATE

}  // namespace sae::optim
