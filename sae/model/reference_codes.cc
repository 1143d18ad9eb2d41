// Pre-activations, and the architectures that select latents by rank: TopK, BatchTopK, Matryoshka.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sae/base/check.h"
#include "sae/model/reference.h"
#include "sae/model/reference_internal.h"

namespace sae::model {
namespace reference {

std::vector<double> SelectTopK(const Pass& pass, std::int64_t k, const std::vector<bool>* mask) {
  const std::int64_t n = pass.p.n;
  std::vector<double> codes(pass.r.pre_activations.size(), 0.0);
  std::vector<double> row(At(n));
  for (std::int64_t b = 0; b < pass.rows; ++b) {
    for (std::int64_t i = 0; i < n; ++i) {
      const bool in = mask == nullptr || (*mask)[At(i)];
      row[At(i)] = in ? pass.r.pre_activations[At(b, n, i)] : 0.0;
    }
    for (const std::int64_t i : ReferenceTopK(row, k))
      codes[At(b, n, i)] = std::max(row[At(i)], 0.0);
  }
  return codes;
}

std::vector<double> SelectBatchTopK(const Pass& pass, std::int64_t k) {
  std::vector<double> positive = pass.r.pre_activations;
  for (double& f : positive) f = std::max(f, 0.0);
  std::vector<double> codes(positive.size(), 0.0);
  for (const std::int64_t i : ReferenceTopK(positive, k * pass.rows))
    codes[At(i)] = positive[At(i)];
  return codes;
}

namespace {

// What one reconstruction sends back to the latents it uses.
void AddSelected(Pass& pass, const std::vector<double>& f, const std::vector<double>& u) {
  for (std::size_t i = 0; i < f.size(); ++i) {
    if (f[i] > 0) pass.delta[i] += u[i];
  }
}

// Each prefix by its definition: latents cut off at m_g, decoded from the start.
void AddPrefixes(Pass& pass) {
  const ReferenceOptions& o = pass.o;
  SAE_CHECK(!o.prefixes.empty() && o.prefixes.size() == o.prefix_weights.size());
  SAE_CHECK(o.prefixes.back() == pass.p.n);
  std::vector<double> u;
  for (std::size_t g = 0; g < o.prefixes.size(); ++g) {
    const double loss =
        AddReconstruction(pass, pass.r.codes, o.prefixes[g], o.prefix_weights[g], &u);
    pass.r.prefix_losses.push_back(loss);
    pass.r.main += o.prefix_weights[g] * loss;
    AddSelected(pass, pass.r.codes, u);
  }
  if (o.bias_weight != 0)
    pass.r.main += o.bias_weight * AddReconstruction(pass, pass.r.codes, 0, o.bias_weight, &u);
}

}  // namespace

void ForwardRanked(Pass& pass) {
  const ReferenceOptions& o = pass.o;
  ReferenceResult& r = pass.r;
  r.codes = o.architecture == Architecture::kTopK ? SelectTopK(pass, o.k, nullptr)
                                                  : SelectBatchTopK(pass, o.k);
  if (o.architecture != Architecture::kTopK) {
    for (const double f : r.codes) {
      if (f > 0 && (r.min_kept == 0 || f < r.min_kept)) r.min_kept = f;
    }
  }
  r.x_hat = Decode(pass, r.codes, pass.p.n, pass.direction, pass.p.b_dec, pass.p.w_skip);
  std::vector<double> u;
  if (o.architecture == Architecture::kMatryoshka) {
    AddPrefixes(pass);
  } else {
    r.main = AddReconstruction(pass, r.codes, pass.p.n, 1, &u);
    AddSelected(pass, r.codes, u);
  }
  if (o.multi_topk) {
    SAE_CHECK(o.architecture == Architecture::kTopK);
    r.multi_codes = SelectTopK(pass, 4 * o.k, nullptr);
    r.multi = o.multi_weight * AddReconstruction(pass, r.multi_codes, pass.p.n, o.multi_weight, &u);
    AddSelected(pass, r.multi_codes, u);
  }
  if (o.aux_k > 0 && std::find(o.dead.begin(), o.dead.end(), true) != o.dead.end()) AddAuxK(pass);
}

namespace {

struct AuxTarget {
  std::vector<double> target;  // t [B, d_out]
  double variance = 0;         // V
};

// t = y - sg(x_hat) + sg(b_dec); V = mean over B and d_out of (t - mean_b t)^2.
AuxTarget MakeAuxTarget(const Pass& pass) {
  const std::span<const double> x_hat =
      pass.o.frozen_x_hat.empty() ? std::span(pass.r.x_hat) : pass.o.frozen_x_hat;
  const std::span<const double> b_dec =
      pass.o.frozen_b_dec.empty() ? std::span(pass.p.b_dec) : pass.o.frozen_b_dec;
  AuxTarget out;
  out.target.resize(x_hat.size());
  std::vector<double> mean(At(pass.d_out), 0.0);
  for (std::size_t i = 0; i < x_hat.size(); ++i) {
    const std::size_t j = i % At(pass.d_out);
    out.target[i] = pass.y[i] - x_hat[i] + b_dec[j];
    mean[j] += out.target[i] / static_cast<double>(pass.rows);
  }
  for (std::size_t i = 0; i < x_hat.size(); ++i) {
    const double c = out.target[i] - mean[i % At(pass.d_out)];
    out.variance += c * c / static_cast<double>(x_hat.size());
  }
  return out;
}

}  // namespace

void AddAuxK(Pass& pass) {
  SAE_CHECK(pass.o.dead.size() == At(pass.p.n));
  ReferenceResult& r = pass.r;
  r.aux_codes = SelectTopK(pass, pass.o.aux_k, &pass.o.dead);
  const AuxTarget t = MakeAuxTarget(pass);
  if (!(t.variance > 0) || !std::isfinite(t.variance)) return;
  const std::vector<double> e_hat =
      Decode(pass, r.aux_codes, pass.p.n, pass.direction, pass.p.b_dec, {});
  std::vector<double> G(e_hat.size());
  for (std::size_t i = 0; i < e_hat.size(); ++i) {
    const double ea = e_hat[i] - t.target[i];
    r.aux += pass.o.aux_scale * ea * ea / t.variance;
    G[i] = 2 * pass.o.aux_scale * ea / t.variance;
  }
  AddDecoderGradient(pass, G, r.aux_codes, pass.p.n);
  AddSelected(pass, r.aux_codes, Along(pass, G));
}

}  // namespace reference

std::vector<double> ReferencePreActivations(const ReferenceParameters& p, std::span<const double> x,
                                            bool pre_bias) {
  using reference::At;
  SAE_CHECK(p.d > 0 && static_cast<std::int64_t>(x.size()) % p.d == 0);
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / p.d;
  std::vector<double> z(At(rows * p.n));
  for (std::int64_t b = 0; b < rows; ++b) {
    for (std::int64_t i = 0; i < p.n; ++i) {
      double sum = p.b_enc[At(i)];
      for (std::int64_t j = 0; j < p.d; ++j) {
        const double shift = pre_bias ? p.b_dec[At(j)] : 0;
        sum += p.w_enc[At(i, p.d, j)] * (x[At(b, p.d, j)] - shift);
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
    return row[reference::At(a)] > row[reference::At(b)];
  });
  order.resize(std::min(row.size(), reference::At(k)));
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace sae::model
