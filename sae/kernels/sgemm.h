#pragma once
// Inside this folder: one float product on the calling thread, C = op(A) op(B) + beta C, row-major,
// beta 0 (C is not read) or 1. op: 'N' as it lies, 'T' transposed: A is [m, k] or [k, m], B [k, n]
// or [n, k]. Sgemm is oneDNN's, or the plain one in builds without it (SAE_WITH_DNNL). No errors;
// reentrant; m, n, k >= 1.

#include <cstdint>

namespace sae::kernels {

void Sgemm(char op_a, char op_b, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
           std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
           std::int64_t ldc);

/// Blocked loops. Each element is the sum of chains of 64 products in order of k, added to beta C in
/// order, so its bits do not depend on what lies beside it. Allocates nothing.
void PlainSgemm(char op_a, char op_b, std::int64_t m, std::int64_t n, std::int64_t k,
                const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta,
                float* c, std::int64_t ldc);

}  // namespace sae::kernels
