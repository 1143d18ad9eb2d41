#pragma once
// Operations on one row of d values, the building blocks of the other kernels. float and double;
// rows are contiguous, of any alignment, and do not overlap unless said. Each has one fixed order
// of operations: equal inputs give equal bits on one instruction set. Reentrant; no errors; NaN
// propagates. Sources: sae algorithms 0.3 (projection, unit norm), 0.4 (Adam; Kingma and Ba 2015).

#include <cstdint>

namespace sae::kernels {

/// y += a * x.
void Axpy(std::int64_t d, float a, const float* x, float* y);
void Axpy(std::int64_t d, double a, const double* x, double* y);
/// x *= a.
void Scale(std::int64_t d, float a, float* x);
void Scale(std::int64_t d, double a, double* x);
/// x . y, accumulated in T in 16 interleaved lanes.
float Dot(std::int64_t d, const float* x, const float* y);
double Dot(std::int64_t d, const double* x, const double* y);
/// x . y of float rows with products and sums in float64.
double DotDouble(std::int64_t d, const float* x, const float* y);
double DotDouble(std::int64_t d, const double* x, const double* y);
/// |x|^2 in float64.
double SumOfSquares(std::int64_t d, const float* x);
double SumOfSquares(std::int64_t d, const double* x);
bool AllZero(std::int64_t d, const float* x);
bool AllZero(std::int64_t d, const double* x);

/// Writes the positions j with x[j] > threshold into `hits` (room for d), ascending, and returns
/// how many.
/// `*nan` becomes true where an x is NaN and is left alone otherwise.
std::int64_t CollectAbove(std::int64_t d, const float* x, float threshold, std::int32_t* hits,
                          bool* nan);
std::int64_t CollectAbove(std::int64_t d, const double* x, double threshold, std::int32_t* hits,
                          bool* nan);

/// Gradient without its component along w: g -= (g . w / |w|^2) w; w of norm 0 leaves g alone.
void ProjectRow(std::int64_t d, const float* w, float* g);
void ProjectRow(std::int64_t d, const double* w, double* g);
/// w /= max(|w|, 2^-24).
void RenormaliseRow(std::int64_t d, float* w);
void RenormaliseRow(std::int64_t d, double* w);

/// Adam's constants of one step t >= 1.
struct Adam {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;   ///< outside the square root, after bias correction
  double correction1 = 1;  ///< 1 - beta1^t
  double correction2 = 1;  ///< 1 - beta2^t
  static Adam At(std::int64_t t, double lr, double beta1, double beta2, double epsilon);
};

/// m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr (m / c1) / (sqrt(v / c2) + eps).
/// m and v below the smallest normal number become 0: a row that no longer gets gradients would
/// otherwise end in subnormals, which multiply slowly and never reach 0.
void AdamRow(std::int64_t d, const Adam& adam, const float* g, float* p, float* m, float* v);
void AdamRow(std::int64_t d, const Adam& adam, const double* g, double* p, double* m, double* v);
/// The same with g = 0.
void AdamRowWithoutGradient(std::int64_t d, const Adam& adam, float* p, float* m, float* v);
void AdamRowWithoutGradient(std::int64_t d, const Adam& adam, double* p, double* m, double* v);
/// Whether that step would move p: some beta1 m is not 0 after its decay.
bool MovesWithoutGradient(std::int64_t d, const Adam& adam, const float* m);
bool MovesWithoutGradient(std::int64_t d, const Adam& adam, const double* m);
/// What `steps` of them do to v: successive multiplications by beta2.
void DecayRow(std::int64_t d, const Adam& adam, std::int64_t steps, float* v);
void DecayRow(std::int64_t d, const Adam& adam, std::int64_t steps, double* v);

}  // namespace sae::kernels
