#include <dnnl.h>

#include "sae/base/check.h"
#include "sae/kernels/one_omp_thread.h"
#include "sae/kernels/sgemm.h"

namespace sae::kernels {

void Sgemm(char op_a, char op_b, std::int64_t m, std::int64_t n, std::int64_t k, const float* a,
           std::int64_t lda, const float* b, std::int64_t ldb, float beta, float* c,
           std::int64_t ldc) {
  const OneOmpThread one;
  const dnnl_status_t status = dnnl_sgemm(op_a, op_b, m, n, k, 1.0F, a, lda, b, ldb, beta, c, ldc);
  SAE_CHECK_MSG(status == dnnl_success, "dnnl_sgemm(%ld, %ld, %ld): status %d",
                static_cast<long>(m), static_cast<long>(n), static_cast<long>(k),
                static_cast<int>(status));
}

}  // namespace sae::kernels
