// As row_step.cc's CatchUp of deferred rows, between reading and storing split weights.
#include <algorithm>
#include <vector>

#include "sae/kernels/device/deferred_rows.h"
#include "sae/kernels/device/plain_rows.h"
#include "sae/kernels/row_ops.h"

namespace sae::kernels::plain {
namespace {

/// Whose constants in float32 are those of `step`.
Adam AdamOf(const device::CatchUpDecoderParams& p, const device::RestStep& step) {
  Adam adam;
  adam.lr = static_cast<double>(step.step);
  adam.beta1 = p.beta1;
  adam.beta2 = p.beta2;
  adam.epsilon = p.epsilon;
  adam.correction2 = 1 / static_cast<double>(step.inverse2);
  return adam;
}

void CatchUpRow(const device::CatchUpDecoderParams& p, std::int64_t latent, std::int64_t to) {
  const std::int64_t first = latent * p.d;
  float* const m = static_cast<float*>(p.moments.m) + first;
  float* const v = static_cast<float*>(p.moments.v) + first;
  std::vector<float> w(static_cast<std::size_t>(p.d));
  for (std::int64_t j = 0; j < p.d; ++j)
    w[static_cast<std::size_t>(j)] = Weight(Read(p.w), first + j);
  std::int64_t t = p.last_step[latent];
  for (bool moves = !AllZero(p.d, m); t < to && moves; moves = !AllZero(p.d, m)) {
    AdamRowWithoutGradient(p.d, AdamOf(p, p.steps[t++ % p.window]), w.data(), m, v);
    if (p.rule == device::RowRule::kUnit && !AllZero(p.d, m)) RenormaliseRow(p.d, w.data());
  }
  DecayRow(p.d, AdamOf(p, {}), to - t, v);
  for (std::int64_t j = 0; j < p.d; ++j) SetWeight(p.w, first + j, w[static_cast<std::size_t>(j)]);
  p.last_step[latent] = to;
}

}  // namespace

void CatchUpDecoder(const device::CatchUpDecoderParams& p) {
  const std::int64_t to = p.adam == nullptr ? p.t : p.adam->t - 1;
  for (std::int64_t i = 0; i < p.latents; ++i) {
    if (p.indptr != nullptr && p.indptr[i] == p.indptr[i + 1]) continue;
    if (p.last_step[i] < to) CatchUpRow(p, i, to);
  }
}

}  // namespace sae::kernels::plain
