#pragma once
// Operations on one row of d values, the building blocks of the other kernels. float and double;
// rows are contiguous, of any alignment, and do not overlap unless said. Each has one fixed order
// of operations (row_ops-inl.h): equal inputs give equal bits on AVX2 and AVX-512, chosen at run
// time. Reentrant; no errors; NaN propagates. Sources: sae algorithms 0.3 (projection, unit norm),
// 0.4 (Adam; Kingma and Ba 2015).

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

/// `count` rows with a factor each.
template <class T>
struct RowList {
  std::int64_t count = 0;
  const T* a = nullptr;
  const T* const* rows = nullptr;
};
/// y += sum of a_q x_q over `rows`: the bits of one Axpy after the other. The rows of `next`, whose
/// factors are not read, are brought nearer meanwhile.
void AddRows(std::int64_t d, const RowList<float>& rows, const RowList<float>& next, float* y);
void AddRows(std::int64_t d, const RowList<double>& rows, const RowList<double>& next, double* y);
/// out[q] = Dot(rows[q], y), to the bit.
void DotRows(std::int64_t d, std::int64_t count, const float* const* rows, const float* y,
             float* out);
void DotRows(std::int64_t d, std::int64_t count, const double* const* rows, const double* y,
             double* out);
/// g = factor * (x_hat - scale * x); returns |x_hat - scale * x|^2 in float64. g may be x_hat.
double ErrorRow(std::int64_t d, const float* x, float scale, const float* x_hat, float factor,
                float* g);
double ErrorRow(std::int64_t d, const double* x, double scale, const double* x_hat, double factor,
                double* g);

/// Gradient without its component along w: g -= (g . w / |w|^2) w; w of norm 0 leaves g alone.
void ProjectRow(std::int64_t d, const float* w, float* g);
void ProjectRow(std::int64_t d, const double* w, double* g);
/// What ProjectRow multiplies w by before adding it to g.
double RadialFactor(std::int64_t d, const float* w, const float* g);
double RadialFactor(std::int64_t d, const double* w, const double* g);
/// w /= max(|w|, 2^-24).
void RenormaliseRow(std::int64_t d, float* w);
void RenormaliseRow(std::int64_t d, double* w);
/// What RenormaliseRow multiplies a row by whose squared norm is norm2.
double InverseNorm(double norm2);

/// Adam's constants of one step t >= 1.
struct Adam {
  double lr = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;   ///< outside the square root, after bias correction; above 0
  double correction1 = 1;  ///< 1 - beta1^t
  double correction2 = 1;  ///< 1 - beta2^t
  static Adam At(std::int64_t t, double lr, double beta1, double beta2, double epsilon);
};

/// m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr (m / c1) / (sqrt(v / c2) + eps).
/// m and v below the smallest normal number become 0: a row that no longer gets gradients would
/// otherwise end in subnormals, which multiply slowly and never reach 0.
void AdamRow(std::int64_t d, const Adam& adam, const float* g, float* p, float* m, float* v);
void AdamRow(std::int64_t d, const Adam& adam, const double* g, double* p, double* m, double* v);

/// What happens to a gradient row before Adam: g' = factor (g + radial w), Adam gets scale g'.
template <class T>
struct RowStep {
  T radial = T(0);
  T factor = T(1);
  T scale = T(1);
  bool measure_row = false;
};
struct RowNorms {
  double gradient2 = 0;  ///< |g'|^2
  double row2 = 0;       ///< |w|^2 after the step, where measure_row
};
/// Projection, clipping, Adam and the norms in one pass: the bits of Axpy, Scale, SumOfSquares,
/// Scale, AdamRow and SumOfSquares one after the other. The rows `ahead` elements further on are
/// brought nearer (0: none).
RowNorms StepRow(std::int64_t d, const RowStep<float>& step, const Adam& adam, const float* g,
                 float* w, float* m, float* v, std::int64_t ahead);
RowNorms StepRow(std::int64_t d, const RowStep<double>& step, const Adam& adam, const double* g,
                 double* w, double* m, double* v, std::int64_t ahead);
/// Adam's step with g = 0.
void AdamRowWithoutGradient(std::int64_t d, const Adam& adam, float* p, float* m, float* v);
void AdamRowWithoutGradient(std::int64_t d, const Adam& adam, double* p, double* m, double* v);
/// Whether that step would move p: some beta1 m is not 0 after its decay.
bool MovesWithoutGradient(std::int64_t d, const Adam& adam, const float* m);
bool MovesWithoutGradient(std::int64_t d, const Adam& adam, const double* m);
/// What `steps` of them do to v: successive multiplications by beta2.
void DecayRow(std::int64_t d, const Adam& adam, std::int64_t steps, float* v);
void DecayRow(std::int64_t d, const Adam& adam, std::int64_t steps, double* v);

}  // namespace sae::kernels
