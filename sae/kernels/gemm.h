#pragma once
// Dense products on the CPU. float goes through oneDNN's sgemm (plain
// blocked loops without SAE_WITH_DNNL), double is plain loops (the reference path of the tests).
//   C[m, n] = A[m, k] B[n, k]^T, all row-major with leading dimensions lda, ldb >= k, ldc >= n,
// and two forms that add to C, for codes that lie as [tokens, latents].
// C must not overlap A or B. Any alignment works; 64 bytes (aligned.h) avoids slow paths. NaN and
// infinities propagate as IEEE says. Determinism: C is cut into fixed tiles of kTokensPerChunk x
// kLatentsPerChunk, each computed by one thread in one call, so the bits do not depend on the
// number of threads. The calling thread's OpenMP thread count is set to 1 around each call and
// restored. Thread safety: reentrant. Errors: none; negative sizes are bugs (SAE_CHECK).

#include <cstdint>

#include "sae/base/parallel.h"
#include "sae/kernels/aligned.h"

namespace sae::kernels {

/// The one shape of an encoder chunk (numerics: a fixed shape makes the value of an element
/// independent of what lies beside it).
inline constexpr std::int64_t kTokensPerChunk = 512;
inline constexpr std::int64_t kLatentsPerChunk = 512;

template <class T>
void Gemm(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t lda, const T* b,
          std::int64_t ldb, T* c, std::int64_t ldc, ThreadPool& pool);

/// C[m, n] += A[m, k] B[k, n]. Where C alone is too few tiles for many threads, k is cut into parts
/// whose sums, kept in `partial` (grown, never shrunk), are added in order of k. The parts depend
/// on the shape alone.
template <class T>
void GemmAdd(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t lda,
             const T* b, std::int64_t ldb, T* c, std::int64_t ldc, AlignedVector<T>* partial,
             ThreadPool& pool);

/// C[m, n] (+)= A[k, m]^T B[k, n], on the calling thread; `add` false: C need not hold anything
/// before. k >= 1.
template <class T>
void GemmTransposedTile(std::int64_t m, std::int64_t n, std::int64_t k, const T* a,
                        std::int64_t lda, const T* b, std::int64_t ldb, bool add, T* c,
                        std::int64_t ldc);

/// One tile on the calling thread: a single call of Sgemm (sgemm.h), or plain loops for double.
template <class T>
void GemmTile(std::int64_t m, std::int64_t n, std::int64_t k, const T* a, std::int64_t lda,
              const T* b, std::int64_t ldb, T* c, std::int64_t ldc);

}  // namespace sae::kernels
