// What `reduction: fixed` asks of the step beside reconstructions. Sums over latents are made whole
// at once (device_reconstructor.h); where a sum over ranks follows, rank 0 has the total and the
// others 0, so that it changes no bit. All else that ranks exchange is exact: counts, minima,
// values of one rank's latents.
#include <numeric>

#include "sae/train/device/device_engine.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

absl::Status DeviceEngine::CreateReconstructor() {
  if (!context_.options.fixed_reduction) return absl::OkStatus();
  DeviceReconstructor::Shape shape;
  shape.shard = context_.shard;
  shape.rank = context_.communicator.rank();
  shape.tokens = context_.batch();
  shape.d = context_.d;
  shape.d_out = context_.d_out;
  return reconstructor_.Create(runtime_, shape, collectives_.get(), stream_);
}

// Certified values are the reference's, whatever the shape of the products that screened them.
void DeviceEngine::FixShape(device::EncodeParams* encode) const {
  if (!reconstructor_.on() || (context_.options.certified && !encode->exact)) return;
  const std::int64_t n = context_.shard.latents;
  encode->schedule.fixed_columns = encode->ids == nullptr ? FixedColumns(n) : FixedAuxColumns(n);
}

// Of values per latent: what a sum over ranks makes the sum over all latents.
absl::Status DeviceEngine::SumOfLatents(const double* values, double* out) {
  if (!reconstructor_.on()) return Sum(values, context_.shard.count, out);
  SAE_RETURN_IF_ERROR(reconstructor_.Total(values, out));
  if (context_.communicator.rank() == 0) return absl::OkStatus();
  return runtime_.MemsetAsync(out, 0, sizeof(double), stream_);
}

// The gradient's squares of rows and of latents' vectors, latent by latent.
absl::Status DeviceEngine::FixedLatentNorm2() {
  for (const DeviceBuffer<float>* v : {&d_b_enc_, &d_b_mag_, &d_r_mag_, &d_threshold_}) {
    if (v->count() == 0) continue;
    const device::AddSquaresParams squares{v->data(), v->count(), row_norms_.data()};
    SAE_RETURN_IF_ERROR(Launched(cuda::AddSquares(squares, stream_), "AddSquares"));
  }
  return SumOfLatents(row_norms_.data(), &at()->shard_norm2);
}

// Of sums of this rank's blocks on the host: the total on rank 0, else 0.
absl::StatusOr<double> DeviceEngine::SumOfBlocks(std::span<const double> own) {
  std::vector<double> all(kVirtualBlocks);
  SAE_RETURN_IF_ERROR(context_.communicator.AllGather(own, std::span<double>(all)));
  if (context_.communicator.rank() != 0) return 0;
  return std::accumulate(all.begin(), all.end(), 0.0);
}

}  // namespace sae::train
