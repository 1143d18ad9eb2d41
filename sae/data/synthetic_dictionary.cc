// The overlap's gradient needs no N x N Gram matrix: with M = F^T F (d x d), sum_{j != i} (F_i .
// F_j) F_j = F_i M - |F_i|^2 F_i, and the sum of squared overlaps is |M|^2 - sum_i |F_i|^4.
#include "sae/data/synthetic_dictionary.h"

#include <algorithm>
#include <cmath>

#include "sae/base/parallel.h"
#include "sae/base/random.h"
#include "sae/data/synthetic_streams.h"
#include "sae/kernels/gemm.h"

namespace sae::data {
namespace {

double Dot(const float* a, const float* b, std::int64_t d) {
  double sum = 0;
  for (std::int64_t i = 0; i < d; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

void Normalise(float* v, std::int64_t d, double norm) {
  const double scale = norm / std::sqrt(std::max(Dot(v, v, d), 1e-300));
  for (std::int64_t i = 0; i < d; ++i) v[i] = static_cast<float>(v[i] * scale);
}

/// Adam on the matrix F, with the usual constants.
class Orthogonaliser {
 public:
  Orthogonaliser(std::vector<float>& f, std::int64_t n, std::int64_t d)
      : f_(f),
        n_(n),
        d_(d),
        transposed_(f.size()),
        gram_(static_cast<std::size_t>(d * d)),
        gradient_(f.size()),
        m_(f.size()),
        v_(f.size()) {}

  void Step(double lr) {
    for (std::int64_t i = 0; i < n_; ++i) {
      for (std::int64_t c = 0; c < d_; ++c) transposed_[At(c * n_ + i)] = f_[At(i * d_ + c)];
    }
    kernels::Gemm(d_, d_, n_, transposed_.data(), n_, transposed_.data(), n_, gram_.data(), d_,
                  pool_);
    kernels::Gemm(n_, d_, d_, f_.data(), d_, gram_.data(), d_, gradient_.data(), d_, pool_);
    ++t_;
    const double c1 = 1 - std::pow(0.9, t_), c2 = 1 - std::pow(0.999, t_);
    for (std::int64_t i = 0; i < n_; ++i) {
      const double norm = Dot(&f_[At(i * d_)], &f_[At(i * d_)], d_);
      const auto own = static_cast<float>(4 * (static_cast<double>(n_) * (norm - 1) - norm));
      for (std::size_t e = At(i * d_); e < At((i + 1) * d_); ++e) {
        const float g = 4 * gradient_[e] + own * f_[e];
        m_[e] = 0.9F * m_[e] + 0.1F * g;
        v_[e] = 0.999F * v_[e] + 0.001F * g * g;
        f_[e] -= static_cast<float>(lr * (m_[e] / c1) / (std::sqrt(v_[e] / c2) + 1e-8));
      }
    }
  }

 private:
  static std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

  std::vector<float>& f_;
  const std::int64_t n_, d_;
  std::vector<float> transposed_, gram_, gradient_, m_, v_;
  int t_ = 0;
  ThreadPool pool_{1};
};

}  // namespace

std::vector<float> MakeDictionary(const SyntheticOptions& o) {
  std::vector<float> out(static_cast<std::size_t>(o.features * o.d));
  if (o.axes) {
    for (std::int64_t i = 0; i < o.features; ++i) out[static_cast<std::size_t>(i * o.d + i)] = 1;
    return out;
  }
  Random random(HashCounter(o.seed, 0, kDictionaryStream));
  for (float& v : out) v = static_cast<float>(random.Normal());
  for (std::int64_t i = 0; i < o.features; ++i) {
    float* row = out.data() + i * o.d;
    Normalise(row, o.d, 1);
    for (std::int64_t j = 0; o.features <= o.d && j < i; ++j) {
      const float* other = out.data() + j * o.d;
      const double overlap = Dot(row, other, o.d);
      for (std::int64_t c = 0; c < o.d; ++c) row[c] -= static_cast<float>(overlap * other[c]);
    }
    Normalise(row, o.d, 1);
  }
  if (o.features <= o.d || o.orthogonalise_steps == 0) return out;
  Orthogonaliser adam(out, o.features, o.d);
  for (std::int64_t t = 0; t < o.orthogonalise_steps; ++t) adam.Step(o.orthogonalise_lr);
  for (std::int64_t i = 0; i < o.features; ++i) Normalise(out.data() + i * o.d, o.d, 1);
  return out;
}

std::vector<float> MakeBias(const SyntheticOptions& o) {
  std::vector<float> out(static_cast<std::size_t>(o.d));
  Random random(HashCounter(o.seed, 0, kBiasStream));
  for (float& v : out) v = static_cast<float>(random.Normal());
  Normalise(out.data(), o.d, o.bias_norm);
  return out;
}

double MeanSquaredOverlap(const std::vector<float>& f, std::int64_t d) {
  const auto width = static_cast<std::size_t>(d);
  const std::size_t n = f.size() / width;
  std::vector<double> gram(width * width);
  double own = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float* row = &f[i * width];
    const double norm = Dot(row, row, d);
    own += norm * norm;
    for (std::size_t a = 0; a < width; ++a) {
      for (std::size_t b = 0; b < width; ++b)
        gram[a * width + b] += static_cast<double>(row[a]) * row[b];
    }
  }
  double all = 0;
  for (const double v : gram) all += v * v;
  return (all - own) / static_cast<double>(n);
}

}  // namespace sae::data
