// The plainest loops that are right, and the CPU engine's own operations on rows.
#include <algorithm>
#include <cmath>
#include <vector>

#include "sae/kernels/device/plain_rows.h"
#include "sae/kernels/device/vectors.h"
#include "sae/kernels/row_ops.h"

namespace sae::kernels::plain {
namespace {

double RowSquares(const device::WeightRows& w, std::int64_t first, std::int64_t d) {
  double sum = 0;
  for (std::int64_t j = first; j < first + d; ++j) {
    const auto value = static_cast<double>(Weight(w, j));
    sum += value * value;
  }
  return sum;
}

}  // namespace

void ColumnSums(const device::ColumnSumsParams& p) {
  for (std::int64_t j = 0; j < p.d && IsOn(p.enabled); ++j) {
    double sum = 0;
    for (std::int64_t r = 0; r < p.rows; ++r) sum += static_cast<double>(p.m[r * p.d + j]);
    p.out[j] = (p.add ? p.out[j] : 0.0F) + static_cast<float>(sum);
  }
}

void WeightedRowSum(const device::WeightedRowSumParams& p) {
  for (std::int64_t j = 0; j < p.d; ++j) {
    p.out[j] = 0;
    for (std::int64_t r = 0; r < p.rows; ++r) {
      if (p.weights[r] == 0) continue;
      p.out[j] += static_cast<double>(p.weights[r]) * static_cast<double>(Weight(p.w, r * p.d + j));
    }
  }
}

void Sum(const device::SumParams& p) {
  double sum = 0;
  for (std::int64_t i = 0; i < p.count; ++i) sum += p.values[i];
  if (p.factor != nullptr) sum *= *p.factor;
  *p.out = p.add ? *p.out + sum : sum;
}

void SumSquares(const device::SumSquaresParams& p) {
  double sum = 0;
  for (std::int64_t i = 0; i < p.count; ++i)
    sum += static_cast<double>(p.values[i]) * static_cast<double>(p.values[i]);
  *p.out = p.add ? *p.out + sum : sum;
}

void Subtract(const device::SubtractParams& p) {
  for (std::int64_t j = 0; j < p.count; ++j) p.a[j] -= static_cast<float>(p.b[j]);
}

void AdamVector(const device::AdamVectorParams& p) {
  if (!IsOn(p.go)) return;
  const device::AdamScalars& a = *p.adam;
  const Adam adam{a.lr * p.lr_factor, a.beta1, a.beta2, a.epsilon, a.correction1, a.correction2};
  std::vector<float> gradient(p.gradient, p.gradient + p.count);
  if (p.gradient_scale != nullptr)
    Scale(p.count, static_cast<float>(*p.gradient_scale), gradient.data());
  AdamRow(p.count, adam, gradient.data(), p.p, p.m, p.v);
}

void RowNorms(const device::RowNormsParams& p) {
  for (std::int64_t i = 0; i < p.rows; ++i) {
    const double squares = RowSquares(p.w, i * p.d, p.d);
    if (p.norms != nullptr) p.norms[i] = static_cast<float>(std::sqrt(squares));
    if (p.row_scale != nullptr) p.row_scale[i] = static_cast<float>(InverseNorm(squares));
  }
}

void RenormaliseRows(const device::RenormaliseRowsParams& p) {
  for (std::int64_t i = 0; i < p.rows && IsOn(p.go); ++i) {
    const auto inverse = static_cast<float>(InverseNorm(RowSquares(Read(p.w), i * p.d, p.d)));
    for (std::int64_t j = i * p.d; j < (i + 1) * p.d; ++j)
      SetWeight(p.w, j, inverse * Weight(Read(p.w), j));
  }
}

void Ema(const device::EmaParams& p) {
  for (std::int64_t j = 0; j < p.count && IsOn(p.go); ++j) {
    const float value = p.p != nullptr ? p.p[j] : Weight(p.w, j);
    p.mean[j] += static_cast<float>(1 - p.mu) * (value - p.mean[j]);
  }
}

}  // namespace sae::kernels::plain
