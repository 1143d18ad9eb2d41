#include "sae/model/sae.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/base/check.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/gemm.h"
#include "sae/kernels/row_ops.h"
#include "sae/kernels/sparse_decode.h"

namespace sae::model {
namespace {

bool Finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

absl::Status ValidateTensors(const Sae& sae, Activation activation) {
  const std::int64_t latents = sae.latents;
  const bool jump = activation == Activation::kJumpRelu, gated = activation == Activation::kGated;
  const struct {
    const char* name;
    const std::vector<float>& values;
    std::int64_t wanted;
  } parts[] = {{"W_enc", sae.w_enc, latents * sae.d},
               {"W_dec", sae.w_dec, latents * sae.width()},
               {"b_enc", sae.b_enc, latents},
               {"b_dec", sae.b_dec, sae.width()},
               {"threshold", sae.threshold, jump ? latents : 0},
               {"b_mag", sae.b_mag, gated ? latents : 0},
               {"r_mag", sae.r_mag, gated ? latents : 0},
               {"W_skip", sae.w_skip, sae.w_skip.empty() ? 0 : sae.width() * sae.d}};
  for (const auto& part : parts) {
    if (static_cast<std::int64_t>(part.values.size()) != part.wanted) {
      return absl::InvalidArgumentError(
          absl::StrCat(part.name, " has ", part.values.size(), " values, needs ", part.wanted));
    }
    if (!Finite(part.values))
      return absl::InvalidArgumentError(absl::StrCat(part.name, " has values that are not finite"));
  }
  for (const float r : sae.r_mag) {
    if (r > 80)
      return absl::InvalidArgumentError(
          absl::StrCat("r_mag has the value ", r, ": exp of it is not finite"));
  }
  return absl::OkStatus();
}

/// One token's map: x' = (x - mean) in; back: y out + mean.
struct RowMap {
  double mean = 0, in = 1, out = 1;
};

RowMap MapOf(Normalisation normalisation, std::int64_t d, const float* x) {
  RowMap map;
  if (normalisation == Normalisation::kConstantNorm) {
    const double norm = std::sqrt(kernels::SumOfSquares(d, x));
    if (norm > 0) {
      map.in = std::sqrt(static_cast<double>(d)) / norm;
      map.out = 1 / map.in;
    }
  } else if (normalisation == Normalisation::kLayerNorm) {
    for (std::int64_t j = 0; j < d; ++j) map.mean += x[j];
    map.mean /= static_cast<double>(d);
    double squares = 0;
    for (std::int64_t j = 0; j < d; ++j) squares += (x[j] - map.mean) * (x[j] - map.mean);
    map.out = std::sqrt(squares / static_cast<double>(d - 1));
    map.in = 1 / (map.out + 1e-5);
  }
  return map;
}

/// Replaces each entry's value by value_of(latent, value) and drops those that are not above 0.
template <class F>
void KeepPositive(kernels::Codes<float>* codes, const F& value_of) {
  std::size_t kept = 0;
  for (std::size_t b = 0, e = 0; b < static_cast<std::size_t>(codes->tokens); ++b) {
    for (const auto end = static_cast<std::size_t>(codes->indptr[b + 1]); e < end; ++e) {
      const float value = value_of(static_cast<std::size_t>(codes->ids[e]), codes->values[e]);
      if (!(value > 0)) continue;
      codes->ids[kept] = codes->ids[e];
      codes->values[kept++] = value;
    }
    codes->indptr[b + 1] = static_cast<std::int64_t>(kept);
  }
  codes->ids.resize(kept);
  codes->values.resize(kept);
}

}  // namespace

absl::StatusOr<Activation> ActivationOf(const std::string& architecture) {
  if (architecture == "relu_l1") return Activation::kRelu;
  if (architecture == "topk") return Activation::kTopK;
  if (architecture == "gated") return Activation::kGated;
  if (architecture == "jumprelu" || architecture == "batchtopk" || architecture == "matryoshka") {
    return Activation::kJumpRelu;
  }
  return absl::UnimplementedError(
      absl::StrCat("architecture ", architecture,
                   " is none of relu_l1, topk, batchtopk, matryoshka, gated, jumprelu"));
}

absl::Status Validate(const Sae& sae) {
  SAE_ASSIGN_OR_RETURN(const Activation activation, ActivationOf(sae.architecture));
  if (sae.d < 1 || sae.latents < 1 || sae.d_out < 0 ||
      sae.latents > std::numeric_limits<std::int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("an SAE of ", sae.latents, " latents and width ", sae.d, " to ", sae.width()));
  }
  if (activation == Activation::kTopK && (sae.k < 1 || sae.k > sae.latents)) {
    return absl::InvalidArgumentError(absl::StrCat("k is ", sae.k, ", needs 1 to ", sae.latents));
  }
  if (!sae.transcoder && (sae.width() != sae.d || !sae.w_skip.empty())) {
    return absl::InvalidArgumentError(
        absl::StrCat("only a transcoder has a W_skip or an output width (", sae.width(),
                     ") that is not its input's (", sae.d, ")"));
  }
  if (sae.pre_bias && sae.width() != sae.d) {
    return absl::InvalidArgumentError(absl::StrCat(
        "b_dec of width ", sae.width(), " cannot be subtracted from inputs of width ", sae.d));
  }
  const bool layer_norm = sae.normalisation == Normalisation::kLayerNorm;
  if (layer_norm && sae.d < 2)
    return absl::InvalidArgumentError("layer_norm needs a width of 2 or more");
  if (layer_norm && sae.restore && sae.width() != sae.d) {
    return absl::InvalidArgumentError(absl::StrCat("layer_norm: an output of width ", sae.width(),
                                                   " has no mean and std of its input of width ",
                                                   sae.d));
  }
  return ValidateTensors(sae, activation);
}

struct SaeRunner::Impl {
  const Sae& sae;
  ThreadPool& pool;
  Activation activation;
  std::vector<float> c;      ///< z = scale * (W x) + c; gated: h
  std::vector<float> lower;  ///< z, gated h, must be above it; empty: 0
  std::vector<float> gain;   ///< exp(r_mag)
  kernels::AlignedVector<float> normalised;
  kernels::EncodeWorkspace<float> workspace;
  kernels::TopK<float> selection;
  kernels::Codes<float> codes;

  Impl(const Sae& s, ThreadPool& p, Activation a)
      : sae(s), pool(p), activation(a), c(static_cast<std::size_t>(s.latents)) {
    const bool gated = activation == Activation::kGated;
    kernels::FoldBias<float>(sae.w_enc.data(), gated ? nullptr : sae.b_enc.data(),
                             sae.pre_bias ? sae.b_dec.data() : nullptr, sae.latents, sae.d,
                             c.data(), pool);
    for (const float t : sae.threshold) lower.push_back(std::max(t, 0.0F));
    for (const float b : sae.b_enc) {
      if (gated) lower.push_back(-b);
    }
    for (const float r : sae.r_mag) gain.push_back(static_cast<float>(std::exp(double{r})));
  }

  /// x' of `rows`, valid until the next call.
  const float* Normalised(std::span<const float> rows) {
    if (sae.normalisation == Normalisation::kNone) return rows.data();
    normalised.resize(rows.size());
    pool.ParallelFor(static_cast<std::int64_t>(rows.size()) / sae.d,
                     [&](std::int64_t begin, std::int64_t end, int) {
                       for (std::int64_t b = begin; b < end; ++b) {
                         const float* x = rows.data() + b * sae.d;
                         float* out = normalised.data() + b * sae.d;
                         const RowMap map = MapOf(sae.normalisation, sae.d, x);
                         for (std::int64_t j = 0; j < sae.d; ++j)
                           out[j] = static_cast<float>((x[j] - map.mean) * map.in);
                       }
                     });
    return normalised.data();
  }

  bool Select(const kernels::EncodeInput<float>& input) {
    if (activation == Activation::kTopK) {
      const bool finite = kernels::EncodeTopK(input, sae.k, &workspace, &selection, pool,
                                              kernels::TopKOrder::kById);
      kernels::CodesFromTopK(selection, static_cast<const std::int32_t*>(nullptr), 0, sae.latents,
                             &codes, pool);
      return finite;
    }
    const float* bounds = lower.empty() ? nullptr : lower.data();
    const bool finite = kernels::EncodeAbove<float>(input, bounds, 0.0F, &workspace, &codes, pool);
    if (activation == Activation::kGated) {
      KeepPositive(&codes, [&](std::size_t i, float h) { return gain[i] * h + sae.b_mag[i]; });
    }
    return finite;
  }
};

SaeRunner::SaeRunner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SaeRunner::~SaeRunner() = default;

absl::StatusOr<std::unique_ptr<SaeRunner>> SaeRunner::Create(const Sae& sae, ThreadPool& pool) {
  SAE_RETURN_IF_ERROR(Validate(sae));
  SAE_ASSIGN_OR_RETURN(const Activation activation, ActivationOf(sae.architecture));
  return std::unique_ptr<SaeRunner>(new SaeRunner(std::make_unique<Impl>(sae, pool, activation)));
}

bool SaeRunner::needs_rows() const {
  const Sae& sae = impl_->sae;
  return !sae.w_skip.empty() || (sae.normalisation != Normalisation::kNone && sae.restore);
}

absl::StatusOr<const kernels::Codes<float>*> SaeRunner::Encode(std::span<const float> rows) {
  Impl& s = *impl_;
  if (rows.size() % static_cast<std::size_t>(s.sae.d) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(rows.size(), " values are not whole rows of width ", s.sae.d));
  }
  kernels::EncodeInput<float> input;
  input.x = s.Normalised(rows);
  input.tokens = static_cast<std::int64_t>(rows.size()) / s.sae.d;
  input.d = s.sae.d;
  input.w = s.sae.w_enc.data();
  input.c = s.c.data();
  input.latents = s.sae.latents;
  if (!s.Select(input))
    return absl::InvalidArgumentError("the rows to encode have values that are not finite");
  return &s.codes;
}

absl::Status SaeRunner::Decode(const kernels::Codes<float>& codes, std::span<const float> rows,
                               std::span<float> out) {
  Impl& s = *impl_;
  const std::int64_t width = s.sae.width(), d = s.sae.d;
  SAE_CHECK(static_cast<std::int64_t>(out.size()) == codes.tokens * width);
  if (needs_rows() && static_cast<std::int64_t>(rows.size()) != codes.tokens * d) {
    return absl::InvalidArgumentError(absl::StrCat("decoding ", codes.tokens,
                                                   " tokens with a skip or a normalisation "
                                                   "needs their rows: ",
                                                   codes.tokens * d, " values, not ", rows.size()));
  }
  const bool restore = s.sae.normalisation != Normalisation::kNone && s.sae.restore;
  const bool skip = !s.sae.w_skip.empty();
  if (skip) {
    const float* x = restore ? s.Normalised(rows) : rows.data();
    kernels::Gemm<float>(codes.tokens, width, d, x, d, s.sae.w_skip.data(), d, out.data(), width,
                         s.pool);
  }
  s.pool.ParallelFor(codes.tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      float* y = out.data() + b * width;
      for (std::int64_t j = 0; j < width; ++j)
        y[j] = (skip ? y[j] : 0.0F) + s.sae.b_dec[static_cast<std::size_t>(j)];
    }
  });
  kernels::SparseDecodeParams<float> params;
  params.indptr = codes.indptr.data();
  params.ids = codes.ids.data();
  params.values = codes.values.data();
  params.decoder = s.sae.w_dec.data();
  params.output = out.data();
  params.tokens = codes.tokens;
  params.d = width;
  if (kernels::SparseDecode(kernels::Device::kCpu, params, s.pool) != kernels::Error::kOk) {
    return absl::InternalError("sparse decode failed");
  }
  if (!restore) return absl::OkStatus();
  s.pool.ParallelFor(codes.tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      const RowMap map = MapOf(s.sae.normalisation, d, rows.data() + b * d);
      float* y = out.data() + b * width;
      for (std::int64_t j = 0; j < width; ++j) y[j] = static_cast<float>(y[j] * map.out + map.mean);
    }
  });
  return absl::OkStatus();
}

absl::StatusOr<const kernels::Codes<float>*> SaeRunner::Forward(std::span<const float> rows,
                                                                std::span<float> out) {
  SAE_ASSIGN_OR_RETURN(const auto* codes, Encode(rows));
  SAE_RETURN_IF_ERROR(Decode(*codes, rows, out));
  return codes;
}

}  // namespace sae::model
