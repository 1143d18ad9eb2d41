#pragma once
// For the tests of rows that catch up: rows of random lags, seeded.

#include <vector>

#include "sae/base/random.h"
#include "sae/kernels/device/backward_test_data.h"
#include "sae/kernels/device/deferred_rows.h"
#include "sae/kernels/row_ops.h"

namespace sae::kernels::testing {

struct DeferredCase {
  std::int64_t latents = 23, d = 36;
  device::RowRule rule = device::RowRule::kUnit;
  double beta1 = 0.9;
  std::int64_t t = 140;  ///< up to which rows catch up; indexed: up to the step before
  std::int64_t window = 128, most = 60;
  bool indexed = false;  ///< rows with entries alone, and t from the step's scalars
};

/// Weights, moments and steps of rows that have rested for up to `most` steps: some not at all,
/// some without momentum, some without a second moment too.
struct DeferredData {
  explicit DeferredData(const DeferredCase& c)
      : shape(c),
        w(Weights(c)),
        m(Normal<float>(2, c.latents * c.d, 0.01)),
        v(m),
        steps(At(c.window)),
        indptr{0} {
    Random random(3);
    const std::int64_t to = c.indexed ? c.t - 1 : c.t;
    for (std::int64_t i = 0; i < c.latents; ++i) {
      last_step.push_back(
          to - static_cast<std::int64_t>(static_cast<double>(c.most) * random.Uniform()));
      indptr.push_back(indptr.back() + (random.Uniform() < 0.5 ? 1 : 0));
      for (std::int64_t j = i * c.d; j < (i + 1) * c.d; ++j) {
        v[At(j)] = i % 8 == 0 ? 0.0F : m[At(j)] * m[At(j)] + 1e-6F;
        if (i % 4 == 0) m[At(j)] = 0;
      }
    }
    for (std::int64_t t = to - c.most + 1; t <= to; ++t) {
      const Adam a = AdamAt(t, c.beta1);
      steps[At((t - 1) % c.window)] = device::RestStepOf(a.lr, a.correction1, a.correction2);
    }
    const Adam a = AdamAt(c.t, c.beta1);
    adam = {a.lr, a.beta1, a.beta2, a.epsilon, a.correction1, a.correction2, c.t};
  }
  static Adam AdamAt(std::int64_t t, double beta1) {
    return Adam::At(t, 0.01 / static_cast<double>(1 + t % 5), beta1, 0.99, 1e-8);
  }
  static SplitWeights Weights(const DeferredCase& c) {
    std::vector<float> w = Normal<float>(1, c.latents * c.d);
    for (std::int64_t i = 0; i < c.latents; ++i) RenormaliseRow(c.d, w.data() + i * c.d);
    return SplitWeights(w);
  }
  /// Everything but pointers.
  device::CatchUpDecoderParams Shape() const {
    device::CatchUpDecoderParams p;
    p.latents = shape.latents;
    p.d = shape.d;
    p.rule = shape.rule;
    p.window = shape.window;
    p.beta1 = shape.beta1;
    p.beta2 = 0.99;
    p.epsilon = 1e-8;
    p.t = shape.indexed ? 0 : shape.t;
    return p;
  }
  void RunPlain() {
    device::CatchUpDecoderParams p = Shape();
    p.w = w.mutable_view();
    p.moments.m = m.data();
    p.moments.v = v.data();
    p.last_step = last_step.data();
    p.steps = steps.data();
    if (shape.indexed) p.indptr = indptr.data();
    if (shape.indexed) p.adam = &adam;
    plain::CatchUpDecoder(p);
  }

  DeferredCase shape;
  SplitWeights w;
  std::vector<float> m, v;
  std::vector<device::RestStep> steps;
  std::vector<std::int32_t> indptr;
  std::vector<std::int64_t> last_step;
  device::AdamScalars adam;
};

}  // namespace sae::kernels::testing
