#include "sae/model/sae.h"

#include <algorithm>
#include <cmath>

#include "sae/base/check.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/sparse_decode.h"

namespace sae::model {
namespace {

bool Finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

}  // namespace

absl::Status Validate(const Sae& sae) {
  if (sae.architecture != "topk" && sae.architecture != "relu_l1") {
    return absl::UnimplementedError(
        absl::StrCat("architecture ", sae.architecture, " is not built yet: topk and relu_l1 are"));
  }
  if (sae.d < 1 || sae.latents < 1) {
    return absl::InvalidArgumentError(absl::StrCat("an SAE of ", sae.latents, " latents and width ", sae.d));
  }
  if (sae.architecture == "topk" && (sae.k < 1 || sae.k > sae.latents)) {
    return absl::InvalidArgumentError(absl::StrCat("k is ", sae.k, ", needs 1 to ", sae.latents));
  }
  const auto matrix = static_cast<std::size_t>(sae.latents * sae.d);
  const struct {
    const char* name;
    const std::vector<float>& values;
    std::size_t wanted;
  } parts[] = {{"W_enc", sae.w_enc, matrix},
               {"W_dec", sae.w_dec, matrix},
               {"b_enc", sae.b_enc, static_cast<std::size_t>(sae.latents)},
               {"b_dec", sae.b_dec, static_cast<std::size_t>(sae.d)}};
  for (const auto& part : parts) {
    if (part.values.size() != part.wanted) {
      return absl::InvalidArgumentError(
          absl::StrCat(part.name, " has ", part.values.size(), " values, needs ", part.wanted));
    }
    if (!Finite(part.values)) return absl::InvalidArgumentError(absl::StrCat(part.name, " has values that are not finite"));
  }
  return absl::OkStatus();
}

struct SaeRunner::Impl {
  const Sae& sae;
  ThreadPool& pool;
  std::vector<float> c;
  kernels::EncodeWorkspace<float> workspace;
  kernels::TopK<float> selection;
  kernels::Codes<float> codes;

  Impl(const Sae& s, ThreadPool& p) : sae(s), pool(p), c(static_cast<std::size_t>(s.latents)) {}
};

SaeRunner::SaeRunner(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SaeRunner::~SaeRunner() = default;

absl::StatusOr<std::unique_ptr<SaeRunner>> SaeRunner::Create(const Sae& sae, ThreadPool& pool) {
  SAE_RETURN_IF_ERROR(Validate(sae));
  auto impl = std::make_unique<Impl>(sae, pool);
  kernels::FoldBias<float>(sae.w_enc.data(), sae.b_enc.data(), sae.pre_bias ? sae.b_dec.data() : nullptr,
                           sae.latents, sae.d, impl->c.data(), pool);
  return std::unique_ptr<SaeRunner>(new SaeRunner(std::move(impl)));
}

absl::StatusOr<const kernels::Codes<float>*> SaeRunner::Encode(std::span<const float> rows) {
  Impl& s = *impl_;
  if (rows.size() % static_cast<std::size_t>(s.sae.d) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(rows.size(), " values are not whole rows of width ", s.sae.d));
  }
  kernels::EncodeInput<float> input;
  input.x = rows.data();
  input.tokens = static_cast<std::int64_t>(rows.size()) / s.sae.d;
  input.d = s.sae.d;
  input.w = s.sae.w_enc.data();
  input.c = s.c.data();
  input.latents = s.sae.latents;
  bool finite = true;
  if (s.sae.architecture == "topk") {
    finite = kernels::EncodeTopK(input, s.sae.k, &s.workspace, &s.selection, s.pool);
    kernels::CodesFromTopK(s.selection, static_cast<const std::int32_t*>(nullptr), 0, s.sae.latents, &s.codes, s.pool);
  } else {
    finite = kernels::EncodePositive(input, &s.workspace, &s.codes, s.pool);
  }
  if (!finite) return absl::InvalidArgumentError("the rows to encode have values that are not finite");
  return &s.codes;
}

absl::Status SaeRunner::Decode(const kernels::Codes<float>& codes, std::span<float> out) {
  const Impl& s = *impl_;
  SAE_CHECK(static_cast<std::int64_t>(out.size()) == codes.tokens * s.sae.d);
  for (std::int64_t b = 0; b < codes.tokens; ++b) {
    std::copy(s.sae.b_dec.begin(), s.sae.b_dec.end(), out.begin() + b * s.sae.d);
  }
  kernels::SparseDecodeParams<float> params;
  params.indptr = codes.indptr.data();
  params.ids = codes.ids.data();
  params.values = codes.values.data();
  params.decoder = s.sae.w_dec.data();
  params.output = out.data();
  params.tokens = codes.tokens;
  params.d = s.sae.d;
  if (kernels::SparseDecode(kernels::Device::kCpu, params, s.pool) != kernels::Error::kOk) {
    return absl::InternalError("sparse decode failed");
  }
  return absl::OkStatus();
}

}  // namespace sae::model
