// Numerics: T is float or double. Each loop is written so that the compiler may vectorise it
// without reassociating: reductions keep kLanes interleaved partial sums that are added in a fixed
// tree at the end. On x86 each function is compiled for several instruction sets and the best is
// chosen at start-up, so bits may differ between machines, never on one.
#include "sae/kernels/row_ops.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

// Resolvers of clones run before a sanitizer has started: plain functions there.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define SAE_CLONES __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define SAE_CLONES
#endif

namespace sae::kernels {
namespace {

constexpr std::int64_t kLanes = 16;

template <class T>
T AddLanes(std::array<T, kLanes>& lanes) {
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::int64_t i = 0; i < half; ++i) {
      lanes[static_cast<std::size_t>(i)] += lanes[static_cast<std::size_t>(i + half)];
    }
  }
  return lanes[0];
}

// Products and sums in Sum. The functions below are inlined into each clone.
template <class Sum, class T>
[[gnu::always_inline]] inline Sum DotLanes(std::int64_t d, const T* x, const T* y) {
  std::array<Sum, kLanes> lanes{};
  std::int64_t j = 0;
  for (; j + kLanes <= d; j += kLanes) {
    for (std::int64_t i = 0; i < kLanes; ++i) {
      lanes[static_cast<std::size_t>(i)] += static_cast<Sum>(x[j + i]) * static_cast<Sum>(y[j + i]);
    }
  }
  for (std::int64_t i = 0; j < d; ++j, ++i) {
    lanes[static_cast<std::size_t>(i)] += static_cast<Sum>(x[j]) * static_cast<Sum>(y[j]);
  }
  return AddLanes(lanes);
}

template <class T>
[[gnu::always_inline]] inline void AxpyLoop(std::int64_t d, T a, const T* __restrict x,
                                            T* __restrict y) {
  for (std::int64_t j = 0; j < d; ++j) y[j] += a * x[j];
}

template <class T>
[[gnu::always_inline]] inline void ScaleLoop(std::int64_t d, T a, T* x) {
  for (std::int64_t j = 0; j < d; ++j) x[j] *= a;
}

template <class T>
struct AdamConstants {
  explicit AdamConstants(const Adam& a)
      : beta1(static_cast<T>(a.beta1)),
        beta2(static_cast<T>(a.beta2)),
        rest1(static_cast<T>(1 - a.beta1)),
        rest2(static_cast<T>(1 - a.beta2)),
        step(static_cast<T>(a.lr / a.correction1)),
        inverse2(static_cast<T>(1 / a.correction2)),
        epsilon(static_cast<T>(a.epsilon)) {}
  T beta1, beta2, rest1, rest2, step, inverse2, epsilon;
};

template <class T>
[[gnu::always_inline]] inline void AdamElement(const AdamConstants<T>& a, T& p, T& m_slot,
                                               T& v_slot, T m, T v) {
  constexpr T kSmallest = std::numeric_limits<T>::min();
  m = std::abs(m) < kSmallest ? T(0) : m;
  v = v < kSmallest ? T(0) : v;
  m_slot = m;
  v_slot = v;
  p -= a.step * m / (std::sqrt(v * a.inverse2) + a.epsilon);
}

template <class T>
[[gnu::always_inline]] inline void AdamLoop(std::int64_t d, const AdamConstants<T>& a,
                                            const T* __restrict g, T* __restrict p, T* __restrict m,
                                            T* __restrict v) {
  for (std::int64_t j = 0; j < d; ++j) {
    AdamElement(a, p[j], m[j], v[j], a.beta1 * m[j] + a.rest1 * g[j],
                a.beta2 * v[j] + a.rest2 * (g[j] * g[j]));
  }
}

template <class T>
[[gnu::always_inline]] inline void AdamLoop0(std::int64_t d, const AdamConstants<T>& a,
                                             T* __restrict p, T* __restrict m, T* __restrict v) {
  for (std::int64_t j = 0; j < d; ++j) {
    AdamElement(a, p[j], m[j], v[j], a.beta1 * m[j], a.beta2 * v[j]);
  }
}

template <class T>
bool Moves(std::int64_t d, T beta1, const T* m) {
  for (std::int64_t j = 0; j < d; ++j) {
    if (!(std::abs(beta1 * m[j]) < std::numeric_limits<T>::min())) return true;
  }
  return false;
}

template <class T>
[[gnu::always_inline]] inline void DecayLoop(std::int64_t d, T beta2, std::int64_t steps, T* v) {
  constexpr std::int64_t kTile = 64;  // stays in registers
  for (std::int64_t first = 0; first < d; first += kTile) {
    const std::int64_t width = std::min(kTile, d - first);
    std::array<T, kTile> tile{};
    for (std::int64_t j = 0; j < width; ++j) tile[static_cast<std::size_t>(j)] = v[first + j];
    int any = 1;
    for (std::int64_t step = 0; step < steps && any != 0; ++step) {
      any = 0;
      for (T& value : tile) {
        value *= beta2;
        value = value < std::numeric_limits<T>::min() ? T(0) : value;
        any |= static_cast<int>(value != T(0));
      }
    }
    for (std::int64_t j = 0; j < width; ++j) v[first + j] = tile[static_cast<std::size_t>(j)];
  }
}

template <class T>
[[gnu::always_inline]] inline bool AllZeroLoop(std::int64_t d, const T* x) {
  for (std::int64_t j = 0; j < d; ++j) {
    if (x[j] != T(0)) return false;
  }
  return true;
}

// Most groups hold nothing: ask 64 values at once, look closer only where one is above.
template <class T>
[[gnu::always_inline]] inline std::int64_t CollectLoop(std::int64_t d, const T* x, T threshold,
                                                       std::int32_t* hits, bool* nan) {
  constexpr std::int64_t kGroup = 64;
  std::int64_t count = 0;
  int unordered = 0;
  std::int64_t j = 0;
  for (; j + kGroup <= d; j += kGroup) {
    int any = 0;
    for (std::int64_t i = 0; i < kGroup; ++i) {
      any |= static_cast<int>(x[j + i] > threshold);
      unordered |= static_cast<int>(x[j + i] != x[j + i]);
    }
    if (any == 0) continue;
    for (std::int64_t i = j; i < j + kGroup; ++i) {
      hits[count] = static_cast<std::int32_t>(i);
      count += static_cast<std::int64_t>(x[i] > threshold);
    }
  }
  for (; j < d; ++j) {
    hits[count] = static_cast<std::int32_t>(j);
    count += static_cast<std::int64_t>(x[j] > threshold);
    unordered |= static_cast<int>(x[j] != x[j]);
  }
  if (unordered != 0) *nan = true;
  return count;
}

template <class T>
void Project(std::int64_t d, const T* w, T* g) {
  const double norm2 = SumOfSquares(d, w);
  if (!(norm2 > 0)) return;
  Axpy(d, static_cast<T>(-DotDouble(d, g, w) / norm2), w, g);
}

template <class T>
void Renormalise(std::int64_t d, T* w) {
  constexpr double kFloor = 0x1.0p-24;
  Scale(d, static_cast<T>(1 / std::max(std::sqrt(SumOfSquares(d, w)), kFloor)), w);
}

}  // namespace

SAE_CLONES void Axpy(std::int64_t d, float a, const float* x, float* y) { AxpyLoop(d, a, x, y); }
SAE_CLONES void Axpy(std::int64_t d, double a, const double* x, double* y) { AxpyLoop(d, a, x, y); }
SAE_CLONES void Scale(std::int64_t d, float a, float* x) { ScaleLoop(d, a, x); }
SAE_CLONES void Scale(std::int64_t d, double a, double* x) { ScaleLoop(d, a, x); }
SAE_CLONES float Dot(std::int64_t d, const float* x, const float* y) {
  return DotLanes<float>(d, x, y);
}
SAE_CLONES double Dot(std::int64_t d, const double* x, const double* y) {
  return DotLanes<double>(d, x, y);
}
SAE_CLONES double DotDouble(std::int64_t d, const float* x, const float* y) {
  return DotLanes<double>(d, x, y);
}
double DotDouble(std::int64_t d, const double* x, const double* y) { return Dot(d, x, y); }
double SumOfSquares(std::int64_t d, const float* x) { return DotDouble(d, x, x); }
double SumOfSquares(std::int64_t d, const double* x) { return Dot(d, x, x); }
bool AllZero(std::int64_t d, const float* x) { return AllZeroLoop(d, x); }
bool AllZero(std::int64_t d, const double* x) { return AllZeroLoop(d, x); }

SAE_CLONES std::int64_t CollectAbove(std::int64_t d, const float* x, float threshold,
                                     std::int32_t* hits, bool* nan) {
  return CollectLoop(d, x, threshold, hits, nan);
}
SAE_CLONES std::int64_t CollectAbove(std::int64_t d, const double* x, double threshold,
                                     std::int32_t* hits, bool* nan) {
  return CollectLoop(d, x, threshold, hits, nan);
}

void ProjectRow(std::int64_t d, const float* w, float* g) { Project(d, w, g); }
void ProjectRow(std::int64_t d, const double* w, double* g) { Project(d, w, g); }
void RenormaliseRow(std::int64_t d, float* w) { Renormalise(d, w); }
void RenormaliseRow(std::int64_t d, double* w) { Renormalise(d, w); }

Adam Adam::At(std::int64_t t, double lr, double beta1, double beta2, double epsilon) {
  const auto steps = static_cast<double>(t);
  return {lr, beta1, beta2, epsilon, 1 - std::pow(beta1, steps), 1 - std::pow(beta2, steps)};
}

SAE_CLONES void AdamRow(std::int64_t d, const Adam& adam, const float* g, float* p, float* m,
                        float* v) {
  AdamLoop(d, AdamConstants<float>(adam), g, p, m, v);
}
SAE_CLONES void AdamRow(std::int64_t d, const Adam& adam, const double* g, double* p, double* m,
                        double* v) {
  AdamLoop(d, AdamConstants<double>(adam), g, p, m, v);
}
SAE_CLONES void AdamRowWithoutGradient(std::int64_t d, const Adam& adam, float* p, float* m,
                                       float* v) {
  AdamLoop0(d, AdamConstants<float>(adam), p, m, v);
}
SAE_CLONES void AdamRowWithoutGradient(std::int64_t d, const Adam& adam, double* p, double* m,
                                       double* v) {
  AdamLoop0(d, AdamConstants<double>(adam), p, m, v);
}
bool MovesWithoutGradient(std::int64_t d, const Adam& adam, const float* m) {
  return Moves(d, static_cast<float>(adam.beta1), m);
}
bool MovesWithoutGradient(std::int64_t d, const Adam& adam, const double* m) {
  return Moves(d, adam.beta1, m);
}
SAE_CLONES void DecayRow(std::int64_t d, const Adam& adam, std::int64_t steps, float* v) {
  DecayLoop(d, static_cast<float>(adam.beta2), steps, v);
}
SAE_CLONES void DecayRow(std::int64_t d, const Adam& adam, std::int64_t steps, double* v) {
  DecayLoop(d, adam.beta2, steps, v);
}

}  // namespace sae::kernels
