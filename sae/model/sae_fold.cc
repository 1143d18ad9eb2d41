#include "sae/model/sae_fold.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "sae/kernels/row_ops.h"

namespace sae::model {
namespace {

constexpr double kUnit = 1e-6;  // float32 rows that were normalised are this close to norm 1

void Multiply(double factor, float* values, std::int64_t count) {
  for (std::int64_t j = 0; j < count; ++j) values[j] = static_cast<float>(values[j] * factor);
}

void MultiplyAll(double factor, std::vector<float>& values) {
  Multiply(factor, values.data(), static_cast<std::int64_t>(values.size()));
}

double DecoderNorm(const Sae& sae, std::int64_t i) {
  return std::sqrt(kernels::SumOfSquares(sae.width(), sae.w_dec.data() + i * sae.width()));
}

bool IsUnit(double norm) { return std::abs(norm - 1) <= kUnit; }

}  // namespace

void FoldInputScale(double scale, Sae* sae) {
  for (std::vector<float>* v : {&sae->b_enc, &sae->b_dec, &sae->threshold, &sae->b_mag})
    MultiplyAll(scale, *v);
}

absl::Status FoldDecoderNorms(Sae* sae, bool norm_aware) {
  SAE_ASSIGN_OR_RETURN(const Activation activation, ActivationOf(sae->architecture));
  const bool ranked = activation == Activation::kTopK && !norm_aware;
  for (std::int64_t i = 0; ranked && i < sae->latents; ++i) {
    if (const double norm = DecoderNorm(*sae, i); !IsUnit(norm)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "decoder row ", i, " has norm ", norm,
          ": with the norms folded into the encoder, topk would "
          "choose other latents; train with sae.decoder unit, or keep the rows as they are"));
    }
  }
  for (std::int64_t i = 0; i < sae->latents; ++i) {
    const double norm = DecoderNorm(*sae, i);
    if (norm == 0 || IsUnit(norm)) continue;
    float* row = sae->w_dec.data() + i * sae->width();
    for (std::int64_t j = 0; j < sae->width(); ++j) row[j] = static_cast<float>(row[j] / norm);
    Multiply(norm, sae->w_enc.data() + i * sae->d, sae->d);
    for (std::vector<float>* v : {&sae->b_enc, &sae->threshold, &sae->b_mag}) {
      if (!v->empty()) Multiply(norm, v->data() + i, 1);
    }
  }
  return absl::OkStatus();
}

void NormaliseDecoder(Sae* sae) {
  for (std::int64_t i = 0; i < sae->latents; ++i) {
    const double norm = DecoderNorm(*sae, i);
    if (norm == 0) continue;
    float* row = sae->w_dec.data() + i * sae->width();
    for (std::int64_t j = 0; j < sae->width(); ++j) row[j] = static_cast<float>(row[j] / norm);
  }
}

void FoldPreBias(Sae* sae) {
  if (!sae->pre_bias) return;
  for (std::int64_t i = 0; i < sae->latents; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const double shift =
        kernels::DotDouble(sae->d, sae->w_enc.data() + i * sae->d, sae->b_dec.data());
    sae->b_enc[at] = static_cast<float>(sae->b_enc[at] - shift);
    if (!sae->b_mag.empty()) {
      sae->b_mag[at] =
          static_cast<float>(sae->b_mag[at] - std::exp(double{sae->r_mag[at]}) * shift);
    }
  }
  sae->pre_bias = false;
}

absl::Status SetBatchThreshold(double theta, Sae* sae) {
  if (!(theta > 0) || !std::isfinite(theta)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the batch threshold is ", theta, ", needs a positive number"));
  }
  const float nearest = static_cast<float>(theta);
  const float below = nearest > theta ? std::nextafter(nearest, 0.0F) : nearest;
  sae->threshold.assign(static_cast<std::size_t>(sae->latents), below);
  return absl::OkStatus();
}

absl::Status ToJumpRelu(Sae* sae) {
  SAE_ASSIGN_OR_RETURN(const Activation activation, ActivationOf(sae->architecture));
  switch (activation) {
    case Activation::kTopK:
      return absl::InvalidArgumentError(
          "topk has no threshold: it cannot be rewritten as jumprelu");
    case Activation::kRelu:
      sae->threshold.assign(static_cast<std::size_t>(sae->latents), 0.0F);
      break;
    case Activation::kJumpRelu:
      break;
    case Activation::kGated:
      sae->threshold.resize(static_cast<std::size_t>(sae->latents));
      for (std::int64_t i = 0; i < sae->latents; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const double gain = std::exp(double{sae->r_mag[at]});
        sae->threshold[at] =
            static_cast<float>(std::max(0.0, sae->b_mag[at] - gain * sae->b_enc[at]));
        Multiply(gain, sae->w_enc.data() + i * sae->d, sae->d);
      }
      sae->b_enc = std::move(sae->b_mag);
      sae->b_mag.clear();
      sae->r_mag.clear();
      break;
  }
  sae->architecture = "jumprelu";
  sae->k = 0;
  return absl::OkStatus();
}

}  // namespace sae::model
