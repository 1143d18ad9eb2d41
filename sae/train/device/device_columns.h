#pragma once
// What a decoder cut by columns keeps on a device beside its weights (see column_decoder.h):
// winners of all ranks, the own columns of targets, and |d_i|^2 of all latents. The blocks' parts
// of the norms after Adam go to the rank that adds them for its n / L latents, and the float64 sums
// to all: of L = 8 ranks each receives 10.5 n bytes a step (2: 12 n), where the parts of all blocks
// for all ranks would be 28 n (2: 16 n), for the same bits. It contributes 4 (8 / L) n and 8 n / L
// bytes. Collective. Owns its buffers. Not thread-safe.

#include <memory>
#include <span>
#include <vector>

#include "sae/kernels/device/row_update.h"
#include "sae/train/device/device_winners.h"

namespace sae::train {

class DeviceColumns {
 public:
  struct Shape {
    std::int64_t tokens = 0, latents = 0, d_out = 0;
    int ranks = 1, rank = 0;
    bool unit = true;
    bool norm_gradient = false;  ///< of free rows
  };
  /// `where`: of latent i in what ranks have by local ids, one rank after the other.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<DeviceColumns>> Create(
      DeviceRuntime& runtime, const Shape& shape, std::span<const std::int32_t> where,
      void* stream);

  std::int64_t width() const { return width_; }                       ///< of a block
  std::int64_t own() const { return own_; }                           ///< blocks of this rank
  std::int64_t first() const { return shape_.rank * own_ * width_; }  ///< column
  std::int64_t latents() const { return shape_.latents; }
  DeviceWinners& main() { return main_; }
  DeviceWinners& aux() { return aux_; }

  /// The own columns of target [tokens, d_out].
  [[nodiscard]] absl::Status LoadTargets(const float* target, std::int64_t tokens, void* stream);
  const float* target(std::int64_t block) const {
    return targets_.data() + block * tokens_ * width_;
  }

  /// Of the own blocks, for SumBlocks.
  double* sum(std::int64_t block) const { return sums_.data() + shape_.rank * own_ + block; }
  /// *out (+)= the 8 blocks' sums in order; `mean`: an eighth of them.
  [[nodiscard]] absl::Status SumBlocks(double* out, bool mean, bool add,
                                       DeviceCollectives& collectives, void* stream);

  /// |d_i|^2 of all latents, by global id. Waits for the stream.
  [[nodiscard]] absl::Status SetNorms(DeviceRuntime& runtime, const std::vector<double>& norm2,
                                      void* stream);
  /// norms[i] = |d| of global_ids[i].
  [[nodiscard]] absl::Status Norms(const std::int32_t* global_ids, std::int64_t count, float* norms,
                                   void* stream);

  /// What spans rows of the coming update. norm_gradient: of this rank's latents; used by free rows
  /// that have one.
  [[nodiscard]] absl::Status PrepareRows(std::span<const kernels::device::AlongTerm> terms,
                                         const float* norm_gradient, DeviceCollectives& collectives,
                                         void* stream);
  /// Of one block's RowUpdate: its `columns` and `norm_gradient`.
  void SetRows(std::int64_t block, kernels::device::RowUpdateParams* params) const;
  /// After the blocks' updates: the norms, and unit rows rescaled. `w`: the own blocks.
  [[nodiscard]] absl::Status FinishRows(const kernels::device::MutableWeightRows& w,
                                        const std::int32_t* go, DeviceCollectives& collectives,
                                        void* stream);

 private:
  explicit DeviceColumns(const Shape& shape)
      : shape_(shape),
        width_(shape.d_out / kernels::device::kColumnBlocks),
        own_(kernels::device::kColumnBlocks / shape.ranks) {}
  absl::Status Allocate(DeviceRuntime& runtime, std::span<const std::int32_t> where, void* stream);
  bool measures() const { return shape_.unit || shape_.norm_gradient; }
  std::int64_t share() const { return shape_.latents / shape_.ranks; }

  const Shape shape_;
  const std::int64_t width_, own_;
  std::int64_t tokens_ = 0;
  DeviceWinners main_, aux_;
  DeviceBuffer<float> targets_, along_, norm_gradients_, norm_parts_, received_parts_;
  DeviceBuffer<double> sums_, eighth_, scratch_, norm2_, norm_sums_;
  DeviceBuffer<std::int32_t> where_;
};

}  // namespace sae::train
