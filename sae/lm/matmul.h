#pragma once
// Linear layers through oneDNN: weights packed once in the layout its matmul prefers, primitives
// created once for each shape. Measured on AVX-512 with one thread a chunk of 256 rows: 525 GFLOP/s
// in float32 on two cores where `dnnl_sgemm` reaches 470, and 1,045 in bf16. PackedWeights is
// immutable after creation and thread-safe; a MatmulRunner belongs to one thread, and runs on that
// thread alone when called inside a parallel region. Errors: RESOURCE_EXHAUSTED or INTERNAL from
// oneDNN, with its message.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sae/base/status.h"
#include "sae/lm/language_model.h"

namespace sae::lm {

/// W of y = x W^T: [out, in].
class PackedWeights {
 public:
  /// `rows` is [out, in], row-major; read during the call only.
  [[nodiscard]] static absl::StatusOr<PackedWeights> Create(std::span<const float> rows,
                                                            std::int64_t out, std::int64_t in,
                                                            Compute compute);
  ~PackedWeights();
  PackedWeights(PackedWeights&&) noexcept;
  PackedWeights& operator=(PackedWeights&&) noexcept;
  std::int64_t out() const;
  std::int64_t in() const;
  std::int64_t bytes() const;

 private:
  friend class MatmulRunner;
  struct Impl;
  explicit PackedWeights(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class MatmulRunner {
 public:
  MatmulRunner();
  ~MatmulRunner();
  MatmulRunner(const MatmulRunner&) = delete;
  MatmulRunner& operator=(const MatmulRunner&) = delete;

  /// Rows are padded to a multiple of this, so that few shapes occur: buffers must be that long.
  static constexpr std::int64_t kRowGranule = 16;
  static std::int64_t PaddedRows(std::int64_t rows) {
    return (rows + kRowGranule - 1) / kRowGranule * kRowGranule;
  }

  /// dst [PaddedRows(rows), out] float32 = src [PaddedRows(rows), in] W^T. `src` is float32 or bf16
  /// as the weights are; both 64-byte aligned. Padding rows hold rubbish.
  [[nodiscard]] absl::Status Run(const PackedWeights& weights, const void* src, std::int64_t rows,
                                 float* dst);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Plain float32 product on row-major matrices with leading dimensions (dnnl_sgemm):
/// c [m, n] = a [m, k] b, where b is [n, k] if `b_transposed`, else [k, n].
[[nodiscard]] absl::Status Sgemm(bool b_transposed, std::int64_t m, std::int64_t n, std::int64_t k,
                                 const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
                                 float* c, std::int64_t ldc);

}  // namespace sae::lm
