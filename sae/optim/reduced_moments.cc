#include "sae/optim/reduced_moments.h"

#include <algorithm>

#include "sae/base/check.h"

namespace sae::optim {
namespace {
using kernels::MomentFormat;
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

MomentFormat MomentFormatOf(const std::string& name) {
  if (name == "bf16") return MomentFormat::kBf16;
  if (name == "int8") return MomentFormat::kInt8;
  SAE_CHECK_MSG(name == "f32", "moments %s", name.c_str());
  return MomentFormat::kF32;
}

MatrixMoments::Matrix MatrixMoments::MatrixOf(const char* name, std::int64_t d) const {
  const bool bytes = view_.format == MomentFormat::kInt8;
  const std::size_t codes = Size(count_ * d * (bytes ? 1 : 2));
  const std::size_t scales = Size(bytes ? count_ * kernels::MomentBlocks(d) : 0);
  Matrix m{name, d, {}, {}, {}, {}};
  m.m.resize(codes);
  m.v.resize(codes);
  m.m_scale.resize(scales);
  m.v_scale.resize(scales);
  return m;
}

MatrixMoments::MatrixMoments(const model::ParameterShape& shape, const MomentStorage& storage)
    : count_(shape.count),
      view_{storage.format,
            kernels::MomentRounding::kStochastic,
            storage.seed,
            storage.global_id,
            {},
            {}},
      encoder_(MatrixOf("W_enc", shape.d)),
      decoder_(MatrixOf("W_dec", shape.d_out)) {
  SAE_CHECK(storage.format != MomentFormat::kF32 && storage.global_id != nullptr);
  const auto view = [](Matrix& m) {
    return kernels::ReducedMatrix{m.d, m.m.data(), m.v.data(), m.m_scale.data(), m.v_scale.data()};
  };
  view_.encoder = view(encoder_);
  view_.decoder = view(decoder_);
}

void MatrixMoments::AddState(model::State* state) {
  const DType dtype = view_.format == MomentFormat::kBf16 ? DType::kBf16 : DType::kU8;
  for (Matrix* matrix : {&encoder_, &decoder_}) {
    const auto add = [&](const char* suffix, DType type, std::int64_t width, void* data) {
      state->tensors.push_back(
          {std::string(matrix->name) + suffix, type, {count_, width}, data, true});
    };
    add(".adam_m", dtype, matrix->d, matrix->m.data());
    add(".adam_v", dtype, matrix->d, matrix->v.data());
    if (matrix->m_scale.empty()) continue;
    const std::int64_t blocks = kernels::MomentBlocks(matrix->d);
    add(".adam_m_scale", DType::kF32, blocks, matrix->m_scale.data());
    add(".adam_v_scale", DType::kF32, blocks, matrix->v_scale.data());
  }
}

void MatrixMoments::ClearRow(std::int64_t latent) {
  const auto clear = [&](auto& values) {
    const auto width = static_cast<std::int64_t>(values.size()) / count_;
    std::fill_n(values.begin() + latent * width, width, 0);
  };
  for (Matrix* matrix : {&encoder_, &decoder_}) {
    clear(matrix->m);
    clear(matrix->v);
    clear(matrix->m_scale);
    clear(matrix->v_scale);
  }
}

}  // namespace sae::optim
