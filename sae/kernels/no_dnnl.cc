// Builds without oneDNN: plain float products, and no bf16 screen (the screen is float32 then).
#include "sae/base/check.h"
#include "sae/kernels/bf16_product.h"
#include "sae/kernels/sgemm.h"

namespace sae::kernels {

void Sgemm(char op_a, char op_b, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
           std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
           std::int64_t ldc) {
  PlainSgemm(op_a, op_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

struct Bf16Product::Impl {};

bool Bf16Product::Available() { return false; }
Bf16Product::Bf16Product(std::int64_t, std::int64_t d) : padded_(d) { AddWorkers(0); }
Bf16Product::~Bf16Product() = default;
void Bf16Product::AddWorkers(int) { SAE_CHECK_MSG(false, "%s", "built without SAE_WITH_DNNL"); }
std::uint16_t* Bf16Product::Rows(int) { return nullptr; }
void Bf16Product::Pack(std::int64_t, int) {}
void Bf16Product::Multiply(const std::uint16_t*, std::int64_t, int, float*) {}

}  // namespace sae::kernels
