// Builds without oneDNN: there is no language model then.
#include "sae/lm/matmul.h"

namespace sae::lm {
namespace {

absl::Status NoDnnl(absl::string_view what) {
  return absl::UnimplementedError(
      absl::StrCat(what, ": this build has no oneDNN; configure with -DSAE_WITH_DNNL=ON"));
}

}  // namespace

struct PackedWeights::Impl {};

PackedWeights::PackedWeights(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PackedWeights::~PackedWeights() = default;
PackedWeights::PackedWeights(PackedWeights&&) noexcept = default;
PackedWeights& PackedWeights::operator=(PackedWeights&&) noexcept = default;
std::int64_t PackedWeights::out() const { return 0; }
std::int64_t PackedWeights::in() const { return 0; }
std::int64_t PackedWeights::bytes() const { return 0; }

absl::StatusOr<PackedWeights> PackedWeights::Create(std::span<const float>, std::int64_t,
                                                    std::int64_t, Compute) {
  return NoDnnl("packing weights");
}

struct MatmulRunner::Impl {};

MatmulRunner::MatmulRunner() = default;
MatmulRunner::~MatmulRunner() = default;

absl::Status MatmulRunner::Run(const PackedWeights&, const void*, std::int64_t, float*) {
  return NoDnnl("matrix product");
}

absl::Status Sgemm(bool, std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t,
                   const float*, std::int64_t, float*, std::int64_t) {
  return NoDnnl("matrix product");
}

}  // namespace sae::lm
