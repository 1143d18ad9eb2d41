#include "sae/lm/matmul.h"

#include <algorithm>
#include <dnnl.hpp>
#include <map>
#include <new>
#include <tuple>
#include <unordered_map>
#include <utility>

namespace sae::lm {
namespace {

using Dims = dnnl::memory::dims;
using DnnlType = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;

// Rows of one call of a primitive: beyond it nothing is gained, and few shapes stay few.
constexpr std::int64_t kChunkRows = 256;

DnnlType TypeOf(Compute compute) {
  return compute == Compute::kF32 ? DnnlType::f32 : DnnlType::bf16;
}

/// oneDNN's C++ interface throws; nothing beyond this file does.
template <class Function>
absl::Status Guard(const char* what, const Function& function) {
  try {
    function();
    return absl::OkStatus();
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_out_of_memory)
      return absl::ResourceExhaustedError(absl::StrCat(what, ": oneDNN: no memory"));
    return absl::InternalError(absl::StrCat(what, ": oneDNN: ", error.what()));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ": no memory"));
  }
}

dnnl::matmul::primitive_desc Describe(const dnnl::engine& engine, std::int64_t rows,
                                      std::int64_t in, std::int64_t out, DnnlType type,
                                      const dnnl::memory::desc& weights) {
  const dnnl::memory::desc src({rows, in}, type, Tag::ab);
  const dnnl::memory::desc dst({rows, out}, DnnlType::f32, Tag::ab);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return {dnnl::matmul::desc(src, weights, dst), attributes, engine};
}

}  // namespace

struct PackedWeights::Impl {
  std::int64_t out = 0;
  std::int64_t in = 0;
  Compute compute = Compute::kF32;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::memory packed;
};

PackedWeights::PackedWeights(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
PackedWeights::~PackedWeights() = default;
PackedWeights::PackedWeights(PackedWeights&&) noexcept = default;
PackedWeights& PackedWeights::operator=(PackedWeights&&) noexcept = default;
std::int64_t PackedWeights::out() const { return impl_->out; }
std::int64_t PackedWeights::in() const { return impl_->in; }
std::int64_t PackedWeights::bytes() const {
  return static_cast<std::int64_t>(impl_->packed.get_desc().get_size());
}

absl::StatusOr<PackedWeights> PackedWeights::Create(std::span<const float> rows, std::int64_t out,
                                                    std::int64_t in, Compute compute) {
  auto impl = std::make_unique<Impl>();
  impl->out = out;
  impl->in = in;
  impl->compute = compute;
  SAE_RETURN_IF_ERROR(Guard("packing weights", [&] {
    const DnnlType type = TypeOf(compute);
    const dnnl::memory::desc any({in, out}, type, Tag::any);
    const auto described = Describe(impl->engine, kChunkRows, in, out, type, any);
    impl->packed = dnnl::memory(described.weights_desc(), impl->engine);
    // As oneDNN sees it the weights are [in, out]; ours are the transposed.
    const dnnl::memory::desc plain({in, out}, DnnlType::f32, Tag::ba);
    dnnl::memory source(plain, impl->engine, const_cast<float*>(rows.data()));
    dnnl::stream stream(impl->engine);
    dnnl::reorder(source, impl->packed).execute(stream, source, impl->packed);
    stream.wait();
  }));
  return PackedWeights(std::move(impl));
}

struct MatmulRunner::Impl {
  struct Shape {
    dnnl::matmul primitive;
    dnnl::memory src, dst, scratchpad;
  };
  Shape& Get(const PackedWeights::Impl& weights, std::int64_t rows) {
    const auto key = std::make_tuple(rows, weights.in, weights.out, weights.compute);
    const auto it = shapes.find(key);
    if (it != shapes.end()) return it->second;
    const DnnlType type = TypeOf(weights.compute);
    const auto described =
        Describe(engine, rows, weights.in, weights.out, type, weights.packed.get_desc());
    Shape shape{dnnl::matmul(described), dnnl::memory(described.src_desc(), engine, nullptr),
                dnnl::memory(described.dst_desc(), engine, nullptr),
                dnnl::memory(described.scratchpad_desc(), engine)};
    return shapes.emplace(key, std::move(shape)).first->second;
  }
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t, Compute>, Shape> shapes;
};

MatmulRunner::MatmulRunner() : impl_(std::make_unique<Impl>()) {}
MatmulRunner::~MatmulRunner() = default;

absl::Status MatmulRunner::Run(const PackedWeights& weights, const void* src, std::int64_t rows,
                               float* dst) {
  return Guard("matrix product", [&] {
    const PackedWeights::Impl& w = *weights.impl_;
    const std::int64_t element = w.compute == Compute::kF32 ? 4 : 2;
    const std::int64_t padded = PaddedRows(rows);
    for (std::int64_t begin = 0; begin < padded; begin += kChunkRows) {
      Impl::Shape& shape = impl_->Get(w, std::min(kChunkRows, padded - begin));
      const auto* from = static_cast<const std::byte*>(src) + begin * w.in * element;
      shape.src.set_data_handle(const_cast<std::byte*>(from));
      shape.dst.set_data_handle(dst + begin * w.out);
      shape.primitive.execute(impl_->stream, {{DNNL_ARG_SRC, shape.src},
                                              {DNNL_ARG_WEIGHTS, w.packed},
                                              {DNNL_ARG_DST, shape.dst},
                                              {DNNL_ARG_SCRATCHPAD, shape.scratchpad}});
    }
    impl_->stream.wait();
  });
}

absl::Status Sgemm(bool b_transposed, std::int64_t m, std::int64_t n, std::int64_t k,
                   const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float* c,
                   std::int64_t ldc) {
  const dnnl_status_t status =
      dnnl_sgemm('N', b_transposed ? 'T' : 'N', m, n, k, 1.0F, a, lda, b, ldb, 0.0F, c, ldc);
  if (status != dnnl_success)
    return absl::InternalError(
        absl::StrCat("oneDNN sgemm of ", m, " x ", n, " x ", k, ": status ", status));
  return absl::OkStatus();
}

}  // namespace sae::lm
