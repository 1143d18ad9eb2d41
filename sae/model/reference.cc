#include "sae/model/reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sae/base/check.h"

namespace sae::model {
namespace {

std::size_t At(std::int64_t row, std::int64_t width, std::int64_t column) {
  return static_cast<std::size_t>(row * width + column);
}

double Dot(const double* a, const double* b, std::int64_t d) {
  double sum = 0;
  for (std::int64_t j = 0; j < d; ++j) sum += a[j] * b[j];
  return sum;
}

std::int64_t Rows(const ReferenceParameters& p, std::span<const double> x) {
  SAE_CHECK(p.d > 0 && static_cast<std::int64_t>(x.size()) % p.d == 0);
  return static_cast<std::int64_t>(x.size()) / p.d;
}

// W_dec^T f, plus b_dec where `bias` is not null.
std::vector<double> Decode(const ReferenceParameters& p, const std::vector<double>& f,
                           const double* bias) {
  const std::int64_t rows = static_cast<std::int64_t>(f.size()) / p.n;
  std::vector<double> out(static_cast<std::size_t>(rows * p.d), 0.0);
  for (std::int64_t b = 0; b < rows; ++b) {
    for (std::int64_t j = 0; j < p.d; ++j) {
      double sum = bias != nullptr ? bias[j] : 0;
      for (std::int64_t i = 0; i < p.n; ++i) sum += f[At(b, p.n, i)] * p.w_dec[At(i, p.d, j)];
      out[At(b, p.d, j)] = sum;
    }
  }
  return out;
}

// The generic backward: G = dL/dx_hat [B, d], codes f and delta = dL/dz [B, n]; adds to `g`.
void Backward(const ReferenceParameters& p, std::span<const double> x, const std::vector<double>& G,
              const std::vector<double>& f, const std::vector<double>& delta,
              ReferenceParameters& g) {
  const std::int64_t rows = Rows(p, x);
  for (std::int64_t b = 0; b < rows; ++b) {
    for (std::int64_t i = 0; i < p.n; ++i) {
      const double fi = f[At(b, p.n, i)];
      const double di = delta[At(b, p.n, i)];
      g.b_enc[static_cast<std::size_t>(i)] += di;
      for (std::int64_t j = 0; j < p.d; ++j) {
        g.w_dec[At(i, p.d, j)] += G[At(b, p.d, j)] * fi;
        g.w_enc[At(i, p.d, j)] += di * (x[At(b, p.d, j)] - p.b_dec[static_cast<std::size_t>(j)]);
        g.b_dec[static_cast<std::size_t>(j)] -= di * p.w_enc[At(i, p.d, j)];
      }
    }
    for (std::int64_t j = 0; j < p.d; ++j) g.b_dec[static_cast<std::size_t>(j)] += G[At(b, p.d, j)];
  }
}

// delta = d_i . G_b + direct where f > 0, else 0.
std::vector<double> Delta(const ReferenceParameters& p, const std::vector<double>& G,
                          const std::vector<double>& f, double direct) {
  const std::int64_t rows = static_cast<std::int64_t>(f.size()) / p.n;
  std::vector<double> delta(f.size(), 0.0);
  for (std::int64_t b = 0; b < rows; ++b) {
    for (std::int64_t i = 0; i < p.n; ++i) {
      if (f[At(b, p.n, i)] > 0)
        delta[At(b, p.n, i)] = Dot(&p.w_dec[At(i, p.d, 0)], &G[At(b, p.d, 0)], p.d) + direct;
    }
  }
  return delta;
}

// Per token the k largest of z, those above 0; latents outside `mask` count as 0.
std::vector<double> SelectedCodes(const ReferenceParameters& p, const std::vector<double>& z,
                                  std::int64_t k, const std::vector<bool>* mask) {
  const std::int64_t rows = static_cast<std::int64_t>(z.size()) / p.n;
  std::vector<double> codes(z.size(), 0.0);
  std::vector<double> row(static_cast<std::size_t>(p.n));
  for (std::int64_t b = 0; b < rows; ++b) {
    for (std::int64_t i = 0; i < p.n; ++i) {
      const bool in = mask == nullptr || (*mask)[static_cast<std::size_t>(i)];
      row[static_cast<std::size_t>(i)] = in ? z[At(b, p.n, i)] : 0.0;
    }
    for (const std::int64_t i : ReferenceTopK(row, k))
      codes[At(b, p.n, i)] = std::max(row[static_cast<std::size_t>(i)], 0.0);
  }
  return codes;
}

struct AuxTarget {
  std::vector<double> target;  // t [B, d]
  double variance = 0;         // V
};

AuxTarget MakeAuxTarget(const ReferenceParameters& p, std::span<const double> x,
                        std::span<const double> x_hat, std::span<const double> b_dec) {
  const std::int64_t rows = Rows(p, x);
  AuxTarget out;
  out.target.resize(x.size());
  std::vector<double> mean(static_cast<std::size_t>(p.d), 0.0);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t j = i % static_cast<std::size_t>(p.d);
    out.target[i] = x[i] - x_hat[i] + b_dec[j];
    mean[j] += out.target[i] / static_cast<double>(rows);
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double c = out.target[i] - mean[i % static_cast<std::size_t>(p.d)];
    out.variance += c * c / static_cast<double>(x.size());
  }
  return out;
}

void AddAux(const ReferenceParameters& p, std::span<const double> x, const std::vector<double>& z,
            const ReferenceTopKOptions& o, ReferenceResult& r) {
  const std::span<const double> held_x_hat =
      o.frozen_x_hat.empty() ? std::span<const double>(r.x_hat) : o.frozen_x_hat;
  const std::span<const double> held_b_dec =
      o.frozen_b_dec.empty() ? std::span<const double>(p.b_dec) : o.frozen_b_dec;
  r.aux_codes = SelectedCodes(p, z, o.aux_k, &o.dead);
  const AuxTarget t = MakeAuxTarget(p, x, held_x_hat, held_b_dec);
  if (!(t.variance > 0) || !std::isfinite(t.variance)) return;
  const std::vector<double> e_hat = Decode(p, r.aux_codes, p.b_dec.data());
  std::vector<double> G(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double ea = e_hat[i] - t.target[i];
    r.aux += o.aux_scale * ea * ea / t.variance;
    G[i] = 2 * o.aux_scale * ea / t.variance;
  }
  Backward(p, x, G, r.aux_codes, Delta(p, G, r.aux_codes, 0), r.gradient);
}

}  // namespace

ReferenceParameters ZerosLike(const ReferenceParameters& p) {
  return {p.n,
          p.d,
          std::vector<double>(p.w_enc.size()),
          std::vector<double>(p.b_enc.size()),
          std::vector<double>(p.w_dec.size()),
          std::vector<double>(p.b_dec.size())};
}

std::vector<double> ReferencePreActivations(const ReferenceParameters& p,
                                            std::span<const double> x) {
  const std::int64_t rows = Rows(p, x);
  std::vector<double> z(static_cast<std::size_t>(rows * p.n));
  for (std::int64_t b = 0; b < rows; ++b) {
    for (std::int64_t i = 0; i < p.n; ++i) {
      double sum = p.b_enc[static_cast<std::size_t>(i)];
      for (std::int64_t j = 0; j < p.d; ++j) {
        sum += p.w_enc[At(i, p.d, j)] * (x[At(b, p.d, j)] - p.b_dec[static_cast<std::size_t>(j)]);
      }
      z[At(b, p.n, i)] = sum;
    }
  }
  return z;
}

std::vector<std::int64_t> ReferenceTopK(std::span<const double> row, std::int64_t k) {
  std::vector<std::int64_t> order(row.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return row[static_cast<std::size_t>(a)] > row[static_cast<std::size_t>(b)];
  });
  order.resize(std::min(row.size(), static_cast<std::size_t>(k)));
  std::sort(order.begin(), order.end());
  return order;
}

ReferenceResult ReferenceReluL1(const ReferenceParameters& p, std::span<const double> x,
                                double lambda) {
  const auto rows = static_cast<double>(Rows(p, x));
  ReferenceResult r;
  r.gradient = ZerosLike(p);
  r.codes = ReferencePreActivations(p, x);
  for (double& f : r.codes) f = std::max(f, 0.0);
  r.x_hat = Decode(p, r.codes, p.b_dec.data());
  std::vector<double> G(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double e = r.x_hat[i] - x[i];
    r.main += e * e / rows;
    G[i] = 2 * e / rows;
  }
  r.sparsity = lambda * std::accumulate(r.codes.begin(), r.codes.end(), 0.0) / rows;
  r.loss = r.main + r.sparsity;
  Backward(p, x, G, r.codes, Delta(p, G, r.codes, lambda / rows), r.gradient);
  return r;
}

ReferenceResult ReferenceTopKAux(const ReferenceParameters& p, std::span<const double> x,
                                 const ReferenceTopKOptions& o) {
  ReferenceResult r;
  r.gradient = ZerosLike(p);
  const std::vector<double> z = ReferencePreActivations(p, x);
  r.codes = SelectedCodes(p, z, o.k, nullptr);
  r.x_hat = Decode(p, r.codes, p.b_dec.data());
  std::vector<double> G(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double e = r.x_hat[i] - x[i];
    r.main += o.main_scale * e * e;
    G[i] = 2 * o.main_scale * e;
  }
  Backward(p, x, G, r.codes, Delta(p, G, r.codes, 0), r.gradient);
  if (o.aux_k > 0 && std::find(o.dead.begin(), o.dead.end(), true) != o.dead.end())
    AddAux(p, x, z, o, r);
  r.loss = r.main + r.aux;
  return r;
}

void ReferenceProject(const ReferenceParameters& p, std::vector<double>& g) {
  for (std::int64_t i = 0; i < p.n; ++i) {
    const double* row = &p.w_dec[At(i, p.d, 0)];
    const double squared = Dot(row, row, p.d);
    if (squared == 0) continue;
    const double along = Dot(&g[At(i, p.d, 0)], row, p.d) / squared;
    for (std::int64_t j = 0; j < p.d; ++j) g[At(i, p.d, j)] -= along * row[j];
  }
}

void ReferenceUpdate(ReferenceParameters& p, ReferenceParameters g, ReferenceParameters& m,
                     ReferenceParameters& v, const ReferenceAdam& a, std::int64_t t) {
  ReferenceProject(p, g.w_dec);
  const double c1 = 1 - std::pow(a.beta1, static_cast<double>(t));
  const double c2 = 1 - std::pow(a.beta2, static_cast<double>(t));
  const auto step = [&](std::vector<double>& w, const std::vector<double>& gw,
                        std::vector<double>& mw, std::vector<double>& vw) {
    for (std::size_t i = 0; i < w.size(); ++i) {
      mw[i] = a.beta1 * mw[i] + (1 - a.beta1) * gw[i];
      vw[i] = a.beta2 * vw[i] + (1 - a.beta2) * gw[i] * gw[i];
      w[i] -= a.lr * (mw[i] / c1) / (std::sqrt(vw[i] / c2) + a.epsilon);
    }
  };
  step(p.w_enc, g.w_enc, m.w_enc, v.w_enc);
  step(p.b_enc, g.b_enc, m.b_enc, v.b_enc);
  step(p.w_dec, g.w_dec, m.w_dec, v.w_dec);
  step(p.b_dec, g.b_dec, m.b_dec, v.b_dec);
  for (std::int64_t i = 0; i < p.n; ++i) {
    double* row = &p.w_dec[At(i, p.d, 0)];
    const double norm = std::max(std::sqrt(Dot(row, row, p.d)), 0x1.0p-24);
    for (std::int64_t j = 0; j < p.d; ++j) row[j] /= norm;
  }
}

}  // namespace sae::model
